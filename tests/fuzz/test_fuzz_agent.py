"""The real agent in the simulator while its edges lie to it: it goes on, keeps every promise, and finds back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from fuzzing import fuzz
from hostile import annotation, leases, transitions
from hypothesis import given
from hypothesis import strategies as st
from sim.runner import quietly
from sim.schedule import scripted
from sim.world import Result, World

from vipd.core import messages as m
from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE
from vipd.core.model import (
    AddressClaim,
    Assigned,
    AssignVerdict,
    CallFailed,
    CallFailure,
    Fence,
    LeaseAbsent,
    LeaseView,
    Mapped,
)
from vipd.kube.codec import lease_view

ADDRESSES = st.sampled_from([ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100"), ip_address("192.0.2.1")])
STRANGERS = st.sampled_from(["x", "A", "a ", "client-go"])
CALM_S = 5.0
"""Until then everybody has started; hostility begins."""
HOSTILE_S = 30.0

failures = st.builds(CallFailed, st.sampled_from(CallFailure), st.text(max_size=20))


def _known(seen: dict[Any, Mapped]) -> m.MappingSeen:
    return m.MappingSeen(seen, asked_at=0.0)


events = st.one_of(
    # Versions from far behind to far ahead, holders and tenures of all kinds; only the uid is another Lease's.
    st.builds(m.LeaseWatched, leases().map(lease_view).filter(lambda view: bool(view.resource_version))),
    st.builds(m.LeaseWatched, leases().map(lambda raw: replace(lease_view(raw), uid="u1", resource_version="999999"))),
    st.builds(m.LeaseWatched, st.just(LeaseAbsent()) | failures),
    st.builds(
        m.ClaimSeen,
        st.builds(
            AddressClaim, address=ADDRESSES, interface=st.sampled_from(["net1", "", "x"]), mac=st.text(max_size=20)
        ),
    ),
    st.builds(m.AddressLost, ADDRESSES),
    st.dictionaries(ADDRESSES, st.sampled_from([Mapped.UNKNOWN, Mapped.MINE]), max_size=3).map(_known),
    st.builds(
        m.EniAnswered,
        key=st.tuples(st.sampled_from(["", "u1", "uid"]), st.integers(-1, 5)),
        results=st.lists(st.builds(Assigned, ADDRESSES, st.sampled_from(AssignVerdict)), max_size=3).map(tuple),
        sent_at=st.sampled_from([0.0, -1.0, 1e9]),
    ),
    st.builds(m.Probed, st.just(True)),
    st.just(m.ClockJumped()),
    st.just(m.Woke()),
)
notes = st.dictionaries(
    st.sampled_from([TENURE, OFFER, REQUEST, SHARED, "example.com/other"]),
    annotation(STRANGERS, transitions).filter(lambda text: isinstance(text, str)) | st.none(),
    min_size=1,
    max_size=4,
)
moments = st.floats(CALM_S, CALM_S + HOSTILE_S)


def _simulate(
    fence: Fence, seed: int, lies: list[tuple[float, int, m.Event]], edits: list[tuple[float, Any]]
) -> Result:
    enis = (1, 2) if fence is Fence.ENI else (0, 0)
    world = World(replace(scripted(enis=enis, seed=seed), fence=fence, length_s=CALM_S + HOSTILE_S + 5.0), telling=True)

    def lie(index: int, event: m.Event) -> None:
        process = world.members[index].running
        if process is not None:
            world.say(process.member.name, f"is told {type(event).__name__}")
            process.agent._events.put_nowait(event)

    def edit(changes: dict[str, str | None]) -> None:
        view = world.server.view
        if isinstance(view, LeaseView):
            world.server.annotate(view, changes, author=None)

    for at, index, event in lies:
        world.timeline.at(at, lie, index, event)
    for at, changes in edits:
        world.timeline.at(at, edit, changes)
    with quietly():
        return world.run()


@fuzz(50)
@given(
    fence=st.sampled_from(list(Fence)),
    seed=st.integers(0, 99),
    lies=st.lists(st.tuples(moments, st.integers(0, 1), events), min_size=1, max_size=25),
    edits=st.lists(st.tuples(moments, notes), max_size=5),
)
def test_lies_break_no_promise_and_leave_one_owner(
    fence: Fence, seed: int, lies: list[tuple[float, int, m.Event]], edits: list[tuple[float, Any]]
) -> None:
    """The simulator's invariants hold at each step: one loud member, EC2 written by the holder alone and in its right,
    one bearer under fence lease, no release of another's Lease, no error out of the agent; and one owner at the end."""
    result = _simulate(fence, seed, lies, edits)
    assert result.violation is None, "\n".join([*result.story[-60:], str(result.violation)])


@fuzz(40)
@given(
    fence=st.sampled_from(list(Fence)),
    lies=st.lists(
        st.tuples(moments, st.integers(0, 1), events.filter(lambda e: isinstance(e, m.ClaimSeen | m.EniAnswered))),
        max_size=40,
    ),
    edits=st.lists(st.tuples(moments, notes), max_size=8),
)
def test_claims_foreign_answers_and_void_notes_move_nobody(
    fence: Fence, lies: list[tuple[float, int, m.Event]], edits: list[tuple[float, Any]]
) -> None:
    """Rule: the Lease's spec says who holds; frames of others, answers to others' tenures and void words do not."""
    result = _simulate(fence, 1, lies, edits)
    assert result.violation is None, "\n".join([*result.story[-60:], str(result.violation)])
    changes = [line for line in result.story if "->" in line and "EC2" not in line and "lease" not in line.split()[1]]
    assert sum("-> active" in line for line in changes) == 1, "\n".join(changes)


def test_the_hostility_reaches_the_agents() -> None:
    """So that the tests above cannot pass by silence: another holder, told by the watch, ends a tenure."""
    raw = {"metadata": {"uid": "u1", "resourceVersion": "999999"}, "spec": {"holderIdentity": "x"}}
    lies: list[tuple[float, int, m.Event]] = [(10.0, i, m.LeaseWatched(lease_view(raw))) for i in (0, 1)]
    result = _simulate(Fence.ENI, 1, lies, [])
    assert result.violation is None
    assert sum("-> active" in line for line in result.story) >= 2, "\n".join(result.story)


@pytest.mark.parametrize("fence", list(Fence))
def test_a_storm_of_claims_ends_no_tenure(fence: Fence) -> None:
    claim = AddressClaim(ip_address("10.0.1.100"), "net1", "02:00:00:00:09:09")
    storm: list[tuple[float, int, m.Event]] = [(6.0 + n / 50, n % 2, m.ClaimSeen(claim)) for n in range(1000)]
    result = _simulate(fence, 3, storm, [])
    assert result.violation is None
    assert sum("-> active" in line for line in result.story) == 1
