"""One step of the election: the state as it is being changed, and the effects asked for so far."""

from __future__ import annotations

from typing import Any

from vipd.core import timing
from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE, render_offer, render_tenure
from vipd.core.messages import AnnotateLease, Changed, Effect, Note, ReadLease, RemoveAddresses, WriteLease
from vipd.core.model import Fence, LeaseDraft, LeaseView, Offer, Tenure
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.state import NEVER, HandoverSide, State, changed


class Turn:
    """Collects what one event changes.  Lives for one call of ``decide``; nothing outside sees it."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.effects: list[Effect] = []

    # ------------------------------------------------------------------------------------ small moves

    def set(self, **changes: Any) -> None:
        self.state = changed(self.state, changes)

    def lease(self, **changes: Any) -> None:
        self.state = changed(self.state, {"lease": changed(self.state.lease, changes)})

    def holder(self, **changes: Any) -> None:
        self.state = changed(self.state, {"holder": changed(self.state.holder, changes)})

    def address(self, **changes: Any) -> None:
        self.state = changed(self.state, {"address": changed(self.state.address, changes)})

    def mapping(self, **changes: Any) -> None:
        self.state = changed(self.state, {"mapping": changed(self.state.mapping, changes)})

    def handover(self, **changes: Any) -> None:
        self.state = changed(self.state, {"handover": changed(self.state.handover, changes)})

    def sharing(self, **changes: Any) -> None:
        self.state = changed(self.state, {"sharing": changed(self.state.sharing, changes)})

    def preempt(self, **changes: Any) -> None:
        self.state = changed(self.state, {"preempt": changed(self.state.preempt, changes)})

    def emit(self, effect: Effect) -> None:
        self.effects.append(effect)

    def note(self, reason: Reason, detail: str, *, warning: bool = False) -> None:
        self.emit(Note(reason=reason, detail=detail, warning=warning))

    def enter(self, phase: Phase, reason: Reason, detail: str = "") -> None:
        if phase is not self.state.phase:
            self.emit(Changed(before=self.state.phase, after=phase, reason=reason, detail=detail))
        self.set(phase=phase, reason=reason, since=self.now)

    # ------------------------------------------------------------------------------------ the Lease

    @property
    def names_me(self) -> bool:
        """Whether the newest reading names this very process as holder."""
        lease = self.state.lease
        return not lease.absent and lease.view is not None and is_mine(self.state, lease.view)

    def read(self) -> None:
        """Ask for a read of the Lease unless one is under way."""
        if self.state.lease.read_sent_at is None:
            self.lease(read_sent_at=self.now, read_due_at=None)
            self.emit(ReadLease(timeout_s=timing.attempt_timeout_s(self.state.config.duration_s)))

    def read_when_due(self) -> None:
        """Like ``read``, but not before the pause after the last one is over."""
        due = self.state.lease.read_due_at
        if due is None or self.now >= due:
            self.read()

    def write(self, kind: WriteKind) -> None:
        """Send a write; the caller has checked that none is under way."""
        lease = self.state.lease
        base = None if lease.absent or kind in (WriteKind.CREATE, WriteKind.RECREATE) else lease.view
        self.lease(writing=kind)
        draft = draft_for(self.state, kind)
        if draft.holder and draft.duration_s < self.state.holder.duration_s:
            # The candidates may count by the shorter duration from now on, whether or not I get to hear so.
            ends_at = self.now + draft.duration_s - timing.margin_s(draft.duration_s)
            self.holder(right_until=min(self.state.holder.right_until, ends_at))
        self.emit(
            WriteLease(
                kind=kind,
                base=base,
                draft=draft,
                timeout_s=timing.attempt_timeout_s(self.state.config.duration_s),
            )
        )

    def annotate(self, kind: WriteKind, annotations: dict[str, str | None]) -> None:
        """Tell the holder something; the caller has checked that no write is under way and that there is a Lease."""
        view = self.state.lease.view
        assert view is not None
        self.lease(writing=kind)
        timeout_s = timing.attempt_timeout_s(self.state.config.duration_s)
        self.emit(AnnotateLease(kind=kind, base=view, annotations=annotations, timeout_s=timeout_s))

    # ------------------------------------------------------------------------------------ losing

    def end_right(self) -> None:
        """The right to act is over: from here on no EC2 write, no announcement."""
        self.holder(right_until=NEVER)
        self.end_offer()
        self.address(announce_due=(), claim_at=None)
        self.mapping(
            todo=frozenset(),
            trying_since=None,
            assign_due_at=None,
            failing=None,
            failing_detail="",
            contrary=frozenset(),
            gone_first_at=None,
            gone_at=None,
            confirmed=False,
            ask_due_at=self.now if self.state.config.managed else None,
        )

    def end_offer(self) -> None:
        """No offer of mine counts any more."""
        before = self.state.handover
        self.set(handover=HandoverSide(count=before.count, again_at=before.again_at))

    def withdraw(self, reason: Reason) -> None:
        """Take the addresses off the interface."""
        lingers_until = max(self.state.address.lingers_until, self.state.address.lives_until)
        self.address(removing=True, put_due_at=None, announce_due=(), lives_until=NEVER, lingers_until=lingers_until)
        self.emit(RemoveAddresses(reason=reason))

    def start_hold_down(self) -> None:
        """Bar this member from taking for a while: 30 s after a first fault, doubling to 10 min."""
        faults = self.state.holder.faults + 1
        self.holder(faults=faults, hold_down_until=self.now + timing.hold_down_s(faults))


def is_mine(state: State, view: LeaseView) -> bool:
    """Whether ``view`` names this process, not only its name (a duplicate identity has another incarnation)."""
    if view.holder != state.config.identity or not view.holder:
        return False
    if view.tenure is not None and view.tenure.incarnation == state.config.incarnation:
        return True
    return view.content == state.lease.my_content


def draft_for(state: State, kind: WriteKind) -> LeaseDraft:
    """What a write of this kind puts into the Lease."""
    config, view = state.config, state.lease.view
    if kind is WriteKind.RELEASE:
        # client-go's released form: no holder, one second.
        transitions = view.transitions if view else 0
        return LeaseDraft(holder="", duration_s=1, transitions=transitions, acquire_time=None)
    if kind in (WriteKind.RENEW, WriteKind.RECREATE, WriteKind.OFFER, WriteKind.CANCEL):
        assert view is not None
        transitions, acquired = view.transitions, view.acquire_time
    else:
        # An int32 that somebody set to its end must not make the Lease untakeable: it begins anew.
        transitions, acquired = ((view.transitions + 1) % 2**31 if view else 0), None
    annotations: dict[str, str | None] = {TENURE: render_tenure(_tenure(state, transitions))}
    if acquired is None:
        annotations |= {OFFER: None, REQUEST: None, SHARED: None}
    elif kind is WriteKind.OFFER:
        annotations |= {OFFER: render_offer(_offer(state, transitions)), REQUEST: None}
    elif kind is WriteKind.CANCEL:
        annotations |= {OFFER: None}
        if view is not None and view.request is not None and view.request.id == state.handover.id:
            # The offer that would have answered it never came to stand: it must not be made for ever.
            annotations |= {REQUEST: None}
    return LeaseDraft(
        holder=config.identity,
        duration_s=duration_s(state, transitions),
        transitions=transitions,
        acquire_time=acquired,
        annotations=annotations,
    )


def duration_s(state: State, transitions: int) -> int:
    """The Lease duration to write: where the address ends with the Lease, 2 s at least, in whole seconds.

    There a shorter one waits for the next tenure: the address bears a lifetime by the longer one.
    """
    if state.fence is not Fence.LEASE:
        return state.config.duration_s
    same_tenure = state.lease.view is not None and state.holder.key == (state.lease.view.uid, transitions)
    return max(state.config.duration_s, 2, state.holder.duration_s if same_tenure else 0)


def _tenure(state: State, transitions: int) -> Tenure:
    config, view = state.config, state.lease.view
    same_tenure = view is not None and state.holder.key == (view.uid, transitions)
    # "lease" may be said only once the address really ends with the Lease: others rely on it.
    bounded = same_tenure and address_bounded(state)
    return Tenure(
        holder=config.identity,
        transitions=transitions,
        incarnation=config.incarnation,
        eni=config.eni,
        fence=state.fence if bounded else config.fence,
        priority=config.priority,
        interval_s=config.interval_s,
        moved=not config.managed or (same_tenure and state.mapping.moved),
        vips=tuple(str(address) for address in config.addresses),
        why=_why(state, transitions),
    )


def _why(state: State, transitions: int) -> str:
    """Why this tenure began: what its first write said, for as long as it lasts."""
    view = state.lease.view
    before = view.tenure if view is not None and view.transitions == transitions else None
    mine = before is not None and before.holder == state.config.identity
    return before.why if before is not None and mine and before.why else state.holder.took_why.value


def address_bounded(state: State) -> bool:
    """Whether the kernel removes my addresses before my Lease can have ended."""
    address, holder = state.address, state.holder
    if address.putting:
        return False
    end = holder.renewed_at + holder.duration_s - timing.FENCE_LEASE_GUARD_S
    return not address.borne or address.lives_until <= end + 0.001


def _offer(state: State, transitions: int) -> Offer:
    handover = state.handover
    assert handover.reason is not None
    return Offer(
        holder=state.config.identity,
        transitions=transitions,
        id=handover.id,
        to=handover.to,
        why=handover.reason.value,
    )
