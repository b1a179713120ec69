"""What readings of the Lease and answers to writes mean, whatever state this member is in.

The newest resourceVersion wins.  A write whose answer was lost is settled by reading, never by guessing.
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.candidate import count_on, holder_duration_s, read_ahead_of_watch, read_failed
from vipd.core.holder import hold
from vipd.core.messages import LeaseRead, LeaseWatched, LeaseWrote
from vipd.core.model import CallFailed, CallFailure, Conflict, LeaseAbsent, LeaseView, WriteOutcome, Written
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.sharing import meet, missed_tenures, told_after_release
from vipd.core.turn import Turn, is_mine
from vipd.core.yielding import lose

SENT_AGAIN = frozenset({WriteKind.RENEW, WriteKind.OFFER, WriteKind.CANCEL})
"""Writes of a holder inside its tenure: sent again on the same base, a conflict tells whether the first was applied."""

REFUSED = frozenset({CallFailure.UNAUTHORIZED, CallFailure.FORBIDDEN, CallFailure.INVALID})
"""Failures that do not go by of themselves: somebody has to do something."""

NEVER_TAKEN = frozenset({CallFailure.FORBIDDEN, CallFailure.INVALID})
"""Of these: sending the same again does not help."""


def on_read(t: Turn, event: LeaseRead) -> None:
    """The answer to ReadLease."""
    t.lease(read_sent_at=None)
    outcome = event.outcome
    if isinstance(outcome, CallFailed):
        _away(t, outcome.detail)
        read_failed(t)
        return
    _back(t)
    if event.sent_at < t.state.lease.wrote_at:
        # Sent before my own write was answered: it may tell of the time before it.
        t.read()
        return
    t.lease(read_ok_sent_at=event.sent_at, read_due_at=None, unsettled=False)
    count_on(t)
    doubt = t.state.doubt_since
    if doubt is not None and event.sent_at >= doubt:
        t.set(doubt_since=None)
    if isinstance(outcome, LeaseAbsent):
        _absent(t)
        return
    if outcome.newer_than(t.state.lease.view) and t.state.lease.known and t.state.phase is not Phase.ACTIVE:
        read_ahead_of_watch(t)
    observe(t, outcome, read_sent_at=event.sent_at)


def _away(t: Turn, detail: str = "") -> None:
    """The API answered nothing that can be used; IMDS is asked at once whether the VPC still delivers here."""
    if t.state.lease.away_since is not None:
        return
    t.lease(away_since=t.now)
    if detail:
        t.note(Reason.API_AWAY, f"could not read the Lease: {detail}")
    if t.state.config.managed and t.state.address.borne:
        t.mapping(ask_due_at=t.now)


def _back(t: Turn) -> None:
    """The API answers."""
    since = t.state.lease.away_since
    if since is not None:
        t.lease(away_since=None)
        t.note(Reason.API_BACK, f"the Kubernetes API answers again, after {t.now - since:.1f} s")


def on_watched(t: Turn, event: LeaseWatched) -> None:
    """What the watch delivered."""
    outcome = event.outcome
    if isinstance(outcome, LeaseView):
        _back(t)
        t.lease(reads_ahead_of_watch=0)
        observe(t, outcome)
    elif isinstance(outcome, LeaseAbsent):
        # A deletion bears no version to compare with: only a read settles whether it is still the case.
        if t.state.lease.known:
            t.read()
        else:
            _absent(t)
    elif not t.state.lease.known:
        # Just started, and nothing to be had: an address that an earlier run left is held while IMDS says so.
        _away(t, outcome.detail)


def observe(t: Turn, view: LeaseView, *, read_sent_at: float | None = None) -> None:
    """Take in a reading, unless something newer is known already.

    A read that was sent after the present view was learnt is newer by itself (quorum reads are linearizable),
    even where a restored etcd has put the versions back.
    """
    lease = t.state.lease
    surely_newer = read_sent_at is not None and read_sent_at >= lease.learned_at
    if lease.known and not surely_newer:
        if not view.newer_than(lease.view):
            return
        if lease.absent and lease.view is not None and view.uid == lease.view.uid:
            return
    if missed_tenures(lease.view, view):
        t.sharing(asked=False)
    if not lease.known:
        # Before anything is concluded from it: an earlier run's tenure is nobody else's.
        _adopt_earlier_run(t, view)
    _learn(t, view)
    last = view.tenure or view.former
    if last is not None and not is_mine(t.state, view) and last.incarnation != t.state.config.incarnation:
        t.lease(last_enis=last.enis, last_fence=last.fence)
        meet(t, last)
    _judge(t, view)


def _learn(t: Turn, view: LeaseView) -> None:
    lease = t.state.lease
    _count(t, view)
    if lease.view is None or view.resource_version != lease.view.resource_version:
        # What a write conflicted with is known now.
        t.lease(conflicts=0)
    t.lease(view=view, known=True, absent=False, learned_at=t.now)
    if lease.view is None or (lease.view.holder, lease.view.transitions) != (view.holder, view.transitions):
        t.set(successor_moved_at=None)
    moved = view.tenure is not None and view.tenure.moved and not is_mine(t.state, view)
    if moved and t.state.successor_moved_at is None:
        t.set(successor_moved_at=t.now)


def _count(t: Turn, view: LeaseView) -> None:
    """Start or keep the count of this content; for one content the expiry never moves earlier."""
    lease = t.state.lease
    duration = holder_duration_s(t.state, view)
    if lease.view is None or lease.view.content != view.content:
        t.lease(seen_at=t.now, expiry_at=t.now + duration, count_restarts=0, count_held=False, read_due_at=None)
    elif lease.seen_at + duration > lease.expiry_at:
        t.lease(expiry_at=lease.seen_at + duration)
    if view.offer is not None and (lease.view is None or lease.view.offer != view.offer):
        t.lease(offer_seen_at=t.now)
    if view.holder:
        t.lease(free_since=None)
    elif lease.free_since is None:
        t.lease(free_since=t.now)


def _adopt_earlier_run(t: Turn, view: LeaseView) -> None:
    """The first reading names me: an earlier run of mine, since one process alone holds this namespace's lock.

    Only where the tenure went to this very ENI; anything else bears my name by mistake and is foreign.
    """
    config = t.state.config
    if view.holder != config.identity:
        return
    if view.tenure is not None and view.tenure.eni == config.eni:
        t.lease(my_content=view.content)


def _absent(t: Turn) -> None:
    """There is no Lease: its expiry outlives it for candidates, and its holder recreates it (see holder rules)."""
    lease = t.state.lease
    nobody = lease.view is None or not lease.view.holder
    free_since = lease.free_since
    if nobody and free_since is None:
        free_since = t.now
    if not lease.absent:
        t.lease(write_due_at=t.now)
    t.lease(absent=True, known=True, free_since=free_since)


def _judge(t: Turn, view: LeaseView) -> None:
    """What a reading that is not mine means for what I hold or bear."""
    s = t.state
    if is_mine(s, view):
        return
    if s.letting_go is not None and not s.leaving:
        t.set(letting_go=None)
    if told_after_release(t, view):
        t.withdraw(Reason.SAME_ENI_HOLDER)
        return
    if not view.holder and s.leaving and s.released_at is None:
        t.set(released_at=t.now)
    if s.phase is Phase.ACTIVE or (s.address.borne and not s.address.removing):
        lose(t, view)


def on_wrote(t: Turn, event: LeaseWrote) -> None:
    """The answer to WriteLease, or to AnnotateLease."""
    t.lease(writing=None)
    outcome = event.outcome
    if not isinstance(outcome, CallFailed):
        _back(t)
    if event.kind in (WriteKind.REQUEST, WriteKind.SHARED):
        _annotated(t, outcome)
    elif isinstance(outcome, Written):
        _written(t, event, outcome.view)
    elif isinstance(outcome, Conflict | LeaseAbsent):
        _refused_for_its_base(t)
    else:
        _write_failed(t, event, outcome)


def _refused_for_its_base(t: Turn) -> None:
    """Read what is there, at once; where that did not help (each write conflicts, whatever was read) after a pause."""
    again = t.state.lease.conflicts > 0
    t.lease(
        unsettled=True,
        conflicts=t.state.lease.conflicts + 1,
        write_due_at=t.now,
        read_due_at=t.now + timing.RETRY_S if again else None,
    )
    t.read_when_due()


def _annotated(t: Turn, outcome: WriteOutcome) -> None:
    """A word to the holder: said, or to be said again after the next reading."""
    if isinstance(outcome, Written):
        t.lease(failing="")
        observe(t, outcome.view)
        return
    t.sharing(marked=None)
    if isinstance(outcome, CallFailed):
        if outcome.failure.value != t.state.lease.failing:
            t.lease(failing=outcome.failure.value)
            t.note(Reason.LEASE_WRITE_FAILED, f"could not annotate the Lease: {outcome.detail}", warning=True)
        t.lease(annotate_due_at=t.now + timing.ANNOTATE_AGAIN_S)
    else:
        t.preempt(again_at=t.now)
        t.read()


def _written(t: Turn, event: LeaseWrote, view: LeaseView) -> None:
    released = event.kind is WriteKind.RELEASE
    known = t.state.lease.view
    overtaken = known is not None and not t.state.lease.absent and known.newer_than(view)
    t.lease(unsettled=False, wrote_at=t.now, failing="", my_content=None if released else view.content)
    if not overtaken:
        _learn(t, view)
    elif not released and not t.names_me:
        # The watch was faster than the answer: what I wrote is history already.
        return
    if released:
        t.set(released_at=t.now)
        if not t.state.leaving:
            t.set(letting_go=None)
        return
    hold(t, view, sent_at=event.sent_at, kind=event.kind)


def _write_failed(t: Turn, event: LeaseWrote, failed: CallFailed) -> None:
    """Unknown: a renewal is simply sent again (a conflict will tell); anything else is read first."""
    if failed.failure.value != t.state.lease.failing:
        told = f"could not {event.kind} the Lease: {failed.detail}"
        t.note(Reason.LEASE_WRITE_FAILED, told, warning=failed.failure in REFUSED)
    _away(t)
    if event.kind is WriteKind.OFFER and failed.failure in NEVER_TAKEN:
        t.handover(refused=True)
    t.lease(
        failing=failed.failure.value,
        write_due_at=t.now + timing.RETRY_S,
        read_due_at=t.now + timing.RETRY_S,
        unsettled=event.kind not in SENT_AGAIN,
    )
