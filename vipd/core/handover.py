"""A holder that is to hand over: it offers the Lease, quietly, and a ready standby takes it.

    motive ──▶ (open EC2 call answered) ──▶ OFFER sent: quiet ──▶ it stands ──┬─ taken: another holder is seen, yield
                                                                              ├─ not taken, stays: CANCEL, loud again
                                                                              └─ not taken, cannot stay: release

Quiet means: renew and answer, but write no EC2, announce and repair nothing; from the moment the offer is *sent*
(its answer may be lost) until a cancel has *succeeded* (an offer on its way cannot land after that).  An offer is
made with no EC2 call of one's own open: a call that lands after the successor's would take the mapping back.
Fence lease: the address is taken off before the offer is sent, so that two never bear it.
"""

from __future__ import annotations

from typing import NamedTuple

from vipd.core import timing
from vipd.core.eni import cannot_move
from vipd.core.model import Fence, LeaseView
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.state import NEVER, State
from vipd.core.turn import Turn


class Motive(NamedTuple):
    """Why to hand over, and what becomes of an offer that nobody takes."""

    reason: Reason
    detail: str = ""
    stays: bool = False
    to: str = ""
    id: str = ""
    by_operator: bool = False


def motive(s: State, now: float) -> Motive | None:
    """Why this holder is to hand over at this moment; None: it is not."""
    if s.leaving:
        return Motive(Reason.STOPPING)
    if not s.link_up:
        return Motive(Reason.LINK_DOWN, s.link_detail)
    if s.healthy is False:
        return Motive(Reason.CHECK_FAILED, s.health_detail)
    if s.address.failures >= timing.PLUMB_ATTEMPTS:
        return Motive(Reason.CANNOT_PLUMB, s.address.failure)
    h = s.handover
    if h.reason is not None and h.stays:
        # The request is gone from the Lease with the offer that answers it.
        return Motive(h.reason, h.detail, h.stays, h.to, h.id, h.by_operator)
    return _requested(s) or _stuck(s, now)


def _requested(s: State) -> Motive | None:
    view = s.lease.view
    request = view.request if view is not None else None
    if request is None or request.to == s.config.identity:
        return None
    if request.by_operator:
        told = f"{request.by} asks for it"
        return Motive(Reason.REQUESTED, told, True, request.to, request.id, by_operator=True)
    if request.priority <= s.config.priority:
        return None
    return Motive(Reason.PREEMPTED, f"{request.by} has priority {request.priority}", True, request.to, request.id)


def _stuck(s: State, now: float) -> Motive | None:
    if now < s.handover.again_at or not cannot_move(s, now):
        return None
    return Motive(Reason.CANNOT_MOVE, s.mapping.failing_detail or "EC2 has not answered", True)


def handover_rules(t: Turn) -> None:
    """What a holder with a valid right does about handing over."""
    wanted = motive(t.state, t.now)
    if t.state.quiet:
        _offering(t, wanted)
    elif wanted is not None:
        _begin(t, wanted)
    elif t.state.handover.waiting_since is not None:
        t.handover(waiting_since=None)


def _begin(t: Turn, wanted: Motive) -> None:
    s = t.state
    if s.mapping.assigning and not _waited(t):
        return
    # An operator may want it moved just because EC2 refuses it here.
    refused = wanted.by_operator and s.mapping.failures > 0
    moved = s.mapping.moved or refused or wanted.reason is Reason.CANNOT_MOVE
    if not wanted.stays and (s.fence is Fence.LEASE or s.mapping.assigning or not moved):
        # Nothing to lose by releasing at once: the address goes first, or is of no use here.
        let_go(t, wanted.reason, wanted.detail)
        return
    if s.mapping.assigning or not moved or s.lease.absent:
        return
    _offer(t, wanted)
    _offering(t, wanted)


def _waited(t: Turn) -> bool:
    """Whether an open EC2 call was waited for long enough."""
    if t.state.handover.waiting_since is None:
        t.handover(waiting_since=t.now)
    since = t.state.handover.waiting_since
    return since is not None and t.now >= since + timing.CALL_WAIT_S


def _offer(t: Turn, wanted: Motive) -> None:
    s = t.state
    count = s.handover.count + 1
    t.handover(
        reason=wanted.reason,
        detail=wanted.detail,
        id=wanted.id or f"{s.config.incarnation[:8]}-{count}",
        to=wanted.to,
        stays=wanted.stays,
        by_operator=wanted.by_operator,
        sent_since=None,
        stands_since=None,
        refused=False,
        write_due_at=NEVER,
        count=count,
        waiting_since=None,
    )
    t.note(wanted.reason, f"offering the Lease to {wanted.to or 'any ready standby'}" + _because(wanted.detail))
    if s.fence is Fence.LEASE and s.address.to_withdraw:
        t.withdraw(wanted.reason)


def _offering(t: Turn, wanted: Motive | None) -> None:
    """An offer was sent, or is about to be."""
    s = t.state
    if wanted is not None and not wanted.stays and (s.handover.stays or s.handover.reason is not wanted.reason):
        # Something that cannot wait came up: the same offer, but to anybody, and with another end.
        if s.fence is Fence.LEASE:
            let_go(t, wanted.reason, wanted.detail)
            return
        if s.handover.to:
            _offer(t, wanted)
        else:
            t.handover(reason=wanted.reason, detail=wanted.detail, stays=False, by_operator=False)
        s = t.state
    h = s.handover
    if _offer_stands(s) and h.stands_since is None:
        t.handover(stands_since=t.now)
    if wanted is None or _patience_over(t.state, t.now):
        _end(t, wanted)
        return
    if _offer_stands(s) or s.address.putting or not _off(s, t.now):
        return
    if _may_write(s, t.now) and t.now >= h.write_due_at:
        if h.sent_since is None:
            t.handover(sent_since=t.now)
        t.write(WriteKind.RECREATE if s.lease.absent else WriteKind.OFFER)


def _off(s: State, now: float) -> bool:
    """Fence lease: whether what was to be taken off before another may take is off.  (Else nothing is taken off.)"""
    return not s.address.removing and (s.fence is Fence.ENI or now >= s.address.lingers_until)


def _offer_stands(s: State) -> bool:
    view = s.lease.view
    return not s.lease.absent and view is not None and view.offer is not None and view.offer.id == s.handover.id


def _patience_over(s: State, now: float) -> bool:
    ends = patience_ends(s)
    return ends is not None and now >= ends


def patience_ends(s: State) -> float | None:
    """When the offer is given up: one that stands, and one that does not come to stand.

    The latter while there is time for two more attempts to renew: an offer that the API does not take, or does not
    keep, must not cost the right to act.
    """
    h = s.handover
    patience = timing.OFFER_PATIENCE_UNBORNE_S if s.fence is Fence.LEASE else timing.OFFER_PATIENCE_S
    if h.stands_since is not None:
        return h.stands_since + patience
    if h.sent_since is None or s.lease.writing is not None or s.lease.unsettled:
        # Not sent, or it is not known yet what became of it.
        return None
    if h.refused:
        return h.sent_since
    spare = 2 * timing.attempt_timeout_s(s.config.duration_s)
    return min(h.sent_since + patience, s.holder.right_until - spare)


def offer_answered(t: Turn) -> None:
    """A write of the offer was answered OK.  Where it does not stand, somebody took it out on the way in."""
    if not _offer_stands(t.state):
        t.handover(write_due_at=t.now + timing.RETRY_S)


def _end(t: Turn, wanted: Motive | None) -> None:
    """Nobody took it, or the reason is gone: release where this member cannot stay, else cancel."""
    s = t.state
    if wanted is not None and not wanted.stays:
        let_go(t, wanted.reason, wanted.detail)
        return
    if _may_write(s, t.now):
        t.write(WriteKind.RECREATE if s.lease.absent else WriteKind.CANCEL)


def _may_write(s: State, now: float) -> bool:
    """At once, unless the last attempt failed: then after a pause, like a renewal."""
    if s.lease.writing is not None or s.lease.unsettled:
        return False
    return not s.lease.failing or now >= s.lease.write_due_at


def cancelled(t: Turn) -> None:
    """A cancel has succeeded: no offer can land any more.  Loud again, with one EC2 call to make sure."""
    s = t.state
    reason = s.handover.reason
    if reason is not None and s.handover.stays:
        stood = s.handover.stands_since is not None
        why = "nobody took the offer" if stood else "the Kubernetes API took or kept no offer"
        t.note(Reason.OFFER_NOT_TAKEN, f"{why} ({reason.value}): the tenure goes on", warning=not stood)
    t.end_offer()
    if reason is Reason.CANNOT_MOVE:
        t.handover(again_at=t.now + timing.OFFER_AGAIN_S)
    t.address(put_due_at=t.now)
    if s.config.managed:
        # Where EC2 refuses, its pauses go on: an offer is no reason to ask more often.
        due = s.mapping.assign_due_at if reason is Reason.CANNOT_MOVE else None
        due = t.now if due is None else due
        t.mapping(todo=frozenset(s.config.addresses), trying_since=t.now, assign_due_at=due)


def offer_taken(t: Turn) -> None:
    """Another holder took what was offered: what follows for this member."""
    h = t.state.handover
    if h.by_operator:
        t.preempt(barred_until=t.now + timing.OPERATOR_BAR_S)
    if h.reason in FAULTS:
        t.start_hold_down()


FAULTS = frozenset({Reason.LINK_DOWN, Reason.CHECK_FAILED, Reason.CANNOT_PLUMB, Reason.CANNOT_MOVE})
"""Reasons after which this member is not to take the Lease back for a while."""


def adopt_offer(t: Turn, view: LeaseView) -> None:
    """An offer that I no longer know of stands in my Lease: stay quiet until it is taken or cancelled.

    It was made by an earlier run, or before an outage of the API ended the right to act.
    """
    if view.offer is None or t.state.quiet:
        return
    t.handover(
        reason=Reason.OWN_EARLIER_RUN,
        detail="an earlier offer stands",
        id=view.offer.id,
        to=view.offer.to,
        stays=True,
        stands_since=t.now,
    )


def let_go(t: Turn, reason: Reason, detail: str = "") -> None:
    """Give the Lease away because this member is to leave or cannot serve.

    Fence eni: release, keep answering quietly, withdraw last.  Fence lease: withdraw, then release.
    """
    fence = t.state.fence
    t.end_right()
    t.set(letting_go=reason, released_at=None)
    t.lease(write_due_at=t.now)
    if reason in FAULTS:
        t.start_hold_down()
    if fence is Fence.LEASE and t.state.address.to_withdraw:
        t.withdraw(reason)
    t.enter(Phase.YIELDING, reason, detail)


def release_rules(t: Turn) -> None:
    """Release the Lease as long as the newest reading names me; never anybody else's."""
    s = t.state
    if s.letting_go is None or s.lease.writing is not None:
        return
    if s.lease.unsettled:
        t.read_when_due()
        return
    if not t.names_me:
        if not s.leaving:
            t.set(letting_go=None)
        return
    if s.fence is Fence.LEASE and not _off(s, t.now):
        return
    if t.now >= s.lease.write_due_at:
        t.write(WriteKind.RELEASE)


def _because(detail: str) -> str:
    return f" ({detail})" if detail else ""
