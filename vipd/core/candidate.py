"""A member that does not hold the Lease: when it reads, when it takes.

It watches, and sends nothing while renewals arrive.  It counts the holder's duration from when it first saw
a renewal, on its own clock, reads once just before the end and takes by compare-and-swap at the end; an offer is
taken at once.  When renewals stop it asks (a watch may be half-open); while it cannot ask either its count stands
still, and starts anew with the first answer: an API that is away for everybody is no sign of a dead holder.
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.messages import Rewatch
from vipd.core.model import Fence, LeaseView
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.sharing import must_probe, probe_from, same_eni, sharing_rules
from vipd.core.state import State
from vipd.core.turn import Turn


def may_take(t: Turn) -> bool:
    """Whether this member is a candidate at all at this moment."""
    s = t.state
    return (
        s.phase in (Phase.STANDBY, Phase.HOLDING, Phase.YIELDING)
        and not s.leaving
        and s.letting_go is None
        and s.doubt_since is None
        and s.fit
        and s.lease.known
        # Its address is just being removed: add it again only afterwards.
        and not s.address.removing
    )


def barred(s: State, now: float) -> bool:
    """A hold-down bars from a held Lease to its end, from a free one for one duration at most."""
    return now < s.holder.hold_down_until and now < free_from(s) + s.config.duration_s


def free_from(s: State) -> float:
    """Since (or from) when the Lease has been (or will be) free to take."""
    return s.lease.free_since if s.lease.free_since is not None else s.lease.expiry_at


def take_rules(t: Turn) -> None:
    """Everything a candidate does by itself."""
    s = t.state
    if not may_take(t) or s.lease.writing is not None:
        return
    if s.lease.unsettled:
        t.read_when_due()
        return
    if t.names_me:
        # Mine still (an answer came too late, or the API was away): renew first, act on its success.
        if t.now >= s.lease.write_due_at:
            t.holder(took_why=Reason.RENEWED_AGAIN if s.holder.key else Reason.OWN_EARLIER_RUN)
            t.write(WriteKind.RENEW)
        return
    if barred(s, t.now) or s.healthy is None:
        return
    sharing_rules(t)
    s = t.state
    if s.lease.writing is not None or must_probe(s, t.now):
        return
    if offered(s, t.now):
        if t.now >= s.lease.offer_seen_at + timing.spread_s(s.config.priority):
            take(t, Reason.OFFERED)
        return
    _take_what_is_free(t)


def offered(s: State, now: float) -> bool:
    """Whether the holder offers its Lease to this member, and this member is ready for it."""
    view = s.lease.view
    if view is None or s.lease.absent or view.offer is None or now < s.holder.hold_down_until:
        return False
    if same_eni(s, view) and view.tenure is not None and view.tenure.fence is Fence.ENI:
        # The old owner would go on answering on this very ENI.
        return False
    return view.offer.to in ("", s.config.identity)


def _take_what_is_free(t: Turn) -> None:
    s = t.state
    if s.lease.free_since is not None:
        if t.now >= s.lease.free_since + timing.spread_s(s.config.priority):
            take(t, Reason.LEASE_ABSENT if s.lease.absent else Reason.LEASE_FREE)
        return
    _take_at_expiry(t)


def _take_at_expiry(t: Turn) -> None:
    s = t.state
    at = take_at(s)
    preread_at = at - timing.PREREAD_S
    fresh = s.lease.read_ok_sent_at >= preread_at
    if t.now >= at and fresh and not s.lease.count_held:
        take(t, Reason.LEASE_EXPIRED)
    elif t.now >= preread_at and not fresh:
        t.read_when_due()
    elif t.now < preread_at and t.now >= overdue_at(s):
        t.lease(overdue_read_at=t.now + timing.OVERDUE_READ_S)
        t.read_when_due()


def take_at(s: State) -> float:
    """When this candidate takes the present holder's Lease if nothing more is heard of it."""
    view = s.lease.view
    vipd_with_margin = view is not None and view.tenure is not None and view.tenure.fence is Fence.ENI
    lead = timing.TAKE_LEAD_S if vipd_with_margin else 0.0
    return s.lease.expiry_at - lead + timing.spread_s(s.config.priority)


def overdue_at(s: State) -> float:
    """When the absence of renewals is worth asking about (again)."""
    view = s.lease.view
    interval = holder_duration_s(s, view) / 3
    if view is not None and view.tenure is not None:
        interval = min(view.tenure.interval_s, holder_duration_s(s, view) / 2)
    return max(s.lease.seen_at + timing.OVERDUE_INTERVALS * interval, s.lease.overdue_read_at)


def holder_duration_s(s: State, view: LeaseView | None) -> float:
    """The holder's own duration; where a Lease names none, mine."""
    return float(view.duration_s) if view is not None and view.duration_s > 0 else float(s.config.duration_s)


def take(t: Turn, why: Reason) -> None:
    """Compare-and-swap the Lease to me, as a new tenure."""
    t.holder(took_why=why)
    t.write(WriteKind.CREATE if t.state.lease.absent else WriteKind.TAKE)


def read_failed(t: Turn) -> None:
    """A candidate's read got no answer: its count stands still, for three such series of one content at most."""
    s = t.state
    t.lease(read_due_at=t.now + timing.RETRY_S)
    view = s.lease.view
    if view is None or not view.holder or t.names_me or s.lease.count_restarts >= timing.MAX_COUNT_RESTARTS:
        return
    t.lease(count_held=True)


def count_on(t: Turn) -> None:
    """A read was answered again: the count starts anew, so that the holder has its chance to renew first."""
    s = t.state
    if not s.lease.count_held:
        return
    expiry = max(s.lease.expiry_at, t.now + holder_duration_s(s, s.lease.view))
    t.lease(count_held=False, expiry_at=expiry, count_restarts=s.lease.count_restarts + 1)


def read_ahead_of_watch(t: Turn) -> None:
    """A read told more than the watch did.  Once is a race; twice in a row means a half-open watch."""
    count = t.state.lease.reads_ahead_of_watch + 1
    t.lease(reads_ahead_of_watch=count)
    if count >= 2:
        t.lease(reads_ahead_of_watch=0)
        t.note(Reason.HALF_OPEN_WATCH, "reads show renewals that the watch did not: connecting it anew")
        t.emit(Rewatch())


def candidate_times(s: State) -> list[float]:
    """The moments at which a candidate's rules change their answer."""
    lease = s.lease
    times = [lease.write_due_at, s.holder.hold_down_until, free_from(s) + s.config.duration_s, probe_from(s)]
    if lease.view is not None and lease.view.offer is not None:
        times.append(lease.offer_seen_at + timing.spread_s(s.config.priority))
    if lease.free_since is not None:
        return [*times, lease.free_since + timing.spread_s(s.config.priority)]
    return [*times, take_at(s), take_at(s) - timing.PREREAD_S, overdue_at(s)]
