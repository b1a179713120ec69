"""One step of the election: the state as it is being changed, and the effects asked for so far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vipd.core import timing
from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE, render_tenure
from vipd.core.messages import Changed, Effect, Note, ReadLease, RemoveAddresses, WriteLease
from vipd.core.model import LeaseDraft, LeaseView, Tenure
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.state import NEVER, State


class Turn:
    """Collects what one event changes.  Lives for one call of ``decide``; nothing outside sees it."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.effects: list[Effect] = []

    # ------------------------------------------------------------------------------------ small moves

    def set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def lease(self, **changes: Any) -> None:
        self.state = replace(self.state, lease=replace(self.state.lease, **changes))

    def holder(self, **changes: Any) -> None:
        self.state = replace(self.state, holder=replace(self.state.holder, **changes))

    def address(self, **changes: Any) -> None:
        self.state = replace(self.state, address=replace(self.state.address, **changes))

    def mapping(self, **changes: Any) -> None:
        self.state = replace(self.state, mapping=replace(self.state.mapping, **changes))

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
        self.emit(
            WriteLease(
                kind=kind,
                base=base,
                draft=draft_for(self.state, kind),
                timeout_s=timing.attempt_timeout_s(self.state.config.duration_s),
            )
        )

    # ------------------------------------------------------------------------------------ losing

    def end_right(self) -> None:
        """The right to act is over: from here on no EC2 write, no announcement."""
        self.holder(right_until=NEVER)
        self.address(announce_due=())
        self.mapping(
            todo=frozenset(),
            assign_due_at=None,
            failing=None,
            failing_detail="",
            contrary=frozenset(),
            gone_first_at=None,
            gone_at=None,
            confirmed=False,
            ask_due_at=self.now if self.state.config.managed else None,
        )

    def withdraw(self, reason: Reason) -> None:
        """Take the addresses off the interface."""
        self.address(removing=True, put_due_at=None, announce_due=(), lives_until=NEVER)
        self.emit(RemoveAddresses(reason=reason))

    def start_hold_down(self, *, free_too: bool = False) -> None:
        """Bar this member from taking for a while: 30 s after a first fault, doubling to 10 min."""
        faults = self.state.holder.faults + 1
        self.holder(faults=faults, hold_down_until=self.now + timing.hold_down_s(faults), hold_down_free=free_too)


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
    if kind is WriteKind.RENEW or kind is WriteKind.RECREATE:
        assert view is not None
        transitions, acquired = view.transitions, view.acquire_time
    else:
        transitions, acquired = (view.transitions + 1 if view else 0), None
    same_tenure = view is not None and state.holder.key == (view.uid, transitions)
    tenure = Tenure(
        holder=config.identity,
        transitions=transitions,
        incarnation=config.incarnation,
        eni=config.eni,
        fence=config.fence,
        priority=config.priority,
        interval_s=config.interval_s,
        moved=not config.managed or (same_tenure and state.mapping.moved),
    )
    annotations: dict[str, str | None] = {TENURE: render_tenure(tenure)}
    if acquired is None:
        annotations |= {OFFER: None, REQUEST: None, SHARED: None}
    return LeaseDraft(
        holder=config.identity,
        duration_s=config.duration_s,
        transitions=transitions,
        acquire_time=acquired,
        annotations=annotations,
    )
