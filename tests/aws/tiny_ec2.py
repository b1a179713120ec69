"""A stateful EC2 of five calls in one table of addresses: enough rules to try a mover on."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field

from aiohttp import web
from aws_servers import ec2_done, ec2_error

from vipd.core.model import Address

SUBNETS = (ipaddress.ip_network("10.0.1.0/24"), ipaddress.ip_network("fd00:10:0:1::/64"))


@dataclass
class TinyEc2:
    """``owner``: which ENI has an address.  ``log``: the calls as they came, "Action eni address ...".

    ``fail``: ("Action", eni or "*") -> error code, for as long as it stands there.
    """

    owner: dict[Address, str] = field(default_factory=dict)
    primaries: set[Address] = field(default_factory=set)
    limit: int = 10
    log: list[str] = field(default_factory=list)
    fail: dict[tuple[str, str], str] = field(default_factory=dict)
    stale: dict[Address, str] | None = None
    """What Describe tells in place of the truth."""
    room_first: bool = False
    """Whether the ENI's limit is looked at before the addresses."""
    not_there: str = "Some of the specified addresses are not assigned to interface {}"
    delay_s: float = 0.0

    async def __call__(self, request: web.Request) -> web.Response:
        form = {k: str(v) for k, v in (await request.post()).items()}
        action, eni = form["Action"], form.get("NetworkInterfaceId", "*")
        addresses = [
            ipaddress.ip_address(v)
            for k, v in form.items()
            if k.startswith(("PrivateIpAddress.", "Ipv6Addresses.", "Filter.1.Value."))
        ]
        self.log.append(" ".join([action, eni, *map(str, addresses)]))
        await asyncio.sleep(self.delay_s)
        code = self.fail.get((action, eni)) or self.fail.get((action, "*"))
        if code:
            return ec2_error(code)
        if action == "DescribeNetworkInterfaces":
            return self._describe(form, addresses)
        refusal = self._apply(form, action, eni, addresses)
        return refusal or ec2_done(action)

    def _apply(self, form: dict[str, str], action: str, eni: str, addresses: list[Address]) -> web.Response | None:
        if action.startswith("Unassign"):
            if any(a in self.primaries for a in addresses):
                return ec2_error("InvalidParameterValue", "The primary IP address of an interface cannot be unassigned")
            if any(self.owner.get(a) != eni for a in addresses):
                return ec2_error("InvalidParameterValue", self.not_there.format(eni))
            for address in addresses:
                del self.owner[address]
            return None
        family = addresses[0].version
        have = {a for a, o in self.owner.items() if o == eni and a.version == family} | set(addresses)
        full = ec2_error("PrivateIpAddressLimitExceeded") if len(have) > self.limit else None
        if full and self.room_first:
            return full
        if not all(any(a in n for n in SUBNETS) for a in addresses):
            return ec2_error("InvalidParameterValue", "outside the subnet")
        taken = [a for a in addresses if self.owner.get(a, eni) != eni]
        if action == "AssignIpv6Addresses" and taken:
            return ec2_error("InvalidParameterValue", "in use")
        if any(a in self.primaries for a in taken):
            return ec2_error("InvalidParameterValue", "a primary address of another interface")
        if full:
            return full
        assert family == 6 or form.get("AllowReassignment") == "true"
        self.owner.update(dict.fromkeys(addresses, eni))
        return None

    def _describe(self, form: dict[str, str], addresses: list[Address]) -> web.Response:
        owner = self.owner if self.stale is None else self.stale
        asked = {v for k, v in form.items() if k.startswith("NetworkInterfaceId.")}
        enis = sorted(asked or {owner[a] for a in addresses if a in owner})
        items = "".join(self._item(eni, [a for a, o in owner.items() if o == eni]) for eni in enis)
        return web.Response(
            text='<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            f"<requestId>0</requestId><networkInterfaceSet>{items}</networkInterfaceSet></DescribeNetworkInterfacesResponse>"
        )

    @staticmethod
    def _item(eni: str, addresses: list[Address]) -> str:
        v4 = "".join(f"<item><privateIpAddress>{a}</privateIpAddress></item>" for a in addresses if a.version == 4)
        v6 = "".join(f"<item><ipv6Address>{a}</ipv6Address></item>" for a in addresses if a.version == 6)
        return (
            f"<item><networkInterfaceId>{eni}</networkInterfaceId><privateIpAddressesSet>{v4}</privateIpAddressesSet>"
            f"<ipv6AddressesSet>{v6}</ipv6AddressesSet></item>"
        )
