"""A member that holds the Lease: renewing, plumbing, announcing.

The right to act ends a margin before the Lease does, counted from when the last successful renewal was *sent*,
whatever is in flight.  A reply that comes after its own deadline gives no right.
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.eni import mapping_rules, new_tenure
from vipd.core.handover import adopt_offer, cancelled, handover_rules, offer_answered
from vipd.core.holding import may_hold
from vipd.core.messages import AddressesPut, AddressLost, Announce, ClaimSeen, PutAddresses
from vipd.core.model import Fence, LeaseView
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.sharing import marked_here
from vipd.core.turn import Turn, address_bounded


def hold(t: Turn, view: LeaseView, *, sent_at: float, kind: WriteKind) -> None:
    """A write that names me was applied."""
    s = t.state
    # The duration as it was written: the configuration may have been reloaded since.
    until = sent_at + view.duration_s - timing.margin_s(view.duration_s)
    t.lease(write_due_at=sent_at + s.config.interval_s)
    if s.letting_go is not None:
        t.lease(write_due_at=t.now)
        return
    if until <= t.now or sent_at < s.holder.jumped_at:
        t.lease(write_due_at=t.now)
        return
    t.holder(right_until=until, renewed_at=sent_at, duration_s=view.duration_s)
    key = (view.uid, view.transitions)
    if key != s.holder.key:
        shared = s.config.managed and bool(s.lease.last_enis & s.config.enis)
        t.holder(key=key, took_at=t.now, previous=s.lease.last_enis - s.config.enis, shared=shared)
        t.lease(last_fence=Fence.LEASE)
        t.end_offer()
        new_tenure(t)
    elif kind is WriteKind.CANCEL:
        cancelled(t)
    elif kind is WriteKind.OFFER:
        offer_answered(t)
    adopt_offer(t, view)
    if view.tenure is not None and view.tenure.moved != t.state.mapping.moved:
        t.lease(write_due_at=t.now)
    if s.phase is not Phase.ACTIVE:
        _become_active(t)
    elif s.fence is Fence.LEASE:
        t.address(put_due_at=t.now)
    if kind is WriteKind.RECREATE:
        t.note(Reason.LEASE_RECREATED, "the Lease had been deleted; recreated it", warning=True)


def _become_active(t: Turn) -> None:
    t.enter(Phase.ACTIVE, t.state.holder.took_why)
    t.holder(announced_key=None)
    t.address(put_due_at=t.now, failures=0)
    t.mapping(gone_first_at=None, gone_at=None, ask_due_at=t.now + t.state.config.ask_fast_s)
    if t.state.config.managed and not t.state.mapping.moved:
        t.mapping(todo=frozenset(t.state.config.addresses), trying_since=t.now, assign_due_at=t.now)


def active_rules(t: Turn) -> None:
    """Everything a holder does by itself."""
    s = t.state
    if t.now >= s.holder.right_until:
        right_ended(t)
        return
    if s.doubt_since is not None:
        t.read_when_due()
        return
    sharing_rules(t)
    handover_rules(t)
    if t.state.phase is not Phase.ACTIVE:
        return
    _renewal_rules(t)
    plumb_rules(t)
    if t.state.phase is Phase.ACTIVE:
        mapping_rules(t)
        _defend(t)
        _announce_rules(t)


def _renewal_rules(t: Turn) -> None:
    s = t.state
    if s.lease.writing is not None or (s.quiet and s.address.removing):
        # In a moment the offer can be written, which renews as well.
        return
    if s.lease.unsettled:
        t.read_when_due()
    elif s.lease.absent:
        if t.now >= s.lease.write_due_at:
            t.write(WriteKind.RECREATE)
    elif t.now >= s.lease.write_due_at:
        t.write(WriteKind.RENEW)


def plumb_rules(t: Turn) -> None:
    """Add or refresh the addresses when their time has come (ACTIVE, HOLDING and YIELDING)."""
    s = t.state
    address = s.address
    if s.quiet and s.fence is Fence.LEASE:
        # Taken off for the offer: it comes back with the cancel.
        return
    if address.put_due_at is None or t.now < address.put_due_at or address.putting or address.removing:
        return
    renewed_at = s.holder.renewed_at
    valid = timing.lifetime_s(s.fence, s.holder.duration_s, t.now - renewed_at)
    if valid < 1:
        t.address(put_due_at=None)
        return
    t.address(
        putting=True,
        lives_until=t.now + valid,
        put_due_at=_next_put(t, renewed_at),
    )
    not_after = in_time = None
    if s.fence is Fence.LEASE:
        # An addition that stalls on its way would let the address outlive the Lease by as long.
        in_time = timing.address_ends_at(renewed_at, s.holder.duration_s) - valid + timing.PUT_STALL_S
        not_after = s.holder.right_until
    t.emit(PutAddresses(valid_s=valid, not_after=not_after, in_time=in_time))


def _next_put(t: Turn, renewed_at: float) -> float | None:
    if t.state.fence is Fence.ENI:
        return t.now + timing.ENI_REFRESH_S
    # Whole seconds are lost to rounding down: 2 s and 1 s before the end nothing is.
    end = timing.address_ends_at(renewed_at, t.state.holder.duration_s)
    due = [end - left - 0.01 for left in (2, 1) if end - left - 0.01 > t.now]
    return min(due) if due else None


def on_put(t: Turn, event: AddressesPut) -> None:
    """The kernel's answer: announce what came anew, try again what failed, let go when it cannot be."""
    s = t.state
    fresh = event.borne - s.address.borne
    t.address(putting=False, borne=event.borne)
    if s.address.removing:
        return
    if s.phase not in (Phase.ACTIVE, Phase.HOLDING, Phase.YIELDING) and event.borne:
        # The right ended while the kernel was at it.
        t.withdraw(s.reason)
    if s.phase is not Phase.ACTIVE:
        return
    missing = frozenset(s.config.addresses) - event.borne
    if missing:
        failures = s.address.failures + 1
        t.address(failures=failures, failure=event.failure, put_due_at=t.now + timing.PLUMB_RETRY_S)
        return
    t.address(failures=0)
    if event.failure:
        # A refresh failed: the address is there, but its lifetime goes on ending.
        t.address(put_due_at=t.now + timing.PLUMB_RETRY_S)
    if s.holder.announced_key != s.holder.key or fresh:
        t.holder(announced_key=s.holder.key)
        # What was offered is still answered by the old owner: neighbours are not to be drawn to an ENI that
        # still drops.  EC2's OK announces it.
        if s.holder.took_why is not Reason.OFFERED or s.mapping.moved:
            announce(t)


def on_address_lost(t: Turn, event: AddressLost) -> None:
    """Somebody deleted the address, or its lifetime ended: a holder puts it back at once."""
    s = t.state
    if event.address not in s.address.borne:
        return
    t.address(borne=s.address.borne - {event.address})
    if s.address.removing:
        return
    if s.phase in (Phase.HOLDING, Phase.YIELDING):
        _answer_on(t)
        return
    if s.phase is not Phase.ACTIVE:
        return
    t.address(put_due_at=t.now)
    if t.now < s.address.lives_until:
        t.note(Reason.ADDRESS_RESTORED, f"{event.address} was removed by somebody else; adding it again", warning=True)


def _answer_on(t: Turn) -> None:
    """A quiet bearer lost an address before its lifetime ended: the VPC delivers here still, so it is put back.

    Not what an earlier run left and this one does not refresh: its lifetime is over.
    """
    s = t.state
    refreshed = s.address.put_due_at is not None
    if refreshed and s.fence is Fence.ENI and t.now < s.address.lives_until and s.doubt_since is None:
        t.address(put_due_at=t.now)
        plumb_rules(t)


def announce(t: Turn) -> None:
    """Announce now, in a short burst, then at long intervals."""
    t.address(announce_due=(t.now, *(t.now + offset for offset in timing.ANNOUNCE_BURST_S)))


def _announce_rules(t: Turn) -> None:
    s = t.state
    due = s.address.announce_due
    if not due or t.now < due[0] or not s.loud(t.now) or not s.address.borne:
        return
    later = tuple(at for at in due if at > t.now)
    t.address(announce_due=later or (t.now + timing.ANNOUNCE_REFRESH_S,))
    t.emit(Announce())


def right_ended(t: Turn) -> None:
    """No renewal succeeded in time.  With fence eni the mapping still fences, so keep answering, quietly."""
    s = t.state
    jumped = s.holder.jumped_at > s.holder.renewed_at
    why = Reason.CLOCK_JUMPED if jumped else Reason.RIGHT_ENDED
    detail = "the clocks may have stood still" if jumped else "no renewal of the Lease succeeded in time"
    t.end_right()
    if s.leaving:
        t.set(letting_go=Reason.STOPPING, released_at=None)
    if s.fence is Fence.LEASE:
        if s.address.to_withdraw:
            t.withdraw(why)
        t.enter(Phase.YIELDING if s.leaving else Phase.STANDBY, why, detail)
        return
    t.address(put_due_at=t.now if s.address.put_due_at is None else s.address.put_due_at)
    if may_hold(t.state):
        t.enter(Phase.HOLDING, Reason.API_AWAY, detail)
        if s.doubt_since is not None:
            # It stood still: whoever asked on the link meanwhile heard nobody.
            t.sharing(unheard=True)
    else:
        t.enter(Phase.YIELDING, why, detail)


def sharing_rules(t: Turn) -> None:
    """A candidate told that it is on my ENI: from now on address and right end together, and the Lease says so."""
    s = t.state
    view = s.lease.view
    if s.config.fence is Fence.LEASE or view is None:
        return
    if not s.holder.shared and marked_here(s, view):
        t.holder(shared=True)
        t.address(put_due_at=t.now)
        t.lease(write_due_at=t.now)
        t.note(Reason.SHARED_ENI, f"a candidate is on this ENI too ({view.shared_eni}): the Lease alone fences")
    said = view.tenure is not None and view.tenure.fence is Fence.LEASE
    if t.state.holder.shared and not said and address_bounded(t.state) and s.lease.writing is None:
        t.lease(write_due_at=min(s.lease.write_due_at, t.now))


def on_claim(t: Turn, event: ClaimSeen) -> None:
    """Another MAC claims a VIP that is mine to bear: the Lease, read from now on, says whose it is."""
    s = t.state
    if s.phase is not Phase.ACTIVE or event.claim.address not in s.config.addresses:
        return
    t.address(claim_at=t.now)
    if t.now >= s.address.claim_noted_at + timing.CLAIM_NOTE_S:
        t.address(claim_noted_at=t.now)
        claim = event.claim
        t.note(Reason.CONFLICT, f"{claim.mac} claims {claim.address} on {claim.interface}", warning=True)


def _defend(t: Turn) -> None:
    """The Lease, read after a claim, is still mine: draw the neighbours back, once a second at most.

    And once more at the end of that second: of claims in quick succession the last may not be heard, and must not be
    the last word.
    """
    s = t.state
    claim_at = s.address.claim_at
    if claim_at is None or t.now < s.address.defend_due_at:
        return
    if s.lease.read_ok_sent_at < claim_at:
        t.read_when_due()
        return
    t.address(claim_at=None, defend_due_at=t.now + timing.DEFEND_S)
    if s.loud(t.now) and s.address.borne:
        t.address(announce_due=tuple(sorted({*s.address.announce_due, t.now + timing.DEFEND_S})))
        t.emit(Announce())
