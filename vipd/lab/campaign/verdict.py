"""What an episode amounts to: from what was observed to the record that is written.  Pure.

A gap is measured and no more: random faults promise none.  What must never be is judged: two owners, acts of a member
that the Lease does not name, addresses or mappings left behind, a process that ended, a lab that does not converge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vipd.lab.campaign.eyes import Sight
from vipd.lab.measure import Away, two_owners_s

if TYPE_CHECKING:
    from vipd.lab.observer import Announcement, Bearing
    from vipd.lab.probes import Window

SEEN_LATE_S = 0.3
"""A frame is stamped when the lab reads it, which on a busy machine is later than it was sent."""


class Holding(NamedTuple):
    """What the Lease says from one write to the next."""

    since: float
    node: str
    """Empty: nobody."""
    offered: bool = False
    """Whether the holder's own offer stands, with which it has promised to be quiet."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One episode as the lab saw it; times are CLOCK_BOOTTIME seconds."""

    judged_from: float
    """Since when nothing must have happened that must never be: when the last episode was judged."""
    begun_at: float
    """From when probes count."""
    healed_at: float
    """When the last fault was over."""
    ended_at: float
    missing: str
    """What was missing, when the time was over, to one node that serves and others that stand by; empty: nothing."""
    barred: frozenset[str]
    """The nodes on which a fault was played after which their member may sit out a hold-down."""
    owner_before: str
    windows: Sequence[Window]
    """The probes of each VIP."""
    bearings: Sequence[Bearing]
    away: Sequence[Away]
    ports: dict[str, str] | None
    """Node to the port it is behind; None where nothing but the Lease tells two bearers apart."""
    holders: Sequence[Holding]
    """In order; the first one is from before ``judged_from``."""
    takes: int
    """How often the Lease was taken."""
    announcements: Sequence[Announcement]
    foreign_calls: Sequence[str]
    """EC2 writes of members that the Lease did not name."""
    complaints: Sequence[str]
    """What else was other than it has to be: exit codes, commands that failed, processes that ended."""
    sight: Sight


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One line of ``--json``; the order of the keys is theirs."""

    episode: int
    kind: str
    faults: tuple[str, ...]
    """As the plan words them, with the nodes that they met."""
    sent: int
    lost: int
    gap_ms: float
    """The longest time between two answered probes."""
    owner_before: str
    owner_after: str
    two_owners_ms: float
    """How long two namespaces bore the VIP while nothing told them apart."""
    two_bearers_ms: float
    """How long two namespaces bore the VIP at all: with an ENI, a handover needs that."""
    lease_transitions: int
    converged_s: float | None
    """From the end of the last fault until one node served and the others stood by; None: not within the bound."""
    foreign_acts: tuple[str, ...]
    left_behind: tuple[str, ...]
    eni: dict[str, list[str]] = field(default_factory=dict)
    """Node to the addresses that its ENI bears beyond its own."""
    roles: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ok: bool = True
    reason: str = ""
    logs: str = ""
    """The folder with the logs of its lab."""

    def as_json(self) -> dict[str, Any]:
        """The object that is written."""
        return asdict(self)


def judge(
    seen: Observed, *, episode: int, kind: str, faults: Sequence[str], notes: Sequence[str] = (), logs: str = ""
) -> EpisodeResult:
    """The record of an episode; ``ok`` where nothing happened that must never be."""
    span = (seen.judged_from, seen.ended_at)
    two_owners = two_owners_s(seen.bearings, *span, delivered_to=seen.ports, away=seen.away) * 1000
    two_bearers = two_owners_s(seen.bearings, *span, delivered_to=None, away=seen.away) * 1000
    foreign = (*seen.foreign_calls, *foreign_announcements(seen.announcements, seen.holders))
    left = () if seen.missing else left_behind(seen.sight)
    wrong = [
        *([f"not converged: {seen.missing}"] if seen.missing else []),
        *([f"two owners for {two_owners:.1f} ms"] if two_owners > 0 else []),
        *foreign,
        *left,
        *_wrong_labels(seen),
        *seen.complaints,
    ]
    worst = max(seen.windows, key=lambda w: w.gap_s)
    return EpisodeResult(
        episode=episode,
        kind=kind,
        faults=tuple(faults),
        sent=sum(w.sent for w in seen.windows),
        lost=sum(w.lost for w in seen.windows),
        gap_ms=round(worst.gap_s * 1000, 1),
        owner_before=seen.owner_before,
        owner_after=seen.sight.owner,
        two_owners_ms=round(two_owners, 1),
        two_bearers_ms=round(two_bearers, 1),
        lease_transitions=seen.takes,
        converged_s=round(max(0.0, seen.ended_at - seen.healed_at), 2) if not seen.missing else None,
        foreign_acts=foreign,
        left_behind=left,
        eni={name: [str(a) for a in held] for name, held in seen.sight.enis.items()},
        roles=dict(seen.sight.roles),
        notes=tuple(notes),
        ok=not wrong,
        reason="; ".join(wrong),
        logs=logs,
    )


def nothing_tried(episode: int, reason: str, *, logs: str) -> EpisodeResult:
    """The record of a step that could not be played: the lab did not get ready for it."""
    return EpisodeResult(
        episode=episode,
        kind="before the step",
        faults=(),
        sent=0,
        lost=0,
        gap_ms=0.0,
        owner_before="",
        owner_after="",
        two_owners_ms=0.0,
        two_bearers_ms=0.0,
        lease_transitions=0,
        converged_s=None,
        foreign_acts=(),
        left_behind=(),
        ok=False,
        reason=f"not ready: {reason}",
        logs=logs,
    )


def _wrong_labels(seen: Observed) -> list[str]:
    """Members that sit out a hold-down for no reason."""
    barred = [name for name, role in seen.sight.roles.items() if role == "fault" and name not in seen.barred]
    return [f"node {name} sits out a hold-down, which no fault here explains" for name in barred]


def left_behind(sight: Sight) -> tuple[str, ...]:
    """What does not belong where it is: only the owner bears a VIP, in its kernel and on its ENI; nobody else anything.

    A VIP that the owner lacks is told, too.
    """
    found = []
    for name, addresses in sight.foreign.items():
        strange = [a for a in addresses if name != sight.owner or a not in sight.vips]
        found += [f"{a} was left behind on node {name}" for a in strange]
        if name == sight.owner:
            found += [f"{vip} is missing on the owner, node {name}" for vip in sight.vips if vip not in addresses]
    for name, addresses in sight.enis.items():
        strange = [a for a in addresses if name != sight.owner or a not in sight.vips]
        found += [f"{a} was left behind on the ENI of {name}" for a in strange]
    found += [f"the VPC delivers {vip} to {to or 'nobody'}" for vip, to in sight.delivered.items() if to != sight.owner]
    return tuple(found)


def foreign_announcements(announcements: Sequence[Announcement], holders: Sequence[Holding]) -> tuple[str, ...]:
    """Announcements of a member while the Lease named another one, or while its own offer stood: the first of each.

    A Lease that is free, or gone, names nobody: its last holder may not have heard of that yet.
    """
    found: dict[tuple[str, bool], str] = {}
    for a in announcements:
        # Sent at some moment between the two: what was allowed at one of them was allowed.
        during = _during(holders, a.at - SEEN_LATE_S, a.at)
        named = {holding.node for holding in during}
        told = f"node {a.node} announced {a.address} ({a.kind}) while"
        if named and a.node not in named and "" not in named:
            found.setdefault((a.node, False), f"{told} the Lease named {named}")
        elif during and all(holding.node == a.node and holding.offered for holding in during):
            found.setdefault((a.node, True), f"{told} its own offer stood")
    return tuple(found.values())


def _during(holders: Sequence[Holding], start: float, end: float) -> list[Holding]:
    """What the Lease said at any moment of the stretch."""
    before = [h for h in holders if h.since <= start][-1:]
    return [*before, *(h for h in holders if start < h.since <= end)]
