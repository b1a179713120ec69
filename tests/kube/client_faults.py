"""An HTTP server that answers exactly what a test tells it to, and remembers on which connection it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vipd.kube.connect import connect

LEASE: dict[str, Any] = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "vip", "namespace": "default", "uid": "u1", "resourceVersion": "10"},
    "spec": {"holderIdentity": "a", "leaseDurationSeconds": 3, "leaseTransitions": 1},
}


def lease(version: int, *, uid: str = "u1", name: str = "vip") -> dict[str, Any]:
    """A Lease at this resourceVersion."""
    return {**LEASE, "metadata": {**LEASE["metadata"], "resourceVersion": str(version), "uid": uid, "name": name}}


def not_found(name: str = "vip") -> dict[str, Any]:
    """What kube-apiserver says of an absent Lease."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": f'leases.coordination.k8s.io "{name}" not found',
        "reason": "NotFound",
        "details": {"name": name, "group": "coordination.k8s.io", "kind": "leases"},
        "code": 404,
    }


@dataclass
class Request:
    """One request as it came, and the means to answer it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"

    async def answer(self, status: int, body: object, headers: str = "") -> None:
        """A whole answer; ``body`` bytes go out as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
        await self.send(head.encode() + data)

    async def begin_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        """A chunk of a stream; an empty one ends it in order."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, kind: str, body: object) -> None:
        await self.chunk(json.dumps({"type": kind, "object": body}).encode() + b"\n")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """Break the connection without a word of HTTP."""
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Never answer."""
        await asyncio.Event().wait()


Handler = Callable[[Request], Awaitable[None]]


class FaultyApi:
    """Serves each request with ``handler``."""

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.tls = tls
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    request = await _read_request(reader, writer, number)
                    self.requests.append(request)
                    await self.handler(request)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *rest = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    query = {key: values[0] for key, values in parse_qs(url.query).items()}
    return Request(method, url.path, query, headers, json.loads(data) if data else None, connection, reader, writer)


def kubeconfig(url: str, token: str = "t") -> str:
    """A kubeconfig as YAML (which JSON is)."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


@contextlib.asynccontextmanager
async def serving(handler: Handler, tmp_path: Any) -> AsyncIterator[tuple[FaultyApi, Any]]:
    """A server with this handler, and an ApiClient for it made by ``vipd.kube.connect``."""
    server = FaultyApi(handler)
    await server.start()
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig(server.url))
    client = await connect(kubeconfig=str(config))
    try:
        yield server, client
    finally:
        await client.close()
        await server.stop()
