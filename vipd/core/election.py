"""The election of a VIP's owner: ``decide(state, event, now) -> (state, effects)``.

What it guarantees, by the Lease alone: at most one member acts (writes EC2, announces) at a time, as long as two
members' clocks differ in rate by no more than 4 %.  With fence eni the old owner goes on *answering* until the
EC2 mapping has left it; the mapping tells the two apart.  With fence lease the address ends before the Lease does.
What it does not guarantee: that an EC2 call is applied in order (a late one is noticed in IMDS and repaired).

            take (free, expired, absent, offered)      another holder seen, letting go (leaving, unfit)
     STANDBY ────────────────────────────────▶ ACTIVE ────────────────────────────────────────▶ YIELDING
      ▲  ▲ │                                    │  ▲                                            ▲ │ │ │ │
      │  │ │ unfit                              │  │ renewal succeeded, or taken again          │ │ │ │ │
      │  │ ▼                       API away, ▼  │  └────────────────────────┬───────────────────┼─┘ │ │ │
      │ FAULT ◀─────────┐       mapping mine HOLDING ──────────────────────┘                   │   │ │ │
      │                 │                       └────────── API answers, or mapping gone ──────┘   │ │ │
      │                 └─────────────────────────────────── withdrawn, unfit or hold-down ────────┘ │ │
      └───────────────────────────────────────────────────── withdrawn ──────────────────────────────┘ │
                                                             leaving: → STOPPED ◀──────────────────────┘

ACTIVE is loud: it renews, writes EC2, announces, repairs; unless it has offered the Lease, then it is quiet: it renews
and answers, nothing else (see ``handover``).  HOLDING (see ``holding``) and YIELDING (see ``yielding``) are always
quiet.  Unfit: the link is down, or a check fails.

How it works: an event changes what is known, then the rules of the present state look at everything that is known
and due.  Rules are conditions, not reactions, so the order in which facts arrive does not matter.
``State.wake_at`` is the next moment at which time alone changes a rule's answer.
"""

from __future__ import annotations

from dataclasses import replace

from vipd.core import timing
from vipd.core.candidate import barred, candidate_times, take_rules
from vipd.core.eni import ask_rules, on_eni_answered, on_mapping_seen, stuck_from
from vipd.core.handover import patience_ends, release_rules
from vipd.core.holder import active_rules, announce, on_address_lost, on_claim, on_put
from vipd.core.holding import may_hold
from vipd.core.lease import on_read, on_watched, on_wrote
from vipd.core.messages import (
    AddressesPut,
    AddressesRemoved,
    AddressLost,
    Begin,
    ClaimSeen,
    ClockJumped,
    Effect,
    EniAnswered,
    Event,
    HealthSeen,
    LeaseRead,
    LeaseWatched,
    LeaseWrote,
    LinkSeen,
    MappingSeen,
    Probed,
    Reconfigured,
    StopAsked,
)
from vipd.core.preempt import ask_at, preempt_rules
from vipd.core.reasons import Phase, Reason
from vipd.core.settings import ElectionConfig
from vipd.core.sharing import ask_link, back_on_link, on_probed
from vipd.core.state import NEVER, State
from vipd.core.turn import Turn
from vipd.core.yielding import (
    free_long_enough,
    on_mapping_seen_yielding,
    on_removed,
    stop,
    successor_moved_by,
    yielding_rules,
)

_PASSES = 6
"""How often the rules are applied after one event: a state entered by a rule has rules of its own."""


def initial(config: ElectionConfig) -> State:
    """A member before its first event."""
    return State(config=config, healthy=None if config.checks else True)


def decide(state: State, event: Event, now: float) -> tuple[State, tuple[Effect, ...]]:
    """One step.  ``now`` is CLOCK_BOOTTIME in seconds and never goes back."""
    if state.phase is Phase.STOPPED:
        return state, ()
    t = Turn(state, now)
    _notice_lateness(t, event)
    _hear(t, event)
    for _ in range(_PASSES):
        before = t.state
        _rules(t)
        if t.state is before:
            break
    t.set(wake_at=_next_wake(t.state, now))
    return t.state, tuple(t.effects)


def _notice_lateness(t: Turn, event: Event) -> None:
    """A timer that comes late means that this process or machine stood still: read the Lease before anything else."""
    wake_at = t.state.wake_at
    if isinstance(event, ClockJumped):
        _doubt(t)
        t.holder(right_until=NEVER, jumped_at=t.now)
        t.lease(write_due_at=t.now)
        t.note(Reason.CLOCK_JUMPED, "the clocks disagree about the time gone by: reading the Lease first", warning=True)
    elif wake_at is not None and t.now > wake_at + timing.LATE_S:
        late = t.now - wake_at
        _doubt(t)
        t.note(Reason.CLOCK_LATE, f"stood still for {late:.1f} s: reading the Lease first", warning=True)


def _doubt(t: Turn) -> None:
    """Much may have happened meanwhile: to the Lease, to the mapping, and on the link."""
    t.set(doubt_since=t.now)
    t.lease(read_due_at=None)
    if t.state.phase is Phase.HOLDING:
        t.mapping(ask_due_at=t.now)
        # A machine that stood still answered nobody who asked on the link.
        t.sharing(unheard=True)


def _hear(t: Turn, event: Event) -> None:
    """Take in what happened; no decision that the rules can take."""
    match event:
        case Begin():
            t.set(started_at=t.now, since=t.now, link_up=event.link_up)
            t.address(borne=event.left_over, lives_until=t.now + timing.ENI_LIFETIME_S)
            t.address(outlives_lease=event.outlives_lease)
            if event.left_over and t.state.config.managed:
                t.mapping(ask_due_at=t.now)
        case LeaseRead():
            on_read(t, event)
        case LeaseWatched():
            on_watched(t, event)
        case LeaseWrote():
            on_wrote(t, event)
        case AddressesPut():
            on_put(t, event)
        case AddressesRemoved():
            on_removed(t, event)
        case AddressLost():
            on_address_lost(t, event)
        case LinkSeen():
            came_up = event.up and not t.state.link_up
            t.set(link_up=event.up, link_detail=event.detail)
            if came_up:
                back_on_link(t)
        case HealthSeen():
            t.set(healthy=event.healthy, health_detail=event.detail)
        case ClaimSeen():
            on_claim(t, event)
        case Probed():
            on_probed(t, event)
        case EniAnswered():
            if on_eni_answered(t, event):
                announce(t)
                t.lease(write_due_at=t.now)
        case MappingSeen():
            on_mapping_seen(t, event)
            if t.state.phase not in (Phase.ACTIVE, Phase.STOPPED):
                on_mapping_seen_yielding(t, event)
        case StopAsked():
            _stop_asked(t)
        case Reconfigured():
            t.set(config=replace(event.config, incarnation=t.state.config.incarnation))
            # The others count with what the Lease says: tell them at once.
            t.lease(write_due_at=min(t.state.lease.write_due_at, t.now))


def _stop_asked(t: Turn) -> None:
    s = t.state
    if s.leaving:
        return
    t.set(leaving=True, stop_by=t.now + s.config.grace_s - timing.LEAVE_BEFORE_GRACE_S)
    if s.phase is Phase.ACTIVE:
        # The handover rules see it.
        return
    t.set(letting_go=Reason.STOPPING)
    t.lease(write_due_at=t.now)
    if s.phase is not Phase.YIELDING:
        t.enter(Phase.YIELDING, Reason.STOPPING)


def _rules(t: Turn) -> None:
    s = t.state
    if s.phase is Phase.STOPPED:
        return
    if s.leaving and t.now >= s.stop_by:
        stop(t, Reason.GRACE_OVER)
        return
    if s.phase is Phase.ACTIVE:
        _forgive(t)
        active_rules(t)
        return
    release_rules(t)
    if s.phase in (Phase.YIELDING, Phase.HOLDING):
        yielding_rules(t)
    elif s.phase is Phase.STANDBY:
        _standby_rules(t)
    elif s.phase is Phase.FAULT:
        _fault_rules(t)
    if t.state.doubt_since is not None:
        t.read_when_due()
    take_rules(t)
    preempt_rules(t)


def _standby_rules(t: Turn) -> None:
    s = t.state
    if not s.link_up:
        t.enter(Phase.FAULT, Reason.LINK_DOWN, s.link_detail)
    elif s.healthy is False:
        t.enter(Phase.FAULT, Reason.CHECK_FAILED, s.health_detail)
    elif s.address.borne and not s.address.removing:
        # Restarted, and the API is away: an earlier run's address lives on only where HOLDING entitles it to.
        # One that could end with its Lease may have been shared: then a neighbour relies on its end.  Nor may somebody
        # else on this ENI have taken meanwhile: only the link knows.
        if not s.lease.known:
            ask_rules(t)
        if not s.address.outlives_lease or not may_hold(t.state):
            return
        ask_link(t)
        if t.now < t.state.sharing.clear_until:
            t.enter(Phase.HOLDING, Reason.API_AWAY, "an earlier run's address, and the VPC delivers here")
            t.address(put_due_at=t.now)


def _forgive(t: Turn) -> None:
    """After ten minutes of healthy tenure earlier faults are forgotten."""
    s = t.state
    if s.holder.faults and t.now >= s.since + timing.HOLD_DOWN_MAX_S:
        t.holder(faults=0)


def _fault_rules(t: Turn) -> None:
    s = t.state
    if s.fit and not barred(s, t.now):
        t.enter(Phase.STANDBY, Reason.GATES_OPEN)


def _next_wake(s: State, now: float) -> float | None:
    """The earliest moment after now at which a rule may answer differently."""
    if s.phase is Phase.STOPPED:
        return None
    times: list[float | None] = [
        s.lease.read_due_at,
        s.lease.write_due_at,
        s.address.put_due_at,
        s.address.lingers_until,
        s.mapping.ask_due_at,
        s.mapping.assign_due_at,
        s.stop_by,
        patience_ends(s),
        free_long_enough(s),
        successor_moved_by(s),
    ]
    if s.sharing.unheard:
        times.append(s.sharing.probe_due_at)
    if s.mapping.gone_at is not None:
        times.append(s.mapping.gone_at + timing.DRAIN_S)
    if s.phase is Phase.ACTIVE:
        times += [
            s.holder.right_until,
            *s.address.announce_due[:1],
            stuck_from(s),
            s.handover.again_at,
            s.address.defend_due_at,
        ]
        if s.quiet:
            times.append(s.handover.write_due_at)
        if s.handover.waiting_since is not None:
            times.append(s.handover.waiting_since + timing.CALL_WAIT_S)
    elif s.lease.known:
        times += [*candidate_times(s), ask_at(s), s.lease.annotate_due_at]
    if s.phase is Phase.ACTIVE or s.address.borne:
        times += [now + timing.HEARTBEAT_S, s.address.lives_until]
    later = [at for at in times if at is not None and now < at < float("inf")]
    return min(later, default=None)
