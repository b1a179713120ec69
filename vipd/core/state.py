"""Everything the election remembers between two events, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from vipd.core.messages import TenureKey
from vipd.core.model import Address, Fence, LeaseView, Mapped
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.settings import ElectionConfig

NEVER = float("-inf")
Content = tuple[str, int, datetime | None]
T = TypeVar("T")


def changed(value: T, changes: Mapping[str, Any]) -> T:
    """A copy of a part of the state with these fields changed; the part itself where nothing is.

    As ``dataclasses.replace``, which takes ten times as long: a step of the election is mostly copies.
    Raises KeyError for a field that there is not.
    """
    old = vars(value)
    for name, field_value in changes.items():
        if old[name] is not field_value:
            break
    else:
        return value
    if len(changes) > 1 and not changes.keys() <= old.keys():
        raise KeyError(sorted(changes.keys() - old.keys()))
    new = object.__new__(type(value))
    fields = vars(new)
    fields.update(old)
    fields.update(changes)
    return new


@dataclass(frozen=True)
class LeaseSide:
    """The Lease as this member knows it, and its requests under way (one read and one write at most)."""

    view: LeaseView | None = None
    """The newest reading; kept after a deletion, because the expiry outlives the object."""
    known: bool = False
    """Whether anything (also "absent") was read since the start."""
    absent: bool = False
    learned_at: float = NEVER
    """When ``view`` was taken in."""
    wrote_at: float = NEVER
    """When the last write of mine that succeeded was answered."""
    last_enis: frozenset[str] = frozenset()
    """Where the last tenure of somebody else had the VIPs: the first place to look for an IPv6 address."""
    last_fence: Fence = Fence.LEASE
    """What that tenure said of its fence."""
    my_content: Content | None = None
    """Holder, transitions and renewTime of my own last write that is known to be applied."""
    seen_at: float = NEVER
    """When the present content was first seen."""
    expiry_at: float = NEVER
    away_since: float | None = None
    """Since when the API has answered nothing I asked (timeouts, 5xx, 401, 403)."""
    count_held: bool = False
    """A candidate's count stands still: its last read failed, so silence proves nothing."""
    count_restarts: int = 0
    offer_seen_at: float = NEVER
    """When the offer that stands in ``view`` was first seen."""
    free_since: float | None = None
    """Since when nobody holds it: released, absent or expired."""
    read_sent_at: float | None = None
    """A read is under way."""
    read_ok_sent_at: float = NEVER
    """When the last read that was answered had been sent."""
    read_due_at: float | None = None
    """No read before this moment (a pause after a failed one)."""
    overdue_read_at: float = NEVER
    """No further read about overdue renewals before this moment."""
    reads_ahead_of_watch: int = 0
    writing: WriteKind | None = None
    write_due_at: float = NEVER
    annotate_due_at: float = NEVER
    """No further word to the holder before this moment."""
    failing: str = ""
    """How the last write failed; empty after one that did not."""
    conflicts: int = 0
    """Writes in a row that were refused for their base, although nothing newer was to be read."""
    unsettled: bool = False
    """A write of mine ended unknown or refused: read before the next one that is not a renewal."""


@dataclass(frozen=True)
class HolderSide:
    """The right to act and what was done with it."""

    key: TenureKey | None = None
    duration_s: int = 0
    """The duration that the last successful renewal wrote."""
    announced_key: TenureKey | None = None
    renewed_at: float = NEVER
    """When the last renewal that succeeded was sent."""
    right_until: float = NEVER
    jumped_at: float = NEVER
    """When the clocks last disagreed: mine may have stood still, so nothing sent before gives a right."""
    took_at: float = NEVER
    took_why: Reason = Reason.STARTED
    previous: frozenset[str] = frozenset()
    """The ENIs of the tenure before mine."""
    faults: int = 0
    hold_down_until: float = NEVER
    shared: bool = False
    """A candidate is on my ENI: in this tenure the mapping tells nobody apart."""


@dataclass(frozen=True)
class AddressSide:
    """What the kernel bears by our hand."""

    borne: frozenset[Address] = frozenset()
    lingers_until: float = NEVER
    """When a removal failed: until then the kernel may keep the addresses."""
    lives_until: float = NEVER
    """When the kernel would remove the addresses if nothing more were done (not later than it really does)."""
    put_due_at: float | None = None
    putting: bool = False
    """An addition or refresh is under way."""
    removing: bool = False
    failures: int = 0
    failure: str = ""
    announce_due: tuple[float, ...] = ()
    outlives_lease: bool = False
    """What an earlier run left lives longer than a Lease lasts: the mapping was its fence."""
    claim_at: float | None = None
    """When another MAC last claimed a VIP, until the Lease, read after that, has settled whose it is."""
    defend_due_at: float = NEVER
    """No answer to a claim before this moment."""
    claim_noted_at: float = NEVER

    @property
    def to_withdraw(self) -> bool:
        """Whether something is, or is about to be, on an interface and is not being removed yet."""
        return (bool(self.borne) or self.putting) and not self.removing


@dataclass(frozen=True)
class MappingSide:
    """The EC2 mapping: calls, and what IMDS shows."""

    todo: frozenset[Address] = frozenset()
    """Addresses that EC2 has not yet answered OK for in this tenure (or that are to be repaired)."""
    moved: bool = False
    assigning: bool = False
    assign_due_at: float | None = None
    trying_since: float | None = None
    """Since when there is something to map and EC2 has answered OK to nothing."""
    failures: int = 0
    failing: Reason | None = None
    failing_detail: str = ""
    last_write_at: float = NEVER
    refused: frozenset[Address] = frozenset()
    refused_at: float = NEVER
    seen: Mapping[Address, Mapped] = field(default_factory=dict)
    seen_at: float = NEVER
    mine_at: float = NEVER
    """When a reading last showed a VIP on my ENI."""
    mine_asked_at: float = NEVER
    """When the question of that reading was asked."""
    asking: bool = False
    ask_due_at: float | None = None
    contrary: frozenset[Address] = frozenset()
    contrary_at: float = NEVER
    gone_first_at: float | None = None
    gone_at: float | None = None
    """When IMDS said for the second time that all VIPs are gone."""
    silent_count: int = 0
    silent_since: float | None = None
    confirmed: bool = False


@dataclass(frozen=True)
class HandoverSide:
    """The offer of this tenure: from the moment it is sent until it is taken or a cancel has succeeded."""

    reason: Reason | None = None
    """Why the Lease is offered; None: it is not.  Anything else means quiet."""
    detail: str = ""
    id: str = ""
    to: str = ""
    stays: bool = False
    """Not taken, it is cancelled and the tenure goes on; otherwise the Lease is released."""
    by_operator: bool = False
    sent_since: float | None = None
    """When the offer was first sent."""
    stands_since: float | None = None
    """When the offer was first known to stand in the Lease."""
    refused: bool = False
    """The API takes no such offer (a policy, a size): it never will."""
    write_due_at: float = NEVER
    """An offer that was answered OK and does not stand is not sent again before this moment."""
    count: int = 0
    """Offers made by this process: their ids."""
    again_at: float = NEVER
    """No further offer of a mapping that cannot be moved before this moment."""
    waiting_since: float | None = None
    """Since when an offer waits for the answer to an EC2 call."""


@dataclass(frozen=True)
class SharingSide:
    """A candidate on the holder's own ENI: what it has told, and whether it found the address unborne."""

    marked: TenureKey | None = None
    """The tenure that was told."""
    probing: bool = False
    probe_due_at: float = NEVER
    met: bool = False
    """Somebody else with an address that was fenced by the mapping alone has been on my ENI."""
    asked: bool = False
    """The link was asked since the start, since the link came up, and since a tenure of somebody was missed."""
    unheard: bool = False
    """The link came up under an address that is borne without the right to it: who asked meanwhile heard nobody."""
    clear_until: float = NEVER
    """Nobody answered for the VIPs; good for a moment only."""


@dataclass(frozen=True)
class PreemptSide:
    """A candidate that prefers itself to the holder."""

    ready_since: float | None = None
    barred_until: float = NEVER
    """An operator moved the VIP away from here."""
    again_at: float = NEVER


@dataclass(frozen=True)
class State:
    """The whole of one member."""

    config: ElectionConfig
    phase: Phase = Phase.STANDBY
    reason: Reason = Reason.STARTED
    since: float = NEVER
    started_at: float = NEVER
    link_up: bool = False
    link_detail: str = ""
    healthy: bool | None = True
    """Whether the checks pass; None: they have not run yet."""
    health_detail: str = ""
    doubt_since: float | None = None
    """Frozen, stalled or jumped: quiet until a read of the Lease that was sent after this moment."""
    leaving: bool = False
    stop_by: float = float("inf")
    letting_go: Reason | None = None
    """The Lease is to be released (leaving, link down, ...) as long as it names me."""
    successor_moved_at: float | None = None
    released_at: float | None = None
    lease: LeaseSide = LeaseSide()
    holder: HolderSide = HolderSide()
    address: AddressSide = AddressSide()
    mapping: MappingSide = MappingSide()
    handover: HandoverSide = HandoverSide()
    sharing: SharingSide = SharingSide()
    preempt: PreemptSide = PreemptSide()
    wake_at: float | None = None

    @property
    def fit(self) -> bool:
        """Whether this member could serve: its links are up and no check fails."""
        return self.link_up and self.healthy is not False

    @property
    def fence(self) -> Fence:
        """What tells me from another bearer: the mapping, unless a candidate shares my ENI."""
        return Fence.LEASE if self.holder.shared else self.config.fence

    @property
    def quiet(self) -> bool:
        """An offer was sent, and no cancel of it has succeeded yet."""
        return self.handover.reason is not None

    def loud(self, now: float) -> bool:
        """Whether this member may write EC2, announce and repair."""
        return (
            self.phase is Phase.ACTIVE
            and self.letting_go is None
            and self.doubt_since is None
            and not self.quiet
            and now < self.holder.right_until
        )
