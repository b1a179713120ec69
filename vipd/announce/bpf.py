"""Classic BPF programs that let a packet socket wake its process for neighbour messages about given addresses alone.

Everything else on the interface costs a few instructions in the kernel and nothing here.  A program is no proof:
what it passes is parsed again (``wire``).  Instructions and socket option: Documentation/networking/filter.rst.

Loads beyond the end of a frame end a program with "drop": truncated frames are never passed.
"""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Sequence

from vipd.core.model import Address

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false (both in instructions to skip), operand: struct sock_filter."""

Program = list[Instruction]

_LD_WORD, _LD_HALF, _LD_BYTE = 0x20, 0x28, 0x30
_JUMP_IF_EQUAL, _RETURN = 0x15, 0x06
_SO_ATTACH_FILTER = 26

_PACKET_TYPE = 0xFFFFF004
"""SKF_AD_OFF + SKF_AD_PKTTYPE (linux/filter.h): to whom the frame is, as in a packet socket's address (sll_pkttype)."""

_DROP: Instruction = (_RETURN, 0, 0, 0)
_PASS: Instruction = (_RETURN, 0, 0, 0xFFFF)

_SOURCE, _ETHERTYPE = 6, 12
_ARP_KINDS, _ARP_LENGTHS, _ARP_SENDER_MAC, _ARP_SENDER = 14, 18, 22, 28
_IPV6_NEXT, _IPV6_HOP_LIMIT, _ICMPV6_TYPE, _NA_TARGET = 20, 21, 54, 62
"""Where fields are in an Ethernet frame without VLAN tag (RFC 826; RFC 8200, section 3; RFC 4861, section 4.4)."""


def arp_from(addresses: Sequence[Address], *, but_from: bytes | None = None) -> Program:
    """Pass ARP packets whose sender protocol address is one of these IPv4 addresses.

    ``but_from``: a MAC whose packets are dropped, as Ethernet source and as sender hardware address.
    """
    program = [
        *_never((_LD_BYTE, _PACKET_TYPE), socket.PACKET_OTHERHOST),
        *_only((_LD_HALF, _ETHERTYPE), 0x0806),
        *_only((_LD_WORD, _ARP_KINDS), 0x0001_0800),
        *_only((_LD_HALF, _ARP_LENGTHS), 0x0604),
    ]
    if but_from is not None:
        program += [*_never_mac(_SOURCE, but_from), *_never_mac(_ARP_SENDER_MAC, but_from)]
    return [*program, *_pass_any(_ARP_SENDER, addresses), _DROP]


def advertisements_of(addresses: Sequence[Address], *, but_from: bytes | None = None) -> Program:
    """Pass neighbour advertisements whose target is one of these IPv6 addresses, without extension headers.

    ``but_from``: a MAC whose frames are dropped.
    """
    program = [
        *_only((_LD_BYTE, _IPV6_NEXT), socket.IPPROTO_ICMPV6),
        *_only((_LD_BYTE, _ICMPV6_TYPE), 136),
        *_only((_LD_BYTE, _IPV6_HOP_LIMIT), 255),
        *_only((_LD_HALF, _ETHERTYPE), 0x86DD),
        *_never((_LD_BYTE, _PACKET_TYPE), socket.PACKET_OTHERHOST),
    ]
    if but_from is not None:
        program += _never_mac(_SOURCE, but_from)
    return [*program, *_pass_any(_NA_TARGET, addresses), _DROP]


def attach(sock: socket.socket, program: Program) -> None:
    """From now on the socket queues only what the program passes.  Raises OSError."""
    code = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    # struct sock_fprog: the number of instructions and where they are; the kernel copies them before the call ends.
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), code.buffer_info()[0]))


Load = tuple[int, int]
"""How much to load into the accumulator, and from where."""


def _only(load: Load, value: int) -> Program:
    code, where = load
    return [(code, 0, 0, where), (_JUMP_IF_EQUAL, 1, 0, value), _DROP]


def _never(load: Load, value: int) -> Program:
    code, where = load
    return [(code, 0, 0, where), (_JUMP_IF_EQUAL, 0, 1, value), _DROP]


def _never_mac(where: int, mac: bytes) -> Program:
    high, low = struct.unpack("!IH", mac)
    return [(_LD_WORD, 0, 0, where), (_JUMP_IF_EQUAL, 0, 3, high), *_never((_LD_HALF, where + 4), low)]


def _pass_any(where: int, addresses: Sequence[Address]) -> Program:
    """Each address has its own PASS: jumps reach 255 instructions, so a common one would limit their number."""
    program: Program = []
    for address in addresses:
        words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
        for number, word in enumerate(words):
            to_next_address = 2 * (len(words) - number) - 1
            program += [(_LD_WORD, 0, 0, where + 4 * number), (_JUMP_IF_EQUAL, 0, to_next_address, word)]
        program.append(_PASS)
    return program
