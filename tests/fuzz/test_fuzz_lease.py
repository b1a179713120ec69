"""A Lease that somebody edited by hand: it is read as a LeaseView or refused, and moves nobody against the rules."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fuzzing import fuzz
from hostile import annotation, durations, json_values, leases, names, nested, texts, times, transitions
from hypothesis import given
from hypothesis import strategies as st
from world import Member, World, settled

from vipd.core import messages as m
from vipd.core import timing
from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE
from vipd.core.election import decide, initial
from vipd.core.model import Fence, LeaseDraft, LeaseView, Written
from vipd.core.reasons import Phase
from vipd.core.settings import ElectionConfig
from vipd.kube.codec import lease_view, replace_body

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DRAFT = LeaseDraft(holder="b", duration_s=3, transitions=4, acquire_time=None, annotations={TENURE: "{}", OFFER: None})
OURS = frozenset({"holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions"})


# --------------------------------------------------------------------------------------- reading and writing


@fuzz(120)
@given(leases())
def test_any_json_is_read_and_what_was_read_can_be_written_again(raw: Any) -> None:
    view = lease_view(raw)
    assert 0 <= view.duration_s < 2**31
    assert 0 <= view.transitions < 2**31
    for text in (view.uid, view.resource_version, view.holder, *_texts_of(view)):
        text.encode()
    assert view.newer_than(view) in (True, False)
    draft = replace(DRAFT, acquire_time=view.acquire_time)
    body = replace_body(view, namespace="default", name="vip", draft=draft, renew_time=NOW)
    assert lease_view(json.loads(json.dumps(body))).holder == "b"


def _texts_of(view: LeaseView) -> list[str]:
    found = [view.shared_eni]
    if view.tenure:
        found += [view.tenure.incarnation, view.tenure.eni, view.tenure.why, *view.tenure.vips]
    if view.former:
        found += [view.former.holder, view.former.incarnation, view.former.eni, view.former.why, *view.former.vips]
    if view.offer:
        found += [view.offer.id, view.offer.to, view.offer.why]
    if view.request:
        found += [view.request.id, view.request.by, view.request.to]
    return found


@pytest.mark.parametrize("key", ["h", "inc", "why"])
def test_a_released_lease_tells_of_nobody_whose_name_is_no_text(key: str) -> None:
    told = {"h": "a", "n": 3, "inc": "x", "eni": "", "fence": "eni", "prio": 1, "interval": 1, "moved": True}
    raw = {
        "metadata": {"annotations": {TENURE: json.dumps({**told, key: "a\ud800"})}},
        "spec": {"leaseTransitions": 3},
    }
    for text in _texts_of(lease_view(raw)):
        text.encode()


@pytest.mark.parametrize("version", ["²", "9" * 5000, "٣", "", "1 2", "1\n"])
def test_a_version_that_cannot_be_compared_is_none(version: str) -> None:
    view = lease_view({"metadata": {"uid": "u", "resourceVersion": version}})
    assert view.resource_version == ""
    assert lease_view({"metadata": {"uid": "u", "resourceVersion": "11"}}).newer_than(view)


@pytest.mark.parametrize("depth", [64, 300, 990])
def test_what_nests_too_deep_to_be_written_again_is_no_lease(depth: int) -> None:
    raw = {"metadata": {"uid": "u", "resourceVersion": "1", "managedFields": [nested(depth)]}, "spec": {}}
    view = lease_view(raw)
    assert (view.uid, view.resource_version, view.raw) == ("", "", {})


kept = st.dictionaries(texts, json_values, max_size=4)


@fuzz(120)
@given(labels=kept, notes=kept, more_metadata=kept, more_spec=kept, offer=annotation(names, transitions))
def test_nothing_foreign_is_lost_by_an_update(
    labels: dict, notes: dict, more_metadata: dict, more_spec: dict, offer: Any
) -> None:
    notes = {**notes, OFFER: offer}
    metadata = {**more_metadata, "uid": "u", "resourceVersion": "7", "labels": labels, "annotations": notes}
    raw = {
        "metadata": {**metadata, "name": "vip", "namespace": "default"},
        "spec": {**more_spec, "holderIdentity": "a"},
    }
    before = copy.deepcopy(raw)
    body = replace_body(lease_view(raw), namespace="default", name="vip", draft=DRAFT, renew_time=NOW)
    assert repr(raw) == repr(before), "the reading itself was changed"
    told = body["metadata"]["annotations"]
    assert told.pop(TENURE) == "{}"
    assert OFFER not in told
    del before["metadata"]["annotations"][OFFER]
    before["metadata"]["annotations"].pop(TENURE, None)
    assert repr(_sorted(body["metadata"])) == repr(_sorted(before["metadata"]))
    left = {key: value for key, value in body["spec"].items() if key not in OURS}
    assert repr(_sorted(left)) == repr(_sorted({k: v for k, v in before["spec"].items() if k not in OURS}))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _sorted(each)) for key, each in sorted(value.items())]
    return [_sorted(each) for each in value] if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------- the core alone


@fuzz(120)
@given(st.lists(st.tuples(st.sampled_from(["watched", "read", "wrote"]), leases(), st.floats(0, 4)), max_size=12))
def test_no_sequence_of_readings_breaks_the_core(readings: list[tuple[str, Any, float]]) -> None:
    config = ElectionConfig(identity="a", incarnation="i", addresses=(), eni="eni-a", fence=Fence.ENI)
    now = 1000.0
    state, _ = decide(initial(config), m.Begin(left_over=frozenset(), link_up=True), now)
    for how, raw, pause in readings:
        view, sent_at, now = lease_view(raw), now, now + pause
        event: m.Event = m.LeaseWatched(view)
        if how == "read":
            event = m.LeaseRead(view, sent_at)
        elif how == "wrote" and state.lease.writing is not None:
            event = m.LeaseWrote(state.lease.writing, Written(view), sent_at)
        state, _ = decide(state, event, now)
        assert state.wake_at is None or state.wake_at > now


# ------------------------------------------------------------------------------------- by hand, in a world

strangers = st.sampled_from(["x", "client-go_1", "A", " a", "a\u200b"])
OUT_OF_ORDER = 0.02
"""Pause in which every member has heard of a write: then what was written last is what they count by."""


class Hand:
    """Somebody with ``kubectl edit``: writes what he likes, as the API would keep it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.displaced: dict[str, float] = {}

    def edit(self, spec: dict[str, Any], notes: dict[str, Any]) -> None:
        world = self.world
        view = world.lease.view
        assert view is not None
        old = {
            "holderIdentity": view.holder,
            "leaseDurationSeconds": view.duration_s,
            "leaseTransitions": view.transitions,
            "acquireTime": _text(view.acquire_time),
            "renewTime": _text(view.renew_time),
        }
        raw_notes = {**view.raw, **notes}
        metadata = {"uid": view.uid, "resourceVersion": "1", "annotations": raw_notes}
        read = lease_view({"metadata": metadata, "spec": {**old, **spec}})
        if read.holder != view.holder or read.offer is not None:
            self.displaced[view.holder] = world.now
        world.lease.put(world.now, replace(read, raw=raw_notes))
        world._watchers()


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z") if moment else None


def rightful(world: World, hand: Hand) -> None:
    """At every step: one loud member, and EC2 is written by the holder alone.

    But for the milliseconds in which a holder has not heard yet that a hand took the Lease from it, or gave it away in
    its name: whoever may write the Lease can do that, and another may take it at once.
    """
    loud = [name for name in world.loud() if world.now - hand.displaced.get(name, -1.0) > OUT_OF_ORDER]
    assert len(loud) <= 1, loud
    for at, name in world.writers:
        holder = next((v.holder for t, v in reversed(world.lease.history) if v is not None and t <= at), None)
        robbed = hand.displaced.get(name, -1.0)
        assert holder == name or at - robbed <= OUT_OF_ORDER, f"{name} wrote EC2 while {holder} held the Lease"
    world.writers.clear()


def takes_in_time(world: World, own_duration_s: int) -> None:
    """Rule: a candidate takes a held Lease only when the holder's own duration is over since it saw this content.

    A duration that is absent or absurd counts as the candidate's own; for one content the end never moves earlier;
    an offer, or nobody as the holder, lets it take at once.
    """
    seen: tuple[Any, ...] | None = None
    since, longest = 0.0, 0.0
    before: LeaseView | None = None
    for at, view in world.lease.history:
        if view is None:
            continue
        taken = before is not None and view.holder in world.members and view.holder != before.holder
        ours = view.tenure is not None and view.tenure.incarnation.startswith(f"{view.holder}-")
        if before is not None and taken and ours and before.holder:
            offered = before.offer is not None and before.offer.to in ("", view.holder)
            early = since + longest - timing.TAKE_LEAD_S
            assert offered or at >= early - 1e-6, f"{view.holder} took from {before.holder!r} {early - at:.3f} s early"
        duration = float(view.duration_s or own_duration_s)
        if seen != view.content:
            seen, since, longest = view.content, at, duration
        longest, before = max(longest, duration), view


edits = st.tuples(
    st.fixed_dictionaries(
        {},
        optional={
            "holderIdentity": strangers | st.sampled_from(["a", "b", ""]) | json_values,
            "leaseDurationSeconds": durations,
            "leaseTransitions": transitions | json_values,
            "acquireTime": times,
            "renewTime": times,
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            key: annotation(st.sampled_from(["a", "b", "x"]), st.integers(0, 4))
            for key in (TENURE, OFFER, REQUEST, SHARED)
        },
    ),
    st.floats(OUT_OF_ORDER, 6.0),
)


@fuzz(40)
@given(st.sampled_from(list(Fence)), st.lists(edits, min_size=1, max_size=6), st.integers(0, 99))
def test_edits_by_hand_make_nobody_take_early_and_never_two_act(fence: Fence, script: list[Any], seed: int) -> None:
    world = settled(seed=seed, fence=fence, duration_s=3, interval_s=1.0)
    hand = Hand(world)
    world.on_step.append(lambda: rightful(world, hand))
    for spec, notes, pause in script:
        hand.edit(spec, notes)
        world.run(pause)
    takes_in_time(world, 3)
    # Let go by hand, it has one owner again, whatever it went through.
    hand.edit(
        {"holderIdentity": "", "leaseTransitions": 7, "leaseDurationSeconds": 1, "renewTime": None}, dict.fromkeys(OURS)
    )
    world.run(60)
    takes_in_time(world, 3)
    (owner,) = world.active()
    assert world.lease.view is not None
    assert world.lease.view.holder == owner
    assert world.bears(world.members[owner])


harmless = st.tuples(
    st.fixed_dictionaries({}, optional={"leaseDurationSeconds": durations, "acquireTime": times, "renewTime": times}),
    st.fixed_dictionaries(
        {"example.com/other": texts},
        # Words to the holder, but of another tenure, or no words at all.
        optional={key: annotation(strangers, transitions) | json_values for key in (OFFER, REQUEST, SHARED)},
    ),
    st.floats(OUT_OF_ORDER, 3.0),
)


@fuzz(40)
@given(st.sampled_from(list(Fence)), st.lists(harmless, min_size=1, max_size=6), st.integers(0, 99))
def test_a_rightful_holder_is_not_shaken_by_absurd_fields(fence: Fence, script: list[Any], seed: int) -> None:
    """Rule: a write that names the holder, its transitions and its tenure leaves its right, whatever else it says."""
    world = settled(seed=seed, fence=fence, duration_s=3, interval_s=1.0)
    (name,) = world.active()
    holder, hand, took = world.members[name], Hand(world), len(world.members[name].changes)
    world.on_step.append(lambda: _holds(world, holder))
    for spec, notes, pause in script:
        hand.edit(spec, notes)
        world.run(pause)
    world.run(10)
    assert len(holder.changes) == took
    assert world.lease.view is not None
    assert world.lease.view.duration_s == 3, "its next renewal puts right what it writes itself"


def _holds(world: World, holder: Member) -> None:
    assert holder.state.phase is Phase.ACTIVE, holder.changes[-1]
    assert world.bears(holder), "the holder lost the address"
    assert world.active() == [holder.name]


def test_an_absurd_duration_of_a_stranger_is_respected_and_a_missing_one_counts_as_ones_own() -> None:
    for told, least_s in ((2**31 - 1, 500.0), (2**31, 2.9), (0, 2.9), ("9", 2.9)):
        world = settled(duration_s=3, interval_s=1.0)
        Hand(world).edit({"holderIdentity": "x", "leaseDurationSeconds": told, "leaseTransitions": 9}, {})
        began = world.now
        world.run(500)
        takes_in_time(world, 3)
        took = [at for at, view in world.lease.history if at > began and view is not None and view.holder != "x"]
        assert (took[0] if took else began + 500) - began >= least_s
