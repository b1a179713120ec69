"""A pod's kernel: addresses with lifetimes in whole seconds, links, and who is told of what.

It outlives processes.  An address whose lifetime has ended goes up to 0.4 s late (the kernel looks at lifetimes with
rounding slack, net/ipv4/devinet.c check_lifetime), and adding an address that has expired brings it back.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence

from vipd.core.model import Address, BorneAddress, LinkState, Vip
from vipd.core.ports import AddressGone, LinkChanged, LinkEvent, MonitorResync
from vipd.errors import LinkError

from .loop import ProcessLoop, Timeline

REMOVAL_LATE_S = 0.4


class PodKernel:
    """What is on the interface, whoever put it there."""

    def __init__(self, timeline: Timeline, rng: random.Random, link: LinkState, *, rate: float) -> None:
        """``rate``: seconds of this machine's clock in one second of the world."""
        self._timeline = timeline
        self._rate = rate
        self._rng = rng
        self.link_state = link
        self.ends: dict[Address, float] = {}
        """When each address that is there will be gone, in the world's time."""
        self._vips: dict[Address, Vip] = {}
        self._checked: dict[Address, float] = {}
        self.refusing = False
        self.up_since = 0.0
        """When the link came up, in the world's time."""
        self.slow_s = 0.0
        """How long a netlink send stalls, every other time."""
        self.listeners: list[KernelPort] = []
        self.changed: Callable[[], None] = lambda: None
        """Called when an address came or went, or the link changed."""

    def bears(self, address: Address) -> bool:
        return address in self.ends

    def stall_s(self) -> float:
        """How long this netlink send takes."""
        return self.slow_s if self.slow_s and self._rng.random() < 0.5 else 0.0

    def put(self, vip: Vip, valid_s: int) -> None:
        end = self._timeline.now + (valid_s + REMOVAL_LATE_S * self._rng.random()) / self._rate
        fresh = vip.address not in self.ends
        self.ends[vip.address] = end
        self._vips[vip.address] = vip
        if vip.address not in self._checked or self._checked[vip.address] > end:
            self._check_at(vip.address, end)
        if fresh:
            self.changed()

    def remove(self, address: Address) -> bool:
        if self.ends.pop(address, None) is None:
            return False
        self.changed()
        self._tell(AddressGone(address, self.link_state.name))
        return True

    def set_link(self, *, up: bool) -> None:
        link = self.link_state
        if link.up is not up:
            self.link_state = LinkState(link.name, link.index, up, link.mac)
            self.up_since = self._timeline.now
            self.changed()
            self._tell(LinkChanged(link.name, self.link_state))

    def stood_still(self, seconds: float) -> None:
        """The machine was suspended: lifetimes are counted in jiffies, which stood still too."""
        for address in self.ends:
            self.ends[address] += seconds

    def lose_events(self) -> None:
        """ENOBUFS: the monitor starts anew."""
        self._tell(MonitorResync())

    def vips(self) -> list[Vip]:
        return [self._vips[address] for address in self.ends]

    def _check_at(self, address: Address, when: float) -> None:
        self._checked[address] = when
        self._timeline.at(when, self._check, address, when)

    def _check(self, address: Address, when: float) -> None:
        if self._checked.get(address) != when:
            return
        del self._checked[address]
        end = self.ends.get(address)
        if end is None:
            return
        if end > self._timeline.now:
            self._check_at(address, end)
        else:
            self.remove(address)

    def _tell(self, event: LinkEvent) -> None:
        for listener in self.listeners:
            listener.tell(event)


class KernelPort:
    """``vipd.core.ports.Kernel`` for one process."""

    def __init__(self, kernel: PodKernel, loop: ProcessLoop) -> None:
        self._kernel = kernel
        self._loop = loop
        self._queue: deque[LinkEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.before_put: Callable[[Vip, int], None] = lambda vip, valid_s: None
        self.before_remove: Callable[[Vip], None] = lambda vip: None

    async def put(self, vip: Vip, *, valid_s: int) -> None:
        kernel = self._kernel
        if stall_s := kernel.stall_s():
            await asyncio.sleep(stall_s)
        if kernel.refusing:
            raise LinkError(f"cannot add {vip}: refused")
        self.before_put(vip, valid_s)
        kernel.put(vip, valid_s)

    async def remove(self, vip: Vip) -> bool:
        kernel = self._kernel
        if stall_s := kernel.stall_s():
            await asyncio.sleep(stall_s)
        self.before_remove(vip)
        return kernel.remove(vip.address)

    async def borne(self) -> Sequence[BorneAddress]:
        kernel = self._kernel
        now = kernel._timeline.now
        return [BorneAddress(v, max(0, int(kernel.ends[v.address] - now))) for v in kernel.vips()]

    async def link(self, name: str) -> LinkState | None:
        link = self._kernel.link_state
        return link if link.name == name else None

    async def events(self) -> AsyncGenerator[LinkEvent, None]:
        self._kernel.listeners.append(self)
        try:
            yield MonitorResync()
            while True:
                while self._queue:
                    yield self._queue.popleft()
                self._waiter = asyncio.Future(loop=self._loop)  # type: ignore[arg-type]
                await self._waiter
        finally:
            self.detach()

    def tell(self, event: LinkEvent) -> None:
        self._queue.append(event)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def detach(self) -> None:
        if self in self._kernel.listeners:
            self._kernel.listeners.remove(self)

    async def close(self) -> None:
        self.detach()
