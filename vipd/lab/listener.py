"""An HTTP server of the lab that can go away and come back on the same address, also in another namespace.

To be refused (RST) is another fault than to hear nothing: clients notice it at once.  The kernel refuses only
where nobody listens, so the listening socket itself is taken out of service and put back.
"""

from __future__ import annotations

import contextlib
import socket

from aiohttp import web

SHUTDOWN_S = 0.1


class Listener:
    """Serves one application; not started yet."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        self._site: web.SockSite | None = None
        self._socket: socket.socket | None = None
        self.url = ""

    async def start(self, sock: socket.socket | None, *, host: str, port: int) -> None:
        """Serve on ``sock`` (bound, and ours from now on) or on ``host:port`` (port 0: any).  Raises OSError.

        Only where ``sock`` was bound to a port by its number can it come back there after ``refuse``.
        """
        await self._runner.setup()
        if sock is None:
            sock = _bound(host, port)
        self._socket = sock
        bound = sock.getsockname()
        self.url = f"http://[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"http://{bound[0]}:{bound[1]}"
        await self.resume()

    async def refuse(self) -> None:
        """Refuse new connections and break those that exist, until ``resume``.  No effect when refusing already."""
        if self._site is None or self._socket is None:
            return
        site, self._site = self._site, None
        await site.stop()
        # On Linux a listening socket that is shut down stays bound to its port and can listen again.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._runner.server is not None:
            for connection in self._runner.server.connections:
                connection.force_close()

    async def resume(self) -> None:
        """Serve again.  No effect when serving already, or not started."""
        if self._site is not None or self._socket is None:
            return
        # The site closes its socket when it stops; ours stays.
        self._site = web.SockSite(self._runner, self._socket.dup())
        await self._site.start()

    async def stop(self) -> None:
        """End: requests that are under way are cancelled after a moment."""
        await self._runner.cleanup()
        self._site = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port == 0:
        # The kernel takes a port that it chose back when the socket stops listening, but not one that was asked for.
        with socket.create_server((host, 0), family=family) as chosen:
            port = chosen.getsockname()[1]
    return socket.create_server((host, port), family=family)


def drop(request: web.Request) -> web.Response:
    """Break the connection of this request without an answer; what is returned will not be sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
