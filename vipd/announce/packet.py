"""The ``Announcer`` port over packet sockets: ready-made frames, sent without waiting.

Frames are built ahead (``warm``), because importing scapy takes half a second that a takeover does not have.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import sys
from collections.abc import Sequence

from vipd.core.model import Address, LinkState, Vip
from vipd.errors import AnnounceError

log = logging.getLogger("vipd.announce")

BUILD_TIMEOUT_S = 20.0
_SEND_ONLY = 0
"""A packet socket bound to protocol 0 receives nothing (packet(7)): no copy of the interface's traffic is queued."""


class PacketAnnouncer:
    """One AF_PACKET socket for each interface, opened when first needed."""

    def __init__(self) -> None:
        self._frames: dict[tuple[Address, str], tuple[bytes, ...]] = {}
        self._sockets: dict[int, socket.socket] = {}

    async def warm(self, vips: Sequence[Vip], links: Sequence[LinkState]) -> None:
        """Build the frames of all VIPs ahead, in a child process; in this one where that fails."""
        macs = {link.name: link.mac for link in links}
        wanted = [(vip.address, macs[vip.interface]) for vip in vips if vip.interface in macs]
        missing = [pair for pair in wanted if pair not in self._frames]
        if not missing:
            return
        try:
            built = await _build_in_child(missing)
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("could not build announcements in a child process (%s): building them here", error)
            built = [self._build(*pair) for pair in missing]
        self._frames.update(zip(missing, built, strict=True))

    def announce(self, vip: Vip, link: LinkState) -> None:
        """Send one round at once; never blocks.  Raises AnnounceError."""
        key = (vip.address, link.mac)
        frames = self._frames.get(key)
        if frames is None:
            # The interface was re-created with another MAC: pay for scapy now rather than be silent.
            frames = self._frames[key] = self._build(*key)
        try:
            sock = self._socket(link)
            for frame in frames:
                sock.send(frame)
        except OSError as error:
            self._drop(link.index)
            raise AnnounceError(
                f"cannot announce {vip} from {link.mac}: {errno.errorcode.get(error.errno or 0, '')} {error.strerror}"
            ) from error

    def close(self) -> None:
        """Give back the sockets."""
        for index in list(self._sockets):
            self._drop(index)

    def _build(self, address: Address, mac: str) -> tuple[bytes, ...]:
        from vipd.announce.frames import announcement

        return announcement(address, mac)

    def _socket(self, link: LinkState) -> socket.socket:
        sock = self._sockets.get(link.index)
        if sock is None:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _SEND_ONLY)
            try:
                sock.bind((link.name, _SEND_ONLY))
            except OSError:
                sock.close()
                raise
            self._sockets[link.index] = sock
        return sock

    def _drop(self, index: int) -> None:
        sock = self._sockets.pop(index, None)
        if sock is not None:
            sock.close()


async def _build_in_child(pairs: Sequence[tuple[Address, str]]) -> list[tuple[bytes, ...]]:
    arguments = [text for address, mac in pairs for text in (str(address), mac)]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vipd.announce.frames",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(BUILD_TIMEOUT_S):
            out, err = await child.communicate()
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    if child.returncode != 0:
        raise ValueError(f"exit code {child.returncode}: {err.decode(errors='replace').strip()[-200:]}")
    return [tuple(bytes.fromhex(frame) for frame in frames) for frames in json.loads(out)]
