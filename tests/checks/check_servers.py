"""Small servers on loopback that say exactly what they are told, and a way to see that a process is gone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PATIENCE_S = 10.0
"""For what must happen, on a busy machine."""


@asynccontextmanager
async def served(
    talk: Conversation, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server that has this conversation on each connection; gives its port."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(hold, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class Http:
    """Answers each request with ``head`` and ``body``; keeps the requests' heads."""

    def __init__(self, head: str = "HTTP/1.1 200 OK\r\nContent-Length: 0", body: bytes = b"") -> None:
        self.requests: list[str] = []
        self._answer = head.encode() + b"\r\n\r\n" + body

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self._answer)
        await writer.drain()


async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Listens until the other side hangs up."""
    while await reader.read(1 << 16):
        pass


async def happens(what: Callable[[], bool]) -> bool:
    """Whether it comes to be true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not what():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
