"""Planned handover, HOLDING, checks, preemption, shared ENIs and conflicts, rule by rule."""

from dataclasses import replace

import pytest
from world import VIP, World, pair, reasons, settled, undelivered

from vipd.core import messages as m
from vipd.core.annotations import OFFER, REQUEST, SHARED, render_request, render_shared
from vipd.core.model import (
    OPERATOR_PRIORITY,
    AddressClaim,
    AssignVerdict,
    CallFailed,
    CallFailure,
    Conflict,
    Fence,
    Request,
)
from vipd.core.reasons import Phase, WriteKind


def request(world: World, *, to: str = "", priority: int = OPERATOR_PRIORITY, id: str = "r1") -> None:
    """What ``vipd handover`` writes."""
    view = world.lease.view
    asked = Request(view.holder, view.transitions, id=id, by="ops", to=to, priority=priority)
    world.lease.annotate(world.now, view, {REQUEST: render_request(asked)})
    world._watchers()


# ------------------------------------------------------------------------------------------- handover


def test_a_requested_handover_moves_the_vip_without_a_lost_packet():
    world = settled()
    active, standby = pair(world)
    request(world)
    assert undelivered(world, 15) == []
    assert world.active() == [standby.name]
    assert reasons(active)[-2:] == [("yielding", "requested"), ("standby", "mapping-gone")]
    assert reasons(standby)[-1] == ("active", "offered")
    assert world.mapping == standby.eni


def test_an_offer_bears_the_id_of_the_request_and_takes_the_request_away():
    world = settled()
    request(world, id="r-7")
    world.run(0.1)
    offered = [view for _, view in world.lease.history if view and view.offer]
    assert {view.offer.id for view in offered} == {"r-7"}
    assert all(view.request is None for view in offered)


def test_an_offer_to_a_named_member_is_taken_by_no_other():
    world = settled("a", "b", "c")
    (holder,) = world.active()
    heir = next(n for n in "cba" if n != holder)
    request(world, to=heir)
    world.run(3)
    assert world.active() == [heir]


def test_an_offer_that_nobody_takes_is_cancelled_after_two_seconds_and_the_tenure_goes_on():
    world = settled("a")
    alone = world.members["a"]
    request(world)
    calls = len(world.writers)
    assert undelivered(world, 1.9) == []
    assert alone.state.quiet
    assert len(world.writers) == calls
    world.run(1)
    assert world.active() == ["a"]
    assert not alone.state.quiet
    assert world.lease.view.offer is None
    assert world.lease.view.transitions == 0
    # Loud again, with one call to make sure.
    assert len(world.writers) == calls + 1


def test_an_offering_holder_writes_no_ec2_and_announces_nothing():
    world = settled("a")
    alone = world.members["a"]
    request(world)
    world.run(0.05)
    announced = len(alone.announced)
    world.map_to("eni-thief")
    calls = len(world.writers)
    world.run(1.9)
    assert alone.state.quiet
    assert (len(world.writers), len(alone.announced)) == (calls, announced)


def test_an_offer_waits_for_the_answer_to_an_ec2_call():
    world = World("a")
    world.run(0.2)
    assert world.members["a"].state.mapping.assigning
    request(world)
    world.run(0.1)
    assert world.lease.view.offer is None
    world.run(0.2)
    assert world.lease.view.offer is not None


def test_a_cancel_whose_answer_is_lost_leaves_the_holder_quiet_until_one_succeeds():
    world = settled("a")
    alone = world.members["a"]
    request(world)
    world.run(1.9)
    world.lost_replies = 1.0
    world.run(0.3)
    assert alone.state.quiet
    world.lost_replies = 0.0
    world.run(2)
    assert not alone.state.quiet
    assert world.active() == ["a"]


def refusing_offers(world: World, failure: CallFailure) -> None:
    """An admission policy that takes no offers, or an API server that fails at them."""
    genuine = world.lease.replace

    def replace_(now, base, draft):
        if draft.annotations.get(OFFER):
            return CallFailed(failure, "no offers here")
        return genuine(now, base, draft)

    world.lease.replace = replace_  # type: ignore[method-assign]


def stripping_offers(world: World) -> None:
    """A webhook that takes the offer out on its way in."""
    genuine = world.lease.replace

    def replace_(now, base, draft):
        kept = {key: text for key, text in draft.annotations.items() if key != OFFER}
        return genuine(now, base, replace(draft, annotations=kept))

    world.lease.replace = replace_  # type: ignore[method-assign]


@pytest.mark.parametrize("fence", list(Fence))
@pytest.mark.parametrize("spoil", ["forbidden", "invalid", "server", "stripped"])
def test_an_offer_that_never_comes_to_stand_is_given_up_and_costs_no_right(spoil, fence):
    world = settled("a", fence=fence)
    alone = world.members["a"]
    if spoil == "stripped":
        stripping_offers(world)
    else:
        refusing_offers(world, CallFailure[spoil.upper()])
    before = alone.requests
    request(world)
    gaps = undelivered(world, 4)
    # With fence lease the address is off while it is offered.
    assert gaps == [] if fence is Fence.ENI else gaps[-1] - gaps[0] < 1.0
    assert (alone.state.phase, alone.state.quiet) == (Phase.ACTIVE, False)
    assert world.lease.view.request is None
    assert world.lease.view.transitions == 0
    [given_up] = [n for n in alone.notes if n.reason.value == "offer-not-taken"]
    assert given_up.warning
    assert "took or kept no offer" in given_up.detail
    assert alone.requests - before < 20
    assert [c.after for c in alone.changes] == [Phase.ACTIVE]


@pytest.mark.parametrize("duration", [1, 3])
def test_a_leaving_member_whose_offers_are_refused_releases_at_once(duration):
    world = settled(duration_s=duration, interval_s=duration / 3)
    active, standby = pair(world)
    refusing_offers(world, CallFailure.FORBIDDEN)
    world.tell(active, m.StopAsked())
    assert undelivered(world, 1) == []
    assert world.lease.view.holder == standby.name


def test_a_request_that_comes_while_another_is_answered_outlives_the_cancel():
    world = settled("a")
    request(world, id="r1")
    world.run(1.0)
    request(world, id="r2")
    world.run(1.5)
    offers = {view.offer.id for _, view in world.lease.history if view and view.offer}
    assert offers == {"r1", "r2"}


def test_writes_that_all_conflict_are_not_sent_as_fast_as_the_api_answers():
    world = settled("a")
    alone = world.members["a"]
    world.lease.replace = lambda now, base, draft: Conflict("whatever was read")  # type: ignore[method-assign]
    before = alone.requests
    world.run(5)
    assert alone.requests - before < 80


def test_who_lost_a_take_reads_at_once_when_it_loses_another():
    world = settled("a", "b", "c", "d")
    refused = [mm for mm in world.members.values() if mm.requests and mm.name not in world.active()]
    assert refused
    assert all(mm.state.lease.conflicts == 0 for mm in world.members.values())


def test_a_holder_killed_after_its_offer_is_replaced_at_once():
    world = settled()
    active, standby = pair(world)
    request(world)
    while world.lease.view.offer is None:
        world.run(0.0005)
    world.kill(active.name)
    world.run(0.1)
    assert world.lease.view.holder == standby.name


def test_a_restarted_holder_with_its_own_offer_standing_stays_quiet_and_cancels_it():
    world = settled("a")
    request(world)
    world.run(0.5)
    world.kill("a")
    again = world.join("a", left_over=True)
    world.run(0.5)
    assert again.state.quiet
    world.run(3)
    assert world.active() == ["a"]
    assert not again.state.quiet


def test_an_offer_that_outlives_an_outage_of_the_api_keeps_the_holder_quiet_until_it_is_cancelled():
    world = settled("a")
    alone = world.members["a"]
    request(world)
    world.run(1.0)
    alone.api = False
    world.run(6)
    assert alone.state.phase is Phase.HOLDING
    alone.api = True
    loud_under_offer = []
    world.on_step.append(
        lambda: loud_under_offer.append(world.now) if world.lease.view.offer and world.loud() else None
    )
    world.run(5)
    assert loud_under_offer == []
    assert world.active() == ["a"]
    assert world.lease.view.offer is None


def test_a_successor_that_dies_before_it_moves_the_mapping_costs_no_packet():
    world = settled()
    active, standby = pair(world)
    request(world)
    while world.lease.view.holder != standby.name:
        world.run(0.001)
    world.kill(standby.name)
    assert undelivered(world, 10) == []
    assert world.active() == [active.name]


def test_a_request_to_the_holder_itself_or_of_an_earlier_tenure_is_ignored():
    world = settled()
    active, _ = pair(world)
    request(world, to=active.name)
    world.run(3)
    view = world.lease.view
    old = Request(view.holder, view.transitions - 1, id="old", by="ops", priority=OPERATOR_PRIORITY)
    world.lease.annotate(world.now, view, {REQUEST: render_request(old)})
    world._watchers()
    world.run(3)
    assert world.active() == [active.name]
    assert not any(view and view.offer for _, view in world.lease.history)


def test_sigterm_in_the_middle_of_a_request_to_somebody_absent_offers_to_anybody():
    world = settled()
    active, standby = pair(world)
    request(world, to="nobody")
    world.run(1.0)
    world.tell(active, m.StopAsked())
    assert undelivered(world, 10) == []
    assert world.active() == [standby.name]
    assert active.exit_code == 0


def test_fence_lease_takes_the_address_off_before_it_offers_and_nobody_bears_it_twice():
    world = settled(fence=Fence.LEASE)
    active, standby = pair(world)
    both = []
    world.on_step.append(lambda: both.append(world.now) if world.bears(active) and world.bears(standby) else None)
    request(world)
    gaps = undelivered(world, 5)
    assert both == []
    assert gaps[-1] - gaps[0] < 0.05
    assert world.active() == [standby.name]


def test_fence_lease_puts_the_address_back_when_nobody_takes_the_offer():
    world = settled("a", fence=Fence.LEASE)
    request(world)
    gaps = undelivered(world, 5)
    assert 0.4 < gaps[-1] - gaps[0] < 0.7
    assert world.active() == ["a"]
    assert world.delivered()


@pytest.mark.parametrize("leaves", [True, False])
def test_fence_lease_whose_address_cannot_be_removed_lets_nobody_take_before_it_has_ended(leaves):
    world = settled(fence=Fence.LEASE)
    active, standby = pair(world)
    active.removal_fails = True
    both = []
    world.on_step.append(lambda: both.append(world.now) if world.bears(active) and world.bears(standby) else None)
    if leaves:
        world.tell(active, m.StopAsked())
    else:
        request(world)
    world.run(6)
    assert both == []
    assert world.active() == [standby.name]
    assert active.exit_code == (0 if leaves else None)


# --------------------------------------------------------------------------------------------- checks


def test_a_failing_check_hands_over_without_loss_and_bars_for_a_while():
    world = settled()
    active, standby = pair(world)
    world.tell(active, m.HealthSeen(healthy=False, detail="http: 500"))
    assert undelivered(world, 10) == []
    assert world.active() == [standby.name]
    assert active.state.phase is Phase.FAULT
    world.tell(active, m.HealthSeen(healthy=True))
    world.run(1)
    assert active.state.phase is Phase.FAULT
    world.run(40)
    assert active.state.phase is Phase.STANDBY


def test_a_member_whose_checks_have_not_run_does_not_take_but_renews_what_is_its_own():
    world = World("a", checks=True).run(5)
    assert world.active() == []
    world.tell(world.members["a"], m.HealthSeen(healthy=True))
    world.run(5)
    assert world.active() == ["a"]
    world.kill("a")
    again = world.join("a", left_over=True)
    world.run(1)
    assert again.state.phase is Phase.ACTIVE


def test_a_check_that_recovers_before_anybody_takes_the_offer_costs_nothing():
    world = settled("a")
    alone = world.members["a"]
    world.tell(alone, m.HealthSeen(healthy=False, detail="tcp: refused"))
    world.run(0.5)
    world.tell(alone, m.HealthSeen(healthy=True))
    world.run(1)
    assert world.active() == ["a"]
    assert world.lease.view.offer is None
    assert world.lease.view.transitions == 0


def test_with_no_other_member_a_failing_check_releases_and_the_address_is_answered_on():
    world = settled("a")
    world.tell(world.members["a"], m.HealthSeen(healthy=False, detail="tcp: refused"))
    assert undelivered(world, 30) == []
    assert world.lease.view.holder == ""
    world.tell(world.members["a"], m.HealthSeen(healthy=True))
    world.run(10)
    assert world.active() == ["a"]


# -------------------------------------------------------------------------------------------- HOLDING


def test_an_outage_of_the_api_for_a_minute_changes_nothing_but_the_state():
    world = settled("a", "b", "c")
    (holder,) = world.active()
    for member in world.members.values():
        member.api = False
    assert undelivered(world, 60) == []
    assert world.members[holder].state.phase is Phase.HOLDING
    calls = len(world.writers)
    for member in world.members.values():
        member.api = True
    assert undelivered(world, 20) == []
    assert world.active() == [holder]
    assert world.lease.view.holder == holder
    assert len(world.writers) == calls
    assert world.lease.view.transitions == 0


@pytest.mark.parametrize("phase", [Phase.ACTIVE, Phase.HOLDING])
@pytest.mark.parametrize("what", ["stall", "jump"])
def test_who_stands_still_for_a_moment_in_an_outage_answers_on(what, phase):
    world = settled("a")
    alone = world.members["a"]
    alone.api = False
    world.run(6 if phase is Phase.HOLDING else 0.3)
    assert alone.state.phase is phase
    if what == "stall":
        world.freeze("a")
        world.run(1.6)
        world.thaw("a")
    else:
        world.tell(alone, m.ClockJumped())
    assert alone.state.doubt_since is not None
    assert undelivered(world, 30) == []
    assert alone.state.phase is Phase.HOLDING
    alone.api = True
    world.run(5)
    assert world.active() == ["a"]
    assert world.lease.view.transitions == 0


def test_who_stood_still_in_an_outage_while_the_mapping_left_does_not_go_on():
    world = settled("a")
    alone = world.members["a"]
    alone.api = False
    world.run(6)
    world.freeze("a")
    world.run(1.6)
    world.map_to("eni-b")
    world.thaw("a")
    world.run(12)
    assert not world.bears(alone)


@pytest.mark.parametrize("seconds", [6, 40])
def test_an_address_that_is_deleted_in_an_outage_is_back_at_once(seconds):
    world = settled("a")
    alone = world.members["a"]
    alone.api = False
    world.run(seconds)
    alone.address_until = float("-inf")
    world.tell(alone, m.AddressLost(VIP))
    world.run(0.01)
    assert world.bears(alone)
    assert undelivered(world, 20) == []
    assert alone.state.phase is Phase.HOLDING


def test_what_an_earlier_run_left_is_not_put_back_when_its_lifetime_is_over():
    world = settled()
    active, standby = pair(world)
    world.kill(active.name)
    world.run(5)
    assert world.active() == [standby.name]
    again = world.join(active.name, left_over=True)
    world.run(1)
    assert again.state.phase is Phase.YIELDING
    again.address_until = float("-inf")
    world.tell(again, m.AddressLost(VIP))
    world.run(1)
    assert not world.bears(again)
    assert again.state.phase is Phase.STANDBY


def test_a_shorter_duration_ends_the_right_early_from_the_moment_it_is_sent():
    world = settled("a", duration_s=15, interval_s=5.0)
    alone = world.members["a"]
    world.lost_replies = 1.0
    world.tell(alone, m.Reconfigured(replace(alone.state.config, duration_s=3, interval_s=1.0)))
    sent = world.now
    world.run(0.05)
    assert world.lease.view.duration_s == 3
    alone.api = False
    while alone.state.loud(world.now):
        world.run(0.05)
        assert world.now < sent + 3.0


def test_a_shorter_duration_waits_for_the_next_tenure_with_fence_lease():
    world = settled(duration_s=15, interval_s=5.0, fence=Fence.LEASE)
    active, standby = pair(world)
    for member in (active, standby):
        world.tell(member, m.Reconfigured(replace(member.state.config, duration_s=3, interval_s=1.0)))
    world.run(5)
    assert world.lease.view.duration_s == 15
    request(world)
    world.run(5)
    assert (world.lease.view.holder, world.lease.view.duration_s) == (standby.name, 3)


def test_a_mapping_that_is_never_confirmed_is_asked_for_slowly_in_the_end():
    world = World("a", ask_fast_s=2.0, ask_slow_s=15.0)
    world.members["a"].imds = False
    world.run(45)
    asked = []
    genuine = world._imds
    world._imds = lambda member, at: (asked.append(at), genuine(member, at))[1]
    world.run(60)
    assert 3 <= len(asked) <= 5


def test_a_node_lost_during_an_outage_is_replaced_one_duration_after_the_api_is_back():
    world = settled()
    active, standby = pair(world)
    for member in world.members.values():
        member.api = False
    world.run(30)
    world.kill(active.name)
    world.run(10)
    standby.api = True
    world.run(3.0 + 1.0)
    assert world.active() == [standby.name]


def test_a_holder_restarted_during_an_outage_goes_on_answering():
    world = settled("a")
    world.members["a"].api = False
    world.run(10)
    world.kill("a")
    again = world.join("a", left_over=True)
    again.api = False
    world.tell(again, m.LeaseWatched(CallFailed(CallFailure.TIMEOUT, "away")))
    assert undelivered(world, 40) == []
    assert again.state.phase is Phase.HOLDING
    again.api = True
    world._watchers()
    world.run(5)
    assert world.active() == ["a"]


def test_a_holding_member_writes_no_ec2_and_withdraws_when_the_mapping_has_left():
    world = settled("a")
    alone = world.members["a"]
    alone.api = False
    world.run(5)
    calls = len(world.writers)
    world.map_to("eni-thief")
    world.run(20)
    assert len(world.writers) == calls
    assert not world.bears(alone)


def test_imds_that_is_silent_changes_nothing():
    world = settled()
    active, standby = pair(world)
    for member in world.members.values():
        member.imds = False
    assert undelivered(world, 60) == []
    assert world.active() == [active.name]
    request(world)
    assert undelivered(world, 20) == []
    assert world.active() == [standby.name]


# ----------------------------------------------------------------------------------------- preemption


def test_a_member_of_higher_priority_takes_over_by_request_after_thirty_seconds():
    world = settled("a")
    better = world.join("b", priority=200, preempt=True)
    world.run(29)
    assert world.active() == ["a"]
    assert undelivered(world, 5) == []
    assert world.active() == ["b"]
    assert reasons(better)[-1] == ("active", "offered")


def test_equal_priority_and_no_wish_to_preempt_leave_the_holder_alone():
    world = settled("a")
    world.join("b", priority=100, preempt=True)
    world.join("c", priority=200)
    world.run(60)
    assert world.active() == ["a"]
    assert not any(view and view.request for _, view in world.lease.history)


def test_an_operators_handover_bars_the_old_holder_from_preempting_for_ten_minutes():
    world = settled("a", priority=200, preempt=True)
    world.join("b", priority=100)
    world.run(1)
    request(world)
    world.run(300)
    assert world.active() == ["b"]
    world.run(400)
    assert world.active() == ["a"]


# --------------------------------------------------------------------------------------- shared ENIs


def test_a_candidate_on_the_same_eni_makes_the_holder_say_fence_lease_and_never_two_bear_it():
    world = settled("a")
    other = world.join("c", eni="eni-a")
    first = world.members["a"]
    both = []
    world.on_step.append(lambda: both.append(world.now) if world.bears(first) and world.bears(other) else None)
    world.run(3)
    assert world.lease.view.tenure.fence is Fence.LEASE
    request(world)
    world.run(5)
    assert world.active() == ["c"]
    world.run(5)
    world.kill("c")
    world.run(10)
    assert world.active() == ["a"]
    assert both == []


def test_a_lease_of_one_second_is_written_as_two_where_an_eni_is_shared():
    world = settled("a", duration_s=1, interval_s=0.3)
    world.join("c", eni="eni-a")
    world.run(5)
    assert world.lease.view.duration_s == 2
    assert world.lease.view.tenure.fence is Fence.LEASE
    assert world.delivered()


def test_a_holder_that_died_unaware_of_a_candidate_on_its_eni_is_replaced_once_nobody_answers():
    world = settled("a")
    first = world.members["a"]
    first.api = False
    other = world.join("c", eni="eni-a")
    world.run(0.05)
    world.kill("a")
    both = []
    world.on_step.append(lambda: both.append(world.now) if world.bears(first) and world.bears(other) else None)
    world.run(20)
    assert world.active() == ["c"]
    assert both == []


def test_who_finds_a_lease_released_by_a_sibling_on_its_eni_takes_only_once_nobody_answers():
    world = settled("a")
    first = world.members["a"]
    world.tell(first, m.LinkSeen(up=False))
    world.run(2.5)
    assert world.lease.view.holder == ""
    assert world.lease.view.former.holder == "a"
    other = world.join("c", eni="eni-a")
    both = []
    world.on_step.append(lambda: both.append(world.now) if world.bears(first) and world.bears(other) else None)
    world.run(30)
    assert world.active() == ["c"]
    assert both == []


def test_an_address_left_over_is_taken_off_when_a_sibling_on_its_eni_answers_and_the_api_is_away():
    world = settled("a")
    first = world.members["a"]
    world.kill("a")
    other = world.join("c", eni="eni-a")
    # Its link is down while the sibling asks who answers.
    until, first.address_until = first.address_until, float("-inf")
    world.run(10)
    assert world.active() == ["c"]
    again = world.join("a", left_over=True)
    again.api, again.address_until = False, max(until, world.now + 8)
    world.tell(again, m.Begin(left_over=frozenset({VIP}), link_up=True, outlives_lease=True))
    world.tell(again, m.LeaseWatched(CallFailed(CallFailure.TIMEOUT, "away")))
    world.run(1.5)
    assert not world.bears(again)
    assert world.bears(other)


def test_a_link_that_cannot_be_asked_takes_no_address_off_and_is_asked_again():
    world = settled("a")
    alone = world.members["a"]
    alone.api = False
    world.run(4)
    assert alone.state.phase is Phase.HOLDING
    world.tell(alone, m.LinkSeen(up=False))
    alone.hears = False
    world.tell(alone, m.LinkSeen(up=True))
    assert undelivered(world, 3) == []
    alone.hears = True
    assert undelivered(world, 3) == []
    world.join("c", eni="eni-a").address_until = world.now + 5  # as who took while nobody was heard
    assert undelivered(world, 2) == []
    assert world.bears(alone), "who was heard once is not asked for ever"


def test_who_took_while_a_link_was_down_is_heard_once_the_link_can_be_asked():
    world = settled("a")
    first = world.members["a"]
    first.api = False
    world.run(4)
    assert first.state.phase is Phase.HOLDING
    world.tell(first, m.LinkSeen(up=False))
    first.hears = False
    other = world.join("c", eni="eni-a")
    other.address_until = float("inf")
    world.tell(first, m.LinkSeen(up=True))
    world.run(2)
    assert world.bears(first)
    first.hears = True
    world.run(2)
    assert not world.bears(first)


def test_a_holder_whose_lease_somebody_clears_while_it_is_marked_as_shared_takes_it_anew():
    world = settled("a")
    view = world.lease.view
    notes = {**view.raw, SHARED: render_shared("a", view.transitions, "eni-a")}
    cleared = replace(view, holder="", tenure=None, former=view.tenure, acquire_time=None)
    world.lease.put(world.now, replace(cleared, shared_eni="eni-a", raw=notes))
    world._watchers()
    world.run(30)
    assert world.active() == ["a"]
    assert undelivered(world, 5) == []
    assert world.lease.view.transitions == view.transitions + 1, "the right is void at once: it is another tenure"


# ------------------------------------------------------------------------------- conflicts, cannot move


def test_a_claim_by_another_mac_is_answered_once_a_second_by_a_read_and_an_announcement():
    world = settled("a")
    alone = world.members["a"]
    announced = len(alone.announced)
    for _ in range(100):
        world.tell(alone, m.ClaimSeen(AddressClaim(VIP, "net1", "02:00:00:00:66:66")))
        world.run(0.05)
    answered = len(alone.announced) - announced
    assert 5 <= answered <= 12
    # One that was not heard is answered as well.
    world.run(1.1)
    assert len(alone.announced) - announced > answered
    assert alone.announced[-1] > world.now - 1.1
    world.run(20)
    assert len(alone.announced) - announced <= answered + 3
    assert len([n for n in alone.notes if n.reason.value == "conflict"]) == 1
    assert world.active() == ["a"]


def test_a_claim_that_turns_out_to_be_the_new_holders_makes_the_old_one_yield():
    world = settled()
    active, standby = pair(world)
    view = world.lease.view
    tenure = replace(view.tenure, holder=standby.name, transitions=view.transitions + 1, eni=standby.eni)
    taken = replace(view, holder=standby.name, transitions=view.transitions + 1, tenure=tenure, renew_time=None)
    world.lease.put(world.now, taken)
    world.tell(active, m.ClaimSeen(AddressClaim(VIP, "net1", "02:00:00:00:66:66")))
    world.run(0.05)
    assert reasons(active)[-1] == ("yielding", "other-holder")


def test_a_holder_that_ec2_does_not_serve_offers_after_two_durations_and_a_better_one_takes():
    world = settled()
    active, standby = pair(world)
    standby.ec2 = AssignVerdict.RETRY
    world.kill(active.name)
    world.run(6)
    assert world.active() == [standby.name]
    world.join("c")
    world.run(8)
    assert world.active() == ["c"]
    assert world.mapping == "eni-c"


def test_a_refusal_never_makes_a_holder_offer_while_the_mapping_is_here():
    world = settled("a")
    alone = world.members["a"]
    alone.ec2 = AssignVerdict.NEVER
    world.kill("a")
    again = world.join("a", left_over=True)
    again.ec2 = AssignVerdict.NEVER
    world.run(60)
    assert world.active() == ["a"]
    assert not any(view and view.offer for _, view in world.lease.history)


@pytest.mark.parametrize("kind", [WriteKind.OFFER, WriteKind.CANCEL])
def test_every_lease_that_was_written_keeps_foreign_annotations(kind):
    world = settled("a")
    world.lease.view.raw["other.io/note"] = "kept"
    request(world)
    world.run(1.0 if kind is WriteKind.OFFER else 4.0)
    assert (OFFER in world.lease.view.raw) is (kind is WriteKind.OFFER)
    assert world.lease.view.raw["other.io/note"] == "kept"
