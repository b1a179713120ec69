"""The ``Announcer`` port over packet sockets: ready-made frames, sent without waiting.

Frames are built ahead (``warm``), because importing scapy takes a time that a takeover does not have.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from vipd.announce.child import build_in_child
from vipd.core.model import Address, LinkState, Vip
from vipd.errors import AnnounceError

log = logging.getLogger("vipd.announce")

_SEND_ONLY = 0
"""A packet socket bound to protocol 0 receives nothing (packet(7)): no copy of the interface's traffic is queued."""

_ETHERNET = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

Key = tuple[Address, str]


@dataclass(frozen=True, slots=True)
class _Bound:
    """A packet socket and the index of the interface that it was bound for."""

    index: int
    sock: socket.socket


class PacketAnnouncer:
    """One AF_PACKET socket for each interface, opened when first needed (CAP_NET_RAW)."""

    def __init__(self) -> None:
        self._frames: dict[Key, tuple[bytes, ...]] = {}
        self._bound: dict[str, _Bound] = {}

    async def warm(self, vips: Sequence[Vip], links: Sequence[LinkState]) -> None:
        """Build the frames of all VIPs ahead, in a child process; in this one where that fails.

        VIPs whose interface is not among ``links``, or has no Ethernet address, are left out.  Raises AnnounceError
        where frames cannot be built.
        """
        macs = {link.name: link.mac for link in links if _ETHERNET.fullmatch(link.mac)}
        wanted = {(vip.address, macs[vip.interface]) for vip in vips if vip.interface in macs}
        missing = [key for key in wanted if key not in self._frames]
        if not missing:
            return
        try:
            built = await build_in_child(missing)
        except (OSError, ValueError) as error:
            log.warning("could not build announcements in a child process (%s): building them here", error)
            built = [_build(key) for key in missing]
        self._frames.update(zip(missing, built, strict=True))

    def announce(self, vip: Vip, link: LinkState) -> None:
        """Send one round at once; never waits for the interface.  Raises AnnounceError.

        Where the interface's MAC is none that was warmed, scapy is loaded now (0.2 s): better late than silent.
        """
        if not _ETHERNET.fullmatch(link.mac):
            raise AnnounceError(f"cannot announce {vip}: {link.name} has no Ethernet address ({link.mac or 'none'})")
        key = (vip.address, link.mac)
        frames = self._frames.get(key)
        if frames is None:
            frames = self._frames[key] = _build(key)
        try:
            self._send(link, frames)
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, "no errno")
            raise AnnounceError(
                f"cannot announce {vip} at {link.mac} (interface index {link.index}): {code}, {error.strerror}"
            ) from error

    def close(self) -> None:
        """Give back the sockets."""
        for name in list(self._bound):
            self._drop(name)

    def _send(self, link: LinkState, frames: Sequence[bytes]) -> None:
        fresh = self._bound.get(link.name) is None
        try:
            sock = self._socket(link)
            for frame in frames:
                sock.send(frame)
        except OSError:
            self._drop(link.name)
            if fresh:
                raise
            # A socket outlives its interface and keeps the errors of the past: only a new one speaks of the present.
            self._send(link, frames)

    def _socket(self, link: LinkState) -> socket.socket:
        bound = self._bound.get(link.name)
        if bound is not None and bound.index == link.index:
            return bound.sock
        self._drop(link.name)
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _SEND_ONLY)
        try:
            sock.bind((link.name, _SEND_ONLY))
        except OSError:
            sock.close()
            raise
        self._bound[link.name] = _Bound(index=link.index, sock=sock)
        return sock

    def _drop(self, name: str) -> None:
        bound = self._bound.pop(name, None)
        if bound is not None:
            bound.sock.close()


def _build(key: Key) -> tuple[bytes, ...]:
    try:
        from vipd.announce.frames import announcement

        return announcement(*key)
    except (ImportError, OSError, ValueError) as error:
        raise AnnounceError(f"cannot build the announcement of {key[0]} at {key[1]}: {error}") from error
