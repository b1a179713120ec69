"""Which addresses Kubernetes gives to Services: a cluster's ServiceCIDRs (networking.k8s.io/v1, from 1.33 on)."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vipd.core.model import CallFailed, Network
from vipd.kube.api import Api

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

PATH = "/apis/networking.k8s.io/v1/servicecidrs"
CALL_S = 2.0

log = logging.getLogger(__name__)


async def service_cidrs(client: ApiClient) -> tuple[Network, ...]:
    """Those that the API tells; empty where it has none, is older, or we may not list them.  Never raises."""
    reply = await Api(client).call("GET", PATH, timeout_s=CALL_S)
    if isinstance(reply, CallFailed) or not reply.ok or not isinstance(reply.body, dict):
        log.debug("the service CIDRs are not known: %s", reply.detail)
        return ()
    return tuple(_networks(reply.body.get("items")))


def _networks(items: object) -> Iterator[Network]:
    for item in items if isinstance(items, list) else []:
        spec = item.get("spec") if isinstance(item, dict) else None
        cidrs = spec.get("cidrs") if isinstance(spec, dict) else None
        for text in cidrs if isinstance(cidrs, list) else []:
            try:
                yield ipaddress.ip_network(text)
            except ValueError:
                log.debug("no CIDR block: %r", text)
