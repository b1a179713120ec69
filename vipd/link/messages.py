"""What rtnetlink messages say, as values of ours."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

from vipd.core.model import Address, LinkState, LocalAddress

_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_NOT_READY = ("NOTPRESENT", "TESTING", "DORMANT")

_TEMPORARY, _OPTIMISTIC, _DADFAILED, _TENTATIVE = 0x01, 0x04, 0x08, 0x40
"""Flags of linux/if_addr.h that mean this for IPv6 alone: 0x01 is IFA_F_SECONDARY for IPv4."""
_SCOPE_UNIVERSE = 0


def link_state(message: Any) -> LinkState:
    """An RTM_NEWLINK message as a value.

    Up means administratively up, with carrier (IFF_LOWER_UP), and in no operational state that bars traffic in spite
    of a carrier (operstates.rst).  UNKNOWN is what drivers report that do not track the state: loopback, ipvlan,
    macvlan, tun.  DOWN and LOWERLAYERDOWN beside a carrier are of the past: the kernel brings the state up to date
    with a delay of up to a second, the carrier at once.
    """
    flags = message["flags"]
    state = message.get("operstate") or "UNKNOWN"
    up = bool(flags & _IFF_UP) and bool(flags & _IFF_LOWER_UP) and state not in _NOT_READY
    mac = (message.get("address") or "").lower()
    return LinkState(
        name=message.get("ifname") or "",
        index=message["index"],
        up=up,
        mac=mac,
        loopback=bool(flags & _IFF_LOOPBACK),
    )


def address_of(message: Any) -> Address:
    """The address that an RTM_NEWADDR or RTM_DELADDR message speaks of.

    IFA_LOCAL is the address itself on point-to-point links, where IFA_ADDRESS is the peer's.
    """
    return ip_address(message.get("local") or message.get("address"))


def local_address(message: Any, interface: str) -> LocalAddress:
    """An RTM_NEWADDR message as a value; ``interface`` is the name of its index.

    An optimistic address (RFC 4429) sends while its duplicate address detection is under way.  IPv4 addresses are
    usable from the start: the kernel keeps their flags as they were given, and detects no duplicates.
    """
    # The header has room for eight bits of them; IFA_FLAGS has them all, since Linux 3.14.
    flags = message.get_attr("IFA_FLAGS")
    flags = (message["flags"] if flags is None else flags) if message["family"] == socket.AF_INET6 else 0
    duplicate = bool(flags & _DADFAILED)
    return LocalAddress(
        address=address_of(message),
        prefixlen=message["prefixlen"],
        interface=interface,
        proto=message.get_attr("IFA_PROTO") or 0,
        usable=not duplicate and (not flags & _TENTATIVE or bool(flags & _OPTIMISTIC)),
        duplicate=duplicate,
        temporary=bool(flags & _TEMPORARY),
        universe=message["scope"] == _SCOPE_UNIVERSE,
    )
