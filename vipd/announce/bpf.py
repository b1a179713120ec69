"""Classic BPF programs for packet sockets: the kernel wakes this process for the few frames that speak of a VIP.

Only what is needed here (linux/filter.h): load a word, half-word or byte at an offset, compare, return.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vipd.core.model import Address

_LD_WORD, _LD_HALF, _LD_BYTE = 0x20, 0x28, 0x30
_JUMP, _JUMP_EQUAL, _RETURN = 0x05, 0x15, 0x06
_WHOLE, _NOTHING = 0xFFFF, 0

_ETHERTYPE = 12
ARP, IPV6 = 0x0806, 0x86DD
ARP_SENDER = 28
"""Offset of the sender's protocol address in an Ethernet ARP frame (RFC 826)."""
IPV6_NEXT, ICMP_TYPE, ND_TARGET = 20, 54, 62
"""Offsets in an Ethernet frame of IPv6 without extension headers, which neighbour discovery has none of."""
ICMPV6, NEIGHBOR_ADVERTISEMENT = 58, 136

SO_ATTACH_FILTER = 26


class Step(NamedTuple):
    """One instruction; ``yes`` and ``no`` are how many to skip."""

    code: int
    yes: int
    no: int
    value: int


def about(addresses: Iterable[Address]) -> tuple[Step, ...]:
    """Passes ARP frames whose sender, and neighbour advertisements whose target, is one of the addresses."""
    wanted = sorted(addresses, key=str)
    arp = [step for a in wanted if a.version == 4 for step in _equal(ARP_SENDER, a.packed)]
    arp.append(Step(_RETURN, 0, 0, _NOTHING))
    advertisements = [step for a in wanted if a.version == 6 for step in _equal(ND_TARGET, a.packed)]
    return (
        Step(_LD_HALF, 0, 0, _ETHERTYPE),
        Step(_JUMP_EQUAL, 1, 0, ARP),
        # A plain jump reaches further than a conditional one (255 steps).
        Step(_JUMP, 0, 0, len(arp)),
        *arp,
        *_or_nothing(_LD_HALF, _ETHERTYPE, IPV6),
        *_or_nothing(_LD_BYTE, IPV6_NEXT, ICMPV6),
        *_or_nothing(_LD_BYTE, ICMP_TYPE, NEIGHBOR_ADVERTISEMENT),
        *advertisements,
        Step(_RETURN, 0, 0, _NOTHING),
    )


def _equal(offset: int, packed: bytes) -> list[Step]:
    """Pass the frame where these bytes stand at the offset; else go on after the last of these steps."""
    words = struct.unpack(f"!{len(packed) // 4}I", packed)
    steps: list[Step] = []
    for number, word in enumerate(words):
        left = 2 * (len(words) - number - 1) + 1
        steps += [Step(_LD_WORD, 0, 0, offset + 4 * number), Step(_JUMP_EQUAL, 0, left, word)]
    return [*steps, Step(_RETURN, 0, 0, _WHOLE)]


def _or_nothing(load: int, offset: int, value: int) -> tuple[Step, ...]:
    return (Step(load, 0, 0, offset), Step(_JUMP_EQUAL, 1, 0, value), Step(_RETURN, 0, 0, _NOTHING))


def attach(sock: socket.socket, program: Sequence[Step]) -> None:
    """Give the program to the socket.  Raises OSError."""
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    # struct sock_fprog: the kernel copies the program before the call returns.
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(buffer)))
