"""The ``ClaimWatch`` port over packet sockets: who else speaks for a VIP on a link."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vipd.announce import bpf
from vipd.announce.asking import own_ipv4, question
from vipd.announce.hearing import said
from vipd.core.model import Address, AddressClaim, LinkState, Vip
from vipd.errors import AnnounceError

PAUSE_S = 0.2
"""After a look at the socket: a storm of claims is looked at five times a second, and costs no more than that."""

MOST_FRAMES = 256
"""So many frames are looked at in one go; what the socket's buffer cannot hold meanwhile, the kernel drops."""

_FRAME = 2048
QUESTIONS, QUESTION_GAP_S = 3, 0.1
_PROTOCOLS = {4: bpf.ARP, 6: bpf.IPV6}


class PacketClaims:
    """Sockets are open only while somebody listens or asks (CAP_NET_RAW)."""

    async def listen(self, vips: Sequence[Vip], link: LinkState) -> AsyncGenerator[AddressClaim, None]:
        """Claims from other MACs than the link's, from now on; one of the same kind every ``PAUSE_S`` at most.

        Ends with AnnounceError when the link goes down or away: listen again when it is back.
        """
        addresses = frozenset(vip.address for vip in vips)
        with _telling(link), ExitStack() as stack:
            socks = [stack.enter_context(sock) for sock in _sockets(link, addresses)]
            while True:
                await _readable(socks)
                heard = {told for sock in socks for frame in _frames(sock) if (told := said(frame, addresses))}
                for address, mac in sorted(heard, key=str):
                    if mac != link.mac:
                        yield AddressClaim(address=address, interface=link.name, mac=mac)
                await asyncio.sleep(PAUSE_S)

    async def anybody(self, vip: Vip, link: LinkState) -> bool:
        """Whether anybody answers for the VIP, whatever its MAC; takes 0.3 s where nobody does."""
        addresses = frozenset({vip.address})
        with _telling(link), ExitStack() as stack:
            (sock,) = (stack.enter_context(sock) for sock in _sockets(link, addresses))
            frame = question(vip.address, mac=bytes.fromhex(link.mac.replace(":", "")), sender=own_ipv4(link.name))
            for _ in range(QUESTIONS):
                sock.send(frame)
                if await _answered(sock, addresses):
                    return True
        return False


async def _answered(sock: socket.socket, addresses: frozenset[Address]) -> bool:
    """Whether a frame that speaks for the address arrives before the next question is due."""
    deadline = time.monotonic() + QUESTION_GAP_S
    while (left := deadline - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(left):
                await _readable([sock])
        except TimeoutError:
            return False
        if any(said(frame, addresses) for frame in _frames(sock)):
            return True
    return False


def _sockets(link: LinkState, addresses: frozenset[Address]) -> Iterator[socket.socket]:
    """One for each family: bound to a protocol of its own, a packet socket sees no frame that this host sends."""
    program = bpf.about(addresses)
    for version in sorted({a.version for a in addresses}):
        # Bound to no protocol first: nothing is received before the filter is there.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            bpf.attach(sock, program)
            sock.bind((link.name, _PROTOCOLS[version]))
        except OSError:
            sock.close()
            raise
        yield sock


async def _readable(socks: Sequence[socket.socket]) -> None:
    """Until one of them has a frame, or an error to tell."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    for sock in socks:
        loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        for sock in socks:
            loop.remove_reader(sock)


def _frames(sock: socket.socket) -> Iterator[bytes]:
    """What is there now.  Raises OSError when the link is down or gone."""
    for _ in range(MOST_FRAMES):
        try:
            yield sock.recv(_FRAME)
        except BlockingIOError:
            return


@contextmanager
def _telling(link: LinkState) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        code = errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else "no Ethernet address"
        raise AnnounceError(f"cannot listen on {link.name} (interface index {link.index}): {code} {error}") from error
