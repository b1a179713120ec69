"""What a round amounts to: from what was observed to the record that is written, and to the timeline that is drawn.

Pure functions over observations; all times are CLOCK_BOOTTIME seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vipd.core.model import Address
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
    """The successor's EC2 calls, from the first one's start to the last one's end."""
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


def two_owners_s(
    bearings: Sequence[Bearing], start: float, end: float, *, delivered_to: Mapping[str, str] | None
) -> float:
    """How long two namespaces bore one address within the window while nothing told them apart.

    ``delivered_to``: which port (ENI) each node is behind; two nodes behind different ports are told apart by the
    mapping.  None: a plain L2 segment, where nothing does.
    """
    total = 0.0
    for address in {b.address for b in bearings}:
        spans = [
            (max(start, b.since), min(end, b.until if b.until is not None else end), b.node)
            for b in bearings
            if b.address == address
        ]
        moments = sorted({at for since, until, _ in spans if since < until for at in (since, until)})
        for at, later in itertools.pairwise(moments):
            nodes = {node for since, until, node in spans if since <= at and until >= later}
            ports = nodes if delivered_to is None else [delivered_to[node] for node in nodes]
            if len(nodes) > 1 and (delivered_to is None or len(set(ports)) < len(nodes)):
                total += later - at
    return total
