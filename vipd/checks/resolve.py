"""Host names to addresses without asyncio's default executor.

``loop.getaddrinfo`` runs in threads that ``asyncio.run`` waits for at its end.  With a DNS server that does not answer
each of them lasts up to half a minute: it would keep a member that has handed over from exiting.  Here a lookup is
a daemon thread that nobody waits for at exit, and at most one for a name at a time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import Any

SocketAddress = tuple[socket.AddressFamily, tuple[Any, ...]]
"""What ``socket`` and ``connect`` take."""


class Target:
    """A host, by name or address, and a port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lookup: asyncio.Future[list[SocketAddress] | OSError] | None = None

    async def addresses(self) -> list[SocketAddress]:
        """Its addresses, in the system's order of preference.  Raises OSError (gaierror).

        Has no time limit of its own.  A caller that gives up leaves the lookup to the next one.
        """
        literal = _literal(self._host, self._port)
        if literal is not None:
            return [literal]
        if self._lookup is None:
            self._lookup = self._begin()
        found = await asyncio.shield(self._lookup)
        self._lookup = None
        if isinstance(found, OSError):
            raise found
        return found

    def _begin(self) -> asyncio.Future[list[SocketAddress] | OSError]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[SocketAddress] | OSError] = loop.create_future()

        def deliver(found: list[SocketAddress] | OSError) -> None:
            if not answer.done():
                answer.set_result(found)

        def look() -> None:
            found = _getaddrinfo(self._host, self._port)
            try:
                loop.call_soon_threadsafe(deliver, found)
            except RuntimeError:
                # The loop was closed in the meantime: nobody waits for this any more.
                return

        threading.Thread(target=look, name=f"lookup {self._host}", daemon=True).start()
        return answer


def _literal(host: str, port: int) -> SocketAddress | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return socket.AF_INET, (host, port)
    return socket.AF_INET6, (host, port, 0, 0)


def _getaddrinfo(host: str, port: int) -> list[SocketAddress] | OSError:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # Python's IDNA codec refuses names with empty or too long labels.
        return OSError(f"no possible host name: {error}")
    except OSError as error:
        return error
    return [(family, address) for family, _, _, _, address in found]
