"""The Lease against an API server that keeps it: compare-and-swap, deletion, watch, labels and Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from vipd.core.annotations import TENURE
from vipd.core.model import Conflict, Fence, LeaseAbsent, LeaseDraft, LeaseView, Tenure, WriteOutcome, Written
from vipd.kube.api import Api
from vipd.kube.codec import render_tenure
from vipd.kube.connect import connect
from vipd.kube.events import EventWriter, EventWritten, LeaseRef
from vipd.kube.leases import KubeLeases, LeaseList, list_leases
from vipd.kube.preflight import preflight

PATH = "/apis/coordination.k8s.io/v1/namespaces/default/leases/vip"


def draft(holder: str, transitions: int, **annotations: str | None) -> LeaseDraft:
    return LeaseDraft(
        holder=holder, duration_s=3, transitions=transitions, acquire_time=None, annotations=dict(annotations)
    )


def written(outcome: WriteOutcome) -> LeaseView:
    assert isinstance(outcome, Written), outcome
    return outcome.view


@pytest.fixture
async def client(either: Any, tmp_path: Path) -> AsyncIterator[Any]:
    client = await connect(kubeconfig=str(either.kubeconfig(tmp_path / "kubeconfig")))
    yield client
    await client.close()


@pytest.fixture
def store(client: Any) -> KubeLeases:
    return KubeLeases(client, namespace="default", name="vip")


async def test_create_read_replace_release(store: KubeLeases) -> None:
    assert await store.read(timeout_s=1) == LeaseAbsent()
    tenure = Tenure(holder="a", transitions=0, incarnation="u", eni="eni-1", fence=Fence.ENI, moved=True)
    created = written(await store.create(draft("a", 0, **{TENURE: render_tenure(tenure)}), timeout_s=1))
    assert (created.holder, created.duration_s, created.tenure) == ("a", 3, tenure)
    assert created.acquire_time == created.renew_time
    assert await store.read(timeout_s=1) == created
    renewal = LeaseDraft(holder="a", duration_s=3, transitions=0, acquire_time=created.acquire_time)
    renewed = written(await store.replace(created, renewal, timeout_s=1))
    assert renewed.newer_than(created)
    assert renewed.acquire_time == created.acquire_time
    assert renewed.tenure == tenure
    released = written(
        await store.replace(renewed, LeaseDraft(holder="", duration_s=1, transitions=0, acquire_time=None), timeout_s=1)
    )
    assert (released.holder, released.duration_s, released.transitions, released.tenure) == ("", 1, 0, None)


async def test_a_second_create_is_a_conflict(store: KubeLeases) -> None:
    written(await store.create(draft("a", 0), timeout_s=1))
    assert isinstance(await store.create(draft("b", 0), timeout_s=1), Conflict)


async def test_of_many_candidates_on_one_version_exactly_one_wins(store: KubeLeases) -> None:
    base = written(await store.create(draft("", 0), timeout_s=1))
    outcomes = await asyncio.gather(*(store.replace(base, draft(f"c{n}", 1), timeout_s=2) for n in range(12)))
    winners = [o.view.holder for o in outcomes if isinstance(o, Written)]
    assert len(winners) == 1
    assert sum(isinstance(o, Conflict) for o in outcomes) == 11
    now = await store.read(timeout_s=1)
    assert isinstance(now, LeaseView)
    assert now.holder == winners[0]


async def test_a_stale_version_is_a_conflict_and_changes_nothing(store: KubeLeases) -> None:
    first = written(await store.create(draft("a", 0), timeout_s=1))
    second = written(await store.replace(first, draft("b", 1), timeout_s=1))
    assert isinstance(await store.replace(first, draft("c", 1), timeout_s=1), Conflict)
    assert await store.read(timeout_s=1) == second


async def test_a_lease_deleted_and_created_anew_is_not_overwritten(store: KubeLeases, client: Any) -> None:
    first = written(await store.create(draft("a", 0), timeout_s=1))
    await Api(client).call("DELETE", PATH, timeout_s=1)
    second = written(await store.create(draft("b", 0), timeout_s=1))
    forged = LeaseView(**{**{f: getattr(second, f) for f in LeaseView.__slots__}, "uid": first.uid})
    assert isinstance(await store.replace(first, draft("a", 0), timeout_s=1), Conflict)
    assert isinstance(await store.replace(forged, draft("a", 0), timeout_s=1), Conflict)
    assert await store.read(timeout_s=1) == second


async def test_a_write_to_a_deleted_lease_does_not_create_it(store: KubeLeases, client: Any) -> None:
    first = written(await store.create(draft("a", 0), timeout_s=1))
    await Api(client).call("DELETE", PATH, timeout_s=1)
    assert isinstance(await store.replace(first, draft("a", 0), timeout_s=1), Conflict | LeaseAbsent)
    assert await store.read(timeout_s=1) == LeaseAbsent()


async def test_a_whole_second_of_the_wall_clock_is_accepted(client: Any) -> None:
    """The client's own serialisation drops the fraction here, and the API server answers 400."""
    store = KubeLeases(client, namespace="default", name="vip", wall=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    view = written(await store.create(draft("a", 0), timeout_s=1))
    assert view.raw["spec"]["renewTime"] == "2026-03-01T12:00:00.000000Z"


async def test_foreign_metadata_survives_a_take(store: KubeLeases, client: Any) -> None:
    view = written(await store.create(draft("a", 0), timeout_s=1))
    foreign = {"labels": {"team": "net"}, "annotations": {"note": "keep"}}
    patch = "application/merge-patch+json"
    await Api(client).call("PATCH", PATH, timeout_s=1, body={"metadata": foreign}, content_type=patch)
    view = await store.read(timeout_s=1)  # type: ignore[assignment]
    taken = written(await store.replace(view, draft("b", 1, x="1"), timeout_s=1))
    assert taken.raw["metadata"]["labels"] == {"team": "net"}
    assert taken.raw["metadata"]["annotations"] == {"note": "keep", "x": "1"}


async def test_annotating_is_no_sign_of_life_and_is_compared_and_swapped(store: KubeLeases) -> None:
    view = written(await store.create(draft("a", 0), timeout_s=1))
    asked = written(await store.annotate(view, {"vipd.io/request": "{}"}, timeout_s=1))
    assert asked.content == view.content
    assert asked.newer_than(view)
    assert isinstance(await store.annotate(view, {"vipd.io/request": None}, timeout_s=1), Conflict)


async def test_a_watch_sees_each_change_of_this_lease_alone(store: KubeLeases, client: Any) -> None:
    other = KubeLeases(client, namespace="default", name="other")
    async with aclosing(store.watch()) as events:

        async def following() -> Any:
            return await asyncio.wait_for(anext(events), 2)

        assert await following() == LeaseAbsent()
        coming = asyncio.create_task(following())
        await asyncio.sleep(0.1)
        written(await other.create(draft("x", 0), timeout_s=1))
        first = written(await store.create(draft("a", 0), timeout_s=1))
        assert await coming == first
        second = written(await store.replace(first, draft("b", 1), timeout_s=1))
        assert await following() == second
        store.rewatch()
        assert await following() == second
        await Api(client).call("DELETE", PATH, timeout_s=1)
        assert await following() == LeaseAbsent()
        again = written(await store.create(draft("c", 0), timeout_s=1))
        assert await following() == again


async def test_leases_are_listed(store: KubeLeases, client: Any) -> None:
    written(await store.create(draft("a", 0), timeout_s=1))
    listed = await list_leases(client, namespace="default", timeout_s=1)
    assert isinstance(listed, LeaseList)
    assert [view.holder for view in listed.leases] == ["a"]
    assert listed.version == listed.leases[0].resource_version
    others = await list_leases(client, namespace=None, timeout_s=1, fields="metadata.namespace!=default")
    assert isinstance(others, LeaseList)
    # A real kube-apiserver keeps one of its own.
    assert {view.raw["metadata"]["namespace"] for view in others.leases} <= {"kube-system"}


async def test_preflight_finds_nothing_wrong(client: Any) -> None:
    found = await preflight(client, namespace="default", name="vip")
    assert found.problems == ()
    assert found.lease == LeaseAbsent()


async def test_an_event_about_the_lease_is_taken(client: Any) -> None:
    outcome = await EventWriter(client, about=LeaseRef("default", "vip"), instance="a").write("TookOver", "it moved")
    assert isinstance(outcome, EventWritten)
