"""Broken rules that do harm by themselves: chance finds nearly all of them, a told schedule the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import vipd.aws.mover as mover
import vipd.core.candidate as candidate
import vipd.core.election as election
import vipd.core.eni as eni
import vipd.core.handover as handover
import vipd.core.holder as holder
import vipd.core.holding as holding
import vipd.core.lease as lease
import vipd.core.sharing as sharing
import vipd.core.timing as timing
import vipd.core.turn as turn
import vipd.core.yielding as yielding
from vipd.agent.hands import Hands
from vipd.aws.gate import Gate
from vipd.aws.ipv6 import Ipv6Move
from vipd.core.messages import AssignEni, ClockJumped, PutAddresses
from vipd.core.model import CallFailed, Conflict, Fence, LeaseAbsent, Mapped, Vip
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.state import NEVER, State
from vipd.core.turn import Turn
from vipd.kube import codec

from . import mutations_told
from .api import LeaseServer
from .mutation import MUTATIONS, Mutation, Patches, mutation
from .schedule import Fault, scripted


def _hold(change: Callable[..., Any]) -> Patches:
    """``hold``, told something else."""
    return [(lease, "hold", change)]


# ------------------------------------------------------------------------------------ right to act, clocks


@mutation("the right counts from when the renewal was sent")
def right_from_the_reply() -> Patches:
    real = lease.hold
    return _hold(lambda t, view, *, sent_at, kind: real(t, view, sent_at=t.now, kind=kind))


@mutation("the right ends a margin before the Lease")
def no_margin() -> Patches:
    return [(timing, "margin_s", lambda duration_s: 0.0)]


@mutation("a reply after its own deadline gives no right")
def late_reply_gives_right() -> Patches:
    real = lease.hold

    def hold(t: Turn, view: Any, *, sent_at: float, kind: WriteKind) -> None:
        late = sent_at + view.duration_s - timing.margin_s(view.duration_s) <= t.now
        real(t, view, sent_at=t.now if late else sent_at, kind=kind)

    return _hold(hold)


@mutation("a candidate takes at the expiry, not before")
def take_early() -> Patches:
    real = candidate.take_at
    return [(candidate, "take_at", lambda s: real(s) - 0.6)]


@mutation("a deleted Lease keeps its expiry for candidates")
def deletion_frees() -> Patches:
    real = lease._absent

    def absent(t: Turn) -> None:
        real(t)
        t.lease(free_since=t.now if t.state.lease.free_since is None else t.state.lease.free_since)

    return [(lease, "_absent", absent)]


@mutation("clocks that stood still void the right")
def jump_keeps_the_right() -> Patches:
    real = election._notice_lateness

    def notice(t: Turn, event: Any) -> None:
        right_until = t.state.holder.right_until
        real(t, event)
        if isinstance(event, ClockJumped):
            t.holder(right_until=right_until, jumped_at=NEVER)

    return [(election, "_notice_lateness", notice)]


@mutation("after a freeze the Lease is read before anything is done")
def freeze_ignored() -> Patches:
    return [(timing, "LATE_S", 1e9)]


# ------------------------------------------------------------------------------------------- the Lease


@mutation("every write is compare-and-swap on the resourceVersion")
def no_resource_version() -> Patches:
    return [(LeaseServer, "check_version", False)]


@mutation("every write bears the uid: a PUT may create a Lease")
def no_uid() -> Patches:
    return [(LeaseServer, "check_uid", False)]


@mutation("a write without an answer is unknown")
def unknown_is_success() -> Patches:
    real = lease._write_failed

    def failed(t: Turn, event: Any, outcome: CallFailed) -> None:
        real(t, event, outcome)
        view = t.state.lease.view
        if event.kind is WriteKind.RENEW and view is not None:
            lease.hold(t, view, sent_at=event.sent_at, kind=event.kind)

    return [(lease, "_write_failed", failed)]


@mutation("a conflict says that somebody else wrote: read")
def conflict_is_success() -> Patches:
    real = lease.on_wrote

    def on_wrote(t: Turn, event: Any) -> None:
        real(t, event)
        view = t.state.lease.view
        conflict = isinstance(event.outcome, Conflict | LeaseAbsent)
        if conflict and event.kind in (WriteKind.RENEW, WriteKind.TAKE) and view is not None:
            lease.hold(t, view, sent_at=event.sent_at, kind=event.kind)

    return [(election, "on_wrote", on_wrote)]


@mutation("only a Lease that is one's own is released")
def releases_anything() -> Patches:
    real = handover.release_rules

    def release(t: Turn) -> None:
        s = t.state
        view = s.lease.view
        idle = s.lease.writing is None and not s.lease.unsettled and t.now >= s.lease.write_due_at
        if s.letting_go is not None and idle and view is not None and view.holder and not s.lease.absent:
            t.write(WriteKind.RELEASE)
        else:
            real(t)

    return [(election, "release_rules", release)]


@mutation("a leaving member never takes")
def leaving_takes() -> Patches:
    real = candidate.may_take

    def may_take(t: Turn) -> bool:
        staying = Turn(replace(t.state, leaving=False, letting_go=None), t.now)
        return real(staying)

    return [(candidate, "may_take", may_take)]


@mutation("an earlier run's tenure is adopted only where it went to this ENI")
def adopts_any_namesake() -> Patches:
    def adopt(t: Turn, view: Any) -> None:
        if view.holder == t.state.config.identity:
            t.lease(my_content=view.content)

    return [(lease, "_adopt_earlier_run", adopt)]


@mutation(
    "annotations are void unless they speak of this holder and these transitions",
    # a dies after its offer; a foreign candidate takes and keeps the annotation; b sees an offer.
    scripted(
        Fault(1.0, "rival-starts"),
        Fault(6.0, "handover", 0),
        Fault(6.5, "crash", 0, 30.0),
        durations=(4, 4),
        rival=True,
        starts=(0.0, 12.0),
    ),
)
def annotations_outlive_their_tenure() -> Patches:
    import json

    def said(text: object, holder: str, transitions: int) -> Any:
        found = json.loads(text) if isinstance(text, str) and holder else None
        return found if isinstance(found, dict) else None

    return [(codec, "_said", said)]


# ---------------------------------------------------------------------------------------------- EC2


@mutation("no EC2 request is sent after the right has ended")
def ec2_after_the_right() -> Patches:
    return [(Gate, "remaining_s", lambda self: 1.0)]


@mutation(
    "answers of EC2 belong to one tenure",
    # a's first call is slow; meanwhile b takes and dies, and a takes again.
    scripted(
        Fault(0.1, "api-cut", 0, 0.9),
        Fault(1.3, "crash", 1, 20.0),
        durations=(1, 1),
        intervals=(0.3, 0.3),
        ec2_s=(4.0, 4.0),
        starts=(0.0, 0.05),
    ),
)
def old_answers_count() -> Patches:
    real = eni.on_eni_answered

    async def wait(jobs: Any, gate: Any) -> None:
        # The mover gives up at the end of the right, which hides old answers: two rules keep them out.
        await asyncio.wait(jobs)

    return [
        (election, "on_eni_answered", lambda t, event: real(t, replace(event, key=t.state.holder.key))),
        (mover, "_while_right_lasts", wait),
        # The schedule is over before a member that has just started has asked the link.
        (sharing, "is_stranger", lambda s: False),
    ]


@mutation("each new tenure makes one Assign, whatever IMDS says")
def trusts_stale_imds() -> Patches:
    real = eni.new_tenure

    def new_tenure(t: Turn) -> None:
        real(t)
        seen = t.state.mapping.seen
        if seen and all(seen.get(a) is Mapped.MINE for a in t.state.config.addresses):
            t.mapping(todo=frozenset(), moved=True, trying_since=None, assign_due_at=None)

    return [(holder, "new_tenure", new_tenure)]


@mutation("IMDS 'gone' counts only T_lag after one's own last EC2 write")
def gone_counts_at_once() -> Patches:
    return [(eni, "gone_counts_from", lambda s: NEVER), (yielding, "gone_counts_from", lambda s: NEVER)]


@mutation("the holder compares IMDS as long as it holds")
def stops_verifying() -> Patches:
    real = eni._plan_question

    def plan(t: Turn) -> None:
        real(t)
        if t.state.mapping.confirmed:
            t.mapping(ask_due_at=None)

    return [(eni, "_plan_question", plan)]


@mutation("a repair needs a renewal sent after the contrary answer")
def repairs_at_once() -> Patches:
    real = eni.mapping_rules

    def rules(t: Turn) -> None:
        if t.state.mapping.contrary:
            t.mapping(contrary_at=NEVER)
        real(t)

    return [(holder, "mapping_rules", rules)]


@mutation("an IPv6 address is never unassigned from oneself")
def unassigns_from_itself() -> Patches:
    def take(self: Any, addresses: Any, owners: Any) -> Any:
        ready = [a for a in addresses if a not in owners]
        for owner in sorted(set(owners.values())):
            theirs = [a for a in addresses if owners.get(a) == owner]
            if self._take(theirs, owner) is None:
                ready += theirs
        return ready

    return [(Ipv6Move, "_take_from_owners", take)]


# -------------------------------------------------------------------------------------- losing, leaving


@mutation("who loses to a vipd on another ENI keeps answering until the mapping has left")
def withdraws_on_loss() -> Patches:
    real = yielding._successor
    return [(yielding, "_successor", lambda s, view: (*real(s, view)[:2], False))]


@mutation(
    "foreign holders are not yielded to",
    scripted(Fault(1.0, "rival-starts"), Fault(6.0, "api-cut", 0, 8.0), enis=(1,), durations=(4,), rival=True),
)
def yields_to_anybody() -> Patches:
    real = yielding._successor
    foreign = (Reason.FOREIGN_HOLDER,)

    def successor(s: State, view: Any) -> Any:
        why, detail, fenced = real(s, view)
        return why, detail, fenced or (why in foreign and s.fence is Fence.ENI)

    return [(yielding, "_successor", successor)]


@mutation(
    "holders on the same ENI are not yielded to",
    # a never hears that b shares its ENI, and b's probe does not find a, whose link is down.
    scripted(
        Fault(4.0, "api-cut", 0, 10.0),
        Fault(7.0, "link-down", 0, 8.0),
        enis=(1, 1),
        starts=(0.0, 5.0),
    ),
)
def yields_on_the_same_eni() -> Patches:
    real = yielding._successor

    def successor(s: State, view: Any) -> Any:
        why, detail, fenced = real(s, view)
        return why, detail, fenced or (why is Reason.SAME_ENI_HOLDER and s.fence is Fence.ENI)

    return [(yielding, "_successor", successor)]


@mutation("IMDS must say 'gone' twice, and the drain must pass")
def no_drain() -> Patches:
    return [(timing, "DRAIN_S", 0.0), (timing, "MAPPING_FAST_S", 0.0)]


@mutation("silence of IMDS is not 'gone'")
def silence_is_gone() -> Patches:
    real = yielding.on_mapping_seen_yielding

    def seen(t: Turn, event: Any) -> None:
        mapping = {a: Mapped.GONE if m is Mapped.UNKNOWN else m for a, m in event.mapping.items()}
        real(t, replace(event, mapping=mapping))

    return [(election, "on_mapping_seen_yielding", seen)]


@mutation("the successor's word that it moved counts, not one's own")
def own_move_is_the_successors() -> Patches:
    real = lease._learn

    def learn(t: Turn, view: Any) -> None:
        real(t, view)
        if t.state.successor_moved_at is None and view.tenure is not None and view.tenure.moved:
            t.set(successor_moved_at=t.now)

    return [(lease, "_learn", learn)]


@mutation("fence lease: the address is withdrawn before the Lease is released")
def releases_before_withdrawing() -> Patches:
    real = handover.let_go

    def let_go(t: Turn, reason: Reason, detail: str = "") -> None:
        real(t, reason, detail)
        if t.state.fence is Fence.LEASE and t.state.address.removing:
            t.effects[:] = [e for e in t.effects if type(e).__name__ != "RemoveAddresses"]
            t.address(removing=False)

    return [(handover, "let_go", let_go)]


@mutation("fence lease: the address's lifetime ends before the Lease")
def unbounded_lifetime() -> Patches:
    async def put(self: Hands, vip: Vip, effect: PutAddresses) -> bool:
        # The shell would notice, and make it shorter.
        await self.kernel.put(vip, valid_s=effect.valid_s)
        return True

    return [
        (timing, "lifetime_s", lambda fence, duration_s, elapsed_s: timing.ENI_LIFETIME_S),
        (Hands, "_put", put),
    ]


# ------------------------------------------------------------------------------------ handover, holding


@mutation("a holder that has offered is quiet")
def offers_loudly() -> Patches:
    def loud(self: State, now: float) -> bool:
        return (
            self.phase is Phase.ACTIVE
            and self.letting_go is None
            and self.doubt_since is None
            and now < self.holder.right_until
        )

    return [(State, "loud", loud)]


@mutation("an offer is made with no EC2 call of one's own open")
def offers_with_an_open_call() -> Patches:
    real = handover._begin

    def begin(t: Turn, wanted: Any) -> None:
        t.mapping(assigning=False)
        real(t, wanted)

    return [(handover, "_begin", begin)]


@mutation("an offer is over only when a cancel has succeeded")
def unknown_cancel_is_done() -> Patches:
    real = lease._write_failed

    def failed(t: Turn, event: Any, outcome: CallFailed) -> None:
        real(t, event, outcome)
        if event.kind is WriteKind.CANCEL:
            handover.cancelled(t)

    return [(lease, "_write_failed", failed)]


@mutation("an offer that stands keeps its holder quiet, whoever made it")
def forgets_a_standing_offer() -> Patches:
    return [(holder, "adopt_offer", lambda t, view: None)]


@mutation("HOLDING never writes EC2")
def holding_writes_ec2() -> Patches:
    real = yielding.yielding_rules

    def rules(t: Turn) -> None:
        real(t)
        s = t.state
        if s.phase is Phase.HOLDING and s.holder.key is not None and not s.mapping.assigning:
            t.mapping(assigning=True, last_write_at=t.now)
            t.emit(AssignEni(key=s.holder.key, addresses=s.config.addresses, previous=frozenset()))

    return [(election, "yielding_rules", rules), (Gate, "remaining_s", lambda self: 1.0)]


@mutation("HOLDING and YIELDING end when the mapping has gone")
def holds_for_ever() -> Patches:
    return [
        (holding, "_mapped_here", lambda s: True),
        (yielding, "_time_to_withdraw", lambda s, now: None),
    ]


@mutation("a member on the holder's own ENI says so, probes, and takes no offer of it")
def shared_eni_ignored() -> Patches:
    return [
        (sharing, "on_my_eni", lambda s, other: False),
        (candidate, "same_eni", lambda s, view: False),
        (sharing, "must_probe", lambda s, now: False),
        (candidate, "must_probe", lambda s, now: False),
    ]


@mutation(
    "fence lease is said only once the address ends with the Lease",
    # a cannot shorten the lifetime of its address, says that it has, and dies.
    scripted(
        Fault(3.5, "kernel-refuses", 0, 10.0),
        Fault(5.5, "crash", 0, 20.0),
        enis=(1, 1),
        starts=(0.0, 5.0),
    ),
)
def says_lease_too_early() -> Patches:
    # Whoever met the holder while the mapping was its fence probes for a while: two rules keep this out.
    return [
        (turn, "address_bounded", lambda s: True),
        (holder, "address_bounded", lambda s: True),
        (lease, "meet", lambda t, view: None),
        (sharing, "is_stranger", lambda s: False),
    ]


__all__ = ["MUTATIONS", "Mutation", "Patches", "mutations_told"]
