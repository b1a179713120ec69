"""Broken rules that cost service, or move the VIP for nothing, where no promise of safety breaks.

Each comes with a schedule that is told step by step, and with whom the rules say serves by then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import vipd.core.candidate as candidate
import vipd.core.handover as handover
import vipd.core.lease as lease
import vipd.core.preempt as preempt
import vipd.core.timing as timing
import vipd.core.turn as turn
from vipd.aws.ipv6 import Ipv6Move
from vipd.core.messages import Rewatch
from vipd.core.model import LeaseView
from vipd.core.reasons import Phase
from vipd.core.state import State
from vipd.core.turn import Turn

from .mutation import Patches, mutation
from .schedule import Expected, Fault, scripted

A_FIRST = (0.0, 4.0)
"""When a, then b, start: a takes the Lease, and b stands by."""

# ------------------------------------------------------------------------------- outages and watches


@mutation(
    "a failed read restarts a candidate's count: an outage of the API costs no healthy holder its Lease",
    # It ends after the expiry, by b's count.
    scripted(
        Fault(10.0, "api-away", 0, 2.2),
        durations=(2, 2),
        intervals=(0.6, 0.6),
        starts=A_FIRST,
        expected=(Expected(20.0, 0),),
    ),
)
def outage_counts() -> Patches:
    return [(lease, "read_failed", lambda t: t.lease(read_due_at=t.now + timing.RETRY_S))]


@mutation(
    "a half-open watch is found out",
    scripted(Fault(6.0, "watch-silent", 1), Fault(17.6, "handover", 0), starts=A_FIRST, expected=(Expected(18.2, 1),)),
)
def trusts_a_silent_watch() -> Patches:
    real = turn.Turn.emit

    def emit(t: Turn, effect: Any) -> None:
        if not isinstance(effect, Rewatch):
            real(t, effect)

    return [(turn.Turn, "emit", emit)]


@mutation(
    "watch events that are older than what is known are dropped",
    # b's watch is slow: what a wrote before b took reaches b afterwards.
    scripted(
        Fault(6.0, "watch-slow", 1, 30.0, 1.5),
        Fault(10.0, "handover", 0),
        starts=A_FIRST,
        expected=(Expected(11.85, 1), Expected(13.0, 1)),
    ),
)
def older_events_count() -> Patches:
    return [(LeaseView, "newer_than", lambda self, other: True)]


@mutation(
    "an attempt to renew ends soon enough for another one within the right",
    scripted(Fault(10.0, "api-cut", 0, 1.6), starts=A_FIRST, expected=(Expected(14.0, 0),)),
)
def patient_renewals() -> Patches:
    return [(turn.timing, "attempt_timeout_s", lambda duration_s: 4.0)]


@mutation(
    "a renewal that failed is tried again at once, not an interval later",
    scripted(
        Fault(10.0, "api-cut", 0, 1.2, "refused"),
        durations=(2, 2),
        intervals=(0.8, 0.8),
        starts=A_FIRST,
        expected=(Expected(14.0, 0),),
    ),
)
def retries_at_leisure() -> Patches:
    return [(lease.timing, "RETRY_S", 1.5)]


# --------------------------------------------------------------------------- what a holder cannot serve


@mutation(
    "a holder that EC2 does not serve offers the Lease",
    scripted(Fault(0.0, "ec2-refuses", 0, 60.0, "throttled"), starts=(0.0, 1.0), expected=(Expected(20.0, 1),)),
)
def stays_unserved() -> Patches:
    return [(handover, "cannot_move", lambda s, now: False)]


@mutation(
    "who gave it away for a fault does not take it back for a while",
    scripted(
        Fault(8.0, "check-fails", 0, 2.0),
        Fault(14.0, "handover", 1),
        checks=True,
        starts=A_FIRST,
        expected=(Expected(13.0, 1), Expected(20.0, 1)),
    ),
)
def no_hold_down() -> Patches:
    return [(Turn, "start_hold_down", lambda t: None)]


@mutation(
    "an IPv6 address that was freed, and is refused here, is given back to whom it was taken from",
    scripted(
        Fault(10.0, "ec2-full", 1, 60.0),
        Fault(12.0, "handover", 0),
        families=(6,),
        starts=A_FIRST,
        expected=(Expected(14.5, 0, holds=False),),
    ),
)
def keeps_what_it_freed() -> Patches:
    real = Ipv6Move._tell

    def give_back(self: Any, address: Any, source: str, refusal: Any) -> None:
        real(self, address, refusal)

    return [(Ipv6Move, "_give_back", give_back)]


@mutation(
    "a holder whose link is down hands over",
    scripted(Fault(8.0, "link-down", 0, 30.0), starts=A_FIRST, expected=(Expected(12.0, 1),)),
)
def link_ignored() -> Patches:
    real = handover.motive
    return [(handover, "motive", lambda s, now: real(replace(s, link_up=True), now))]


@mutation(
    "a holder whose check fails hands over",
    scripted(Fault(8.0, "check-fails", 0, 30.0), checks=True, starts=A_FIRST, expected=(Expected(12.0, 1),)),
)
def check_ignored() -> Patches:
    real = handover.motive
    return [(handover, "motive", lambda s, now: real(replace(s, healthy=None), now))]


@mutation(
    "a holder that cannot bear the address hands over",
    scripted(
        Fault(7.9, "kernel-refuses", 0, 30.0),
        Fault(8.0, "address-deleted", 0),
        starts=A_FIRST,
        expected=(Expected(13.0, 1),),
    ),
)
def bears_nothing() -> Patches:
    return [(timing, "PLUMB_ATTEMPTS", 10**9)]


# ------------------------------------------------------------------------------------- taking, preempting


@mutation(
    "only a ready standby takes an offer",
    scripted(
        # b would have to let go again at once.
        Fault(7.0, "link-down", 1, 30.0),
        Fault(9.0, "handover", 0),
        starts=A_FIRST,
        expected=(Expected(9.1, 0), Expected(13.0, 0)),
    ),
)
def takes_unfit() -> Patches:
    real = candidate.may_take

    def may_take(t: Turn) -> bool:
        phase = Phase.STANDBY if t.state.phase is Phase.FAULT else t.state.phase
        return real(Turn(replace(t.state, link_up=True, phase=phase), t.now))

    return [(candidate, "may_take", may_take)]


@mutation(
    "an offer to somebody is for that one alone",
    scripted(
        Fault(12.0, "handover", 2, 0.0, "somebody"),
        enis=(1, 2, 3),
        trip_s=(0.01, 0.0),
        priorities=(100, 100, 50),
        starts=(0.0, 4.0, 4.0),
        expected=(Expected(16.0, 2),),
    ),
)
def takes_anybodys_offer() -> Patches:
    real = candidate.offered

    def offered(s: State, now: float) -> bool:
        view = s.lease.view
        if view is None or view.offer is None:
            return real(s, now)
        mine = replace(view, offer=replace(view.offer, to=""))
        return real(replace(s, lease=replace(s.lease, view=mine)), now)

    return [(candidate, "offered", offered)]


@mutation(
    "only a strictly higher priority preempts",
    scripted(starts=A_FIRST, preempt=True, length_s=60.0, expected=(Expected(50.0, 0),)),
)
def preempts_its_equals() -> Patches:
    asks = preempt._askable
    wanted = handover._requested

    def askable(s: State, view: LeaseView) -> bool:
        return asks(replace(s, config=replace(s.config, priority=s.config.priority + 1)), view)

    def requested(s: State) -> Any:
        return wanted(replace(s, config=replace(s.config, priority=s.config.priority - 1)))

    return [(preempt, "_askable", askable), (handover, "_requested", requested)]


@mutation(
    "nobody preempts before it has been ready for 30 s",
    scripted(
        starts=A_FIRST,
        preempt=True,
        priorities=(100, 200),
        length_s=60.0,
        expected=(Expected(25.0, 0), Expected(45.0, 1)),
    ),
)
def preempts_at_once() -> Patches:
    return [(timing, "PREEMPT_AFTER_S", 0.0)]


@mutation(
    "an operator's handover bars the old holder from preempting",
    scripted(
        Fault(10.0, "handover", 1),
        starts=(0.0, 4.0),
        preempt=True,
        priorities=(200, 100),
        length_s=80.0,
        expected=(Expected(20.0, 1), Expected(70.0, 1)),
    ),
)
def preempts_the_operator() -> Patches:
    return [(timing, "OPERATOR_BAR_S", 0.0)]
