"""A member that lost the Lease but still bears the address: it answers quietly until the mapping has left it.

So no packet meets an empty chair: the VPC delivers here until EC2 has applied the successor's call.  This is
safe only where the mapping fences (another ENI, a vipd successor); anybody else makes us withdraw at once.
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.eni import ask_rules, gone_counts_from
from vipd.core.handover import offer_taken
from vipd.core.holder import plumb_rules
from vipd.core.holding import may_hold, may_stay, silent
from vipd.core.messages import AddressesRemoved, Exit, MappingSeen
from vipd.core.model import Fence, LeaseView, Mapped
from vipd.core.reasons import Phase, Reason
from vipd.core.sharing import unheard_rules
from vipd.core.state import NEVER, State
from vipd.core.turn import Turn


def lose(t: Turn, view: LeaseView) -> None:
    """The Lease does not name this process: the right is void at once; keep answering or withdraw."""
    s = t.state
    why, detail, fenced = _successor(s, view)
    if s.quiet and why is Reason.OTHER_HOLDER:
        why = s.handover.reason or why
        offer_taken(t)
    was_yielding = s.phase is Phase.YIELDING
    if not was_yielding:
        t.end_right()
    if s.leaving and s.letting_go is None:
        t.set(letting_go=Reason.STOPPING)
    if fenced:
        if not was_yielding:
            served = s.phase in (Phase.ACTIVE, Phase.HOLDING)
            t.enter(Phase.YIELDING, why if served else Reason.LEFT_OVER, detail)
            t.address(put_due_at=t.now if served else s.address.put_due_at)
        return
    if s.address.to_withdraw:
        t.withdraw(why)
    t.enter(Phase.YIELDING if s.leaving or was_yielding else Phase.STANDBY, why, detail)


def _successor(s: State, view: LeaseView) -> tuple[Reason, str, bool]:
    """Who has it now: (reason, words, whether the mapping tells us apart)."""
    mapping_fences = s.fence is Fence.ENI
    if not view.holder:
        return Reason.LEASE_CLEARED, "the Lease names nobody", mapping_fences
    if view.holder == s.config.identity:
        return Reason.DUPLICATE_IDENTITY, f"another process renews as {view.holder}", False
    detail = f"the Lease is held by {view.holder}"
    if view.tenure is None:
        return Reason.FOREIGN_HOLDER, f"{detail}, which is no vipd", False
    elsewhere = bool(view.tenure.enis) and not (view.tenure.enis & s.config.enis)
    if mapping_fences and not elsewhere:
        return Reason.SAME_ENI_HOLDER, f"{detail} on the same ENI", False
    return Reason.OTHER_HOLDER, detail, mapping_fences


def yielding_rules(t: Turn) -> None:
    """When to go on answering, and when to withdraw; YIELDING and HOLDING differ in what is known of the Lease."""
    s = t.state
    if s.phase is Phase.YIELDING and may_hold(s):
        t.enter(Phase.HOLDING, Reason.API_AWAY, "the API is away, and the VPC still delivers here")
    elif s.phase is Phase.HOLDING and not may_stay(s):
        t.enter(Phase.YIELDING, _why_no_longer(s))
    s = t.state
    if s.address.removing:
        return
    if s.address.borne and t.now >= s.address.lives_until:
        # The kernel has removed them by now (this process slept): adding them again is not ours to do.
        t.address(borne=frozenset(), put_due_at=None)
        s = t.state
    if not s.address.borne and not s.address.putting:
        _leave_yielding(t, Reason.NOTHING_BORNE)
        return
    if s.doubt_since is not None:
        t.read_when_due()
        ask_rules(t)
        if not _still_here(s):
            return
    why = _time_to_withdraw(s, t.now)
    if why is not None:
        t.set(reason=why)
        t.withdraw(why)
        return
    plumb_rules(t)
    ask_rules(t)
    unheard_rules(t)


def _still_here(s: State) -> bool:
    """Whether a member that stood still in an outage of the API may go on: IMDS, asked since then, says so.

    The Lease cannot be read; what entitles to HOLDING is the mapping, and the address has not ended meanwhile.
    """
    return s.phase is Phase.HOLDING and s.doubt_since is not None and s.mapping.mine_asked_at >= s.doubt_since


def _why_no_longer(s: State) -> Reason:
    return Reason.IMDS_SILENT if silent(s) else Reason.MAPPING_GONE


def _time_to_withdraw(s: State, now: float) -> Reason | None:
    m = s.mapping
    if m.gone_at is not None and now >= m.gone_at + timing.DRAIN_S:
        return Reason.MAPPING_GONE
    if now >= successor_moved_by(s):
        return Reason.SUCCESSOR_MOVED
    if s.leaving and now >= free_long_enough(s):
        return Reason.STILL_FREE
    return None


def successor_moved_by(s: State) -> float:
    """IMDS silent: when the successor's own word that it moved the mapping is old enough."""
    m = s.mapping
    if s.successor_moved_at is None or m.silent_since is None or m.silent_count < timing.MAPPING_SILENT_FAILURES:
        return float("inf")
    quiet_writer = s.successor_moved_at - m.last_write_at >= timing.QUIET_WRITER_S and m.mine_at < s.successor_moved_at
    wait = timing.DRAIN_S if quiet_writer else timing.SUCCESSOR_MOVED_OLD_WRITER_S
    # IMDS that showed it here later lagged, or a late write of mine had taken it back, which the successor repairs.
    told_at = max(s.successor_moved_at, m.mine_at)
    return max(told_at + wait, m.silent_since + timing.MAPPING_SILENT_S)


def free_long_enough(s: State) -> float:
    """A leaving member waits this long for somebody to take the Lease it released."""
    if s.released_at is None or s.lease.free_since is None:
        return float("inf")
    return s.released_at + timing.LEAVE_WHEN_FREE_S


def on_mapping_seen_yielding(t: Turn, event: MappingSeen) -> None:
    """Twice "gone", half a second apart, is gone; "mine" starts anew."""
    s = t.state
    m = s.mapping
    t.mapping(ask_due_at=t.now + s.config.ask_fast_s)
    readings = [event.mapping.get(a, Mapped.UNKNOWN) for a in s.config.addresses]
    if any(r is Mapped.MINE for r in readings):
        t.mapping(gone_first_at=None, gone_at=None)
    elif all(r is Mapped.GONE for r in readings) and event.asked_at >= gone_counts_from(s):
        if m.gone_first_at is None:
            t.mapping(gone_first_at=event.asked_at)
        elif m.gone_at is None and event.asked_at >= m.gone_first_at + timing.MAPPING_FAST_S:
            t.mapping(gone_at=t.now)


def on_removed(t: Turn, event: AddressesRemoved) -> None:
    """The addresses are off the interface (or will be, when the kernel's lifetime ends)."""
    t.address(removing=False, borne=frozenset(), lives_until=t.now)
    if not event.failure:
        t.address(lingers_until=NEVER)
    else:
        t.note(t.state.reason, f"could not remove the VIP, its lifetime ends it: {event.failure}", warning=True)
    if t.state.phase in (Phase.YIELDING, Phase.HOLDING):
        _leave_yielding(t, t.state.reason)


def _leave_yielding(t: Turn, reason: Reason) -> None:
    """Nothing is borne any more: where to go."""
    s = t.state
    if s.leaving:
        if s.lease.writing is None and not s.lease.unsettled and not t.names_me:
            stop(t, reason)
        return
    if s.letting_go is not None and t.names_me:
        return
    if not s.fit or t.now < s.holder.hold_down_until:
        t.enter(Phase.FAULT, reason)
    else:
        t.enter(Phase.STANDBY, reason)


def stop(t: Turn, reason: Reason) -> None:
    """The end: nothing is borne by our hand, nothing is held."""
    if t.state.address.to_withdraw:
        t.withdraw(reason)
    t.enter(Phase.STOPPED, reason)
    t.emit(Exit(code=0))
