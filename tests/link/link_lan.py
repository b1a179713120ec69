"""Two network namespaces joined by a veth pair, and a monitor's events read one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2 import AsyncIPRoute

from vipd.core.model import Address, LocalAddress, Vip
from vipd.core.ports import AddressCame, LinkEvent
from vipd.lab.netns import Namespace

MAC = "02:00:00:00:01:0a"
V4 = Vip(ip_address("10.0.1.100"), 32, "net1")
V6 = Vip(ip_address("fd00:10:0:1::100"), 128, "net1")
EACH_FAMILY = pytest.mark.parametrize("vip", [V4, V6], ids=["ipv4", "ipv6"])


@dataclass
class Lan:
    """This namespace with ``net1``, whose other end is the neighbour's ``net1``; ``ipr`` is somebody else's hand."""

    ipr: AsyncIPRoute
    neighbour: Namespace

    async def index(self, name: str = "net1") -> int:
        return int((await self.ipr.link_lookup(ifname=name))[0])

    async def create(self, name: str, *, mac: str = MAC) -> None:
        await self.ipr.link("add", ifname=name, kind="veth", address=mac, peer={"ifname": f"{name}-peer"})
        await self.set(name, state="up")
        await self.set(f"{name}-peer", state="up")

    async def set(self, name: str, **what: Any) -> None:
        await self.ipr.link("set", index=await self.index(name), **what)

    async def delete(self, name: str = "net1") -> None:
        await self.ipr.link("del", index=await self.index(name))

    async def add_address(self, address: str, prefixlen: int) -> None:
        await self.ipr.addr("add", index=await self.index(), address=address, prefixlen=prefixlen)

    async def delete_address(self, address: str, prefixlen: int) -> None:
        await self.ipr.addr("del", index=await self.index(), address=address, prefixlen=prefixlen)

    async def addresses(self) -> dict[str, Any]:
        """What ``net1`` bears, but for link-local addresses."""
        index = await self.index()
        found = [m async for m in await self.ipr.addr("dump")]
        return {
            f"{m.get('address')}/{m['prefixlen']}": m
            for m in found
            if m["index"] == index and not m.get("address").startswith("fe80:")
        }


class Events:
    """Events of a monitor, read one after the other."""

    def __init__(self, events: AsyncIterator[LinkEvent]) -> None:
        self._events = events

    async def next(self, within_s: float = 3.0) -> LinkEvent:
        async with asyncio.timeout(within_s):
            return await anext(self._events)

    async def next_but_arrivals(self) -> LinkEvent:
        """The next event that is no AddressCame: link-local addresses come whenever an interface goes up."""
        while isinstance(event := await self.next(), AddressCame):
            pass
        return event

    async def came(self, address: Address, *, usable: bool = True) -> LocalAddress:
        """The address as an AddressCame tells it, once it is usable or is not."""
        while not (
            isinstance(event := await self.next(), AddressCame)
            and (event.local.address, event.local.usable) == (address, usable)
        ):
            pass
        return event.local

    async def until(self, wanted: LinkEvent | type[LinkEvent], within_s: float = 3.0) -> list[LinkEvent]:
        """All events up to and with the one wanted."""
        seen: list[LinkEvent] = []
        async with asyncio.timeout(within_s):
            async for event in self._events:
                seen.append(event)
                if event == wanted or (isinstance(wanted, type) and isinstance(event, wanted)):
                    return seen
        raise AssertionError("the monitor ended")
