"""A VIP that somebody else put on the interface (user data, on every node): looked at, never added and never removed.

What tells the nodes apart is the mapping to an ENI alone, so bearing the address is no claim, and losing the election
leaves it where it is.  A node without it is no candidate: it would answer nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from vipd.core.model import BorneAddress, LinkState, Vip
from vipd.core.ports import AddressCame, AddressGone, LinkChanged, LinkEvent, MonitorResync
from vipd.errors import LinkError
from vipd.link.kernel import VIPD_PROTO, KernelLink

AGAIN_S = 1.0
"""Between two looks where the kernel did not answer."""


class StaticKernel:
    """The ``Kernel`` port over addresses that are there for good."""

    def __init__(self, kernel: KernelLink) -> None:
        self._kernel = kernel
        self._serving: set[Vip] = set()
        """What the election has put: an owner that restarts bears nothing of its own."""

    async def put(self, vip: Vip, *, valid_s: int) -> None:
        """Raises LinkError where the address is not on its interface."""
        if not await has_address(self._kernel, vip):
            self._serving.discard(vip)
            raise LinkError(missing(vip))
        self._serving.add(vip)

    async def remove(self, vip: Vip) -> bool:
        """It stays; what ends is the service."""
        was = vip in self._serving
        self._serving.discard(vip)
        return was

    async def borne(self) -> Sequence[BorneAddress]:
        """What is served and is on its interface."""
        return [BorneAddress(vip=vip, valid_s=None) for vip in sorted(self._serving, key=str) if await self._there(vip)]

    async def _there(self, vip: Vip) -> bool:
        return await has_address(self._kernel, vip)

    async def link(self, name: str) -> LinkState | None:
        return await self._kernel.link(name)

    def events(self) -> AsyncGenerator[LinkEvent, None]:
        return self._kernel.events()

    async def close(self) -> None:
        await self._kernel.close()


class StaticAddresses:
    """A monitor: healthy where every VIP is on its interface, by netlink events."""

    def __init__(self, kernel: KernelLink, vips: Sequence[Vip]) -> None:
        self._kernel = kernel
        self._vips = tuple(vips)

    async def run(self, report: Callable[[bool, str], None]) -> None:
        """Until cancelled."""
        told: str | None = None
        async with aclosing(self._kernel.events()) as events:
            async for event in events:
                if not isinstance(event, AddressCame | AddressGone | LinkChanged | MonitorResync):
                    continue
                why = await self._problem()
                if why != told:
                    told = why
                    report(not why, why)

    async def _problem(self) -> str:
        while True:
            try:
                return "; ".join([missing(vip) for vip in self._vips if not await has_address(self._kernel, vip)])
            except LinkError:
                await asyncio.sleep(AGAIN_S)


async def has_address(kernel: KernelLink, vip: Vip) -> bool:
    """Whether the interface bears the address, whatever the prefix and whoever added it."""
    return any(a.address == vip.address and a.interface == vip.interface for a in await kernel.addresses())


def missing(vip: Vip) -> str:
    """What is wrong, and what to do."""
    return (
        f"{vip.address} is not on {vip.interface}, where user data is to put it (vipd userdata writes that); "
        "or let vipd do it: --address-mode managed"
    )


async def by_others(kernel: KernelLink, vips: Sequence[Vip]) -> list[Vip]:
    """Those that are on their interfaces already by somebody else's hand, which in managed mode none may be."""
    there = {(a.address, a.interface) for a in await kernel.addresses() if a.proto != VIPD_PROTO}
    return [vip for vip in vips if (vip.address, vip.interface) in there]


def not_ours(vip: Vip) -> str:
    """What is wrong with one of them, and what to do."""
    return (
        f"VIP {vip}: the address is on {vip.interface} already, and vipd did not put it there (user data?); "
        "allowed: --address-mode static, or an address that only vipd adds"
    )
