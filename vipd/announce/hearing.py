"""What a frame says about a VIP: who claims it, or who answers for it.  Strict, and never raises."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from vipd.announce.bpf import ARP_SENDER, ICMP_TYPE, ICMPV6, IPV6_NEXT, ND_TARGET, NEIGHBOR_ADVERTISEMENT
from vipd.core.model import Address

_ARP_TYPE, _IPV6_TYPE = b"\x08\x06", b"\x86\xdd"
_ARP_ETHERNET_IPV4 = b"\x00\x01\x08\x00\x06\x04"
_ARP_LENGTH, _NA_LENGTH = 42, 78
_HOP_LIMIT, _TARGET_LINK_ADDRESS = 21, 2


def said(frame: bytes, addresses: Collection[Address]) -> tuple[Address, str] | None:
    """The address of ``addresses`` that the frame speaks for, and the MAC it names; None where it does neither.

    ARP: requests and replies alike, gratuitous or not, tell where their *sender* is (RFC 5227, section 2.4); a probe
    has the sender 0.0.0.0 and tells nothing.  IPv6: the target of a neighbour advertisement, at the MAC of its
    option, else of the frame (RFC 4861, section 4.4).  VLAN tags inside the frame are not understood.
    """
    if frame[12:14] == _ARP_TYPE and len(frame) >= _ARP_LENGTH and frame[14:20] == _ARP_ETHERNET_IPV4:
        address: Address = ip_address(frame[ARP_SENDER : ARP_SENDER + 4])
        mac = frame[22:28]
    elif frame[12:14] == _IPV6_TYPE and len(frame) >= _NA_LENGTH and _is_advertisement(frame):
        address = ip_address(frame[ND_TARGET : ND_TARGET + 16])
        mac = _target_mac(frame)
    else:
        return None
    return (address, mac.hex(":")) if address in addresses else None


def _is_advertisement(frame: bytes) -> bool:
    """Neighbour discovery from farther than this link has lost hops (RFC 4861, section 7.1.2)."""
    if frame[IPV6_NEXT] != ICMPV6 or frame[_HOP_LIMIT] != 255:
        return False
    return frame[ICMP_TYPE] == NEIGHBOR_ADVERTISEMENT and frame[ICMP_TYPE + 1] == 0


def _target_mac(frame: bytes) -> bytes:
    """The target link-layer address option's MAC; the frame's source where there is none."""
    at = _NA_LENGTH
    while at + 8 <= len(frame):
        kind, length = frame[at], frame[at + 1] * 8
        if length == 0:
            break
        if kind == _TARGET_LINK_ADDRESS:
            return frame[at + 2 : at + 8]
        at += length
    return frame[6:12]
