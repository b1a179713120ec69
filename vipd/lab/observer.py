"""What really happened: which namespace bore the VIP when, and who announced it.

Read off the kernel (netlink in each node's namespace) and off the wire (packet sockets on the fabric's ports), never
off vipd's own word.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from pyroute2.netlink import rtnl

from vipd.core.model import Address
from vipd.errors import VipdError
from vipd.lab.netns import Namespace
from vipd.lab.vpc import boottime

log = logging.getLogger("vipd.lab")

_ETH_P_ALL = 0x0003
_PACKET_OUTGOING = 4
_SO_ATTACH_FILTER = 26
_ARP_OR_NA = (
    # Classic BPF: ARP, or IPv6 with next header ICMPv6 and type 136 (neighbour advertisement).
    (0x28, 0, 0, 12),  # ldh [12]
    (0x15, 5, 0, 0x0806),  # jeq ARP -> accept
    (0x15, 0, 5, 0x86DD),  # jeq IPv6, else drop
    (0x30, 0, 0, 20),  # ldb [20]
    (0x15, 0, 3, 58),  # jeq ICMPv6, else drop
    (0x30, 0, 0, 54),  # ldb [54]
    (0x15, 0, 1, 136),  # jeq NA, else drop
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


@dataclass(slots=True)
class Bearing:
    """A namespace bears an address from ``since`` to ``until`` (None: still)."""

    node: str
    address: Address
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Announcement:
    """A frame in which ``node`` claims an address: "garp-request", "garp-reply" or "na"."""

    at: float
    node: str
    address: Address
    kind: str
    mac: str


class Observer:
    """Watches nodes for the VIPs of the lab.

    What it did not see, it must not report as absent: once it has lost events of a node, every question about bearers
    raises VipdError.
    """

    def __init__(self, vips: Sequence[Address]) -> None:
        self.vips = frozenset(vips)
        self.bearings: list[Bearing] = []
        self.announcements: list[Announcement] = []
        self._blind = ""
        self._interfaces: dict[tuple[str, Address], set[int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: list[socket.socket] = []

    def watch_addresses(self, node: str, space: Namespace) -> None:
        """Follow the addresses of a namespace from now on; what it bears already is borne since now."""
        task = asyncio.get_running_loop().create_task(self._follow(node, space))
        task.add_done_callback(lambda ended: self._lost_sight(node, ended))
        self._tasks.append(task)

    async def _follow(self, node: str, space: Namespace) -> None:
        async with space.netlink() as events, space.netlink() as questions:
            await events.bind(groups=rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV6_IFADDR)
            # Subscribed first, asked second: nothing falls between, and hearing it twice does no harm.
            async for message in await questions.addr("dump"):
                self._heard(node, message)
            while True:
                async for message in events.get():
                    self._heard(node, message)

    def _lost_sight(self, node: str, ended: asyncio.Task[None]) -> None:
        """Whatever ended it (ENOBUFS, a message that cannot be read): only ``close`` may."""
        if not ended.cancelled():
            why = ended.exception() or "the stream ended"
            self._blind = f"the lab no longer sees which addresses node {node} bears ({why!r}): its rounds say nothing"
            log.error(self._blind)

    def _heard(self, node: str, message: Any) -> None:
        event, at = message.get("event"), boottime()
        if event not in ("RTM_NEWADDR", "RTM_DELADDR"):
            return
        address = ip_address(message.get("local") or message.get("address"))
        if address not in self.vips:
            return
        # By interface: an address that moves to another one may be new there before it is gone here.
        interfaces = self._interfaces.setdefault((node, address), set())
        present = self._open(node, address)
        if event == "RTM_NEWADDR":
            interfaces.add(message["index"])
            if present is None:
                self.bearings.append(Bearing(node, address, at))
        else:
            interfaces.discard(message["index"])
            if present is not None and not interfaces:
                present.until = at

    def _open(self, node: str, address: Address) -> Bearing | None:
        return next((b for b in self.bearings if b.node == node and b.address == address and b.until is None), None)

    def bearing(self, node: str, address: Address) -> Bearing | None:
        """The open interval in which the node bears the address now.  Raises VipdError where events were lost."""
        self._require_sight()
        return self._open(node, address)

    def bears(self, node: str) -> bool:
        """Whether the node bears any VIP now.  Raises VipdError where events were lost."""
        self._require_sight()
        return any(b.node == node and b.until is None for b in self.bearings)

    def _require_sight(self) -> None:
        if self._blind:
            raise VipdError(self._blind)

    def lost_power(self, node: str) -> None:
        """What the node bore ended with it."""
        at = boottime()
        for bearing in self.bearings:
            if bearing.node == node and bearing.until is None:
                bearing.until = at

    def sniff(self, node: str, fabric: Namespace, port: str) -> None:
        """Listen to what comes in on the node's port."""
        sock = fabric.open(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _ARP_OR_NA))
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_ARP_OR_NA), ctypes.addressof(program))
        )
        sock.bind((port, _ETH_P_ALL))
        self._sockets.append(sock)
        asyncio.get_running_loop().add_reader(sock, self._receive, node, sock)

    def _receive(self, node: str, sock: socket.socket) -> None:
        while True:
            try:
                frame, origin = sock.recvfrom(256)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                # Told once when the port goes down; the socket hears again as soon as it is up (packet(7)).
                return
            if origin[2] == _PACKET_OUTGOING:
                continue
            claim = claimed(frame)
            if claim is not None and claim[0] in self.vips:
                mac = frame[6:12].hex(":")
                self.announcements.append(Announcement(boottime(), node, claim[0], claim[1], mac))

    async def close(self) -> None:
        """Stop watching."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def claimed(frame: bytes) -> tuple[Address, str] | None:
    """The address that a frame announces unasked, and how; None where it is something else.

    Gratuitous ARP: sender and target protocol address are equal.  Unsolicited NA: solicited flag clear, override set.
    """
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == 0x0806 and len(frame) >= 42:
        operation, sender, target = struct.unpack("!H", frame[20:22])[0], frame[28:32], frame[38:42]
        if sender != target:
            return None
        return IPv4Address(sender), "garp-request" if operation == 1 else "garp-reply"
    if kind == 0x86DD and len(frame) >= 78 and frame[54] == 136:
        solicited, override = frame[58] & 0x40, frame[58] & 0x20
        return None if solicited or not override else (IPv6Address(frame[62:78]), "na")
    return None
