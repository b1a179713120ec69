"""The small HTTP client that asks IMDS: it takes what is well formed, within its limits, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from vipd.aws.plainhttp import BadAnswer, ask

LIMIT = 1000


@dataclass
class Wire:
    """A server that sends these bytes to whoever comes, and then ends the connection, or holds it."""

    url: str = ""
    answer: bytes = b""
    hold: bool = False
    heard: list[bytes] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        if self.hold:
            await self.over.wait()
        writer.close()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    made.url = f"http://{host}:{port}"
    yield made
    made.over.set()
    server.close()


async def get(wire: Wire, *, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        return await ask(method, f"{wire.url}/latest/x", headers, connect_s=2, max_bytes=LIMIT)


async def test_a_request_is_what_the_standard_wants(wire: Wire) -> None:
    wire.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    assert await get(wire, method="PUT", Token="t") == (200, b"hi")
    lines = wire.heard[0].decode().split("\r\n")
    host = wire.url.removeprefix("http://")
    assert lines[0] == "PUT /latest/x HTTP/1.1"
    assert set(lines[1:]) == {f"Host: {host}", "Connection: close", "Token: t", "Content-Length: 0", ""}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", (200, b"hi")),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", (200, b"until the end")),
        (b"HTTP/1.1 404\r\ncontent-length:0\r\n\r\n", (404, b"")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n", (302, b"")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n-yo\r\n0\r\n\r\n", (200, b"hi-yo")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", (200, b"hi")),
    ],
)
async def test_a_well_formed_answer_is_taken(wire: Wire, answer: bytes, told: tuple[int, bytes]) -> None:
    wire.answer = answer
    assert await get(wire) == told


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "broke off"),
        (b"HTTP/1.1 200 OK\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhigh\r\n0\r\n\r\n", "another length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n", "unclear length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n", "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unknown transfer coding"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", "encoded body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", "unclear length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", "unclear length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001, "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "no header field"),
        (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "no header field"),
        (b"HTTP/2 200\r\n\r\n", "no HTTP answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP answer"),
        (b"x" * 200_000, "without end"),
    ],
)
async def test_what_is_not_is_told_in_words(wire: Wire, answer: bytes, why: str) -> None:
    wire.answer = answer
    with pytest.raises(BadAnswer, match=why):
        await get(wire)


async def test_an_answer_of_known_length_is_not_waited_beyond(wire: Wire) -> None:
    wire.answer, wire.hold = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", True
    assert await get(wire) == (200, b"hi")


async def test_the_caller_may_give_up_at_any_time(wire: Wire) -> None:
    wire.hold = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ask("GET", wire.url, {}, connect_s=2, max_bytes=LIMIT)


@pytest.mark.parametrize(
    "url", ["169.254.169.254", "ftp://h/", "http:///x", "http://[", "http://h:x/", "http://h:99999/", "http://é\ud800/"]
)
async def test_an_url_that_leads_nowhere_connects_to_nobody(url: str) -> None:
    with pytest.raises(BadAnswer, match="no URL"):
        await ask("GET", url, {}, connect_s=0.1, max_bytes=LIMIT)


async def test_a_host_name_that_is_none_is_told(wire: Wire) -> None:
    with pytest.raises(BadAnswer, match="no host name"):
        await ask("GET", f"http://{'x' * 70}.example/", {}, connect_s=2, max_bytes=LIMIT)


async def test_a_connection_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio, "open_connection", never)
    with pytest.raises(BadAnswer, match=r"no connection within 0\.05 s"):
        await ask("GET", "http://192.0.2.1/", {}, connect_s=0.05, max_bytes=LIMIT)


async def test_nobody_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="127"):
        await ask("GET", "http://127.0.0.1:9/", {}, connect_s=2, max_bytes=LIMIT)
