"""Logs, metrics and the HTTP endpoint: what they tell, and that nobody who looks can hold the loop up."""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import logging
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from vipd.config import Listen
from vipd.core.election import initial
from vipd.core.model import Assigned, AssignVerdict, CallFailed, CallFailure, Conflict, LeaseAbsent, Mapped
from vipd.core.reasons import Phase
from vipd.core.settings import ElectionConfig
from vipd.errors import VipdError
from vipd.observe import http
from vipd.observe.format import LONGEST, JsonFormatter, TextFormatter
from vipd.observe.http import ObserveServer
from vipd.observe.jsonable import to_json
from vipd.observe.logs import Logs, fields, set_level, started
from vipd.observe.metrics import Metrics

log = logging.getLogger("vipd.test")
VIP = ipaddress.ip_address("10.0.1.100")

# --------------------------------------------------------------------------------------------- logs


class Pipe:
    """A pipe of the kernel; what was written can be read at any time."""

    def __init__(self) -> None:
        self.read_fd, self.fd = os.pipe()
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 4096)

    def text(self) -> str:
        parts = []
        while select.select([self.read_fd], [], [], 0)[0] and (part := os.read(self.read_fd, 65536)):
            parts.append(part)
        return b"".join(parts).decode()

    def close(self) -> None:
        for fd in (self.read_fd, self.fd):
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_a_line_is_one_json_object_with_its_fields(pipe: Pipe) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with started("auto", "info", fd=pipe.fd):
        log.info("took the %s", "Lease", extra=fields(vip=VIP, enis={"eni-2", "eni-1"}, left_s=float("inf"), msg="m"))
        log.debug("not this")
    line = json.loads(pipe.text())
    assert line["msg"] == "took the Lease"
    assert (line["level"], line["logger"], line["msg_"]) == ("info", "vipd.test", "m")
    assert (line["vip"], line["enis"], line["left_s"]) == ("10.0.1.100", ["eni-1", "eni-2"], None)
    assert before <= line["boot"] <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert line["ts"].endswith("Z")
    assert len(line["ts"]) == len("2026-01-01T00:00:00.000Z")
    assert abs(datetime.fromisoformat(line["ts"]).timestamp() - time.time()) < 5


def test_a_traceback_stays_on_its_line(pipe: Pipe) -> None:
    with started("json", "info", fd=pipe.fd):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("failed")
    [line] = pipe.text().splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["exc"]


def test_libraries_are_heard_from_warning_on_whatever_the_level(pipe: Pipe) -> None:
    with started("json", "debug", fd=pipe.fd):
        logging.getLogger("botocore").debug("a secret")
        logging.getLogger("aiohttp").warning("odd")
        log.debug("ours")
        set_level("error")
        log.warning("not this")
    assert [json.loads(line)["msg"] for line in pipe.text().splitlines()] == ["odd", "ours"]


def test_logging_is_put_back_as_it_was(pipe: Pipe) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("vipd").level)
    with started("text", "debug", fd=pipe.fd):
        pass
    assert (list(root.handlers), root.level, logging.getLogger("vipd").level) == before


def test_a_full_pipe_costs_lines_but_no_time_and_the_loss_is_told(pipe: Pipe) -> None:
    with started("json", "info", fd=pipe.fd, capacity=20_000, flush_s=5.0) as logs:
        began = time.monotonic()
        for number in range(2000):
            log.info("line", extra=fields(number=number))
        assert time.monotonic() - began < 2.0
        refused = logs.dropped
        assert refused > 1000
        assert not logs.drain(0.05)
        text = pipe.text()
        for _ in range(200):
            if logs.drain(0.05):
                break
            text += pipe.text()
        text += pipe.text()
        log.info("after")
        assert logs.drain(5.0)
        text += pipe.text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[-1]["msg"] == "after"
    told = [line["msg"] for line in lines if line["logger"] == "vipd.log"]
    assert told == [f"{refused} log lines were dropped"]
    assert len(lines) == 2000 - refused + 2


def test_the_end_does_not_wait_for_a_stuck_reader() -> None:
    code = (
        "import logging, os, sys, fcntl\n"
        "from vipd.observe.logs import started\n"
        "with started('json', 'info', flush_s=0.3):\n"
        "    for n in range(5000): logging.getLogger('vipd').info('line %d', n)\n"
        "sys.exit(7)\n"
    )
    pipe = Pipe()
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=pipe.fd)
    try:
        assert process.wait(15) == 7
        assert time.monotonic() - began < 10
        assert json.loads(pipe.text().splitlines()[0])["msg"] == "line 0"
    finally:
        process.kill()
        process.wait()
        pipe.close()


def test_a_closed_pipe_loses_lines_and_nothing_else() -> None:
    read_fd, fd = os.pipe()
    os.close(read_fd)
    with started("json", "info", fd=fd) as logs:
        log.info("nobody reads this")
        assert logs.drain(5.0)
        assert logs.dropped == 1
        assert samples(Metrics(namespace="shop", lease="web"))["vipd_log_lines_dropped_total"] == 1
    os.close(fd)


def test_a_pipe_that_somebody_made_non_blocking_gets_every_line(pipe: Pipe) -> None:
    os.set_blocking(pipe.fd, False)
    with started("json", "info", fd=pipe.fd) as logs:
        for number in range(200):
            log.info("line %d", number)
        text = ""
        for _ in range(200):
            text += pipe.text()
            if logs.drain(0.02):
                break
        text += pipe.text()
        assert logs.dropped == 0
    assert [json.loads(line)["msg"] for line in text.splitlines()] == [f"line {n}" for n in range(200)]


def test_a_line_that_cannot_be_formatted_is_told_of(pipe: Pipe) -> None:
    with started("json", "info", fd=pipe.fd):
        log.info("%d", "no number")
    assert "could not be formatted: TypeError" in json.loads(pipe.text())["msg"]


def test_the_text_form_is_for_people_and_never_steers_their_terminal(pipe: Pipe) -> None:
    with started("text", "info", fd=pipe.fd):
        log.warning("holder \x1b[2J is back", extra=fields(lease="shop/web", why="two words", n=None))
    text = pipe.text()
    assert "WARNING vipd.test: holder \\x1b[2J is back  lease=shop/web why='two words' n=null\n" in text
    assert "\x1b" not in text


def test_colour_is_for_terminals() -> None:
    terminal, fd = os.openpty()
    with Logs("auto", fd=fd) as logs:
        logs.emit(logging.LogRecord("vipd", logging.ERROR, "", 0, "red", None, None))
        assert logs.drain(5.0)
    assert b"\x1b[31mERROR" in os.read(terminal, 4096)
    os.close(terminal)
    os.close(fd)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(VIP),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=10,
)


@given(message=st.text(), value=values)
def test_any_message_and_value_is_one_line_of_strict_json(message: str, value: object) -> None:
    record = logging.makeLogRecord({"msg": "%s", "args": (message,), "name": "vipd", "fields": {"value": value}})
    line = JsonFormatter().format(record)
    assert "\n" not in line

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(line, parse_constant=refuse)["msg"] == message
    assert "\n" not in TextFormatter(colour=False).format(record)


def test_what_contains_itself_or_is_huge_has_an_end() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert len(to_json(loop)) < 200
    record = logging.makeLogRecord({"msg": "x" * 10 * LONGEST})
    assert len(JsonFormatter().format(record)) < LONGEST + 200


# ------------------------------------------------------------------------------------------ metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as ``name{labels without the group}``."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = [value for key, value in sample.labels.items() if key not in ("namespace", "lease")]
            found[f"{sample.name}{{{','.join(sorted(labels))}}}" if labels else sample.name] = sample.value
    return found


def test_what_happens_is_counted() -> None:
    metrics = Metrics(namespace="shop", lease="web")
    metrics.lease_write("renew", Conflict(), 0.02)
    metrics.lease_write("renew", CallFailed(CallFailure.TIMEOUT, ""), 0.5)
    metrics.lease_write("take", LeaseAbsent(), 0.01)
    metrics.transition("standby", "active", "lease-free")
    metrics.noted("mapping-stolen")
    metrics.assigned([Assigned(VIP, AssignVerdict.OK), Assigned(VIP, AssignVerdict.THROTTLED, "Throttling")], 0.4)
    metrics.announced("garp")
    metrics.announced("garp")
    metrics.mapping_read({VIP: Mapped.MINE})
    metrics.loop_lag(0.003)
    metrics.loop_lag(-1.0)
    found = samples(metrics)
    assert found["vipd_lease_writes_total{conflict,renew}"] == 1
    assert found["vipd_lease_writes_total{renew,timeout}"] == 1
    assert found["vipd_lease_writes_total{absent,take}"] == 1
    assert found["vipd_lease_write_seconds_sum{renew}"] == pytest.approx(0.52)
    assert found["vipd_transitions_total{active,lease-free,standby}"] == 1
    assert found["vipd_notes_total{mapping-stolen}"] == 1
    assert found["vipd_eni_assign_total{,ok}"] == 1
    assert found["vipd_eni_assign_total{Throttling,throttled}"] == 1
    assert found["vipd_eni_assign_seconds_count"] == 1
    assert found["vipd_announcements_total{garp}"] == 2
    assert found["vipd_imds_readings_total{mine}"] == 1
    assert found["vipd_loop_lag_seconds_sum"] == pytest.approx(0.003)
    assert found["vipd_log_lines_dropped_total"] == 0
    assert found["process_resident_memory_bytes"] > 1e6
    assert not [name for name in found if "_created" in name]
    assert 'lease="web",namespace="shop"' in metrics.render().decode()


def test_what_is_tells_the_moment_of_the_scrape() -> None:
    now = 100.0
    metrics = Metrics(namespace="shop", lease="web", now=lambda: now)
    state = initial(ElectionConfig(identity="a", incarnation="i", addresses=(VIP,), eni="eni-1"))
    metrics.observe(state, now)
    assert samples(metrics)["vipd_right_ends_in_seconds"] == 0
    state = replace(
        state,
        phase=Phase.ACTIVE,
        holder=replace(state.holder, right_until=102.5),
        address=replace(state.address, borne=frozenset({VIP})),
        mapping=replace(state.mapping, seen={VIP: Mapped.MINE}),
    )
    metrics.observe(state, now)
    now = 101.0
    found = samples(metrics)
    assert (found["vipd_state{active}"], found["vipd_state{standby}"], found["vipd_is_active"]) == (1, 0, 1)
    assert found["vipd_right_ends_in_seconds"] == 1.5
    assert found["vipd_vip_borne{10.0.1.100}"] == 1
    assert found["vipd_vip_mapping{10.0.1.100,mine}"] == 1
    assert found["vipd_vip_mapping{10.0.1.100,gone}"] == 0


def test_members_of_two_groups_do_not_share_a_registry() -> None:
    one, other = Metrics(namespace="a", lease="x"), Metrics(namespace="b", lease="x")
    one.announced("na")
    assert "vipd_announcements_total{na}" not in samples(other)


# --------------------------------------------------------------------------------------------- http


@pytest.fixture(autouse=True, scope="module")
def loopback() -> None:
    """A new network namespace has its loopback down (netdevice(7): SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        flags = struct.unpack("16xh22x", fcntl.ioctl(sock, 0x8913, struct.pack("16s24x", b"lo")))[0]
        if not flags & 1:
            fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", b"lo", flags | 1))


class Site:
    """A server and what it shall say."""

    def __init__(self, listen: Listen) -> None:
        self.well = (True, "active")
        self.server = ObserveServer(
            listen,
            health=lambda: self.well,
            ready=lambda: (False, "the Lease could not be read yet"),
            status=self.status,
            metrics=Metrics(namespace="shop", lease="web").render,
        )
        self.broken = False

    def status(self) -> dict[str, object]:
        if self.broken:
            raise ZeroDivisionError
        return {"state": Phase.ACTIVE, "right_ends_in_s": float("-inf")}

    async def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        url = f"http://{self.server.address}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()

    async def knock(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.server.address.host, self.server.address.port)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site(Listen("127.0.0.1", 0))
    await site.server.start()
    yield site
    await site.server.stop()


async def test_each_path_answers(site: Site) -> None:
    assert await site.get("/healthz") == (200, "text/plain; charset=utf-8", "active\n")
    site.well = (False, "the loop hangs")
    assert (await site.get("/healthz"))[::2] == (503, "the loop hangs\n")
    assert (await site.get("/readyz?verbose"))[::2] == (503, "the Lease could not be read yet\n")
    status, kind, text = await site.get("/status")
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert json.loads(text) == {"state": "active", "right_ends_in_s": None}
    status, kind, text = await site.get("/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "vipd_build_info{" in text


async def test_other_paths_and_methods_are_refused(site: Site) -> None:
    assert (await site.get("/"))[0] == 404
    assert (await site.get("/status/../x"))[0] == 404
    assert (await site.get("/healthz", "POST"))[0] == 405
    assert (await site.get("/healthz", "HEAD"))[::2] == (200, "")


async def test_a_document_that_cannot_be_made_is_an_error_and_a_log_line(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.broken = True
    assert (await site.get("/status"))[::2] == (500, "failed; the log tells why\n")
    assert "ZeroDivisionError" in caplog.text
    assert (await site.get("/healthz"))[0] == 200


async def test_requests_are_not_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await site.get("/healthz")
    assert not [record for record in caplog.records if record.name.startswith(("aiohttp", "vipd"))]


async def test_clients_that_hang_do_not_keep_others_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS", 8)
    stuck = [await site.knock() for _ in range(30)]
    for _, writer in stuck[:15]:
        writer.write(b"GET /healthz HT")
    for _ in range(5):
        assert (await asyncio.wait_for(site.get("/healthz"), 2.0))[0] == 200
    assert await asyncio.wait_for(stuck[0][0].read(), 2.0) == b""
    for _, writer in stuck:
        writer.close()


async def test_a_connection_that_hangs_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LIFETIME_S", 0.2)
    site = Site(Listen("127.0.0.1", 0))
    await site.server.start()
    reader, writer = await site.knock()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: ")
    [seen] = await asyncio.wait_for(asyncio.gather(reader.read(), return_exceptions=True), 2.0)
    assert seen == b"" or isinstance(seen, ConnectionResetError)
    writer.close()
    await site.server.stop()


async def test_garbage_is_no_danger(site: Site) -> None:
    for garbage in (b"\x00\xff\x16\x03\x01\r\n\r\n", b"GET " + b"x" * 100_000 + b"\r\n\r\n", b"\r\n" * 50):
        reader, writer = await site.knock()
        writer.write(garbage)
        writer.write_eof()
        await asyncio.wait_for(asyncio.gather(reader.read(), return_exceptions=True), 2.0)
        writer.close()
    assert (await site.get("/healthz"))[0] == 200


async def test_a_port_in_use_is_named_with_what_to_do(site: Site) -> None:
    with pytest.raises(VipdError, match=rf"cannot serve HTTP on {site.server.address}: .*in use.*--listen off"):
        await Site(site.server.address).server.start()


async def test_an_address_of_another_machine_is_named_with_what_to_do() -> None:
    with pytest.raises(VipdError, match=r"192\.0\.2\.1:80: .*does not have that address"):
        await Site(Listen("192.0.2.1", 80)).server.start()


async def test_the_ipv6_wildcard_serves_both_families() -> None:
    site = Site(Listen("::", 0))
    await site.server.start()
    port = site.server.address.port
    for host in ("127.0.0.1", "::1"):
        site.server.address = Listen(host, port)
        assert (await site.get("/healthz"))[0] == 200
    await site.server.stop()


async def test_stopping_gives_the_port_back_whoever_is_connected() -> None:
    site = Site(Listen("127.0.0.1", 0))
    await site.server.start()
    reader, writer = await site.knock()
    await asyncio.sleep(0)
    await asyncio.wait_for(site.server.stop(), 2.0)
    await asyncio.wait_for(asyncio.gather(reader.read(), return_exceptions=True), 2.0)
    writer.close()
    again = Site(site.server.address)
    await again.server.start()
    assert (await again.get("/healthz"))[0] == 200
    await again.server.stop()
    await again.server.stop()
