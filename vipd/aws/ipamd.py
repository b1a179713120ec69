"""The VPC CNI's ipamd beside us: which ENIs it manages, and to which pod it has given an address.

ipamd adopts every secondary address of an ENI that it manages into the pool for its pods within a minute
(amazon-vpc-cni-k8s, issue 1466), the VIP too.  It tells about itself on loopback of the host's network
(pkg/ipamd/introspect.go; INTROSPECTION_BIND_ADDRESS, DISABLE_INTROSPECTION); where it does not, the ENI's tag does.

Whoever listens there may be anybody, so what is not understood is passed over.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vipd.aws.calls import Calls
from vipd.aws.ec2 import Ec2
from vipd.aws.gate import Gate
from vipd.aws.plainhttp import BadAnswer, ask
from vipd.aws.threads import in_daemon_thread
from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, Eni

URL = "http://127.0.0.1:61679/v1/enis"
"""ipamd's default."""

NO_MANAGE = "node.k8s.amazonaws.com/no_manage"
"""The tag (``true``) that keeps ipamd off an ENI.  It is not looked at on an instance's primary ENI."""

CONNECT_S, TOTAL_S, DESCRIBE_S = 0.3, 1.0, 5.0
MAX_BYTES = 4 << 20
"""Thousands of addresses."""

WAYS_OUT = (
    "Ways out: an ENI of its own for the VIP with the tag node.k8s.amazonaws.com/no_manage=true; or prefix mode "
    "(ENABLE_PREFIX_DELEGATION=true), in which ipamd adopts no single addresses; WARM_IP_TARGET and MINIMUM_IP_TARGET "
    "only make it less likely that a pod gets it"
)


@dataclass(frozen=True, slots=True)
class Pool:
    """What ipamd manages."""

    enis: frozenset[str]
    addresses: Mapping[Address, str]
    """Single addresses that it has adopted, each with the pod ``namespace/name`` that has it (empty: none yet)."""


async def look(url: str = URL) -> Pool | None:
    """What ipamd says; None where it does not answer, or nothing that could be its answer."""
    try:
        async with asyncio.timeout(TOTAL_S):
            status, body = await ask("GET", url, {}, connect_s=CONNECT_S, max_bytes=MAX_BYTES)
    except (TimeoutError, BadAnswer, OSError):
        return None
    return parse(body) if status == 200 else None


def parse(body: bytes) -> Pool | None:
    """ipamd's ENIInfos (pkg/ipamd/datastore/data_store.go); None for anything else.  Never raises."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    enis = document.get("ENIs") if isinstance(document, dict) else None
    if not isinstance(enis, dict):
        return None
    found = {address: pod for eni in enis.values() for address, pod in _addresses(eni)}
    return Pool(frozenset(enis), found)


def _addresses(eni: object) -> Iterator[tuple[Address, str]]:
    for cidrs in (_mapping(eni, "AvailableIPv4Cidrs"), _mapping(eni, "IPv6Cidrs")):
        for text, cidr in cidrs.items():
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                continue
            single = network.num_addresses == 1
            if single:
                yield network.network_address, ""
            for given, info in _mapping(cidr, "IPAddresses").items():
                pod = _pod(info)
                try:
                    address = ipaddress.ip_address(given)
                except ValueError:
                    continue
                if pod or single:
                    yield address, pod


def _pod(info: object) -> str:
    """The pod that has the address; empty where none has."""
    key, metadata = _mapping(info, "IPAMKey"), _mapping(info, "IPAMMetadata")
    if not key.get("containerID"):
        return ""
    namespace, name = metadata.get("k8sPodNamespace"), metadata.get("k8sPodName")
    if namespace and name:
        return _printable(f"{namespace}/{name}")
    return _printable(f"of container {str(key['containerID'])[:12]}")


async def tagged_no_manage(ec2: Ec2, eni: Eni) -> bool | None:
    """Whether the ENI's tag keeps ipamd off; None where EC2 does not say (no right to describe, for one)."""
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + DESCRIBE_S
    calls = Calls(ec2, Gate(lambda: until))
    try:
        async with asyncio.timeout(DESCRIBE_S):
            tags = await in_daemon_thread(lambda: calls.tags(eni.id), name="tags")
    except OSError:
        # Out of time, or no thread can be started.
        return None
    return None if isinstance(tags, Refusal) else tags.get(NO_MANAGE) == "true"


def _mapping(value: object, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _printable(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode().split())[:300]
