"""Schedules that an explicit-state model found for each rule: with the rule broken they do harm, with it they do not.

Each is told once, as a script of faults; the model's own steps stand in the docstring of its case.  Where the model
varied the order of the protocol (claim first, move before the take) that order is the broken rule.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

import vipd.core.candidate as candidate
from vipd.aws.gate import Gate
from vipd.core.messages import AssignEni
from vipd.core.reasons import Reason
from vipd.core.turn import Turn

from .mutations import MUTATIONS, Mutation, Patches
from .runner import run
from .schedule import Fault, Setting, scripted

CASES: dict[str, Case] = {}


@dataclass(frozen=True, slots=True)
class Case:
    """One schedule, what breaks its rule, and the promise that is broken then."""

    script: Setting
    broken: Mutation
    promise: str

    def without_the_rule(self) -> AbstractContextManager[None]:
        return self.broken.applied()


def case(promise: str, broken: Mutation | None = None) -> Callable[[Callable[[], Setting]], Callable[[], Setting]]:
    """Register a script under its function's name; its rule is the mutation of that name, unless another is given."""

    def register(script: Callable[[], Setting]) -> Callable[[], Setting]:
        name = script.__name__
        CASES[name] = Case(script(), broken or MUTATIONS[name], promise)
        return script

    return register


def _move_before_the_take() -> Patches:
    """A candidate moves the mapping first and takes the Lease afterwards."""
    real = candidate.take

    def take(t: Turn, why: Reason) -> None:
        view = t.state.lease.view
        if why is Reason.OFFERED and view is not None and not t.state.mapping.assigning:
            t.mapping(assigning=True, last_write_at=t.now)
            t.emit(
                AssignEni(key=(view.uid, view.transitions), addresses=t.state.config.addresses, previous=frozenset())
            )
        real(t, why)

    return [(candidate, "take", take), (Gate, "remaining_s", lambda self: 1.0)]


MOVE_FIRST = Mutation(
    "move_before_the_take", "a holder takes the Lease first and moves the mapping second", _move_before_the_take
)


def _withdraws_after_holding() -> Patches:
    """Back from an outage, a member that finds another holder withdraws at once."""
    return MUTATIONS["withdraws_on_loss"].patches()


def _ignores_its_own_offer() -> Patches:
    """Not taken, an offer is forgotten, and the holder neither cancels nor acts."""
    from vipd.core import handover

    return [(handover, "_end", lambda t, wanted: None)]


# --------------------------------------------------------------------------------------- losing the Lease


@case("withdrawn while the VPC delivers here")
def withdraws_on_loss() -> Setting:
    """a offers, b takes and moves; a sees another holder while the VPC still delivers to it."""
    return scripted(Fault(5.0, "handover", 1), starts=(0.0, 1.0))


@case(
    "withdrawn while the VPC delivers here",
    Mutation("withdraws_after_holding", "who comes back from HOLDING yields", _withdraws_after_holding),
)
def back_from_holding_it_yields() -> Setting:
    """a loses the API and holds; b takes at the end; a reaches the API again before b has moved the mapping."""
    return scripted(Fault(5.0, "api-cut", 0, 3.4), starts=(0.0, 1.0), ec2_s=(2.0, 2.0))


# -------------------------------------------------------------------------------------- offers, their end


@case("no owner in the end", Mutation("no_cancel", "an offer that nobody takes is cancelled", _ignores_its_own_offer))
def an_offer_that_nobody_takes_is_cancelled() -> Setting:
    """a offers, and nobody is there to take; then the mapping is stolen."""
    return scripted(Fault(5.0, "handover", 0), Fault(7.5, "steal", 0, 0.0, "eni-thief"), enis=(1,))


@case("EC2 is written without a right", MOVE_FIRST)
def takes_first_and_moves_second() -> Setting:
    """a offers; b sends its EC2 call before its take: were it killed now, the call would land late."""
    return scripted(Fault(5.0, "handover", 1), starts=(0.0, 1.0))


@case("taken from a loud holder")
def offers_loudly() -> Setting:
    """The mapping is stolen; a, which has offered, repairs it while b takes the offer."""
    return scripted(
        Fault(12.0, "steal", 0, 0.0, "eni-thief"),
        Fault(16.55, "handover", 1),
        starts=(0.0, 1.0),
        trip_s=(0.2, 0.0),
        intervals=(0.5, 0.5),
    )


@case("offered with an open EC2 call")
def offers_with_an_open_call() -> Setting:
    """The mapping is stolen; a's repair is on its way when it offers, and would land after b's call."""
    return scripted(
        Fault(13.0, "steal", 0, 0.0, "eni-thief"),
        Fault(18.5, "handover", 1),
        starts=(0.0, 1.0),
        ec2_s=(2.0, 2.0),
    )


@case("a rival and a member both hold the Lease", MUTATIONS["annotations_outlive_their_tenure"])
def an_offer_dies_with_its_tenure() -> Setting:
    """a dies after its offer, a foreign candidate takes; b must not take the offer that was left."""
    script = MUTATIONS["annotations_outlive_their_tenure"].script
    assert script is not None
    return script


# ------------------------------------------------------------------------------------------- the mapping


@case("no owner in the end")
def stops_verifying() -> Setting:
    """b took after a's death, moved and confirmed; then a's call, sent before its death, is applied."""
    return scripted(
        Fault(0.05, "ec2-slow", 0, 3.0, 40.0),
        Fault(0.5, "crash", 0, 60.0),
        starts=(0.1, 0.4),
        ec2_s=(0.5, 0.5),
        durations=(1, 1),
        intervals=(0.3, 0.3),
    )


@case("said to have moved without EC2's OK")
def trusts_stale_imds() -> Setting:
    """a loses the Lease to b, which moves the mapping and dies; a takes again while IMDS still says "mine"."""
    return scripted(
        Fault(5.0, "api-cut", 0, 3.5),
        Fault(8.9, "crash", 1, 30.0),
        starts=(0.0, 1.0),
        imds_lags=(9.0, 0.0),
    )


@case("withdrawn while the VPC delivers here")
def gone_counts_at_once() -> Setting:
    """b took and moved, then loses the API; IMDS lags and does not show the mapping yet."""
    return scripted(
        Fault(5.0, "crash", 0, 60.0),
        Fault(8.6, "api-cut", 1, 30.0),
        starts=(0.0, 1.0),
        imds_lags=(9.0, 9.0),
        length_s=45.0,
    )


@case("no owner in the end", MUTATIONS["stops_verifying"])
def a_late_unassign_is_repaired() -> Setting:
    """b's Unassign is slow and b dies; a, which took again and was confirmed, loses the address to nobody."""
    return scripted(
        Fault(4.0, "ec2-slow", 1, 30.0, 20.0),
        Fault(5.0, "api-cut", 0, 1.5),
        Fault(6.3, "crash", 1, 60.0),
        families=(6,),
        starts=(0.0, 1.0),
        durations=(1, 1),
        intervals=(0.3, 0.3),
        ec2_s=(0.4, 0.4),
    )


# ----------------------------------------------------------------------------------------- the same ENI


def _yields_to_a_neighbour() -> Patches:
    return [*MUTATIONS["shared_eni_ignored"].patches(), *MUTATIONS["yields_on_the_same_eni"].patches()]


@case(
    "two bearers of one ENI",
    Mutation("yields_to_a_neighbour", "members of one ENI do not yield to each other", _yields_to_a_neighbour),
)
def no_yielding_to_a_member_of_the_same_eni() -> Setting:
    """a offers, b on the same ENI takes, and a would go on answering."""
    return scripted(Fault(5.0, "handover", 1), enis=(1, 1), starts=(0.0, 1.0))


@case("two bearers of one ENI", MUTATIONS["shared_eni_ignored"])
def no_holding_where_the_eni_is_shared() -> Setting:
    """a loses the API and would hold; b on the same ENI takes at the end."""
    return scripted(Fault(5.0, "api-cut", 0, 20.0), enis=(1, 1), starts=(0.0, 1.0))


@pytest.mark.parametrize("name", CASES)
def test_with_the_rule_nothing_is_broken(name):
    result = run(CASES[name].script, telling=True)
    assert result.violation is None, "\n".join(result.story)


@pytest.mark.parametrize("name", CASES)
def test_without_the_rule_the_schedule_does_harm(name):
    found = CASES[name]
    with found.without_the_rule():
        result = run(found.script, telling=True)
    assert result.violation is not None, f"{found.broken.rule}\n" + "\n".join(result.story)
    assert result.violation.what == found.promise, "\n".join(result.story)
