"""Whatever an API server, or what stands in its place, answers: the Lease client has a value for it and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from client_faults import FaultyApi, Request, lease, serving
from fuzzing import fuzz
from hostile import deep_values, json_values, leases, repeated, texts
from hypothesis import given
from hypothesis import strategies as st

from vipd.core.model import CallFailed, Conflict, LeaseAbsent, LeaseDraft, LeaseView, Written
from vipd.kube import watch as watch_module
from vipd.kube.codec import lease_view
from vipd.kube.leases import KubeLeases
from vipd.kube.stream import MAX_LINE_BYTES, Bookmark, Gone, Lines, LineTooLong, Seen, parse_event

GOOD = 10**9
"""The resourceVersion of the event that must arrive."""

DRAFT = LeaseDraft(holder="me", duration_s=3, transitions=2, acquire_time=None)

statuses = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.just("Status") | json_values,
        "code": st.sampled_from([200, 404, 409, 410, 429, 500, "410", -1]) | json_values,
        "reason": st.sampled_from(["NotFound", "Expired", "Gone", "AlreadyExists"]) | json_values,
        "message": texts | json_values | deep_values,
        "details": st.fixed_dictionaries({}, optional={"name": st.just("vip") | json_values}) | json_values,
    },
)
events = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "RENAMED", ""]) | json_values,
        "object": leases() | statuses | st.integers(1, 10**6).map(lease),
    },
)


def _line(event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _deep(kind: str, depth: int) -> bytes:
    """Near Python's recursion limit, where reading may succeed and any other use fail."""
    said = json.dumps({"type": kind, "object": {**lease(7), "message": "DEEP", "managedFields": "DEEP"}})
    return said.replace('"DEEP"', "[" * depth + "]" * depth).encode() + b"\n"


lines = (
    events.map(_line)
    | json_values.map(_line)
    | st.binary(max_size=200)
    | st.sampled_from([b"\n\n\r\n", b'{"type":"ADDED","object":{"metadata":{"uid":'])
    | repeated(("[", 50_000), ("9", 5000)).map(lambda text: text.encode() + b"\n")
    | st.tuples(st.sampled_from(["MODIFIED", "ERROR"]), st.integers(850, 1000)).map(lambda told: _deep(*told))
)


# ------------------------------------------------------------------------------------------ lines and events


@fuzz(200)
@given(lines)
def test_a_line_says_something_or_is_told_to_be_nonsense(line: bytes) -> None:
    item = parse_event(line, name="vip")
    assert isinstance(item, Seen | Bookmark | Gone | CallFailed)
    if isinstance(item, Seen):
        said = json.loads(line)["object"]["metadata"]
        assert said["name"] == "vip"
        assert said["uid"]
        assert item.version == said["resourceVersion"]


class Chunks:
    """A body that comes in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = list(pieces)

    async def readany(self) -> bytes:
        while self.pieces:
            piece = self.pieces.pop(0)
            if piece:
                return piece
        return b""


@fuzz(200)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"\n", b"\r\n", b"x\n\ny"]), max_size=12))
def test_lines_are_the_same_wherever_the_stream_was_cut(pieces: list[bytes]) -> None:
    async def read() -> list[bytes]:
        source, found = Lines(Chunks(pieces)), []  # type: ignore[arg-type]
        while (line := await source.next()) is not None:
            found.append(line)
        return found

    *whole, _ = b"".join(pieces).split(b"\n")
    assert asyncio.run(read()) == [line for line in whole if line.strip()]


async def test_a_line_without_end_is_given_up_before_it_fills_the_memory() -> None:
    source = Chunks([b"x" * 65536] * 1000)
    with pytest.raises(LineTooLong):
        await Lines(source).next()  # type: ignore[arg-type]
    read = (1000 - len(source.pieces)) * 65536
    assert read <= MAX_LINE_BYTES + 65536


def test_our_lease_without_a_version_that_can_be_resumed_from_is_nonsense_not_news() -> None:
    said = {"type": "MODIFIED", "object": lease(7)}
    said["object"]["metadata"]["resourceVersion"] = "9" * 5000
    assert isinstance(parse_event(_line(said), name="vip"), CallFailed)


# ----------------------------------------------------------------------------------------------- one request

answers = st.tuples(
    st.sampled_from([200, 201, 204, 301, 302, 400, 401, 403, 404, 409, 410, 418, 422, 429, 500, 503, 504, 599]),
    (leases() | statuses | events).map(lambda said: json.dumps(said).encode()) | st.binary(max_size=100),
    st.sampled_from(
        [
            "",
            "Content-Encoding: gzip\r\n",
            "Content-Encoding: deflate\r\n",
            "Location: /elsewhere\r\n",
            "Location: http://[\r\n",
            "Retry-After: soon\r\n",
            "Content-Type: text/html; charset=\u0000nope\r\n",
            "Content-Length: -1\r\n",
            "Set-Cookie: \u00ff=;;;\r\n",
        ]
    ),
)


@asynccontextmanager
async def store(handler: Any) -> AsyncIterator[tuple[FaultyApi, KubeLeases]]:
    with tempfile.TemporaryDirectory() as directory:
        async with serving(handler, Path(directory)) as (server, client):
            yield server, KubeLeases(client, namespace="default", name="vip")


@fuzz(30)
@given(st.lists(answers, min_size=4, max_size=4))
def test_every_answer_to_a_request_is_an_outcome(script: list[tuple[int, bytes, str]]) -> None:
    left = iter(script * 5)

    async def answer(request: Request) -> None:
        await request.answer(*next(left))
        request.cut()

    async def ask() -> None:
        base = lease_view(lease(10))
        async with store(answer) as (_, leases_):
            assert isinstance(await leases_.read(timeout_s=1), LeaseView | LeaseAbsent | CallFailed)
            for outcome in (
                await leases_.create(DRAFT, timeout_s=1),
                await leases_.replace(base, DRAFT, timeout_s=1),
                await leases_.annotate(base, {"k": "v"}, timeout_s=1),
            ):
                assert isinstance(outcome, Written | Conflict | LeaseAbsent | CallFailed)

    asyncio.run(ask())


@pytest.mark.parametrize(
    "spec",
    [{}, {"holderIdentity": "x"}, {"leaseTransitions": 3}, {"leaseTransitions": "2"}],
)
async def test_a_success_that_shows_another_lease_than_was_written_gives_no_right(spec: dict[str, Any]) -> None:
    written = {"holderIdentity": "me", "leaseDurationSeconds": 3, "leaseTransitions": 2}

    async def answer(request: Request) -> None:
        await request.answer(200, {**lease(11), "spec": {**written, **spec}})

    async with store(answer) as (_, leases_):
        for outcome in (
            await leases_.create(DRAFT, timeout_s=1),
            await leases_.replace(lease_view(lease(10)), DRAFT, timeout_s=1),
        ):
            assert isinstance(outcome, CallFailed if spec else Written)


# ----------------------------------------------------------------------------------------------------- watch


@dataclass(frozen=True)
class Noise:
    """One answer in place of a stream: ``raw`` instead of HTTP, or pieces of a chunked body, then an end."""

    pieces: tuple[bytes, ...]
    raw: bool
    end: str

    async def play(self, request: Request) -> None:
        if self.raw:
            for piece in self.pieces:
                await request.send(piece)
        else:
            await request.begin_stream()
            for piece in self.pieces:
                if piece:
                    await request.chunk(piece)
            if self.end == "in order":
                await request.chunk(b"")
                return
            if self.end == "bad chunk":
                await request.send(b"zz\r\n\r\n")
        request.cut()


def _cut_at(whole: bytes, places: list[int]) -> tuple[bytes, ...]:
    places = sorted({place % (len(whole) + 1) for place in places})
    return tuple(whole[i:j] for i, j in zip([0, *places], [*places, len(whole)], strict=True))


noises = st.builds(
    Noise,
    pieces=st.builds(_cut_at, st.lists(lines, max_size=5).map(b"".join), st.lists(st.integers(0, 2000), max_size=4)),
    raw=st.sampled_from([False, False, False, True]),
    end=st.sampled_from(["in order", "cut", "bad chunk"]),
)


@fuzz(30)
@given(st.lists(noises, min_size=1, max_size=5))
def test_a_good_event_arrives_however_much_nonsense_came_before(script: list[Noise]) -> None:
    left = list(script)

    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(1))
        elif left:
            await left.pop(0).play(request)
        else:
            await request.begin_stream()
            await request.event("MODIFIED", lease(GOOD))
            await request.hang()

    async def watch() -> int:
        async with store(answer) as (server, leases_), aclosing(leases_.watch()) as outcomes, asyncio.timeout(20):
            async for outcome in outcomes:
                if isinstance(outcome, LeaseView) and outcome.resource_version == str(GOOD):
                    return len(server.requests)
        raise AssertionError("the watch ended")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch_module, "BACKOFF_S", (0.001, 0.01))
        asked = asyncio.run(watch())
    # For each stream that was nonsense: one stream, and two reads at most (begun anew, or at the most recent state).
    assert asked <= 3 * (len(script) + 2)


async def test_nonsense_without_end_is_asked_for_at_a_bounded_rate() -> None:
    """A server that sends a good event and then nonsense, each time, is no reason to turn in circles either."""

    async def answer(request: Request) -> None:
        if not request.watch:
            await request.answer(200, lease(1))
            return
        await request.begin_stream()
        await request.event("MODIFIED", lease(2))
        await request.chunk(b"nonsense\n")

    async with store(answer) as (server, leases_), aclosing(leases_.watch()) as outcomes:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                async for _ in outcomes:
                    pass
    assert len(server.requests) >= 4, "it gave up"
    # A pause of 50 ms at the least between two rounds of a read and a stream.
    assert len(server.requests) <= 2 * (1.5 / 0.05 + 1)
