"""What must hold at every step, whatever goes wrong.  Each check stands where the thing happens that could break it.

Two kinds: what the outside can see (two members act, two bear the address, packets find nobody), and what the
rules say of one member alone (it acts within the right that its last renewal gave it).  The second kind finds a
broken rule long before chance turns it into harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vipd.core.annotations import OFFER, TENURE
from vipd.core.model import Address, Fence, LeaseDraft, LeaseView, Vip
from vipd.core.reasons import Reason
from vipd.core.timing import margin_s
from vipd.kube import codec

from .api import Stored, parsed
from .kernel import REMOVAL_LATE_S
from .loop import Life

if TYPE_CHECKING:
    from .process import Member, Process
    from .world import World

T_LAG_S = 10.0
EPSILON_S = 1e-6

MAY_WITHDRAW = frozenset(
    {
        # Nothing tells the two apart, so the address ends with the right.
        Reason.FOREIGN_HOLDER,
        Reason.SAME_ENI_HOLDER,
        Reason.DUPLICATE_IDENTITY,
        # Kubernetes kills the pod in a moment, whatever we do.
        Reason.GRACE_OVER,
        # It leaves and nobody wants the Lease: there is nobody to hand over to.
        Reason.STILL_FREE,
    }
)
"""Reasons of withdrawing although the VPC still delivers here."""

ASK_LINK_S = 1.0
"""Who starts, or whose link comes up, has learnt by then whether somebody else on its ENI answers."""

AFTER_STANDSTILL_S = 0.5
"""How long a machine whose clocks stood still may take to notice (fence lease, and EC2 calls under way)."""


class Invariants:
    """The checks; each calls ``world.violate`` with what is broken."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._margins: dict[int, float] = {}

    # ------------------------------------------------------------------------------- acting, the right

    def loud(self) -> None:
        """One loud member at a time."""
        world = self._world
        loud = [process for process in world.active.values() if process.is_loud()]
        if len(loud) > 1 and not self._forgotten():
            world.violate("two loud members", ", ".join(p.incarnation for p in loud))
        if loud and world.rival is not None and world.rival.in_right() and not self._forgotten():
            world.violate("a rival and a member both hold the Lease", loud[0].incarnation)

    def _forgotten(self) -> bool:
        """Somebody deleted the Lease, and a candidate that never saw it took the new one.

        The expiry outlives the object only in the memory of those that had seen it (rule 7): nothing can protect a
        holder that is cut off from a candidate that starts after the deletion, nor from client-go, which remembers
        nothing.  The old right ends by itself.
        """
        return self._world.timeline.now < self._world.forgotten_until

    def ec2_sent(self, process: Process, operation: str, key: Any) -> None:
        """A call that changes the mapping leaves: only the holder's, within its right, for its present tenure."""
        world = self._world
        if self._stood_still(process.member):
            # It looked at a clock that had stood still just before it sent: nothing on the machine can tell.
            return
        if operation == f"UnassignIpv6 {process.member.eni_id}":
            world.violate("unassigned from oneself", process.incarnation)
        now = process.clock.now()
        if now > process.true_right + EPSILON_S:
            late = now - process.true_right
            world.violate("EC2 is written without a right", f"{process.incarnation}: {operation}, {late:.3f} s late")
        stored = world.server.stored
        if stored is None or self._forgotten():
            # Deleted: its right lasts nevertheless, since candidates keep the expiry.
            return
        tenure = stored.view.tenure
        holder = tenure.incarnation if tenure is not None else stored.holder
        if holder != process.incarnation:
            world.violate("EC2 is written by another than the holder", f"{process.incarnation}: {operation} ({holder})")
        elif key is None or key[1] != stored.transitions:
            # The uid alone may differ: the holder recreated a deleted Lease, and its tenure goes on.
            world.violate("an EC2 call of an old tenure is sent", f"{process.incarnation}: {operation}, {key}")

    def moving(self, process: Process, addresses: Sequence[Address]) -> None:
        """An attempt to move addresses begins: it is fresh knowledge that it acts on.

        Others, not stolen, may still be on their way here: they wait for nothing.
        """
        if not process.stolen.intersection(addresses):
            return
        stolen_at, process.stolen_at = process.stolen_at, None
        if stolen_at is not None and process.written_sent_at <= stolen_at:
            self._world.violate("repaired without a fresh renewal", process.incarnation)
        self._looked(process)

    def _looked(self, process: Process) -> None:
        """After a freeze that nobody can overlook the Lease is read before anything is done."""
        thawed_at = process.thawed_at
        if thawed_at is None:
            return
        if process.read_sent_at < thawed_at - EPSILON_S:
            self._world.violate("acts after a freeze without having read the Lease", process.incarnation)
        process.thawed_at = None

    def announced(self, process: Process) -> None:
        """Announcements draw neighbours: the same right as for EC2."""
        self._looked(process)
        if self._stood_still(process.member):
            return
        now = process.clock.now()
        if now > process.true_right + EPSILON_S:
            late = now - process.true_right
            self._world.violate("announced without a right", f"{process.incarnation}, {late:.3f} s late")

    def _stood_still(self, member: Member) -> bool:
        return self._world.timeline.now < member.stood_still_until + AFTER_STANDSTILL_S

    def lease_sent(self, process: Process, base: LeaseView | None, draft: LeaseDraft) -> None:
        """A write of the Lease leaves: a leaving member only renews or releases what is its own."""
        identity = process.config.identity
        if draft.holder == identity:
            self._said(process, draft)
        takes = draft.holder == identity and (base is None or base.holder != identity)
        state = process.agent.state
        if base is None and state.holder.key is not None and draft.transitions == state.holder.key[1]:
            # It recreates its own deleted Lease, in order to hand it over.
            return
        if takes and state.leaving:
            self._world.violate("a leaving member takes", process.incarnation)

    def _said(self, process: Process, draft: LeaseDraft) -> None:
        """What a holder says of itself: that the mapping has moved only after EC2's OK in this very tenure."""
        offer = draft.annotations.get(OFFER)
        if offer is not None and process.asking_ec2:
            self._world.violate("offered with an open EC2 call", process.incarnation)
        tenure = parsed(codec.parse_tenure, draft.annotations.get(TENURE), draft.holder, draft.transitions)
        if tenure is None or not tenure.moved or not process.member.eni_id:
            return
        unmoved = [a for a in process.config.addresses if (draft.transitions, a) not in process.confirmed]
        if unmoved:
            self._world.violate("said to have moved without EC2's OK", f"{process.incarnation}: {unmoved}")

    def lease_written(self, process: Process, sent_at: float, draft: LeaseDraft, created: bool) -> None:
        """A write of this process was answered OK: the right that this gives by the rule."""
        if draft.holder != process.config.identity:
            return
        process.written_sent_at = max(process.written_sent_at, sent_at)
        if created or draft.annotations.get(OFFER, "") is None:
            # A new Lease, a take or a cancel: each has an Assign of its own, which repairs what else there is.
            process.stolen_at = None
        duration_s = draft.duration_s
        margin = self._margins.get(duration_s)
        if margin is None:
            margin = self._margins[duration_s] = margin_s(duration_s)
        process.true_right = max(process.true_right, sent_at + duration_s - margin)

    # -------------------------------------------------------------------------------------- the Lease

    def lease_changed(self, before: Stored | None, after: Stored | None) -> None:
        """Who may write what: a release is of one's own, a take is of an expired, free or offered Lease."""
        from .process import Process

        world = self._world
        if after is None:
            return
        author = after.author
        if not isinstance(author, Process):
            return
        if world.server.created_by_put:
            world.violate("a renewal created a Lease that had been deleted", author.incarnation)
        if before is not None and not after.holder and before.holder:
            # An earlier run of the same pod may be released too: its name and ENI are one's own.
            tenure = before.view.tenure
            mine = tenure is None or author.incarnation == tenure.incarnation or author.config.eni == tenure.eni
            if before.holder != author.config.identity or not mine:
                world.violate("a Lease of somebody else is released", f"{author.incarnation} released {before.holder}")
        elif before is not None and before.holder and after.holder and before.holder != after.holder:
            self._taken(before, after, author)

    def _taken(self, before: Stored, after: Stored, author: Process) -> None:
        world = self._world
        for process in world.active.values():
            if process is not author and process.is_loud() and not self._forgotten():
                world.violate("taken from a loud holder", f"{author.incarnation} takes from {process.incarnation}")

    def lost(self, process: Process) -> None:
        """It goes as if another held the Lease: not on news that is older than its own take."""
        stored = self._world.server.stored
        tenure = stored.view.tenure if stored is not None else None
        if tenure is not None and tenure.incarnation == process.incarnation:
            self._world.violate("gives up what it holds", process.incarnation)

    # ----------------------------------------------------------------------------------- the address

    def putting(self, process: Process, vip: Vip, valid_s: int) -> None:
        """An address is added or refreshed: nobody else bears it where the mapping does not tell them apart.

        Looked at a moment later: an addition that stalled past the end of the right is undone at once, since
        nobody can look at the clock and send in one step.
        """
        if self._others_bear(process, vip):
            slow_s = max(member.kernel.slow_s for member in self._world.members)
            self._world.timeline.after(0.002 + 1.1 * slow_s, self._both_bear, process, vip)

    def _others_bear(self, process: Process, vip: Vip) -> list[Member]:
        member = process.member
        fence = self._world.setting.fence
        # On a link that is down nobody hears it, no probe finds it, and no packet goes astray.
        bearers = [m for m in self._world.members if m.kernel.bears(vip.address) and m.kernel.link_state.up]
        others = [m for m in bearers if m is not member]
        return [m for m in others if fence is Fence.LEASE or m.eni_id == member.eni_id]

    def _both_bear(self, process: Process, vip: Vip) -> None:
        world, member = self._world, process.member
        heard = member.kernel.bears(vip.address) and member.kernel.link_state.up
        if self._forgotten() or not heard:
            return
        for other in self._others_bear(process, vip):
            if self._stood_still(other) or self._stood_still(member):
                # Kernel lifetimes stood still with the machine; vipd withdraws as soon as it runs.
                continue
            if world.timeline.now < other.kernel.up_since + ASK_LINK_S:
                # While its link was down nobody could hear it; it asks now whether its address is somebody's.
                continue
            if world.forgotten & {process, other.process}:
                # It may hold through an outage of its own, and who takes the new Lease has never heard of it.
                continue
            what = "two bearers of one ENI" if world.setting.fence is Fence.ENI else "two bearers"
            left = other.kernel.ends[vip.address] - world.timeline.now
            world.violate(what, f"{process.incarnation} adds it, {other.name} has it for {left:.2f} s more")

    def removing(self, process: Process, vip: Vip) -> None:
        """Fence eni: nobody withdraws while the VPC delivers here, except for a good reason."""
        world, member = self._world, process.member
        if world.setting.fence is not Fence.ENI or not member.kernel.bears(vip.address):
            return
        if not member.kernel.link_state.up or world.vpc.delivered.get(vip.address) != member.eni_id:
            return
        state = process.agent.state
        reason = process.agent.removing_for
        if state.fence is Fence.LEASE:
            # It shares its ENI with a candidate: there the address ends with the right.
            return
        if reason in MAY_WITHDRAW or member.slowest_call_s + member.imds.worst_lag_s > T_LAG_S:
            # A call that IMDS does not show within T_lag is beyond what the rules promise: it is repaired afterwards.
            return
        world.violate("withdrawn while the VPC delivers here", f"{process.incarnation} ({reason})")

    def foreign(self, process: Process) -> None:
        """A foreign holder may bear the address anywhere: whoever knows of it has withdrawn (a removal may be slow)."""
        member = process.member
        view = process.agent.state.lease.view
        if view is None or process.agent.state.lease.absent or view.holder != self._world.rival_name:
            return
        if process.agent.state.address.to_withdraw:
            self._world.violate("yields to a foreign holder", f"{process.incarnation} on {member.name}")

    # ---------------------------------------------------------------------------------------- leaving

    def stop_asked(self, process: Process) -> None:
        if process.loop.life is Life.RUNS:
            after = process.config.grace_s / process.loop.rate + 0.01
            self._world.timeline.after(after, self._left, process, process.freezes)

    def _left(self, process: Process, freezes: int) -> None:
        if process.loop.life is Life.DEAD or process.exit_code is not None:
            return
        if process.freezes != freezes:
            # It stood still meanwhile; then SIGKILL ends it, which is another schedule.
            return
        self._world.violate("a leaving member does not leave", f"{process.incarnation} ({process.phase})")

    def exited(self, process: Process) -> None:
        """A process that ended in order left no address behind and holds no Lease."""
        world, member = self._world, process.member
        if process.exit_code != 0:
            world.violate("a process ends with an error", f"{process.incarnation}: exit {process.exit_code}")
        # A machine that was suspended keeps an address longer than its clock says: kernel lifetimes stood still.
        excused = member.kernel.refusing or member.kernel.slow_s or process.loop.lost > 0
        # It may take the kernel for done when the lifetime is over; the kernel is a little late.
        soon = world.timeline.now + REMOVAL_LATE_S / member.rate + EPSILON_S
        if any(member.kernel.ends.get(a, soon) > soon for a in process.config.addresses) and not excused:
            world.violate("a member leaves its address behind", process.incarnation)

    # --------------------------------------------------------------------------------------- delivery

    def delivery(self) -> None:
        """Without a fault no packet is lost: whoever the VPC delivers to bears the address."""
        world = self._world
        if not world.lossless or world.setting.fence is not Fence.ENI:
            return
        for address in world.addresses:
            where = world.vpc.delivered.get(address)
            if where is None and address.version == 6:
                # Between Unassign and Assign an IPv6 address belongs to nobody: EC2 knows no other way.
                continue
            if not world.answered(address):
                world.violate("a packet is lost without a fault", f"{address} is delivered to {where}")
