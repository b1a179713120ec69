"""What a round amounts to: from what was observed to the record that is written, and to the timeline that is drawn.

Pure functions over observations; all times are CLOCK_BOOTTIME seconds.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from vipd.core.model import Address

if TYPE_CHECKING:
    # Only the shapes of what is measured: who asks for a report loads no netlink and no HTTP server.
    from vipd.lab.ec2 import Call
    from vipd.lab.observer import Announcement, Bearing
    from vipd.lab.probes import Probe


@dataclass(frozen=True, slots=True)
class Phases:
    """How the takeover spent its time, in milliseconds; None: that did not happen."""

    detect_ms: float | None = None
    """Fault to the request that took the Lease."""
    lease_ms: float | None = None
    """That request at the API."""
    address_ms: float | None = None
    """Lease taken to address on the successor's interface."""
    eni_ms: float | None = None
    """The EC2 calls that moved the mapping, from the first one's start to the last one's end."""
    announce_ms: float | None = None
    """Address on the interface to the first announcement on the wire."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One line of ``--json``."""

    scenario: str
    round: int
    sent: int
    lost: int
    gap_ms: float
    """The longest time between two answered probes."""
    owner_before: str
    owner_after: str
    two_owners_ms: float
    """How long two namespaces bore the VIP while the mapping did not tell them apart."""
    lease_transitions: int
    phases: Phases = field(default_factory=Phases)
    ok: bool = True
    reason: str = ""
    """Which promise was broken; empty where none was."""

    def as_json(self) -> dict[str, Any]:
        """The object that is written."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn of one round."""

    title: str
    fault_at: float
    start: float
    end: float
    result: RoundResult
    probes: Mapping[Address, Sequence[Probe]]
    holders: Sequence[tuple[float, str]]
    """(since, node); an empty node: nobody.  In order; the first one may be before ``start``."""
    mapped: Mapping[Address, Sequence[tuple[float, str]]]
    """(since, node) of the data plane, likewise; empty where no ENI is managed."""
    bearings: Sequence[Bearing]
    calls: Sequence[Call]
    announcements: Sequence[Announcement]
    nodes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Away:
    """A node was cut off from the segment, or had no power, from ``since`` to ``until`` (None: still)."""

    node: str
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """The write that took the Lease for ``node``: when the request arrived, and when it was applied."""

    node: str
    began_at: float
    at: float


def two_owners_s(
    bearings: Sequence[Bearing],
    start: float,
    end: float,
    *,
    delivered_to: Mapping[str, str] | None,
    mapped: Mapping[Address, Sequence[tuple[float, str]]] | None = None,
    away: Sequence[Away] = (),
) -> float:
    """For how many seconds of the window two connected namespaces bore one address while nothing told them apart.

    ``delivered_to``: the port (ENI) that each node is behind.  Nodes behind different ports are told apart by the
    mapping; two behind one port are not.  None: a plain L2 segment, where nothing tells any two apart.
    ``mapped``: (since, port) for each address, in order; while it names another port than the one that two bearers
    share, no packet reaches either.  None: every port counts as named.
    A moment at which several addresses have two owners counts once.
    """
    spells = [
        later - at
        for at, later in itertools.pairwise(_moments(bearings, start, end, mapped or {}, away))
        if any(
            _undecided(_bearers(bearings, address, at, away), address, at, delivered_to, mapped)
            for address in {b.address for b in bearings}
        )
    ]
    return math.fsum(spells)


def _moments(
    bearings: Sequence[Bearing],
    start: float,
    end: float,
    mapped: Mapping[Address, Sequence[tuple[float, str]]],
    away: Sequence[Away],
) -> list[float]:
    """The ends of the window and whatever changed in it: between two neighbours nothing changes."""
    spells: list[Bearing | Away] = [*bearings, *away]
    changes = {at for spell in spells for at in (spell.since, spell.until) if at is not None}
    changes |= {at for history in mapped.values() for at, _ in history}
    return sorted({start, end} | {at for at in changes if start < at < end}) if start < end else []


def _bearers(bearings: Sequence[Bearing], address: Address, at: float, away: Sequence[Away]) -> set[str]:
    """Who bears the address from ``at`` on, and can be reached."""
    cut_off = {spell.node for spell in away if _is_on(spell, at)}
    return {b.node for b in bearings if b.address == address and _is_on(b, at)} - cut_off


def _is_on(spell: Bearing | Away, at: float) -> bool:
    return spell.since <= at and (spell.until is None or at < spell.until)


def _undecided(
    nodes: set[str],
    address: Address,
    at: float,
    delivered_to: Mapping[str, str] | None,
    mapped: Mapping[Address, Sequence[tuple[float, str]]] | None,
) -> bool:
    """Whether two of the bearers can both get the address's packets."""
    if delivered_to is None:
        return len(nodes) > 1
    ports = [delivered_to[node] for node in nodes]
    if mapped is None:
        return len(set(ports)) < len(ports)
    named = [port for since, port in mapped.get(address, ()) if since <= at][-1:]
    return bool(named) and ports.count(named[0]) > 1


def takeover_phases(
    *,
    fault_at: float,
    take: Take | None,
    bearings: Sequence[Bearing],
    calls: Sequence[Call],
    announcements: Sequence[Announcement],
) -> Phases:
    """How the takeover after ``fault_at`` spent its time; without a ``take`` only EC2's time can be told.

    Where the successor bore the address already, there is no address phase and no announce phase: nothing was waited
    for.  What one loop read from two sources may be stamped in either order, so no phase is below 0.
    """
    eni_ms = eni_phase_ms(calls, since=fault_at, caller=take.node if take else None)
    if take is None:
        return Phases(eni_ms=eni_ms)
    borne = min((b.since for b in bearings if b.node == take.node and b.since >= take.at), default=None)
    claim = min((a.at for a in announcements if a.node == take.node and a.at >= take.at), default=None)
    return Phases(
        detect_ms=_ms(fault_at, take.began_at),
        lease_ms=_ms(take.began_at, take.at),
        address_ms=_ms(take.at, borne),
        eni_ms=eni_ms,
        announce_ms=_ms(borne, claim),
    )


def eni_phase_ms(calls: Sequence[Call], *, since: float, caller: str | None) -> float | None:
    """From the start of the first useful EC2 call begun after ``since`` to the end of the last one that was needed.

    Useful are calls that succeeded: the pauses after refused and throttled ones are vipd's own.  Needed is each
    address's first Assign: a repair later on is no part of the takeover.  None where nothing was assigned.
    ``caller`` None: whoever called.
    """
    useful = [c for c in calls if c.started_at >= since and c.outcome == "OK" and caller in (None, c.caller)]
    assigned: dict[Address, float] = {}
    for call in sorted(useful, key=lambda c: c.ended_at):
        if call.action.startswith("Assign"):
            for address in call.addresses:
                assigned.setdefault(address, call.ended_at)
    if not assigned:
        return None
    last = max(assigned.values())
    return _ms(min(c.started_at for c in useful if c.started_at <= last), last)


def following_phases(
    *, since: float, bearings: Sequence[Bearing], calls: Sequence[Call], slack_s: float = 0.05
) -> Phases:
    """Of each coming of an address after ``since``: the address there to the EC2 request that names it (``detect_ms``,
    the median), and that request to the end of the Assign that succeeded (``eni_ms``, the longest).

    Calls without a coming (a repair) have the second one only.  ``slack_s``: address and request are read from two
    sources, and may be stamped in either order.
    """
    detected, moved = [], []
    for (caller, address), theirs in _by_caller_and_address(calls, since).items():
        came = sorted(b.since for b in bearings if (b.node, b.address) == (caller, address) and b.since >= since)
        for start, end in itertools.pairwise([since - slack_s, *came, math.inf]):
            group = [c for c in theirs if start - slack_s <= c.started_at < end - slack_s]
            if group and start in came:
                detected.append(max(0.0, group[0].started_at - start) * 1000)
            done = next((c for c in group if c.action.startswith("Assign") and c.outcome == "OK"), None)
            if done is not None:
                moved.append((done.ended_at - group[0].started_at) * 1000)
    return Phases(
        detect_ms=round(statistics.median(detected), 1) if detected else None,
        eni_ms=round(max(moved), 1) if moved else None,
    )


def _by_caller_and_address(calls: Sequence[Call], since: float) -> dict[tuple[str, Address], list[Call]]:
    found: dict[tuple[str, Address], list[Call]] = {}
    for call in sorted(calls, key=lambda c: c.started_at):
        if call.started_at >= since:
            for address in call.addresses:
                found.setdefault((call.caller, address), []).append(call)
    return found


def _ms(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else round(max(0.0, until - since) * 1000, 1)
