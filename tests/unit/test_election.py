"""The election, rule by rule: each test is one situation and what must (or must not) follow."""

import itertools
from dataclasses import replace

import pytest
from world import VIP, World, pair, reasons, settled, undelivered

from vipd.core import messages as m
from vipd.core import timing
from vipd.core.election import decide
from vipd.core.model import AssignVerdict, CallFailed, CallFailure, Fence, Written
from vipd.core.reasons import Phase, Reason, WriteKind


def test_of_two_candidates_one_takes_an_absent_lease_and_the_other_stands_by():
    world = settled()
    active, standby = pair(world)
    assert reasons(active) == [("active", "lease-absent")]
    assert standby.state.phase is Phase.STANDBY
    assert world.mapping == active.eni


def test_an_idle_standby_sends_nothing_and_the_holder_writes_once_an_interval():
    world = settled()
    active, standby = pair(world)
    before = (active.requests, standby.requests)
    world.run(30)
    assert standby.requests == before[1]
    assert active.requests - before[0] == pytest.approx(30, abs=1)


@pytest.mark.parametrize("duration", [1, 2, 3, 10])
def test_a_dead_holders_lease_is_taken_at_its_expiry_and_not_before(duration):
    world = settled(duration_s=duration, interval_s=duration / 3, seconds=20)
    active, standby = pair(world)
    world.kill(active.name)
    world.run(duration + 1)
    last = [at for at, view in world.lease.history if view and view.holder == active.name][-1]
    took = next(at for at, view in world.lease.history if view and view.holder == standby.name)
    assert reasons(standby) == [("active", "lease-expired")]
    # Never inside the right of the holder, and not later than the duration and one round trip.
    assert last + duration - timing.margin_s(duration) < took <= last + duration


def test_a_killed_holder_loses_no_packet_because_its_address_outlives_the_takeover():
    world = settled()
    active, _ = pair(world)
    world.kill(active.name)
    assert undelivered(world, 12) == []


def test_sigterm_releases_then_answers_until_the_mapping_has_left_and_exits_0():
    world = settled()
    active, standby = pair(world)
    world.tell(active, m.StopAsked())
    assert undelivered(world, 10) == []
    assert reasons(active)[-2:] == [("yielding", "stopping"), ("stopped", "mapping-gone")]
    assert active.exit_code == 0
    assert reasons(standby) == [("active", "offered")]


def test_sigterm_without_a_standby_waits_three_seconds_for_a_taker_and_exits():
    world = settled("a")
    alone = world.members["a"]
    start = world.now
    world.tell(alone, m.StopAsked())
    world.run(20)
    assert reasons(alone)[-1] == ("stopped", "still-free")
    assert world.lease.view.holder == ""
    assert world.lease.view.duration_s == 1
    # Offered for two seconds, then released.
    assert world.lease.history[-1][0] == pytest.approx(start + 2, abs=0.05)


def test_sigterm_under_fence_lease_withdraws_before_it_releases():
    world = settled(fence=Fence.LEASE)
    active, standby = pair(world)
    world.tell(active, m.StopAsked())
    two_bearers = []
    world.on_step.append(lambda: two_bearers.append(1) if world.bears(active) and world.bears(standby) else None)
    gaps = undelivered(world, 5)
    assert two_bearers == []
    assert gaps[-1] - gaps[0] < 0.06
    assert world.delivered()


def test_stopping_while_the_api_is_away_ends_two_seconds_before_the_grace_period_does():
    world = settled(grace_s=30.0)
    active, _ = pair(world)
    active.api = False
    start = world.now
    for mm in world.members.values():
        mm.api = False
    world.tell(active, m.StopAsked())
    while active.exit_code is None and world.now < start + 40:
        world.run(0.1)
    assert world.now - start == pytest.approx(28, abs=0.2)
    assert reasons(active)[-1] == ("stopped", "grace-over")


def test_a_leaving_member_never_takes_even_when_its_take_was_under_way():
    world = World("a")
    world.run(0.006)
    member = world.members["a"]
    while member.state.lease.writing is None:
        world.run(0.001)
    world.tell(member, m.StopAsked())
    world.run(10)
    assert reasons(member) == [("yielding", "stopping"), ("stopped", "nothing-borne")]
    assert world.lease.view is None or world.lease.view.holder == ""


def test_a_thawed_holder_reads_before_anything_else_and_does_not_disturb_its_successor():
    world = settled()
    active, standby = pair(world)
    world.freeze(active.name)
    world.run(6)
    assert world.active().count(standby.name) == 1
    writes, rounds, requests = len(world.writers), len(active.announced), active.requests
    world.thaw(active.name)
    assert active.requests == requests + 1
    world.run(10)
    assert len(active.announced) == rounds
    assert all(name == standby.name for _, name in world.writers[writes:])
    assert reasons(active)[-1] == ("standby", "mapping-gone")
    assert any(n.reason is Reason.CLOCK_LATE for n in active.notes)


def test_after_a_clock_jump_only_a_renewal_gives_the_right_again():
    world = settled()
    active, _ = pair(world)
    jumped_at, writers = world.now, len(world.writers)
    world.tell(active, m.ClockJumped())
    assert not active.state.loud(world.now)
    assert world.bears(active)
    world.run(0.05)
    assert active.state.loud(world.now)
    assert active.state.holder.renewed_at > jumped_at
    assert len(world.writers) == writers


def test_a_blip_of_the_api_shorter_than_the_lease_changes_nothing():
    world = settled()
    active, standby = pair(world)
    for member in (active, standby):
        member.api = False
    world.run(2.0)
    for member in (active, standby):
        member.api = True
    world.run(10)
    assert world.active() == [active.name]
    assert standby.changes == []


@pytest.mark.parametrize("blip", [2.0, 2.2, 2.4, 2.6, 2.8])
def test_a_blip_for_all_does_not_cost_a_healthy_holder_its_lease(blip):
    lost = 0
    for seed in range(20):
        world = settled(seed=seed, seconds=15 + seed / 20)
        active, _ = pair(world)
        for member in world.members.values():
            member.api = False
        world.run(blip)
        for member in world.members.values():
            member.api = True
        world.run(6)
        lost += world.active() != [active.name]
    assert lost == 0


def test_a_holder_cut_off_from_the_api_alone_goes_quiet_and_answers_until_the_successor_has_moved():
    world = settled()
    active, standby = pair(world)
    active.api = False
    assert undelivered(world, 15) == []
    assert world.active() == [standby.name]
    assert reasons(active)[-3:] == [("holding", "api-away"), ("yielding", "mapping-gone"), ("standby", "mapping-gone")]
    assert world.mapping == standby.eni


def test_an_answer_after_its_own_deadline_gives_no_right():
    world = settled("a")
    member = world.members["a"]
    view = world.lease.view
    late = m.LeaseWrote(WriteKind.RENEW, Written(replace(view, resource_version="9999")), sent_at=world.now - 2.9)
    stale = replace(member.state, holder=replace(member.state.holder, right_until=world.now))
    state, _ = decide(stale, late, world.now)
    assert not state.loud(world.now)


def test_a_foreign_holder_makes_the_loser_withdraw_at_once():
    world = settled()
    active, _ = pair(world)
    foreign = replace(world.lease.view, holder="client-go", transitions=9, tenure=None, duration_s=15)
    world.lease.put(world.now, foreign)
    world._watchers()
    world.run(0.02)
    assert not world.bears(active)
    assert reasons(active)[-1] == ("standby", "foreign-holder")


def test_a_successor_on_the_same_eni_makes_the_loser_withdraw_at_once():
    world = World("a").run(15)
    world.join("c", eni="eni-a")
    world.run(0.5)
    active = world.members["a"]
    active.api = False
    world.run(3.2)
    active.api = True
    world.run(1)
    assert world.active() == ["c"]
    assert not world.bears(active)
    # They had told each other: the address ended with the right, before the successor took.
    assert reasons(active)[-1] == ("standby", "right-ended")


def test_another_process_under_my_name_is_foreign():
    world = settled("a")
    member = world.members["a"]
    twin = replace(member.state.config, incarnation="twin")
    view = world.lease.view
    tenure = replace(view.tenure, incarnation=twin.incarnation)
    world.lease.put(world.now, replace(view, tenure=tenure, renew_time=view.renew_time.replace(year=2031)))
    world._watchers()
    world.run(0.02)
    assert reasons(member)[-1] == ("standby", "duplicate-identity")
    assert not world.bears(member)


def test_a_deleted_lease_is_recreated_by_its_holder_and_not_taken_by_the_standby():
    world = settled()
    active, standby = pair(world)
    transitions = world.lease.view.transitions
    world.lease.delete(world.now)
    world._watchers()
    world.run(5)
    assert world.active() == [active.name]
    assert world.lease.view.transitions == transitions
    assert standby.changes == []


def test_a_deleted_lease_of_a_dead_holder_keeps_its_expiry():
    world = settled()
    active, standby = pair(world)
    world.kill(active.name)
    last = world.lease.history[-1][0]
    world.lease.delete(world.now)
    world._watchers()
    world.run(6)
    took = next(at for at, view in world.lease.history if view and view.holder == standby.name)
    assert took > last + 3 - timing.margin_s(3)


def test_a_restarted_holder_goes_on_with_its_own_tenure_and_maps_anew_without_asking_imds():
    world = settled()
    active, _ = pair(world)
    world.kill(active.name)
    calls, transitions = len(world.writers), world.lease.view.transitions
    world.run(0.5)
    again = world.join(active.name, left_over=True)
    assert undelivered(world, 5) == []
    assert reasons(again) == [("active", "own-earlier-run")]
    assert world.lease.view.transitions == transitions
    assert [name for _, name in world.writers[calls:]] == [active.name]


def test_left_over_addresses_of_a_superseded_run_are_withdrawn_once_the_mapping_has_left():
    world = settled()
    active, standby = pair(world)
    world.kill(active.name)
    world.run(5)
    again = world.join(active.name, left_over=True)
    assert world.bears(again)
    world.run(12)
    assert world.active() == [standby.name]
    assert not world.bears(again)
    assert again.state.phase is Phase.STANDBY


def test_a_deleted_address_is_put_back_at_once():
    world = settled()
    active, _ = pair(world)
    active.address_until = float("-inf")
    world.tell(active, m.AddressLost(VIP))
    assert world.bears(active)


def test_a_holder_whose_link_is_down_lets_go_at_once_and_waits_out_its_hold_down():
    world = settled()
    active, standby = pair(world)
    world.tell(active, m.LinkSeen(up=False, detail="interface net1 is down"))
    world.run(0.1)
    assert world.active() == [standby.name]
    world.run(15)
    assert active.state.phase is Phase.FAULT
    world.tell(active, m.LinkSeen(up=True))
    world.run(5)
    assert active.state.phase is Phase.FAULT
    world.run(30)
    assert active.state.phase is Phase.STANDBY


def test_a_hold_down_bars_from_a_free_lease_for_one_duration_at_most():
    world = settled("a")
    alone = world.members["a"]
    world.tell(alone, m.LinkSeen(up=False))
    # Offered for two seconds, nobody is there to take it, released.
    world.run(2.2)
    assert world.lease.view.holder == ""
    world.tell(alone, m.LinkSeen(up=True))
    world.run(2.0)
    assert world.active() == []
    world.run(1.5)
    assert world.active() == ["a"]


def test_an_eni_that_refuses_for_good_makes_the_holder_let_go_to_one_that_can():
    world = settled()
    active, standby = pair(world)
    standby.ec2 = AssignVerdict.NEVER
    world.kill(active.name)
    world.run(5)
    back = world.join(active.name)
    world.run(20)
    assert world.active() == [back.name]
    assert ("yielding", "cannot-move") in reasons(standby)


@pytest.mark.parametrize(
    "verdict",
    [AssignVerdict.RETRY, AssignVerdict.THROTTLED, AssignVerdict.NO_ROOM, AssignVerdict.NOT_ALLOWED],
)
def test_a_failing_assign_is_tried_again_with_growing_pauses(verdict):
    world = World("a")
    world.members["a"].ec2 = verdict
    world.run(60)
    calls = [at for at, _ in world.writers]
    pauses = [later - at for at, later in itertools.pairwise(calls)]
    assert 2 <= len(calls) <= 60
    # An offer to the others may stretch a pause, never shorten it.
    assert all(later >= 0.9 * earlier for earlier, later in itertools.pairwise(pauses) if earlier < 3)
    assert min(pauses) == pauses[0]
    world.members["a"].ec2 = AssignVerdict.OK
    world.run(65)
    assert world.mapping == "eni-a"


def test_a_stolen_mapping_is_repaired_only_after_a_renewal_that_was_sent_after_the_contrary_answer():
    world = settled(seconds=20)
    active, _ = pair(world)
    world.map_to("eni-thief")
    calls = len(world.writers)
    world.run(8)
    assert world.mapping == active.eni
    seen = next(n for n in active.notes if n.reason is Reason.MAPPING_STOLEN)
    assert "eni-" in seen.detail
    assert len(world.writers) == calls + 1


def test_gone_in_imds_is_not_believed_for_ten_seconds_after_ones_own_write():
    # EC2 has answered; IMDS has not yet shown the address here when it says "gone".
    world = World("a").run(0.5)
    world.map_to("eni-thief")
    calls = len(world.writers)
    world.run(8)
    assert len(world.writers) == calls
    world.run(8)
    assert world.mapping == "eni-a"


def test_an_address_that_imds_showed_here_and_then_elsewhere_is_repaired_within_seconds():
    world = World("a").run(2)
    world.map_to("eni-thief")
    world.run(2)
    assert world.mapping == "eni-a"
    assert len(world.writers) == 2


def test_answers_of_ec2_to_another_tenure_count_for_nothing():
    world = World("a")
    world.ec2_s = 1e6
    world.run(2)
    member = world.members["a"]
    stranger = m.EniAnswered(("other", 7), (), sent_at=world.now)
    world.tell(member, stranger)
    assert not member.state.mapping.moved


def test_without_an_eni_no_ec2_call_is_made_and_announcements_go_out_in_a_burst():
    world = settled(fence=Fence.LEASE, seconds=5)
    active, standby = pair(world)
    assert world.writers == []
    assert len(active.announced) == 1 + len(timing.ANNOUNCE_BURST_S)
    assert standby.announced == []


def test_fence_lease_never_has_two_bearers_when_the_holder_dies():
    for duration in (2, 3, 5):
        world = settled(fence=Fence.LEASE, duration_s=duration, interval_s=duration / 3)
        active, standby = pair(world)
        both = []
        world.on_step.append(
            lambda w=world, b=both: b.append(w.now) if sum(map(w.bears, w.members.values())) > 1 else 0
        )
        world.kill(active.name)
        world.run(duration + 2)
        assert both == []
        assert world.active() == [standby.name]


def test_a_lower_priority_waits_a_little_so_that_the_higher_one_takes():
    for seed in range(10):
        world = World(seed=seed)
        world.join("low", priority=1)
        world.join("high", priority=100)
        world.run(5)
        assert world.active() == ["high"]


def test_a_half_open_watch_is_found_by_reads_that_know_more():
    world = settled()
    _, standby = pair(world)
    rewatched = []
    original = world._carry_out
    world._carry_out = lambda mm, e: rewatched.append(mm.name) if isinstance(e, m.Rewatch) else original(mm, e)
    world._watched = lambda mm, view: None if mm is standby else world.tell(mm, m.LeaseWatched(view))
    world.run(6)
    assert standby.name in rewatched
    assert standby.changes == []


def test_an_answer_that_the_watch_has_overtaken_does_not_bring_the_past_back():
    world = settled("a")
    member = world.members["a"]
    mine = world.lease.view
    other = replace(mine, holder="client-go", transitions=9, tenure=None, resource_version="9000")
    state, _ = decide(member.state, m.LeaseWatched(other), world.now)
    late = m.LeaseWrote(WriteKind.RENEW, Written(replace(mine, resource_version="8999")), sent_at=world.now)
    state, _ = decide(state, late, world.now)
    assert state.phase is not Phase.ACTIVE
    assert state.lease.view == other


def test_a_right_that_ends_while_the_kernel_adds_the_address_ends_in_its_withdrawal():
    for fence in Fence:
        world = World("a", fence=fence)
        while not world.members["a"].state.address.putting:
            world.run(0.0001)
        world.tell(world.members["a"], m.StopAsked())
        world.run(15)
        assert not world.bears(world.members["a"])


def test_a_refused_write_is_told_once_and_not_at_every_attempt():
    world = settled("a")
    member = world.members["a"]
    refused = CallFailed(CallFailure.FORBIDDEN, 'User "x" cannot update resource "leases"')
    state, told = member.state, []
    for _ in range(3):
        state, effects = decide(state, m.LeaseWrote(WriteKind.RENEW, refused, world.now), world.now)
        told += [e for e in effects if isinstance(e, m.Note)]
    assert [(n.reason, n.warning) for n in told] == [(Reason.LEASE_WRITE_FAILED, True)]


def test_a_lease_whose_transitions_are_at_their_end_can_still_be_taken():
    world = settled("a")
    world.lease.put(world.now, replace(world.lease.view, holder="", transitions=2**31 - 1, tenure=None))
    world.run(5)
    assert world.active() == ["a"]
    assert world.lease.view.transitions == 0
