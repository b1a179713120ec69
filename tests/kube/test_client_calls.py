"""Each call to the API ends in time and with a value, whatever the other side does."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from client_faults import LEASE, Request, lease, not_found, serving

from vipd.core.model import (
    CallFailed,
    CallFailure,
    Conflict,
    LeaseAbsent,
    LeaseDraft,
    LeaseView,
    Written,
)
from vipd.kube.codec import lease_view
from vipd.kube.leases import KubeLeases, list_leases

DRAFT = LeaseDraft(holder="a", duration_s=3, transitions=1, acquire_time=None)
"""A renewal of LEASE, so that an answer with LEASE in it confirms it."""


def status(code: int, reason: str, message: str = "said the server") -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("code", "body", "failure"),
    [
        (401, status(401, "Unauthorized"), CallFailure.UNAUTHORIZED),
        (403, status(403, "Forbidden"), CallFailure.FORBIDDEN),
        (429, status(429, "TooManyRequests"), CallFailure.THROTTLED),
        (400, status(400, "BadRequest"), CallFailure.INVALID),
        (422, status(422, "Invalid"), CallFailure.INVALID),
        (500, status(500, "InternalError"), CallFailure.SERVER),
        (503, b"upstream connect error", CallFailure.SERVER),
        (504, status(504, "Timeout"), CallFailure.SERVER),
        (200, b"<html>login</html>", CallFailure.INVALID),
        (200, b"\xff\xfe", CallFailure.INVALID),
        (200, b"[" * 200_000, CallFailure.INVALID),
        (200, b"", CallFailure.INVALID),
        (200, status(200, ""), CallFailure.INVALID),
        (200, {**LEASE, "metadata": []}, CallFailure.INVALID),
        (404, b"404 page not found", CallFailure.INVALID),
        (404, status(404, "Other"), CallFailure.INVALID),
        (404, not_found("another"), CallFailure.INVALID),
    ],
)
async def test_every_answer_is_a_value(code: int, body: object, failure: CallFailure, tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(code, body), tmp_path) as (_, client):
        store = KubeLeases(client, namespace="default", name="vip")
        outcomes = [
            await store.read(timeout_s=1),
            await store.replace(lease_view(LEASE), DRAFT, timeout_s=1),
            await store.create(DRAFT, timeout_s=1),
        ]
    assert [type(o) for o in outcomes] == [CallFailed] * 3
    assert [o.failure for o in outcomes if isinstance(o, CallFailed)] == [failure] * 3


async def test_the_detail_of_a_refusal_is_the_servers_message(tmp_path: Path) -> None:
    body = status(429, "TooManyRequests", "slow down")
    async with serving(lambda r: r.answer(429, body, "Retry-After: 7\r\n"), tmp_path) as (_, client):
        outcome = await KubeLeases(client, namespace="default", name="vip").read(timeout_s=1)
    assert outcome == CallFailed(CallFailure.THROTTLED, "HTTP 429: slow down (Retry-After: 7)")


async def test_an_absent_lease_and_a_conflict_are_no_failures(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if request.method == "POST":
            await request.answer(409, status(409, "AlreadyExists", "it exists"))
        else:
            await request.answer(404, not_found())

    async with serving(answer, tmp_path) as (_, client):
        store = KubeLeases(client, namespace="default", name="vip")
        assert await store.read(timeout_s=1) == LeaseAbsent()
        assert await store.replace(lease_view(LEASE), DRAFT, timeout_s=1) == LeaseAbsent()
        assert await store.create(DRAFT, timeout_s=1) == Conflict("it exists")


async def test_a_create_in_an_absent_namespace_is_a_failure_not_an_absent_lease(tmp_path: Path) -> None:
    body = {**not_found(), "message": 'namespaces "default" not found', "details": {"name": "default"}}
    async with serving(lambda r: r.answer(404, body), tmp_path) as (_, client):
        outcome = await KubeLeases(client, namespace="default", name="vip").create(DRAFT, timeout_s=1)
    assert isinstance(outcome, CallFailed)
    assert "namespaces" in outcome.detail


async def test_a_write_bears_version_and_uid_and_the_wall_clock(tmp_path: Path) -> None:
    wall = datetime(2026, 3, 1, 12, tzinfo=UTC)
    async with serving(lambda r: r.answer(200, lease(11)), tmp_path) as (server, client):
        store = KubeLeases(client, namespace="default", name="vip", wall=lambda: wall)
        outcome = await store.replace(lease_view(LEASE), DRAFT, timeout_s=1)
    assert isinstance(outcome, Written)
    assert outcome.view.resource_version == "11"
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/vip")
    assert (sent.body["metadata"]["uid"], sent.body["metadata"]["resourceVersion"]) == ("u1", "10")
    assert sent.body["spec"]["renewTime"] == sent.body["spec"]["acquireTime"] == "2026-03-01T12:00:00.000000Z"
    assert sent.headers["authorization"] == "Bearer t"
    assert sent.headers["user-agent"].startswith("vipd/")


async def test_a_read_asks_for_no_version_so_that_etcd_answers(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, client):
        assert isinstance(await KubeLeases(client, namespace="default", name="vip").read(timeout_s=1), LeaseView)
    assert server.requests[0].query == {}


async def test_a_base_without_version_is_never_sent(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, client):
        outcome = await KubeLeases(client, namespace="default", name="vip").replace(
            lease_view({"metadata": {"uid": "u1"}}), DRAFT, timeout_s=1
        )
    assert isinstance(outcome, CallFailed)
    assert server.requests == []


async def test_after_a_timeout_the_next_attempt_takes_a_new_connection(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if request.connection == 1:
            await request.hang()
        await request.answer(200, LEASE)

    async with serving(answer, tmp_path) as (server, client):
        store = KubeLeases(client, namespace="default", name="vip")
        began = time.monotonic()
        late = await store.replace(lease_view(LEASE), DRAFT, timeout_s=0.2)
        took_s = time.monotonic() - began
        again = await store.replace(lease_view(LEASE), DRAFT, timeout_s=1)
        reused = await store.read(timeout_s=1)
    assert isinstance(late, CallFailed)
    assert late.failure is CallFailure.TIMEOUT
    assert 0.2 <= took_s < 1
    assert isinstance(again, Written)
    assert isinstance(reused, LeaseView)
    assert [r.connection for r in server.requests] == [1, 2, 2]


async def test_an_answer_that_stalls_half_way_times_out_and_its_connection_is_dropped(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        if request.connection == 1:
            await request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            await request.hang()
        await request.answer(200, LEASE)

    async with serving(answer, tmp_path) as (server, client):
        store = KubeLeases(client, namespace="default", name="vip")
        stalled = await store.read(timeout_s=0.2)
        assert isinstance(stalled, CallFailed)
        assert stalled.failure is CallFailure.TIMEOUT
        assert isinstance(await store.read(timeout_s=1), LeaseView)
    assert [r.connection for r in server.requests] == [1, 2]


@pytest.mark.parametrize("method", ["read", "replace"])
async def test_a_dropped_connection_is_reported_and_nothing_is_sent_twice(method: str, tmp_path: Path) -> None:
    """aiohttp by itself would send a GET or PUT again over a new connection."""

    async def answer(request: Request) -> None:
        if len(server.requests) == 2:
            request.cut()
        else:
            await request.answer(200, LEASE)

    async with serving(answer, tmp_path) as (server, client):
        store = KubeLeases(client, namespace="default", name="vip")
        assert isinstance(await store.read(timeout_s=1), LeaseView)
        if method == "read":
            outcome = await store.read(timeout_s=1)
        else:
            outcome = await store.replace(lease_view(LEASE), DRAFT, timeout_s=1)  # type: ignore[assignment]
        assert isinstance(outcome, CallFailed)
        assert outcome.failure is CallFailure.UNREACHABLE
        assert len(server.requests) == 2
        assert isinstance(await store.read(timeout_s=1), LeaseView)


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_refusal_is_not_repeated_even_where_the_server_invites_to(code: int, tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(code, {}, "Retry-After: 1\r\n"), tmp_path) as (server, client):
        await KubeLeases(client, namespace="default", name="vip").read(timeout_s=3)
    assert len(server.requests) == 1


async def test_nobody_listening_is_unreachable_at_once(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, client):
        await server.stop()
        began = time.monotonic()
        outcome = await KubeLeases(client, namespace="default", name="vip").read(timeout_s=2)
    assert isinstance(outcome, CallFailed)
    assert outcome.failure is CallFailure.UNREACHABLE
    assert server.url in outcome.detail
    assert time.monotonic() - began < 1


async def test_what_is_no_http_is_invalid(tmp_path: Path) -> None:
    async with serving(lambda r: r.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), tmp_path) as (_, client):
        outcome = await KubeLeases(client, namespace="default", name="vip").read(timeout_s=1)
    assert isinstance(outcome, CallFailed)
    assert outcome.failure is CallFailure.INVALID


async def test_a_body_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vipd.kube.api.MAX_BODY_BYTES", 100_000)

    async def answer(request: Request) -> None:
        await request.begin_stream()
        while True:
            await request.chunk(b" " * 50_000)

    async with serving(answer, tmp_path) as (_, client):
        outcome = await KubeLeases(client, namespace="default", name="vip").read(timeout_s=5)
    assert isinstance(outcome, CallFailed)
    assert outcome.failure is CallFailure.INVALID


async def test_a_path_that_swallows_packets_ends_in_time(tmp_path: Path) -> None:
    """A listener whose backlog is full drops the SYN, as a dead node does."""
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, client):
        await server.stop()
        with socket.socket() as full, socket.socket() as first, socket.socket() as second:
            full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            full.bind(("127.0.0.1", server.port))
            full.listen(0)
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", server.port))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            outcome = await KubeLeases(client, namespace="default", name="vip").read(timeout_s=0.3)
    assert isinstance(outcome, CallFailed)
    assert outcome.failure is CallFailure.TIMEOUT
    assert time.monotonic() - began < 2


async def test_cancelling_a_call_frees_its_connection(tmp_path: Path) -> None:
    async def answer(request: Request) -> None:
        await (request.hang() if request.connection <= 8 else request.answer(200, LEASE))

    async with serving(answer, tmp_path) as (_, client):
        store = KubeLeases(client, namespace="default", name="vip")
        calls = [asyncio.create_task(store.read(timeout_s=30)) for _ in range(8)]
        await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(await store.read(timeout_s=1), LeaseView)


async def test_renewals_keep_to_one_connection(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, LEASE), tmp_path) as (server, client):
        store = KubeLeases(client, namespace="default", name="vip")
        for _ in range(20):
            assert isinstance(await store.replace(lease_view(LEASE), DRAFT, timeout_s=1), Written)
    assert server.connections == 1


async def test_annotating_leaves_the_spec_alone(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, lease(11)), tmp_path) as (server, client):
        store = KubeLeases(client, namespace="default", name="vip")
        outcome = await store.annotate(lease_view(LEASE), {"vipd.io/request": "{}", "old": None}, timeout_s=1)
    assert isinstance(outcome, Written)
    sent = server.requests[0]
    assert (sent.method, sent.headers["content-type"]) == ("PATCH", "application/merge-patch+json")
    assert sent.body == {
        "metadata": {"uid": "u1", "resourceVersion": "10", "annotations": {"vipd.io/request": "{}", "old": None}}
    }


async def test_all_leases_of_all_namespaces_are_listed(tmp_path: Path) -> None:
    body = {"kind": "LeaseList", "items": [lease(1), lease(2, uid="u2", name="other"), "garbage"]}
    async with serving(lambda r: r.answer(200, body), tmp_path) as (server, client):
        listed = await list_leases(client, namespace=None, timeout_s=1)
    assert not isinstance(listed, CallFailed)
    assert [view.uid for view in listed.leases] == ["u1", "u2", ""]
    assert server.requests[0].path == "/apis/coordination.k8s.io/v1/leases"
