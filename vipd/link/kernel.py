"""The ``Kernel`` port over pyroute2: VIPs with a lifetime and a protocol number, links, and what changes.

Addresses of ours bear IFA_PROTO 0x56, so that they are known from the application's own; nothing that does not bear
it is ever touched.  They have a lifetime (``valid_lft``): a dead owner loses them by the kernel's hand.  The
interface is looked up by name for each operation, because a re-created one has another index.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vipd.core.model import BorneAddress, LinkState, Vip
from vipd.core.ports import LinkEvent
from vipd.errors import LinkError
from vipd.link.monitor import LinkMonitor, link_state

VIPD_PROTO = 0x56
"""IFA_PROTO of every address that vipd adds ("V"); values above 3 are free for user space (linux/if_addr.h)."""

_NODAD = 0x02
_NOPREFIXROUTE = 0x200
"""Flags of linux/if_addr.h: no duplicate address detection (the VIP is live elsewhere until the move), and no
route for the prefix, which the interface's own address has already."""

_FOREVER = 0xFFFFFFFF
CALL_TIMEOUT_S = 1.0

T = TypeVar("T")


class KernelLink:
    """Addresses and links of the network namespace that this process is in."""

    def __init__(self) -> None:
        self._ipr: AsyncIPRoute | None = None
        self._promoted: set[str] = set()

    async def put(self, vip: Vip, *, valid_s: int) -> None:
        """Add the address or refresh its lifetime.  Raises LinkError, also where somebody else's address is there."""
        if valid_s < 1:
            raise LinkError(f"cannot add {vip}: a lifetime of {valid_s} s; the kernel takes whole seconds from 1")
        index = await self._index(vip, "add")
        present = await self._find(vip, index)
        if present is not None and present.get("proto") != VIPD_PROTO:
            raise LinkError(
                f"cannot add {vip}: the address is on {vip.interface} already and is not vipd's; remove it there, "
                "or choose another VIP"
            )
        if present is not None and present["prefixlen"] != vip.prefixlen:
            await self._delete(vip, index, present["prefixlen"])
        await self._call(
            f"add {vip}",
            lambda ipr: ipr.addr(
                "replace",
                index=index,
                address=str(vip.address),
                prefixlen=vip.prefixlen,
                proto=VIPD_PROTO,
                flags=_NOPREFIXROUTE | (_NODAD if vip.address.version == 6 else 0),
                IFA_CACHEINFO={"ifa_preferred": valid_s, "ifa_valid": valid_s},
            ),
        )

    async def remove(self, vip: Vip) -> bool:
        """Remove the address where it bears our protocol number; False where it was not there."""
        link = await self.link(vip.interface)
        if link is None:
            return False
        present = await self._find(vip, link.index)
        if present is None or present.get("proto") != VIPD_PROTO:
            return False
        return await self._delete(vip, link.index, present["prefixlen"])

    async def borne(self) -> Sequence[BorneAddress]:
        """Every address of this namespace that bears our protocol number."""
        names = {m["index"]: m.get("ifname") for m in await self._dump("list links", lambda ipr: ipr.link("dump"))}
        found = []
        for message in await self._dump("list addresses", lambda ipr: ipr.addr("dump")):
            if message.get("proto") == VIPD_PROTO and message["index"] in names:
                vip = Vip(_address(message), message["prefixlen"], names[message["index"]])
                valid = (message.get("cacheinfo") or {}).get("ifa_valid", _FOREVER)
                found.append(BorneAddress(vip=vip, valid_s=None if valid == _FOREVER else valid))
        return found

    async def link(self, name: str) -> LinkState | None:
        """The interface's state; None where there is none of that name."""
        states = {s.name: s for s in await self.links()}
        return states.get(name)

    async def links(self) -> Sequence[LinkState]:
        """All interfaces."""
        return [link_state(m) for m in await self._dump("list links", lambda ipr: ipr.link("dump"))]

    def events(self) -> AsyncIterator[LinkEvent]:
        """Changes as the kernel tells them; the first one is MonitorResync."""
        return LinkMonitor().events()

    async def close(self) -> None:
        """Give back the socket."""
        if self._ipr is not None:
            self._ipr.close()
            self._ipr = None

    # --------------------------------------------------------------------------------------- helpers

    async def _index(self, vip: Vip, verb: str) -> int:
        link = await self.link(vip.interface)
        if link is None:
            raise LinkError(f"cannot {verb} {vip}: there is no interface {vip.interface}")
        return link.index

    async def _find(self, vip: Vip, index: int) -> Any:
        for message in await self._dump(f"look for {vip}", lambda ipr: ipr.addr("dump", index=index)):
            if message["index"] == index and _address(message) == vip.address:
                return message
        return None

    async def _delete(self, vip: Vip, index: int, prefixlen: int) -> bool:
        if vip.address.version == 4 and prefixlen < 32:
            self._promote(vip.interface)
        try:
            await self._call(
                f"remove {vip}",
                lambda ipr: ipr.addr("del", index=index, address=str(vip.address), prefixlen=prefixlen),
            )
        except LinkError as error:
            if isinstance(error.__cause__, NetlinkError) and error.__cause__.code in (99, 19):
                return False  # EADDRNOTAVAIL, ENODEV: it went by itself in between
            raise
        return True

    def _promote(self, interface: str) -> None:
        """Removing a primary address takes its secondaries along unless promote_secondaries is on (ip-sysctl.rst)."""
        if interface in self._promoted:
            return
        path = f"/proc/sys/net/ipv4/conf/{interface}/promote_secondaries"
        try:
            with open(path, "w") as file:
                file.write("1")
        except OSError as error:
            raise LinkError(
                f"cannot remove addresses from {interface} safely: {path} cannot be set ({error}); use a /32 VIP"
            ) from error
        self._promoted.add(interface)

    async def _dump(self, what: str, ask: Callable[[AsyncIPRoute], Awaitable[Any]]) -> list[Any]:
        async def collect(ipr: AsyncIPRoute) -> list[Any]:
            return [message async for message in await ask(ipr)]

        return await self._call(what, collect)

    async def _call(self, what: str, ask: Callable[[AsyncIPRoute], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if self._ipr is None:
                    self._ipr = AsyncIPRoute()
                return await ask(self._ipr)
        except NetlinkError as error:
            raise LinkError(f"cannot {what}: {os.strerror(error.code)}") from error
        except TimeoutError as error:
            raise LinkError(f"cannot {what}: no answer from the kernel within {CALL_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise LinkError(f"cannot {what}: {error}") from error


def _address(message: Any) -> Any:
    # IFA_LOCAL is the address itself on point-to-point links, where IFA_ADDRESS is the peer's.
    return ip_address(message.get("local") or message.get("address"))
