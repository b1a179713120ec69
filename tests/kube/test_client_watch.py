"""A watch tells what becomes of the Lease through every way that a stream can end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from client_faults import FaultyApi, Handler, Request, lease, not_found, serving

from vipd.core.model import CallFailed, CallFailure, LeaseAbsent, LeaseView, ReadOutcome
from vipd.kube import watch as watch_module
from vipd.kube.api import Api
from vipd.kube.leases import KubeLeases
from vipd.kube.stream import KEEPALIVE_IDLE_S, keep_alive

GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 10 (99)"}

Events = AsyncGenerator[ReadOutcome, None]


@asynccontextmanager
async def watching(handler: Handler, tmp_path: Path) -> AsyncIterator[tuple[FaultyApi, KubeLeases, Events]]:
    async with serving(handler, tmp_path) as (server, client):
        store = KubeLeases(client, namespace="default", name="vip")
        async with aclosing(store.watch()) as events:
            yield server, store, events


async def following(events: Events, limit_s: float = 3.0) -> ReadOutcome:
    return await asyncio.wait_for(anext(events), limit_s)


async def version(events: Events) -> str:
    outcome = await following(events)
    assert isinstance(outcome, LeaseView), outcome
    return outcome.resource_version


def streams(server: FaultyApi) -> list[Request]:
    return [r for r in server.requests if r.watch]


def reads(server: FaultyApi) -> list[Request]:
    return [r for r in server.requests if not r.watch]


async def test_it_reads_first_and_streams_from_that_version(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        await request.event("MODIFIED", lease(11))
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        assert [await version(events), await version(events)] == ["10", "11"]
    query = streams(server)[0].query
    assert (query["resourceVersion"], query["fieldSelector"]) == ("10", "metadata.name=vip")
    assert query["allowWatchBookmarks"] == "true"
    assert 300 <= int(query["timeoutSeconds"]) <= 600


async def test_a_standby_sends_nothing_while_nothing_changes(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        await version(events)
        with pytest.raises(TimeoutError):
            await following(events, 0.5)
        assert len(server.requests) == 2


async def test_lines_split_and_joined_over_chunks_are_read(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"type": "MODIFIED", "object": lease(n)}).encode() + b"\n" for n in (11, 12, 13))

    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        for at in range(0, len(lines), 37):
            await request.chunk(lines[at : at + 37])
            await asyncio.sleep(0)
        await request.chunk(lines.replace(b'"1', b'"2').replace(b"\n", b"\r\n\n"))
        await request.hang()

    async with watching(answer, tmp_path) as (_, _, events):
        assert [await version(events) for _ in range(7)] == ["10", "11", "12", "13", "21", "22", "23"]


async def test_after_the_end_of_a_stream_it_resumes_from_the_last_version_without_a_read(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        count = len(streams(server))
        if count == 1:
            await request.event("MODIFIED", lease(11))
            await request.event("BOOKMARK", {"kind": "Lease", "metadata": {"resourceVersion": "40"}})
            await request.chunk(b"")
            return
        await request.event("MODIFIED", lease(41))
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        assert [await version(events) for _ in range(3)] == ["10", "11", "41"]
    assert streams(server)[1].query["resourceVersion"] == "40"
    assert len(reads(server)) == 1


async def test_a_server_that_ends_every_stream_at_once_is_not_asked_in_a_hot_loop(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        await request.chunk(b"")

    async with watching(answer, tmp_path) as (server, _, events):
        await version(events)
        with pytest.raises(TimeoutError):
            await following(events, 1.0)
        assert 3 <= len(streams(server)) <= 6


@pytest.mark.parametrize("where", ["status", "event"])
async def test_a_version_that_is_gone_leads_to_a_new_read_and_no_event_is_lost(where: str, tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10 if len(reads(server)) == 1 else 20))
            return
        if len(streams(server)) == 1 and where == "status":
            await request.answer(410, GONE)
            return
        await request.begin_stream()
        if len(streams(server)) == 1:
            await request.event("ERROR", GONE)
            return
        # The state when the stream began, which the read has overtaken, comes first.
        await request.event("ADDED", lease(15))
        await request.event("MODIFIED", lease(21))
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        assert [await version(events) for _ in range(3)] == ["10", "20", "21"]
    assert "resourceVersion" not in streams(server)[1].query


async def test_an_old_lease_on_a_busy_server_is_watched_without_endless_410s(tmp_path: Path) -> None:
    """Version 10 is the Lease's own and stays so, but the server's history begins later."""

    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        if "resourceVersion" in request.query:
            await request.answer(410, GONE)
            return
        await request.begin_stream()
        await request.event("ADDED", lease(10))
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        assert await version(events) == "10"
        with pytest.raises(TimeoutError):
            await following(events, 0.6)
        assert (len(streams(server)), len(reads(server))) == (2, 2)


async def test_410_without_a_version_is_a_failure_with_backoff(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        await (request.answer(410, GONE) if request.watch else request.answer(200, lease(10)))

    async with watching(answer, tmp_path) as (server, _, events):
        await version(events)
        outcome = await following(events)
        assert isinstance(outcome, CallFailed)
        assert outcome.failure is CallFailure.SERVER
        assert len(streams(server)) == 2


async def test_a_lease_that_comes_and_goes_is_seen(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(404, not_found())
            return
        await request.begin_stream()
        await asyncio.sleep(0.05)
        await request.event("ADDED", lease(11))
        await request.event("MODIFIED", lease(99, name="another"))
        await request.event("DELETED", lease(12))
        await request.event("ADDED", lease(13, uid="u2"))
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        seen = [await following(events) for _ in range(4)]
    assert [s.uid if isinstance(s, LeaseView) else s for s in seen] == [LeaseAbsent(), "u1", LeaseAbsent(), "u2"]
    assert "resourceVersion" not in streams(server)[0].query


async def test_a_lease_deleted_between_read_and_stream_is_found_out(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            known = len(reads(server)) == 1
            await (request.answer(200, lease(10)) if known else request.answer(404, not_found()))
            return
        if len(streams(server)) == 1:
            await request.answer(410, GONE)
            return
        await request.begin_stream()
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        assert await version(events) == "10"
        assert await following(events) == LeaseAbsent()


async def test_a_broken_stream_is_reported_and_taken_up_with_a_read(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10 * len(reads(server))))
            return
        await request.begin_stream()
        if len(streams(server)) == 1:
            request.cut()
            return
        await request.event("MODIFIED", lease(21))
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        assert await version(events) == "10"
        broken = await following(events)
        assert isinstance(broken, CallFailed)
        assert broken.failure is CallFailure.UNREACHABLE
        assert [await version(events), await version(events)] == ["20", "21"]


async def test_a_server_restarted_on_its_port_is_found_again_even_if_it_counts_anew(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await (request.answer(200, lease(10)) if up == 1 else request.answer(404, not_found()))
            return
        await request.begin_stream()
        if up == 2:
            await request.event("ADDED", lease(2, uid="u2"))
        await request.hang()

    up = 1
    async with watching(answer, tmp_path) as (server, _, events):
        assert await version(events) == "10"
        await server.stop()
        lost = await following(events)
        assert isinstance(lost, CallFailed)
        refused = await following(events)
        assert isinstance(refused, CallFailed)
        assert refused.failure is CallFailure.UNREACHABLE
        up = 2
        await server.start()
        while isinstance(found := await following(events), CallFailed):
            pass
        assert found == LeaseAbsent()
        assert await version(events) == "2"


async def test_while_the_server_is_away_the_pauses_grow_to_two_seconds_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: Request) -> None:
        await request.answer(503, {})

    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def quick_sleep(pause: float) -> None:
        pauses.append(pause)
        await real_sleep(0)

    monkeypatch.setattr(watch_module.asyncio, "sleep", quick_sleep)
    async with watching(answer, tmp_path) as (_, _, events):
        for _ in range(9):
            outcome = await following(events)
            assert isinstance(outcome, CallFailed)
            assert outcome.failure is CallFailure.SERVER
    for number, pause in enumerate(pauses):
        longest = min(2.0, 0.1 * 2**number)
        assert longest / 2 <= pause <= longest
    assert len(pauses) == 8


async def test_a_half_open_stream_is_left_at_once_by_rewatch(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10 * len(reads(server))))
            return
        await request.begin_stream()
        if len(streams(server)) == 2:
            await request.event("MODIFIED", lease(21))
        await request.hang()

    async with watching(answer, tmp_path) as (server, store, events):
        assert await version(events) == "10"
        waiting = asyncio.create_task(version(events))
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        store.rewatch()
        store.rewatch()
        assert await waiting == "20"
        assert asyncio.get_running_loop().time() - began < 1
        assert await version(events) == "21"
    first, second = streams(server)
    assert first.connection != second.connection


async def test_rewatch_also_ends_a_read_that_hangs_and_a_pause(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if len(reads(server)) == 1:
            await request.hang()
        if request.watch:
            await request.answer(500, {})
            return
        await request.answer(200, lease(10))

    async with watching(answer, tmp_path) as (server, store, events):
        waiting = asyncio.create_task(version(events))
        await asyncio.sleep(0.1)
        store.rewatch()
        assert await asyncio.wait_for(waiting, 0.3) == "10"
        assert isinstance(await following(events), CallFailed)
        waiting = asyncio.create_task(version(events))
        await asyncio.sleep(0)
        store.rewatch()
        assert await asyncio.wait_for(waiting, 0.3) == "10"


async def test_rewatch_while_the_consumer_is_busy_takes_effect_when_it_comes_back(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10 * len(reads(server))))
            return
        await request.begin_stream()
        await request.hang()

    async with watching(answer, tmp_path) as (server, store, events):
        assert await version(events) == "10"
        store.rewatch()
        assert await version(events) == "20"


@pytest.mark.parametrize("garbage", [b"{\n", b"[]\n", b'{"type":1}\n', b'{"type":"ADDED","object":[]}\n', b"\xff\n"])
async def test_garbage_in_the_stream_is_reported_and_the_watch_goes_on(garbage: bytes, tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10 * len(reads(server))))
            return
        await request.begin_stream()
        if len(streams(server)) == 1:
            await request.chunk(garbage)
        await request.hang()

    async with watching(answer, tmp_path) as (server, _, events):
        await version(events)
        outcome = await following(events)
        assert isinstance(outcome, CallFailed)
        assert outcome.failure is CallFailure.INVALID
        assert await version(events) == "20"


async def test_a_line_without_end_is_given_up(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        while True:
            await request.chunk(b" " * 500_000)

    async with watching(answer, tmp_path) as (_, _, events):
        await version(events)
        outcome = await following(events)
        assert isinstance(outcome, CallFailed)
        assert outcome.failure is CallFailure.INVALID


async def test_an_error_event_other_than_410_is_reported(tmp_path: Path) -> None:
    error: dict[str, Any] = {"kind": "Status", "code": 504, "message": "Too large resource version: 99, current: 3"}

    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        await request.event("ERROR", error)
        await request.hang()

    async with watching(answer, tmp_path) as (_, _, events):
        await version(events)
        outcome = await following(events)
        assert isinstance(outcome, CallFailed)
        assert (outcome.failure, "Too large" in outcome.detail) == (CallFailure.SERVER, True)


async def test_a_refused_watch_says_why(tmp_path: Path) -> None:
    forbidden = {"kind": "Status", "reason": "Forbidden", "message": 'cannot watch resource "leases"'}

    async def answer(request: Request) -> None:
        await (request.answer(403, forbidden) if request.watch else request.answer(200, lease(10)))

    async with watching(answer, tmp_path) as (_, _, events):
        await version(events)
        outcome = await following(events)
        assert outcome == CallFailed(CallFailure.FORBIDDEN, 'HTTP 403: cannot watch resource "leases"')


async def test_the_kernel_probes_the_connection_of_a_stream(tmp_path: Path) -> None:
    async with serving(lambda r: r.begin_stream(), tmp_path) as (_, client):
        response = await Api(client).open("/watch", query=[])
        keep_alive(response)
        assert response.connection is not None
        assert response.connection.transport is not None
        sock = response.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_S
        response.close()


async def test_closing_the_iterator_closes_the_stream(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        await request.event("MODIFIED", lease(11))
        # vipd's sockets end with a reset (vipd.sockets).
        with suppress(ConnectionResetError):
            assert await request.reader.read() == b""
        closed.set()

    async with serving(answer, tmp_path) as (_, client):
        events = KubeLeases(client, namespace="default", name="vip").watch()
        assert [await version(events), await version(events)] == ["10", "11"]
        await events.aclose()
        await asyncio.wait_for(closed.wait(), 1)


async def test_cancelling_the_consumer_is_not_taken_for_a_rewatch(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(10))
            return
        await request.begin_stream()
        await request.hang()

    async with watching(answer, tmp_path) as (server, store, events):
        await version(events)
        waiting = asyncio.create_task(version(events))
        await asyncio.sleep(0.05)
        store.rewatch()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(reads(server)) == 1
