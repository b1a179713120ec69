"""The frames that ask a link whether anybody has an address: an ARP request, a neighbour solicitation.

Built here and not by scapy: they are asked for once in a tenure at most, by a candidate that must not wait for a
child process, and are two fixed layouts.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

from vipd.core.model import Address

_BROADCAST = b"\xff" * 6
_SIOCGIFADDR = 0x8915


def question(address: Address, *, mac: bytes, sender: IPv4Address) -> bytes:
    """One frame.  ``sender``: the link's own IPv4 address, or 0.0.0.0 where it has none (an RFC 5227 probe).

    With a sender the answer finds its way also between ipvlan siblings, which are looked up by the address that
    an ARP packet is meant for.
    """
    return _arp_request(address, mac, sender) if address.version == 4 else _solicitation(address, mac)


def own_ipv4(interface: str) -> IPv4Address:
    """The interface's first IPv4 address; 0.0.0.0 where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            # EADDRNOTAVAIL: none.  Anything else shows when the frame is sent.
            return IPv4Address(0)
    return IPv4Address(answer[20:24])


def _arp_request(address: IPv4Address, mac: bytes, sender: IPv4Address) -> bytes:
    header = _BROADCAST + mac + b"\x08\x06"
    return header + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + sender.packed + bytes(6) + address.packed


def _solicitation(address: IPv6Address, mac: bytes) -> bytes:
    """As in duplicate address detection (RFC 4862, section 5.4.2): sent from ``::``, answered to all nodes."""
    group = bytes.fromhex("ff0200000000000000000001ff") + address.packed[-3:]
    body = struct.pack("!BBHI", 135, 0, 0, 0) + address.packed
    pseudo = bytes(16) + group + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    header = b"\x33\x33" + group[-4:] + mac + b"\x86\xdd"
    return header + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + bytes(16) + group + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
