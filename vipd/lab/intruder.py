"""A host on the segment that claims a VIP as its own: a mistaken configuration, or a second cluster.

It bears the address nowhere and answers nobody: what it draws to itself is lost.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from vipd.core.model import Address
from vipd.lab.netns import Namespace
from vipd.lab.topology import Lab

NAME, MAC, HOST = "intruder", "02:00:00:00:01:ee", 99
_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REQUEST = 1


class Intruder:
    """The host; it is there from the first claim on."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._space: Namespace | None = None

    async def claim(self, address: Address, *, times: int, every_s: float) -> None:
        """Broadcast a gratuitous ARP request for this IPv4 address so many times."""
        if self._space is None:
            self._space = await self._lab.add_stranger(NAME, MAC, HOST)
        with self._space.open(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("net1", 0))
            for _ in range(times):
                sock.send(gratuitous(address, MAC))
                await asyncio.sleep(every_s)


def gratuitous(address: Address, mac: str) -> bytes:
    """The frame: sender and target protocol address are the one that is claimed (RFC 5944, section 4.6)."""
    own = bytes.fromhex(mac.replace(":", ""))
    ethernet = _BROADCAST + own + struct.pack("!H", _ETH_P_ARP)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _REQUEST)
    return ethernet + arp + own + address.packed + bytes(6) + address.packed
