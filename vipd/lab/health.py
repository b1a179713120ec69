"""What a health check of vipd asks in the lab: an application that says over HTTP whether it is well."""

from __future__ import annotations

import socket

from aiohttp import web

from vipd.lab.listener import Listener

WELL, ILL = 200, 503


class Health:
    """One endpoint of one node."""

    def __init__(self, path: str = "/") -> None:
        self.status = WELL
        """The HTTP status of every answer; changed while running."""
        self.asked = 0
        """How often it was asked."""
        app = web.Application()
        app.router.add_get(path, self._answer)
        self._listener = Listener(app)

    async def start(self, sock: socket.socket) -> Health:
        """Serve on ``sock`` (bound, perhaps in another namespace; ours from now on)."""
        await self._listener.start(sock, host="", port=0)
        return self

    async def stop(self) -> None:
        """End."""
        await self._listener.stop()

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status)
