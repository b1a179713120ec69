"""Labels are sent only when they change, Events only so many, and neither ever raises."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from client_faults import serving
from hypothesis import given
from hypothesis import strategies as st

from vipd.core.model import CallFailed, CallFailure
from vipd.kube.events import BURST, REFILL_S, EventSuppressed, EventType, EventWriter, EventWritten, LeaseRef
from vipd.kube.members import Labelled, MemberLabels, NodeRef, PodRef, Role, label_value

POD = PodRef("default", "web-0", "pod-uid")


async def test_a_role_is_patched_once(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, {}), tmp_path) as (server, client):
        labels = MemberLabels(client, me=POD, lease="vip", identity="me")
        roles = [Role.STANDBY, Role.STANDBY, Role.ACTIVE, Role.ACTIVE, None, None]
        outcomes = [await labels.show(role) for role in roles]
    assert outcomes == [Labelled(written=True), Labelled(written=False)] * 3
    sent = [r.body["metadata"] for r in server.requests]
    assert sent[0] == {
        "uid": "pod-uid",
        "labels": {"vipd.io/lease": "vip", "vipd.io/role": "standby"},
        "annotations": {"vipd.io/identity": "me"},
    }
    assert sent[1]["labels"] == {"vipd.io/lease": "vip", "vipd.io/role": "active"}
    assert sent[2]["labels"] == {"vipd.io/lease": None, "vipd.io/role": None}
    assert sent[2]["annotations"] == {"vipd.io/identity": None}
    assert {(r.method, r.path) for r in server.requests} == {("PATCH", "/api/v1/namespaces/default/pods/web-0")}
    assert server.requests[0].headers["content-type"] == "application/merge-patch+json"


async def test_without_a_pod_the_node_bears_the_role(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(200, {}), tmp_path) as (server, client):
        labels = MemberLabels(client, me=NodeRef("ip-10-0-1-11.ec2.internal"), lease="vip", identity="me")
        await labels.show(Role.ACTIVE)
    assert server.requests[0].path == "/api/v1/nodes/ip-10-0-1-11.ec2.internal"
    assert "uid" not in server.requests[0].body["metadata"]


async def test_after_a_failure_the_role_is_sent_again(tmp_path: Path) -> None:
    codes = [403, 409, 404, 200]
    async with serving(lambda r: r.answer(codes[len(server.requests) - 1], {}), tmp_path) as (server, client):
        labels = MemberLabels(client, me=POD, lease="vip", identity="me")
        outcomes = [await labels.show(Role.ACTIVE) for _ in range(5)]
    assert [o.failure if isinstance(o, CallFailed) else o for o in outcomes] == [
        CallFailure.FORBIDDEN,
        CallFailure.INVALID,
        CallFailure.INVALID,
        Labelled(written=True),
        Labelled(written=False),
    ]


async def test_a_silent_api_costs_no_more_than_the_time_given(tmp_path: Path) -> None:
    async with serving(lambda r: r.hang(), tmp_path) as (_, client):
        outcome = await MemberLabels(client, me=POD, lease="vip", identity="me").show(Role.ACTIVE, timeout_s=0.1)
        written = await EventWriter(client, about=POD, instance="web-0").write("Moved", "m", timeout_s=0.1)
    assert isinstance(outcome, CallFailed)
    assert isinstance(written, CallFailed)
    assert outcome.failure is written.failure is CallFailure.TIMEOUT


@given(st.text(max_size=300))
def test_every_lease_name_has_a_label_value(name: str) -> None:
    value = label_value(name)
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", value)


def test_label_values_keep_short_names_and_tell_long_ones_apart() -> None:
    assert label_value("vip-a.example") == "vip-a.example"
    assert label_value("a" * 100 + "1") != label_value("a" * 100 + "2")


async def test_an_event_about_the_pod_has_what_the_api_server_demands(tmp_path: Path) -> None:
    wall = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
    async with serving(lambda r: r.answer(201, {}), tmp_path) as (server, client):
        writer = EventWriter(client, about=POD, instance="web-0_pod-uid", wall=lambda: wall)
        outcome = await writer.write("TookOver", "x" * 5000, type_=EventType.WARNING)
    body = server.requests[0].body
    assert outcome == EventWritten(body["metadata"]["name"])
    assert server.requests[0].path == "/api/v1/namespaces/default/events"
    assert body["metadata"]["namespace"] == body["involvedObject"]["namespace"] == "default"
    assert body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "default",
        "name": "web-0",
        "uid": "pod-uid",
    }
    assert (body["reason"], body["type"], body["reportingComponent"]) == ("TookOver", "Warning", "vipd")
    assert body["firstTimestamp"] == body["lastTimestamp"] == "2026-03-01T12:00:00Z"
    assert len(body["message"].encode()) == 1024


async def test_an_event_about_the_lease_names_its_group(tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(201, {}), tmp_path) as (server, client):
        await EventWriter(client, about=LeaseRef("vips", "vip"), instance="n1").write("Released", "m")
    assert server.requests[0].body["involvedObject"] == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "namespace": "vips",
        "name": "vip",
    }


async def test_events_are_bounded_in_rate_and_what_was_left_out_is_counted(tmp_path: Path) -> None:
    now = 100.0
    async with serving(lambda r: r.answer(201, {}), tmp_path) as (server, client):
        writer = EventWriter(client, about=POD, instance="i", monotonic=lambda: now)
        outcomes = [await writer.write("Flapping", "m") for _ in range(BURST + 2)]
        assert outcomes[-2:] == [EventSuppressed(1), EventSuppressed(2)]
        assert len(server.requests) == BURST
        now += REFILL_S + 0.1
        assert isinstance(await writer.write("Flapping", "m"), EventWritten)
        assert await writer.write("Flapping", "m") == EventSuppressed(1)


@pytest.mark.parametrize("code", [403, 404, 422, 500])
async def test_an_event_that_is_refused_is_an_outcome(code: int, tmp_path: Path) -> None:
    async with serving(lambda r: r.answer(code, {}), tmp_path) as (_, client):
        outcome = await EventWriter(client, about=POD, instance="i").write("Moved", "m \ud800")
    assert isinstance(outcome, CallFailed)
