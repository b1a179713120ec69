"""What rtnetlink messages say, as values of ours."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from vipd.core.model import Address, LinkState

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_NOT_READY = ("NOTPRESENT", "TESTING", "DORMANT")


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
    return LinkState(name=message.get("ifname") or "", index=message["index"], up=up, mac=mac)


def address_of(message: Any) -> Address:
    """The address that an RTM_NEWADDR or RTM_DELADDR message speaks of.

    IFA_LOCAL is the address itself on point-to-point links, where IFA_ADDRESS is the peer's.
    """
    return ip_address(message.get("local") or message.get("address"))
