"""The Node object decides about candidacy: what it says is understood, watched, and survives an outage."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from client_faults import Request, serving
from hypothesis import given
from hypothesis import strategies as st

from vipd.agent.node_gate import NodeGate
from vipd.core.model import CallFailed, CallFailure
from vipd.kube.nodes import LEAVING_TAINTS, NodeWatch, why_unfit
from vipd.kube.services import service_cidrs

NAME = "ip-10-0-1-11.ec2.internal"


def node(*, ready: str = "True", version: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": NAME, "resourceVersion": str(version)},
        "spec": spec,
        "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (node(), ""),
        (node(unschedulable=True), "cordoned"),
        (node(unschedulable=False), ""),
        (node(ready="False"), "not Ready"),
        (node(ready="Unknown"), "not Ready"),
        (None, "no such Node"),
        ({}, "has not said yet"),
        (node(taints=[{"key": "dedicated", "effect": "NoSchedule"}]), ""),
        (node(taints=[{"key": ["x"]}, {"key": {}}, 7]), ""),
        *((node(taints=[{"key": key}]), key) for key in LEAVING_TAINTS),
        (node() | {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "deleted"),
        (
            node() | {"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}},
            "exclude-from-external-load-balancers",
        ),
    ],
)
def test_who_may_own_a_vip(found: dict[str, Any] | None, why: str) -> None:
    said = why_unfit(found)
    assert bool(said) == bool(why)
    assert why in said


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("Ready"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "status", "conditions", "taints", "labels", "type", "key", "unschedulable"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), anything))
def test_a_node_of_any_shape_is_fit_or_not_and_one_line(found: dict[str, Any]) -> None:
    assert "\n" not in why_unfit(found)


def watching(*events: dict[str, Any] | int) -> Any:
    """Answers reads with the first Node, and a watch with these events (a number: this HTTP status)."""
    streams: list[str] = []

    async def answer(request: Request) -> None:
        if "watch" not in request.query:
            assert request.path == f"/api/v1/nodes/{NAME}"
            await request.answer(200, node(version=7))
            return
        assert request.query["fieldSelector"] == f"metadata.name={NAME}"
        streams.append(request.query["resourceVersion"])
        if len(streams) > len(events):
            await request.hang()
        event = events[len(streams) - 1]
        if isinstance(event, int):
            await request.answer(event, {"kind": "Status", "reason": "Forbidden", "message": "no", "code": event})
            return
        await request.answer(200, json.dumps(event).encode() + b"\n")

    answer.streams = streams  # type: ignore[attr-defined]
    return answer


async def test_it_is_read_then_watched_from_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vipd.kube.nodes.PAUSE_S", 0.01)
    handler = watching({"type": "MODIFIED", "object": node(unschedulable=True, version=9)}, 410, 403)
    async with serving(handler, tmp_path) as (_, client), aclosing(NodeWatch(client, NAME).events()) as events:
        found = [await asyncio.wait_for(anext(events), 5) for _ in range(5)]
    assert [why_unfit(each) for each in found[:2]] == ["", "the node is cordoned"]  # type: ignore[arg-type]
    assert isinstance(found[4], CallFailed)
    assert found[4].failure is CallFailure.FORBIDDEN
    assert handler.streams[0] == "7"


async def gate_hears(handler: Any, tmp_path: Path, count: int) -> list[tuple[bool, str]]:
    heard: list[tuple[bool, str]] = []

    async def run(client: Any) -> None:
        with suppress(asyncio.CancelledError):
            await NodeGate(NodeWatch(client, NAME), NAME).run(lambda well, detail: heard.append((well, detail)))

    async with serving(handler, tmp_path) as (_, client):
        task = asyncio.create_task(run(client))
        for _ in range(500):
            if len(heard) >= count:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        await task
    return heard


async def test_the_gate_tells_each_change_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vipd.kube.nodes.PAUSE_S", 0.01)
    handler = watching({"type": "MODIFIED", "object": node(unschedulable=True, version=9)})
    heard = await gate_hears(handler, tmp_path, 2)
    assert heard[:2] == [(True, ""), (False, f"Node {NAME}: the node is cordoned")]


async def test_an_api_that_is_away_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vipd.kube.nodes.PAUSE_S", 0.01)
    reads: list[int] = []

    async def answer(request: Request) -> None:
        reads.append(1)
        if len(reads) == 1:
            await request.answer(200, node())
        else:
            await request.answer(500, {"kind": "Status", "message": "etcd is away", "code": 500})

    heard = await gate_hears(answer, tmp_path, 5)
    assert heard == [(True, "")]
    assert len(reads) > 3


async def test_a_missing_right_is_told_with_the_rule(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    handler = lambda r: r.answer(403, {"kind": "Status", "message": "nodes is forbidden", "code": 403})  # noqa: E731
    assert await gate_hears(handler, tmp_path, 0) == []
    assert "--no-node-gate" in caplog.text
    assert 'resources: ["nodes"], verbs: ["get", "watch"]' in caplog.text


async def test_the_service_cidrs_of_a_cluster(tmp_path: Path) -> None:
    body = {"items": [{"spec": {"cidrs": ["172.20.0.0/16", "fd00:ec2::/108"]}}, {"spec": None}, 7]}
    async with serving(lambda r: r.answer(200, body), tmp_path) as (server, client):
        found = await service_cidrs(client)
    assert [str(network) for network in found] == ["172.20.0.0/16", "fd00:ec2::/108"]
    assert server.requests[0].path == "/apis/networking.k8s.io/v1/servicecidrs"


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_a_cluster_that_does_not_tell_has_none(tmp_path: Path, status: int) -> None:
    async with serving(lambda r: r.answer(status, {"kind": "Status"}), tmp_path) as (_, client):
        assert await service_cidrs(client) == ()
