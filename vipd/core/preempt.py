"""A ready candidate of higher priority asks the holder to hand over (``--preempt``).

Only for a strictly higher priority, only after it has been ready for a while, once in a while, and not where an
operator has just moved the VIP away from here: two members never throw the VIP to and fro.
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.annotations import REQUEST, render_request
from vipd.core.model import Fence, LeaseView, Request
from vipd.core.reasons import Phase, WriteKind
from vipd.core.sharing import same_eni
from vipd.core.state import State
from vipd.core.turn import Turn


def preempt_rules(t: Turn) -> None:
    """Count how long this member has been ready; ask when it is time."""
    s = t.state
    if not s.config.preempt:
        return
    ready = s.phase is Phase.STANDBY and s.fit and s.healthy is True and t.now >= s.holder.hold_down_until
    if not ready:
        if s.preempt.ready_since is not None:
            t.preempt(ready_since=None)
        return
    if s.preempt.ready_since is None:
        t.preempt(ready_since=t.now)
    s = t.state
    view = s.lease.view
    if view is None or t.now < ask_at(s) or not _askable(s, view) or s.lease.writing is not None:
        return
    config = s.config
    request = Request(
        holder=view.holder,
        transitions=view.transitions,
        id=f"{config.incarnation[:8]}-{view.transitions}",
        by=config.identity,
        to=config.identity,
        priority=config.priority,
    )
    t.preempt(again_at=t.now + timing.PREEMPT_AGAIN_S)
    t.annotate(WriteKind.REQUEST, {REQUEST: render_request(request)})


def _askable(s: State, view: LeaseView) -> bool:
    """Whether this holder would hand over to me."""
    if s.lease.absent or s.leaving or s.doubt_since is not None or view.tenure is None or view.offer is not None:
        return False
    if view.tenure.priority >= s.config.priority or (same_eni(s, view) and view.tenure.fence is Fence.ENI):
        return False
    return view.request is None or view.request.priority < s.config.priority


def ask_at(s: State) -> float:
    """When the holder may be asked (again)."""
    ready_since = s.preempt.ready_since
    if ready_since is None:
        return float("inf")
    asked = max(s.preempt.again_at, s.lease.annotate_due_at)
    return max(ready_since + timing.PREEMPT_AFTER_S, s.preempt.barred_until, asked)
