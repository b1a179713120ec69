"""Who was inside its right when, by what a witness saw of the Lease and by each side's own word.

The rival (client-go) is inside its right from its word "started leading" until the first of

- its word "stopped leading", and its death;
- ``leaseDurationSeconds`` after the last renewal that it *sent* (its renewTime, read right before the request): from
  then on others may take.  A rival that runs says "stopped leading" earlier, ``renewDeadline`` after the last renewal
  that succeeded; one that was frozen goes on saying that it leads after it wakes up, until it has found out.
  client-go promises no more: "This implementation does not guarantee that only one client is acting as a leader";
- the moment when it sends its release.  client-go says "stopped leading" after the release, and requires of its user
  that the work has ended before.

vipd is inside its right as long as the kernel bears its VIP: it promises that the address ends with the right, also
where vipd was killed or frozen.

Apart from words, a take of a Lease that nobody gave up must come no earlier than the holder's duration after its last
renewal.  client-go reads renewTime in whole seconds, so of several renewals within one second it counts from the
first.  All times are seconds of CLOCK_BOOTTIME.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

CLOCKS_S = 0.002
"""How far renewTime, the wall clock, may be off when it is told in CLOCK_BOOTTIME (a slewed clock, a reading apart)."""


@dataclass(frozen=True, slots=True)
class Write:
    """One version of the Lease as the witness saw it."""

    seen_at: float
    renewed_at: float
    """renewTime, told in CLOCK_BOOTTIME."""
    renewed_second: int
    """renewTime in whole seconds of the wall clock."""
    holder: str
    transitions: int
    duration_s: int

    @classmethod
    def of(cls, lease: dict[str, Any], *, seen_at: float, renewed: float, boot_of_wall: float) -> Write:
        """``renewed``: renewTime in seconds since the epoch; ``boot_of_wall``: to be added for CLOCK_BOOTTIME."""
        spec = lease["spec"]
        return cls(
            seen_at=seen_at,
            renewed_at=renewed + boot_of_wall,
            renewed_second=math.floor(renewed),
            holder=spec.get("holderIdentity") or "",
            transitions=spec.get("leaseTransitions") or 0,
            duration_s=spec.get("leaseDurationSeconds") or 0,
        )


@dataclass(frozen=True, slots=True)
class Span:
    """From ``since`` to ``until``, of whoever ``who`` is."""

    who: str
    since: float
    until: float


@dataclass(slots=True)
class Life:
    """What one process of the rival said; ``died_at`` when it was gone for certain (infinity: it runs)."""

    identity: str
    started_at: list[float] = field(default_factory=list)
    stopped_at: list[float] = field(default_factory=list)
    died_at: float = math.inf

    def word(self) -> Span | None:
        """When it said that it leads; a process leads once at most."""
        if not self.started_at:
            return None
        return Span(self.identity, self.started_at[0], min([self.died_at, *self.stopped_at]))


def rights(lives: Iterable[Life], writes: Sequence[Write]) -> list[Span]:
    """When each process of the rival was inside its right."""
    found = []
    for life in lives:
        word = life.word()
        if word is None:
            continue
        own = [w for w in writes if w.holder == life.identity]
        ends = max((w.renewed_at + w.duration_s for w in own), default=word.since)
        until = min([word.until, ends, *_releases(life.identity, writes)])
        if until > word.since:
            found.append(Span(life.identity, word.since, until))
    return found


def _releases(identity: str, writes: Sequence[Write]) -> list[float]:
    return [new.renewed_at for old, new in pairwise(writes) if old.holder == identity and not new.holder]


def overlaps(some: Iterable[Span], others: Sequence[Span]) -> list[tuple[Span, Span, float]]:
    """Pairs that were at the same time, and for how long."""
    both = [(a, b, min(a.until, b.until) - max(a.since, b.since)) for a in some for b in others]
    return [pair for pair in both if pair[2] > 0]


def changes(writes: Sequence[Write]) -> int:
    """How often the Lease had another holder than the one before, whether it was free in between or not."""
    holders = [write.holder for write in writes if write.holder]
    return sum(a != b for a, b in pairwise(holders))


def early_takes(writes: Sequence[Write], *, vipd: str) -> list[str]:
    """Takes of a Lease whose holder had not given it up and whose duration was not over, each as a sentence."""
    found = []
    for number, (before, after) in enumerate(pairwise(writes)):
        if not before.holder or not after.holder or before.holder == after.holder:
            continue
        counts_from = before if after.holder == vipd else _first_of_second(writes, number)
        waited_s = after.renewed_at - counts_from.renewed_at
        if waited_s < before.duration_s - CLOCKS_S:
            found.append(
                f"{after.holder} took from {before.holder} {waited_s:.3f} s after its renewal, not {before.duration_s}"
            )
    return found


def _first_of_second(writes: Sequence[Write], number: int) -> Write:
    """The first of the writes up to this one that client-go cannot tell from it."""
    key = (writes[number].holder, writes[number].transitions, writes[number].renewed_second)
    while number > 0:
        earlier = writes[number - 1]
        if (earlier.holder, earlier.transitions, earlier.renewed_second) != key:
            break
        number -= 1
    return writes[number]
