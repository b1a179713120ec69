"""HTTP and TCP checks against real servers: what is healthy, what is not, and that every attempt ends in time."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from check_servers import PATIENCE_S, Http, mute, served

from vipd.checks import resolve
from vipd.checks.http import HttpCheck
from vipd.checks.make import make_checks
from vipd.checks.tcp import TcpCheck
from vipd.config.checkspec import check_spec
from vipd.core.ports import HealthCheck
from vipd.lab.sandbox import in_sandbox


def check(spec: str, *, timeout_s: float = PATIENCE_S) -> HealthCheck:
    (made,) = make_checks([check_spec(spec)], timeout_s=timeout_s)
    assert str(made) == spec
    return made


def closed_port() -> int:
    """A port on loopback where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# --------------------------------------------------------------------------------------------- HTTP


@pytest.mark.parametrize("status", [200, 204, 301, 399])
async def test_a_status_from_200_to_399_is_healthy(status: int) -> None:
    async with served(Http(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0")) as port:
        assert await check(f"http://127.0.0.1:{port}/ready").run() is None


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_any_other_status_is_told(status: int) -> None:
    async with served(Http(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0")) as port:
        assert await check(f"http://127.0.0.1:{port}/ready").run() == f"status {status}"


async def test_a_redirect_is_not_followed() -> None:
    elsewhere = Http()
    async with served(elsewhere) as other:
        here = Http(f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\nContent-Length: 0")
        async with served(here) as port:
            assert await check(f"http://127.0.0.1:{port}").run() is None
    assert len(here.requests) == 1
    assert not elsewhere.requests


async def test_the_request_is_the_one_that_was_asked_for() -> None:
    server = Http()
    async with served(server) as port:
        assert await check(f"http://localhost:{port}/a/b?c=d%20e&f").run() is None
    (request,) = server.requests
    assert request.startswith("GET /a/b?c=d%20e&f HTTP/1.1\r\n")
    assert f"\r\nHost: localhost:{port}\r\n" in request
    assert "\r\nUser-Agent: vipd/" in request


async def test_each_attempt_has_its_own_connection_and_leaves_none() -> None:
    server = Http()
    open_now = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        await server(reader, writer)
        assert await reader.read() == b""
        open_now -= 1

    async with served(counting) as port:
        repeated = check(f"http://127.0.0.1:{port}/")
        for _ in range(3):
            assert await repeated.run() is None
            async with asyncio.timeout(PATIENCE_S):
                while open_now:
                    await asyncio.sleep(0.01)
    assert len(server.requests) == 3


async def test_a_body_without_end_is_not_waited_for() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Http("HTTP/1.1 200 OK")(reader, writer)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with served(pour) as port:
        assert await check(f"http://127.0.0.1:{port}/").run() is None


async def test_ipv6_is_spoken_to_in_brackets() -> None:
    server = Http()
    async with served(server, host="::1") as port:
        assert await check(f"http://[::1]:{port}/").run() is None
    assert f"\r\nHost: [::1]:{port}\r\n" in server.requests[0]


async def test_a_certificate_is_not_verified(tmp_path: Path) -> None:
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=somebody-else"
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [*make.split(), "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with served(Http(), tls=tls) as port:
        assert await check(f"https://127.0.0.1:{port}/").run() is None


async def test_tls_that_fails_is_told() -> None:
    async def speak_plainly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with served(speak_plainly) as port:
        told = await check(f"https://127.0.0.1:{port}/").run()
    assert told is not None
    assert "SSL" in told


async def test_what_is_no_http_is_unhealthy_in_one_line() -> None:
    async with served(Http("220 smtp\r\nhello")) as port:
        told = await check(f"http://127.0.0.1:{port}/").run()
    assert told is not None
    assert told.startswith("no HTTP answer: ")
    assert told.isprintable()


async def test_a_server_that_hangs_up_is_unhealthy() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with served(hang_up) as port:
        told = await check(f"http://127.0.0.1:{port}/").run()
    assert told is not None
    assert told.startswith("no HTTP answer: ")


async def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    async with served(Http()) as port:
        assert await check(f"http://127.0.0.1:{port}/").run() is None


# ------------------------------------------------------------------------------------ TCP, and both


@pytest.mark.parametrize(("listen", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("127.0.0.1", "localhost")])
async def test_a_connection_that_is_accepted_is_healthy(listen: str, host: str) -> None:
    async with served(mute, host=listen) as port:
        assert await check(f"tcp://{host}:{port}").run() is None


@pytest.mark.parametrize("scheme", ["tcp", "http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_a_refused_connection_is_told(scheme: str, host: str) -> None:
    assert await check(f"{scheme}://{host}:{closed_port()}").run() == "Connection refused"


@pytest.mark.parametrize("scheme", ["tcp", "http"])
async def test_a_host_that_is_unknown_is_told(scheme: str) -> None:
    told = await check(f"{scheme}://no-such-host.invalid:80").run()
    assert told is not None
    assert "name" in told.lower()


async def test_a_server_that_says_nothing_costs_the_time_limit_and_no_more() -> None:
    async with served(mute) as port:
        began = time.monotonic()
        told = await check(f"http://127.0.0.1:{port}/", timeout_s=0.2).run()
    assert told == "no answer within 0.2s"
    assert 0.2 <= time.monotonic() - began < PATIENCE_S


@pytest.mark.parametrize("scheme", ["tcp", "http"])
async def test_a_connection_that_nobody_answers_costs_the_time_limit_and_no_more(scheme: str) -> None:
    # With its queue full, a listener on loopback drops what asks to connect.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            for _ in range(3):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
                waiting.append(sock)
            told = await check(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.3).run()
        finally:
            for sock in waiting:
                sock.close()
    assert told == "no answer within 0.3s"


async def test_a_silent_address_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(mute) as port:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            full = listener.getsockname()
            with socket.create_connection(full), socket.socket() as second:
                second.setblocking(False)
                second.connect_ex(full)
                both = [(socket.AF_INET, full), (socket.AF_INET, ("127.0.0.1", port))]
                monkeypatch.setattr(resolve, "_getaddrinfo", lambda host, port: both)
                assert await TcpCheck("two.example", 80, timeout_s=2.0, text="").run() is None


@pytest.mark.parametrize("kind", ["tcp", "http"])
async def test_a_slow_lookup_costs_the_time_limit_and_is_taken_up_by_the_next_attempt(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    lookups = []

    async with served(Http()) as port:

        def slow(host: str, _port: int) -> list[resolve.SocketAddress]:
            lookups.append(host)
            answer.wait(PATIENCE_S)
            return [(socket.AF_INET, ("127.0.0.1", port))]

        monkeypatch.setattr(resolve, "_getaddrinfo", slow)
        slow_check: TcpCheck | HttpCheck
        if kind == "tcp":
            slow_check = TcpCheck("slow.example", port, timeout_s=0.2, text="")
        else:
            slow_check = HttpCheck(f"http://slow.example:{port}/", host="slow.example", timeout_s=0.2)
        for _ in range(2):
            told = await slow_check.run()
            assert told is not None
            assert "within 0.2s" in told
        answer.set()
        async with asyncio.timeout(PATIENCE_S):
            while await slow_check.run() is not None:
                await asyncio.sleep(0.01)
    assert len(lookups) <= 2


async def test_an_attempt_that_is_cancelled_ends_at_once() -> None:
    async with served(mute) as port:
        attempt = asyncio.create_task(check(f"http://127.0.0.1:{port}/").run())
        await asyncio.sleep(0.1)
        attempt.cancel()
        async with asyncio.timeout(PATIENCE_S / 2):
            (ended,) = await asyncio.gather(attempt, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


@pytest.fixture
def only_port() -> Iterator[int]:
    """A port where nothing listens, and the only one that the kernel can choose as the source of a connection."""
    if not in_sandbox():
        pytest.skip(
            "changes a setting of its network namespace, which must not be the machine's: run it in the sandbox"
        )
    port_range, port = Path("/proc/sys/net/ipv4/ip_local_port_range"), closed_port()
    before = port_range.read_text()
    port_range.write_text(f"{port} {port}")
    yield port
    port_range.write_text(before)


async def test_a_socket_that_is_connected_to_itself_proves_nothing(only_port: int) -> None:
    assert await check(f"tcp://127.0.0.1:{only_port}").run() == "nothing listens there"
