"""A candidate on the holder's own ENI: there the mapping tells nobody apart.

It tells the holder (annotation ``vipd.io/shared``), which then lets its address end with its Lease and says so
(``fence: lease``).  Until that is said, the address may outlive the Lease: the candidate takes no offer, and takes
an ended Lease only when nobody answers for the VIPs on the link.  Who released the Lease and still answers is
told in the same way, and takes its address off.
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.annotations import SHARED, render_shared
from vipd.core.messages import ProbeAddresses, Probed
from vipd.core.model import Fence, LeaseView, Tenure
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.state import State
from vipd.core.turn import Turn

PROBE_LEAD_S = 0.6
"""A probe takes 0.4 s; it is sent early enough to be answered at the expiry."""


def same_eni(s: State, view: LeaseView) -> bool:
    """Whether the holder's VIPs go to an ENI of mine."""
    return view.tenure is not None and on_my_eni(s, view.tenure)


def on_my_eni(s: State, other: Tenure) -> bool:
    """Whether that tenure's VIPs go, or went, to an ENI of mine, and it is no earlier run's of this member."""
    return bool(other.enis & s.config.enis) and other.holder != s.config.identity


def sharing_rules(t: Turn) -> None:
    """Tell the holder once for each tenure; ask the link when the Lease is about to be free."""
    s = t.state
    view = s.lease.view
    last = (view.tenure or view.former) if view is not None and not s.lease.absent else None
    if view is not None and last is not None and on_my_eni(s, last):
        key = (view.uid, view.transitions)
        told = s.sharing.marked == key or bool(view.shared_eni) or last.fence is Fence.LEASE
        if not told and s.lease.writing is None and t.now >= s.lease.annotate_due_at:
            t.sharing(marked=key)
            t.annotate(WriteKind.SHARED, {SHARED: render_shared(last.holder, view.transitions, s.config.eni)})
    if must_probe(t.state, t.now) and t.now >= probe_from(s):
        ask_link(t)


def ask_link(t: Turn) -> None:
    """Ask who answers for the VIPs, one question at a time."""
    if not t.state.sharing.probing and t.now >= t.state.sharing.probe_due_at:
        t.sharing(probing=True)
        t.emit(ProbeAddresses())


def must_probe(s: State, now: float) -> bool:
    """Whether somebody may bear the address on my ENI, unseen by any mapping."""
    if s.config.fence is not Fence.ENI:
        return False
    last = bool(s.lease.last_enis & s.config.enis) and s.lease.last_fence is Fence.ENI
    return is_stranger(s) or ((last or s.sharing.met) and now >= s.sharing.clear_until)


def is_stranger(s: State) -> bool:
    """Whether this member cannot know whom it would have met (just started, or away); without a Lease, nobody."""
    return not s.sharing.asked and not s.lease.absent


def missed_tenures(before: LeaseView | None, view: LeaseView) -> bool:
    """Whether somebody held the Lease between two readings: he may have been on my ENI, and answer there still."""
    return before is not None and (view.uid != before.uid or view.transitions > before.transitions + 1)


def back_on_link(t: Turn) -> None:
    """While the link was down nobody could hear that this member bears the address: whoever asked may have taken."""
    t.sharing(asked=False)
    if t.state.phase in (Phase.HOLDING, Phase.YIELDING) and t.state.config.fence is Fence.ENI and t.state.address.borne:
        ask_link(t)


def told_after_release(t: Turn, view: LeaseView) -> bool:
    """Whether a candidate on my ENI waits for me to fall silent: I have released the Lease, and answer still."""
    s = t.state
    mine = view.former is not None and view.former.incarnation == s.config.incarnation
    return mine and bool(view.shared_eni) and bool(s.address.borne) and not s.address.removing


def meet(t: Turn, other: Tenure) -> None:
    """Another holder is, or was, on my ENI.  Whoever takes the Lease from it, its address may live on here, quietly."""
    if on_my_eni(t.state, other) and other.fence is Fence.ENI:
        t.sharing(met=True)


def probe_from(s: State) -> float:
    """When to ask the link: once after the start, then shortly before the Lease may be taken."""
    view = s.lease.view
    if is_stranger(s):
        at = s.started_at
    elif s.lease.free_since is not None:
        at = s.lease.free_since
    elif view is not None and view.offer is not None:
        at = s.lease.offer_seen_at
    else:
        at = s.lease.expiry_at - PROBE_LEAD_S
    return max(at, s.sharing.probe_due_at)


def on_probed(t: Turn, event: Probed) -> None:
    """Nobody answered: for a moment the address is known to be unborne.  Somebody did: he is met."""
    t.sharing(probing=False, asked=True, probe_due_at=t.now + timing.PROBE_AGAIN_S)
    s = t.state
    if event.answered:
        t.sharing(met=True)
        unseen = s.phase is not Phase.ACTIVE and (s.lease.away_since is not None or not s.lease.known)
        if event.asked and unseen and s.address.borne and not s.address.removing:
            # Somebody on this ENI has taken, while this member was away from the API, and from the link or not running.
            t.withdraw(Reason.SAME_ENI_HOLDER)
    else:
        t.sharing(clear_until=t.now + timing.CLEAR_FOR_S)
