"""Following, rule by rule: which EC2 call is due for which address."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from vipd.core.follow import decide
from vipd.core.following import (
    Answered,
    Ask,
    Assign,
    Borne,
    FollowConfig,
    FollowEffect,
    FollowEvent,
    FollowState,
    Seen,
    Standing,
    Target,
    Told,
    Unassign,
    Unassigned,
    Woke,
)
from vipd.core.model import Address, Assigned, AssignVerdict, Mapped

A, B, C = (ip_address(f"10.0.1.{n}") for n in (80, 81, 82))
ENI, OTHER = "eni-a", "eni-b"
NET1 = Target("net1", ENI)
BATCH_S = FollowConfig().batch_s


@dataclass
class Scene:
    """A follower whose clock the test turns."""

    config: FollowConfig = field(default_factory=FollowConfig)
    now: float = 1000.0
    state: FollowState = field(init=False)
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = FollowState(self.config)

    def on(self, event: FollowEvent) -> list[FollowEffect]:
        self.state, effects = decide(self.state, event, self.now)
        self.told += [e for e in effects if isinstance(e, Told)]
        return [e for e in effects if not isinstance(e, Told)]

    def bears(self, *addresses: Address, target: Target = NET1, known: bool = False) -> list[FollowEffect]:
        return self.on(Borne(dict.fromkeys(addresses, target), known=known))

    def wait(self, seconds: float) -> list[FollowEffect]:
        """Let time pass, waking whenever that was asked for; what was to be done meanwhile."""
        end, effects = self.now + seconds, []
        while self.state.wake_at is not None and self.state.wake_at <= end:
            self.now = self.state.wake_at
            effects += self.on(Woke())
        self.now = end
        return effects

    def answer(
        self, *addresses: Address, verdict: AssignVerdict = AssignVerdict.OK, eni: str = ENI
    ) -> list[FollowEffect]:
        return self.on(Answered(eni, [Assigned(a, verdict, "Code", "why") for a in addresses], share=0.5))

    def imds(
        self, *, mine: tuple[Address, ...] = (), gone: tuple[Address, ...] = (), unknown: tuple[Address, ...] = ()
    ) -> list[FollowEffect]:
        mapping = dict.fromkeys(mine, Mapped.MINE) | dict.fromkeys(gone, Mapped.GONE)
        mapping |= dict.fromkeys(unknown, Mapped.UNKNOWN)
        return self.on(Seen(ENI, mapping, asked_at=self.now))

    def confirmed(self, *addresses: Address) -> None:
        """They came, were assigned and confirmed."""
        self.bears(*addresses)
        self.wait(BATCH_S)
        self.answer(*addresses)
        self.now += 0.01
        self.imds(mine=addresses)
        assert all(self.standing(a) is Standing.CONFIRMED for a in addresses)

    def standing(self, address: Address) -> Standing | None:
        followed = self.state.followed.get(address)
        return followed.standing if followed else None


def assigns(effects: list[FollowEffect]) -> list[tuple[Address, ...]]:
    return [e.addresses for e in effects if isinstance(e, Assign)]


def test_what_comes_together_is_one_call() -> None:
    scene = Scene()
    assert scene.bears(A) == []
    assert scene.bears(A, B) == []
    assert assigns(scene.wait(2 * BATCH_S)) == [(A, B)]


def test_what_comes_is_assigned_although_imds_shows_it_here() -> None:
    """Right after a move IMDS may still show the past."""
    scene = Scene()
    scene.bears(A)
    scene.imds(mine=(A,))
    assert assigns(scene.wait(BATCH_S)) == [(A,)]


def test_what_was_there_at_the_start_and_is_mapped_here_costs_no_call() -> None:
    scene = Scene()
    assert scene.bears(A, known=True) == [Ask(ENI, (A,))]
    scene.imds(mine=(A,))
    assert scene.standing(A) is Standing.CONFIRMED
    assert assigns(scene.wait(3600)) == []


def test_what_was_there_at_the_start_and_is_not_mapped_here_is_assigned() -> None:
    scene = Scene()
    scene.bears(A, B, known=True)
    assert assigns(scene.imds(mine=(B,), gone=(A,))) == [(A,)]


def test_a_silent_imds_keeps_nobody_from_being_assigned() -> None:
    scene = Scene()
    scene.bears(A, known=True)
    found = []
    for _ in range(10):
        found += assigns(scene.imds(unknown=(A,)))
        found += assigns(scene.wait(0.6))
    assert found == [(A,)]


def test_init_assigns_what_imds_already_shows() -> None:
    scene = Scene(FollowConfig(always=True))
    scene.bears(A, known=True)
    assert assigns(scene.wait(BATCH_S)) == [(A,)]


def test_one_call_at_a_time_for_an_eni_and_the_rest_goes_with_the_next() -> None:
    scene = Scene()
    scene.bears(A)
    scene.wait(BATCH_S)
    scene.bears(A, B)
    assert assigns(scene.wait(1)) == []
    assert assigns(scene.answer(A)) == [(B,)]


def test_enis_do_not_wait_for_each_other() -> None:
    scene = Scene()
    scene.on(Borne({A: NET1, B: Target("net2", OTHER)}))
    effects = scene.wait(BATCH_S)
    assert {(e.eni, e.addresses) for e in effects if isinstance(e, Assign)} == {(ENI, (A,)), (OTHER, (B,))}


def test_what_leaves_and_comes_back_is_assigned_again() -> None:
    scene = Scene()
    scene.confirmed(A)
    scene.bears()
    assert scene.standing(A) is None
    scene.bears(A)
    assert assigns(scene.wait(BATCH_S)) == [(A,)]


def test_what_comes_back_while_its_call_is_under_way_gets_a_call_of_its_own() -> None:
    scene = Scene()
    scene.bears(A)
    scene.wait(BATCH_S)
    scene.bears()
    scene.bears(A)
    assert assigns(scene.wait(1)) == []
    assert assigns(scene.answer(A)) == [(A,)]
    assert scene.standing(A) is Standing.ASSIGNING


def test_it_is_confirmed_by_imds_alone() -> None:
    scene = Scene()
    scene.bears(A)
    scene.wait(BATCH_S)
    effects = scene.answer(A)
    assert scene.standing(A) is Standing.ASSIGNED
    assert Ask(ENI, (A,)) in effects
    scene.now += 0.1
    scene.imds(gone=(A,))
    assert scene.standing(A) is Standing.ASSIGNED
    scene.wait(0.5)
    scene.imds(mine=(A,))
    assert scene.standing(A) is Standing.CONFIRMED


def test_imds_is_asked_often_until_it_is_confirmed_and_seldom_then() -> None:
    scene = Scene()
    scene.confirmed(A)
    asked_at = []
    for _ in range(5):
        assert scene.state.wake_at is not None
        asked_at.append(scene.state.wake_at)
        scene.now = scene.state.wake_at
        assert scene.on(Woke()) == [Ask(ENI, (A,))]
        scene.imds(mine=(A,))
    assert [b - a for a, b in itertools.pairwise(asked_at)] == pytest.approx([10.0] * 4)


def test_failures_have_each_a_pace_of_their_own() -> None:
    paces = {}
    for verdict in (AssignVerdict.RETRY, AssignVerdict.THROTTLED, AssignVerdict.NO_ROOM, AssignVerdict.NEVER):
        scene = Scene()
        scene.bears(A)
        scene.wait(BATCH_S)
        pauses = []
        for _ in range(20):
            scene.answer(A, verdict=verdict)
            failed_at = scene.now
            while not assigns(scene.wait(0.1)):
                pass
            pauses.append(scene.now - failed_at)
        assert pauses == sorted(pauses) or max(pauses) - pauses[-1] < 0.2, verdict
        paces[verdict] = (pauses[0], pauses[-1])
    assert paces[AssignVerdict.RETRY][0] < paces[AssignVerdict.THROTTLED][0] < paces[AssignVerdict.NO_ROOM][0]
    assert paces[AssignVerdict.NO_ROOM][1] > 50
    assert paces[AssignVerdict.NEVER][1] > 500


def test_a_bad_address_holds_up_no_other() -> None:
    scene = Scene()
    scene.bears(A, B)
    scene.wait(BATCH_S)
    scene.on(Answered(ENI, [Assigned(A, AssignVerdict.OK), Assigned(B, AssignVerdict.NEVER, "Invalid", "no")], 0.5))
    assert scene.standing(A) is Standing.ASSIGNED
    assert scene.standing(B) is Standing.REFUSED
    assert [t.detail for t in scene.told if t.warning] == ["Invalid: no"]


def test_a_lost_answer_is_settled_by_another_call_and_not_by_an_imds_that_may_lag() -> None:
    scene = Scene()
    scene.bears(A)
    scene.wait(BATCH_S)
    scene.answer(A, verdict=AssignVerdict.RIGHT_OVER)
    scene.imds(mine=(A,))
    assert scene.standing(A) is Standing.RETRYING
    assert assigns(scene.wait(1)) == [(A,)]


def test_drift_is_repaired_after_5_30_and_300_seconds_and_then_no_more() -> None:
    scene = Scene()
    scene.confirmed(A)
    pauses = []
    for _ in range(3):
        scene.imds(gone=(A,))
        drifted_at = scene.now
        assert scene.standing(A) is Standing.DRIFTED
        while True:
            effects = scene.wait(0.5)
            if any(isinstance(e, Ask) for e in effects):
                effects = scene.imds(gone=(A,))
            if assigns(effects):
                break
        pauses.append(round(scene.now - drifted_at))
        scene.answer(A)
        scene.now += 1
        scene.imds(mine=(A,))
        assert scene.standing(A) is Standing.CONFIRMED
    assert pauses == [5, 30, 300]
    scene.imds(gone=(A,))
    assert scene.standing(A) is Standing.CONTENDED
    for _ in range(100):
        assert assigns(scene.wait(10)) == []
        assert assigns(scene.imds(gone=(A,))) == []
    scene.imds(mine=(A,))
    assert scene.standing(A) is Standing.CONFIRMED


def test_a_drift_that_goes_by_itself_is_not_repaired() -> None:
    scene = Scene()
    scene.confirmed(A)
    scene.imds(gone=(A,))
    scene.now += 1
    scene.imds(mine=(A,))
    assert assigns(scene.wait(600)) == []


def test_a_repair_follows_a_question_that_was_asked_when_it_was_due() -> None:
    scene = Scene()
    scene.confirmed(A)
    scene.imds(gone=(A,))
    effects = scene.wait(5)
    assert assigns(effects) == []
    assert Ask(ENI, (A,)) in effects
    assert assigns(scene.imds(gone=(A,))) == [(A,)]


def test_a_silent_imds_repairs_nothing_and_is_not_asked_in_a_loop() -> None:
    scene = Scene()
    scene.confirmed(A)
    scene.imds(gone=(A,))
    asked = 0
    for _ in range(100):
        effects = scene.wait(1)
        assert assigns(effects) == []
        if any(isinstance(e, Ask) for e in effects):
            asked += 1
            assert not scene.imds(unknown=(A,))
    assert 5 <= asked <= 15


def test_quarrels_of_long_ago_are_forgotten() -> None:
    scene = Scene()
    scene.confirmed(A)
    for _ in range(5):
        scene.imds(gone=(A,))
        assert scene.standing(A) is Standing.DRIFTED
        scene.wait(5)
        assert assigns(scene.imds(gone=(A,))) == [(A,)]
        scene.answer(A)
        scene.now += 1
        scene.imds(mine=(A,))
        scene.now += 601


def test_an_assigned_address_that_imds_does_not_show_for_10_s_has_drifted() -> None:
    scene = Scene()
    scene.bears(A)
    scene.wait(BATCH_S)
    scene.answer(A)
    scene.now += 9.9
    scene.imds(gone=(A,))
    assert scene.standing(A) is Standing.ASSIGNED
    scene.now += 0.2
    scene.imds(gone=(A,))
    assert scene.standing(A) is Standing.DRIFTED


def test_the_enis_own_primary_is_neither_assigned_nor_asked_for() -> None:
    scene = Scene()
    effects = scene.bears(A, target=Target("net1", ENI, Standing.CONFIRMED, "its own primary"))
    assert effects + scene.wait(3600) == []


def test_an_address_outside_the_subnet_is_told_once_and_left_alone() -> None:
    scene = Scene()
    outside = Target("net1", "", Standing.OUTSIDE, "outside")
    assert scene.bears(A, target=outside) + scene.wait(60) + scene.bears(A, target=outside) == []
    assert [(t.standing, t.warning) for t in scene.told] == [(Standing.OUTSIDE, True)]


def test_what_was_there_before_its_eni_was_known_is_checked_first() -> None:
    scene = Scene()
    scene.bears(A, target=Target("net1", "", Standing.CHECKING, "IMDS is silent"), known=True)
    assert scene.bears(A) == [Ask(ENI, (A,))]
    scene = Scene()
    scene.bears(A, target=Target("net1", "", Standing.CHECKING, "IMDS is silent"))
    scene.bears(A)
    assert assigns(scene.wait(BATCH_S)) == [(A,)], "it came later: IMDS may show the past"


def test_an_interface_with_another_eni_needs_a_call_to_that() -> None:
    scene = Scene()
    scene.confirmed(A)
    scene.bears(A, target=Target("net1", OTHER))
    assert [(e.eni, e.addresses) for e in scene.wait(BATCH_S) if isinstance(e, Assign)] == [(OTHER, (A,))]


RELEASING = FollowConfig(release_after_s=30.0)


def test_without_release_what_leaves_is_not_unassigned() -> None:
    scene = Scene()
    scene.confirmed(A)
    assert not [e for e in scene.bears() + scene.wait(3600) if isinstance(e, Unassign)]


def leave(scene: Scene) -> list[FollowEffect]:
    """A is confirmed and leaves; what is done when its grace is over."""
    scene.confirmed(A)
    scene.bears()
    assert not [e for e in scene.wait(29) if isinstance(e, Unassign)]
    return scene.wait(1.1)


def test_what_left_is_unassigned_after_the_grace_where_imds_shows_it_here() -> None:
    scene = Scene(RELEASING)
    assert leave(scene) == [Ask(ENI, (A,))]
    assert scene.imds(mine=(A,)) == [Unassign(ENI, (A,))]
    scene.on(Unassigned(ENI, [Assigned(A, AssignVerdict.OK)]))
    assert scene.state.leaving == {}
    assert scene.wait(3600) == []


def test_what_moved_elsewhere_is_not_unassigned() -> None:
    scene = Scene(RELEASING)
    leave(scene)
    assert scene.imds(gone=(A,)) + scene.wait(3600) == []


def test_what_a_sibling_on_the_eni_bears_is_not_unassigned() -> None:
    scene = Scene(RELEASING)
    leave(scene)
    scene.imds(mine=(A,))
    scene.on(Unassigned(ENI, [], kept=frozenset({A})))
    assert scene.wait(3600) == []


def test_what_comes_back_within_the_grace_is_assigned_and_not_released() -> None:
    scene = Scene(RELEASING)
    scene.confirmed(A)
    scene.bears()
    scene.wait(20)
    scene.bears(A)
    assert assigns(scene.wait(BATCH_S)) == [(A,)]
    scene.answer(A)
    assert not [e for e in scene.wait(60) if isinstance(e, Unassign)]


def test_what_comes_back_during_its_release_is_assigned_after_it() -> None:
    """The unassign must not overtake the assign."""
    scene = Scene(RELEASING)
    leave(scene)
    scene.imds(mine=(A,))
    scene.bears(A)
    assert assigns(scene.wait(5)) == []
    assert assigns(scene.on(Unassigned(ENI, [Assigned(A, AssignVerdict.OK)]))) == [(A,)]


def test_a_release_that_nobody_answers_is_given_up_and_told() -> None:
    scene = Scene(RELEASING)
    leave(scene)
    for _ in range(10):
        scene.imds(unknown=(A,))
        scene.wait(11)
    assert scene.state.leaving == {}
    assert "not unassigned" in scene.told[-1].detail
    assert scene.told[-1].warning


def test_an_idle_follower_forgets_the_eni_of_what_left() -> None:
    scene = Scene()
    scene.confirmed(A)
    scene.bears()
    assert scene.state.enis == {}
    assert scene.state.wake_at is None
