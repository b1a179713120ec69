"""``tcp://HOST:PORT``: something accepts connections there.  Nothing is sent."""

from __future__ import annotations

import asyncio
import socket

from vipd.checks.detail import why
from vipd.checks.resolve import SocketAddress, Target


class TcpCheck:
    """A ``vipd.core.ports.HealthCheck``."""

    def __init__(self, host: str, port: int, *, timeout_s: float, text: str) -> None:
        """``timeout_s`` bounds an attempt, the lookup of a name included."""
        self._target = Target(host, port)
        self._timeout_s = timeout_s
        self._text = text

    def __str__(self) -> str:
        return self._text

    async def run(self) -> str | None:
        """One attempt; None: accepted."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        problem = f"no answer within {self._timeout_s:g}s"
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._target.addresses()
        except TimeoutError:
            return f"the name was not resolved within {self._timeout_s:g}s"
        except OSError as error:
            return why(error)
        for number, address in enumerate(addresses):
            # A silent address leaves their share of the time to those behind it.
            share = (deadline - loop.time()) / (len(addresses) - number)
            try:
                async with asyncio.timeout(share):
                    await _connect(address)
            except TimeoutError:
                problem = f"no answer within {self._timeout_s:g}s"
            except OSError as error:
                problem = why(error)
            else:
                return None
        return problem


async def _connect(address: SocketAddress) -> None:
    """Connect and hang up.  Raises OSError."""
    family, where = address
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        await asyncio.get_running_loop().sock_connect(sock, where)
        # Without a listener, the kernel may choose the very port that is asked for as the source port, and TCP's
        # simultaneous open (RFC 9293, section 3.5) then connects the socket to itself.
        if sock.getsockname() == sock.getpeername():
            raise ConnectionRefusedError("nothing listens there")
