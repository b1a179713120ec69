"""The HTTP endpoint: /healthz, /readyz, /status, /metrics.

It shares its loop with the election, so it may cost little and hold up nothing: each connection is answered once and
closed, lives a few seconds at most, and where too many are open the oldest goes, so that a client that hangs can
neither use up file descriptors nor keep the kubelet's probes out.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from vipd.config.values import Listen
from vipd.errors import VipdError
from vipd.observe.jsonable import to_json

log = logging.getLogger("vipd.http")

LIFETIME_S = 5.0
"""A connection older than this is cut: answers take milliseconds."""

CONNECTIONS = 64
"""Open at most."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content-Type of the Prometheus text format."""

Verdict = Callable[[], tuple[bool, str]]
"""Whether all is well, and a sentence about it."""

ADVICE = {
    errno.EADDRINUSE: "something else listens there; choose another port with --listen, or --listen off",
    errno.EADDRNOTAVAIL: "this machine does not have that address; use --listen 0.0.0.0:PORT or [::]:PORT",
    errno.EACCES: "the port is privileged; choose one above 1023 with --listen",
}


class ObserveServer:
    """Serves what it is given; all callables run in the loop and must return at once."""

    def __init__(
        self,
        listen: Listen,
        *,
        health: Verdict,
        ready: Verdict,
        status: Callable[[], Mapping[str, Any]],
        metrics: Callable[[], bytes],
    ) -> None:
        self._listen = listen
        self._routes: dict[str, Callable[[], web.Response]] = {
            "/healthz": lambda: _verdict(*health()),
            "/readyz": lambda: _verdict(*ready()),
            "/status": lambda: web.Response(text=to_json(status()) + "\n", content_type="application/json"),
            "/metrics": lambda: web.Response(body=metrics(), headers={"Content-Type": METRICS_TYPE}),
        }
        self._http: web.Server | None = None
        self._server: asyncio.Server | None = None
        self.address = listen
        """Where it really listens: the port is known after ``start`` where 0 was asked for."""

    async def start(self) -> None:
        """Begin to listen.  Raises VipdError that names the address and what to do."""
        sock = _bound(self._listen)
        host, port = sock.getsockname()[:2]
        self.address = Listen(host, port)
        self._http = web.Server(self._answer, access_log=None, lingering_time=0.0)
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=sock)

    async def stop(self) -> None:
        """Cut every connection and give back the socket."""
        if self._server is None or self._http is None:
            return
        self._server.close()
        for connection in self._http.connections:
            _cut(connection)
        await self._http.shutdown(0.1)
        self._server = self._http = None

    def _connection(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        if self._http is None:
            raise AssertionError("a connection before start or after stop")
        live = self._http.connections
        if len(live) >= CONNECTIONS:
            _cut(live[0])
        connection = self._http()
        asyncio.get_running_loop().call_later(LIFETIME_S, _cut, connection)
        return connection

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = self._respond(request.method, request.path)
        response.force_close()
        return response

    def _respond(self, method: str, path: str) -> web.Response:
        route = self._routes.get(path)
        if route is None:
            known = " ".join(self._routes)
            return web.Response(status=HTTPStatus.NOT_FOUND, text=f"not found; there are {known}\n")
        if method not in ("GET", "HEAD"):
            return web.Response(status=HTTPStatus.METHOD_NOT_ALLOWED, text="GET only\n", headers={"Allow": "GET, HEAD"})
        try:
            return route()
        except Exception:
            log.exception("could not answer %s", path)
            return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR, text="failed; the log tells why\n")


def _verdict(well: bool, sentence: str) -> web.Response:
    return web.Response(status=HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, text=sentence + "\n")


def _cut(connection: web.RequestHandler) -> None:
    """Close at once, whatever the client has not read yet."""
    transport = connection.transport
    if isinstance(transport, asyncio.Transport):
        transport.abort()


def _bound(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # [::] takes IPv4 too: one spelling for clusters of both families.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((listen.host, listen.port))
        # Listening here, not in the loop, shows "in use" here too.
        sock.listen(128)
    except OSError as error:
        sock.close()
        advice = ADVICE.get(error.errno or 0, "choose another address with --listen, or --listen off")
        raise VipdError(f"cannot serve HTTP on {listen}: {error.strerror}: {advice}") from error
    return sock
