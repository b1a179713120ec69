"""The ``Kernel`` port over pyroute2: VIPs with a lifetime and a protocol number, links, and what changes.

Addresses of ours bear IFA_PROTO 0x56, so that they are known from the application's own; nothing that does not bear
it is ever touched.  They have a lifetime (``valid_lft``): a dead owner loses them by the kernel's hand, never early
and up to about 0.4 s late.  The interface is looked up by name for each operation, because a re-created one has
another index.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vipd.core.model import BorneAddress, LinkState, LocalAddress, Vip
from vipd.core.ports import LinkEvent
from vipd.errors import LinkError
from vipd.link.messages import address_of, link_state, local_address
from vipd.link.monitor import LinkMonitor
from vipd.link.netlink import Netlink, addresses, links, promote_secondaries
from vipd.link.primary import DefaultRoutes
from vipd.link.routes import default_routes

VIPD_PROTO = 0x56
"""IFA_PROTO of every address that vipd adds ("V"); values above 3 are free for user space (linux/if_addr.h)."""

_NODAD = 0x02
_NOPREFIXROUTE = 0x200
"""Flags of linux/if_addr.h: no duplicate address detection (the VIP is live elsewhere until the move), and no
route for the prefix, which the interface's own address has already."""

_FOREVER = 0xFFFFFFFF
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_WENT_BY_ITSELF = (errno.EADDRNOTAVAIL, errno.ENODEV)


PROTO_SINCE = (5, 18)
"""The first Linux that keeps IFA_PROTO."""


def kernel_note(release: str) -> str:
    """What is to be said of a kernel by its release (uname -r); empty where it keeps IFA_PROTO for all one knows."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= PROTO_SINCE:
        return ""
    return (
        f"Linux {release} does not keep the protocol number of addresses, by which vipd knows its own, unless its "
        "distribution has brought that back: 5.18 or newer is needed where vipd adds an address"
    )


class KernelLink:
    """Addresses and links of the network namespace that this process is in."""

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._proto_kept = False

    async def put(self, vip: Vip, *, valid_s: int) -> None:
        """Add the address or refresh its lifetime (``valid_s`` >= 1 whole seconds).

        Raises LinkError, also where the interface bears the address from somebody else's hand: `replace` would make
        it ours, and its end our doing.
        """
        if not 1 <= valid_s < _FOREVER:
            raise LinkError(f"cannot add {vip}: a lifetime of {valid_s} s; the kernel takes whole seconds from 1")
        async with self._netlink.operation(f"add {vip}") as ipr:
            index = _index(vip.interface)
            if index is None:
                raise LinkError(f"cannot add {vip}: there is no interface {vip.interface}")
            present = await _same_address(ipr, vip, index)
            if any(message.get("proto") != VIPD_PROTO for message in present):
                raise LinkError(
                    f"cannot add {vip}: the address is on {vip.interface} already and is not vipd's; remove it there, "
                    "or choose another VIP"
                )
            others = [m["prefixlen"] for m in present if m["prefixlen"] != vip.prefixlen]
            if vip.address.version == 6:
                # IPv6 knows an address once, whatever its prefix: `replace` would keep the old length.
                await self._delete_all(ipr, vip, index, others)
            if len(others) == len(present) and vip.address.version == 4 and vip.prefixlen < 32:
                await promote_secondaries(ipr, index)
            await _replace(ipr, vip, index, valid_s)
            if vip.address.version == 4:
                await self._delete_all(ipr, vip, index, others)
            if not self._proto_kept:
                await self._check_proto(ipr, vip, index)

    async def remove(self, vip: Vip) -> bool:
        """Remove the address where it bears our protocol number, and nothing else; False where it was not there."""
        async with self._netlink.operation(f"remove {vip}") as ipr:
            index = _index(vip.interface)
            if index is None:
                return False
            present = await _same_address(ipr, vip, index)
            ours = [m["prefixlen"] for m in present if m.get("proto") == VIPD_PROTO]
            return await self._delete_all(ipr, vip, index, ours)

    async def borne(self) -> Sequence[BorneAddress]:
        """Every address of this namespace that bears our protocol number."""
        async with self._netlink.operation("list addresses") as ipr:
            ours = [m for m in await addresses(ipr) if m.get("proto") == VIPD_PROTO]
        found = []
        for message in ours:
            name = _name(message["index"])
            if name is None:
                continue
            valid = (message.get("cacheinfo") or {}).get("ifa_valid", _FOREVER)
            vip = Vip(address_of(message), message["prefixlen"], name)
            found.append(BorneAddress(vip=vip, valid_s=None if valid == _FOREVER else valid))
        return found

    async def addresses(self) -> Sequence[LocalAddress]:
        """Every address of this namespace, of all interfaces and both families, whoever added it."""
        async with self._netlink.operation("list addresses") as ipr:
            messages = [m for m in await addresses(ipr) if m["family"] in _FAMILIES]
        names = {index: _name(index) for index in {m["index"] for m in messages}}
        return [local_address(m, name) for m in messages if (name := names[m["index"]]) is not None]

    async def default_route_interfaces(self) -> DefaultRoutes:
        """The interfaces that the main routing table's default routes lead out of."""
        async with self._netlink.operation("list default routes") as ipr:
            ipv4, ipv6 = [await default_routes(ipr, family) for family in _FAMILIES]
        return DefaultRoutes(ipv4=_names(ipv4), ipv6=_names(ipv6))

    async def link(self, name: str) -> LinkState | None:
        """The interface's state; None where there is none of that name (alternative names do not count)."""
        async with self._netlink.operation(f"look at interface {name}") as ipr:
            index = _index(name)
            if index is None:
                return None
            try:
                messages = await ipr.link("get", index=index)
            except NetlinkError as error:
                if error.code == errno.ENODEV:
                    return None
                raise
        state = link_state(messages[0])
        return state if state.name == name else None

    async def links(self) -> Sequence[LinkState]:
        """All interfaces."""
        async with self._netlink.operation("list interfaces") as ipr:
            return [link_state(message) for message in await links(ipr)]

    def events(self) -> AsyncGenerator[LinkEvent, None]:
        """Changes as the kernel tells them; the first one is MonitorResync.  Closing the generator ends it."""
        return LinkMonitor().events()

    async def close(self) -> None:
        """Give back the socket of the requests."""
        self._netlink.close()

    # --------------------------------------------------------------------------------------- helpers

    async def _delete_all(self, ipr: AsyncIPRoute, vip: Vip, index: int, prefixlens: Sequence[int]) -> bool:
        deleted = False
        for prefixlen in prefixlens:
            if vip.address.version == 4 and prefixlen < 32:
                await promote_secondaries(ipr, index)
            try:
                await ipr.addr("del", index=index, address=str(vip.address), prefixlen=prefixlen)
                deleted = True
            except NetlinkError as error:
                if error.code not in _WENT_BY_ITSELF:
                    raise
        return deleted

    async def _check_proto(self, ipr: AsyncIPRoute, vip: Vip, index: int) -> None:
        """Linux before 5.18 ignores IFA_PROTO: addresses could not be told from the application's."""
        present = [m for m in await _same_address(ipr, vip, index) if m["prefixlen"] == vip.prefixlen]
        if present and present[0].get("proto") != VIPD_PROTO:
            await self._delete_all(ipr, vip, index, [vip.prefixlen])
            raise LinkError(
                f"cannot add {vip}: this kernel does not keep the protocol number of addresses, by which vipd knows "
                "its own; Linux 5.18 or newer is needed"
            )
        self._proto_kept = bool(present)


def _index(name: str) -> int | None:
    """The interface's index of this moment; None where there is no interface of that very name."""
    try:
        index = socket.if_nametoindex(name)
        # The kernel finds alternative names too, by which no event and no address would ever speak of it.
        return index if socket.if_indextoname(index) == name else None
    except OSError:
        return None


def _name(index: int) -> str | None:
    """The interface's name of this moment; None where it went in between, and what it bore with it."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def _names(indexes: Iterable[int]) -> frozenset[str]:
    return frozenset(name for name in map(_name, indexes) if name is not None)


async def _same_address(ipr: AsyncIPRoute, vip: Vip, index: int) -> list[Any]:
    """Who bears the VIP on this interface: none or one, or several with different prefix lengths (IPv4)."""
    family = socket.AF_INET if vip.address.version == 4 else socket.AF_INET6
    return [m for m in await addresses(ipr, index=index, family=family) if address_of(m) == vip.address]


async def _replace(ipr: AsyncIPRoute, vip: Vip, index: int, valid_s: int) -> None:
    """Add or refresh it so that this node's own connections do not begin from it.

    While the VPC maps it elsewhere (between here and EC2's OK, and while yielding) it drops what has this source.
    IPv6 source selection would take it on a tie, because the newest address is the first: one whose preferred lifetime
    is over (deprecated, RFC 6724 rule 3) is taken only where there is no other, and answers and is bound as before.
    IPv4 knows nothing of the kind, and takes the first address that is there, or the one whose subnet has the gateway:
    the VIP only where it was on the interface before its own address, by a route without a source or such a gateway.
    """
    await ipr.addr(
        "replace",
        index=index,
        address=str(vip.address),
        prefixlen=vip.prefixlen,
        proto=VIPD_PROTO,
        flags=_NOPREFIXROUTE | (_NODAD if vip.address.version == 6 else 0),
        IFA_CACHEINFO={"ifa_preferred": 0 if vip.address.version == 6 else valid_s, "ifa_valid": valid_s},
    )
