"""What neighbours say of an address, read from frames, and the questions that make them say it.

Reading is strict: what is truncated, malformed or not meant for a neighbour table is None, and nothing raises.
VLAN-tagged frames and IPv6 extension headers are not understood, on purpose: a claim in another VLAN is none here.

The questions are built by hand, not by scapy as announcements are: the sender's address is known only when they are
asked, at the end of a Lease, and a child process that loads scapy takes longer than the whole probe.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vipd.core.model import Address

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_ARP_REQUEST, _ARP_REPLY = 1, 2
_IPV6 = struct.Struct("!IHBB16s16s")
_ND = struct.Struct("!BBHI16s")
"""Type, code, checksum, flags (advertisement) or reserved (solicitation), target: RFC 4861, sections 4.3 and 4.4."""

_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOLICITED = 1 << 30
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_VERSION_6 = 6 << 28
_HOP_LIMIT = 255
"""Proof that no router forwarded it (RFC 4861, section 7.1)."""

_BROADCAST, _NOBODY = b"\xff" * 6, b"\0" * 6
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")
"""The first 13 bytes of the solicited-node multicast address (RFC 4291, section 2.7.1)."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Somebody says that the address is at ``mac``; ``source`` sent the frame.  Lower case, colon separated."""

    address: Address
    mac: str
    source: str


def read(frame: bytes) -> Heard | None:
    """What an Ethernet frame says: an ARP packet of its sender, a neighbour advertisement of its target; else None."""
    if len(frame) < _ETHERNET.size:
        return None
    _, source, kind = _ETHERNET.unpack_from(frame)
    if kind == ETH_P_ARP:
        return _read_arp(source, frame[_ETHERNET.size :])
    if kind == ETH_P_IPV6:
        return _read_advertisement(source, frame[_ETHERNET.size :])
    return None


def _read_arp(source: bytes, packet: bytes) -> Heard | None:
    """Requests as well as replies: RFC 5227, section 2.4.  A probe's sender is 0.0.0.0: it says nothing."""
    if len(packet) < _ARP.size:
        return None
    *kinds, operation, mac, sender, _, _ = _ARP.unpack_from(packet)
    if tuple(kinds) != _ARP_ETHERNET_IPV4 or operation not in (_ARP_REQUEST, _ARP_REPLY):
        return None
    address = IPv4Address(sender)
    return None if address.is_unspecified else _heard(address, mac, source)


def _read_advertisement(source: bytes, packet: bytes) -> Heard | None:
    """Checked as RFC 4861, section 7.1.2, demands."""
    if len(packet) < _IPV6.size:
        return None
    first, length, following, hop_limit, sender, receiver = _IPV6.unpack_from(packet)
    message = packet[_IPV6.size : _IPV6.size + length]
    if first >> 28 != 6 or following != socket.IPPROTO_ICMPV6 or hop_limit != _HOP_LIMIT:
        return None
    if len(message) != length or length < _ND.size or _checksum(sender, receiver, message) != 0:
        return None
    kind, code, _, flags, target = _ND.unpack_from(message)
    to_many, address = receiver[0] == 0xFF, IPv6Address(target)
    if kind != _ADVERTISEMENT or code != 0 or address.is_multicast or (to_many and flags & _SOLICITED):
        return None
    options = _options(message[_ND.size :])
    if options is None:
        return None
    return _heard(address, options.get(_TARGET_LINK_LAYER, b""), source)


def _options(data: bytes) -> dict[int, bytes] | None:
    """The first option of each type; None where one has no length or goes beyond the end."""
    options: dict[int, bytes] = {}
    while data:
        size = 8 * data[1] if len(data) >= 2 else 0
        if not 0 < size <= len(data):
            return None
        options.setdefault(data[0], data[2:size])
        data = data[size:]
    return options


def _heard(address: Address, mac: bytes, source: bytes) -> Heard:
    """Where no host's MAC is given (none, zeros, a group's), the frame's sender stands for it."""
    if len(mac) != len(_NOBODY) or mac == _NOBODY or mac[0] & 1:
        mac = source
    return Heard(address=address, mac=mac.hex(":"), source=source.hex(":"))


def question(asked: Address, *, mac: bytes, sender: Address | None) -> bytes:
    """An ARP request or neighbour solicitation for ``asked``, from an address of the interface or from none."""
    if isinstance(asked, IPv4Address):
        return _arp_request(asked, mac, sender.packed if sender else bytes(4))
    return _solicitation(asked, mac, sender.packed if sender else b"")


def _arp_request(asked: IPv4Address, mac: bytes, sender: bytes) -> bytes:
    """From nobody: an ARP probe (RFC 5227, section 2.1.1)."""
    packet = _ARP.pack(*_ARP_ETHERNET_IPV4, _ARP_REQUEST, mac, sender, _NOBODY, asked.packed)
    return _ETHERNET.pack(_BROADCAST, mac, ETH_P_ARP) + packet


def _solicitation(asked: IPv6Address, mac: bytes, sender: bytes) -> bytes:
    """From nobody: as in duplicate address detection, which forbids the option (RFC 4861, section 4.3)."""
    group = _SOLICITED_NODE + asked.packed[13:]
    option = struct.pack("!BB6s", _SOURCE_LINK_LAYER, 1, mac) if sender else b""
    sender = sender or bytes(16)
    checksum = _checksum(sender, group, _ND.pack(_SOLICITATION, 0, 0, 0, asked.packed) + option)
    message = _ND.pack(_SOLICITATION, 0, checksum, 0, asked.packed) + option
    header = _IPV6.pack(_VERSION_6, len(message), socket.IPPROTO_ICMPV6, _HOP_LIMIT, sender, group)
    # RFC 2464, section 7: 33:33 and the last four bytes of the group.
    return _ETHERNET.pack(b"\x33\x33" + group[12:], mac, ETH_P_IPV6) + header + message


def _checksum(sender: bytes, receiver: bytes, message: bytes) -> int:
    """The Internet checksum with the IPv6 pseudo-header (RFC 8200, section 8.1); 0 for a message whose own is right."""
    data = sender + receiver + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6) + message
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
