"""Where the VPC maps the VIPs, as this node can see it: the two readers behind ``MappingReader``.

Both are eventually consistent, and either may lag the other; the caller compares over time.  Silence is UNKNOWN,
never GONE: an address is only said to be gone by a source that listed the ENI's addresses without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from vipd.aws.calls import Calls
from vipd.aws.ec2 import Ec2
from vipd.aws.gate import Gate
from vipd.aws.imds import Imds, ImdsError
from vipd.aws.threads import in_daemon_thread
from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, Eni, Mapped


class ImdsMapping:
    """Reads ``local-ipv4s`` and ``ipv6s`` of the ENI's MAC: link-local, without EC2, the normal way."""

    def __init__(self, imds: Imds) -> None:
        self._imds = imds

    async def read(self, eni: Eni, addresses: Sequence[Address], *, timeout_s: float) -> Mapping[Address, Mapped]:
        """See ``MappingReader.read``.  Asks only for the families of ``addresses``, both at the same time."""
        families = sorted({a.version for a in addresses})
        found = await asyncio.gather(*(self._family(eni, version, timeout_s) for version in families))
        known = dict(zip(families, found, strict=True))
        return {a: _judge(a, known[a.version]) for a in addresses}

    async def _family(self, eni: Eni, version: int, timeout_s: float) -> frozenset[Address] | None:
        try:
            async with asyncio.timeout(timeout_s):
                if version == 4:
                    listed = await self._imds.ipv4s(eni.mac, timeout_s=timeout_s)
                    # An ENI that bore an IPv4 VIP has a primary; without the key IMDS does not know the ENI (yet).
                    return None if listed is None else frozenset(listed)
                listed = await self._imds.ipv6s(eni.mac, timeout_s=timeout_s)
                if listed is None and not await self._imds.knows(eni, timeout_s=timeout_s):
                    # The key is absent without IPv6 addresses, but also where this MAC is not known, or is another's.
                    return None
                return frozenset(listed or ())
        except (ImdsError, TimeoutError):
            return None


class DescribeMapping:
    """Reads DescribeNetworkInterfaces by ENI id, for where IMDS is blocked.  A call to EC2: to be used sparingly."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2
        self.last_refusal: Refusal | None = None
        """Why the last reading was UNKNOWN; None where it was not, or where EC2 was silent."""

    async def read(self, eni: Eni, addresses: Sequence[Address], *, timeout_s: float) -> Mapping[Address, Mapped]:
        """See ``MappingReader.read``."""
        until = time.clock_gettime(time.CLOCK_BOOTTIME) + timeout_s
        calls = Calls(self._ec2, Gate(lambda: until))
        self.last_refusal = None
        try:
            async with asyncio.timeout(timeout_s):
                found = await in_daemon_thread(lambda: calls.addresses(eni.id), name="describe")
        except OSError:
            # Out of time, or no thread can be started.
            return dict.fromkeys(addresses, Mapped.UNKNOWN)
        if isinstance(found, Refusal):
            self.last_refusal = found
            return dict.fromkeys(addresses, Mapped.UNKNOWN)
        return {a: _judge(a, found) for a in addresses}


def _judge(address: Address, known: frozenset[Address] | None) -> Mapped:
    if known is None:
        return Mapped.UNKNOWN
    return Mapped.MINE if address in known else Mapped.GONE
