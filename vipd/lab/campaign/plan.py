"""What a campaign plays: a pure function of its seed, so that what it finds can be played again.

First every fault once by itself, in a random order; then pairs at random without end, the second one beginning while
the first one lasts.  How the processes meet a fault is not in the plan: clocks, jitter and the machine decide that.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vipd.lab.campaign.faults import Fault, Target, compatible

SHORTEST_S = 0.2
AT_ONCE_S = (0.3, 1.0)
"""How long a fault that is over at once is given before the end of the episode is waited for."""

IMDS_LAGS_S = (0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 3.0, 3.0, 9.0)
"""How late IMDS shows a change of the mapping, drawn for each step; vipd believes it to be less than 10 s."""


PATIENT = 0.2
"""The share of steps before which a hold-down, of 30 s and more, is waited out."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One fault of an episode; both times in seconds, ``begins_s`` from the beginning of the episode."""

    fault: Fault
    target: Target
    begins_s: float
    lasts_s: float

    def __str__(self) -> str:
        where = "" if self.target is Target.SERVICE else f" {self.target.value}"
        return f"{self.fault.name}{where} at {self.begins_s:.2f} s for {self.lasts_s:.2f} s"


@dataclass(frozen=True, slots=True)
class Step:
    """One episode of the plan, numbered from 1."""

    number: int
    pause_s: float
    """Before it: a fault comes at any moment between two renewals."""
    imds_lag_s: float
    placed: tuple[Placed, ...]
    patient: bool = False
    """Whether a hold-down of the step before is waited out; else the member that sits it out is started anew."""

    @property
    def kind(self) -> str:
        """What it counts as in the report: whichever fault of a pair came first."""
        return " + ".join(sorted(p.fault.name for p in self.placed))

    def __str__(self) -> str:
        late = f" (IMDS {self.imds_lag_s:g} s late)" if self.imds_lag_s else ""
        return f"{self.number}: " + "; ".join(map(str, self.placed)) + late


def steps(seed: int, *, duration_s: float, faults: Sequence[Fault]) -> Iterator[Step]:
    """The plan for one seed and Lease duration; it has no end.  Raises ValueError without a fault that moves anything.

    Another Lease duration stretches the times, and leaves faults, targets and order as they are.
    """
    if not any(fault.moves for fault in faults):
        raise ValueError("a campaign needs a fault that changes something by itself")
    rng = random.Random(seed)
    patience = random.Random(f"{seed}/patience")
    singles = list(faults)
    rng.shuffle(singles)
    pairs = _pairs(faults)
    for number in itertools.count(1):
        pause_s, lag_s = rng.random() * duration_s / 3, rng.choice(IMDS_LAGS_S)
        if number <= len(singles):
            fault = singles[number - 1]
            placed: tuple[Placed, ...] = (Placed(fault, fault.targets[0], 0.0, _lasts_s(rng, fault, duration_s)),)
        elif pairs:
            # First which faults, then on whom: else those with many targets would drive out the others.
            placed = _placed(rng, rng.choice(rng.choice(pairs)), duration_s)
        else:
            fault = rng.choice(singles)
            placed = (Placed(fault, rng.choice(fault.targets), 0.0, _lasts_s(rng, fault, duration_s)),)
        yield Step(number, pause_s, lag_s, placed, patient=patience.random() < PATIENT)


_Aimed = tuple[Fault, Target]


def _pairs(faults: Sequence[Fault]) -> list[list[tuple[_Aimed, _Aimed]]]:
    """For each two faults, in the order in which they are to begin, the targets on which they can go together."""
    found = [
        [
            ((one, its), (other, others))
            for its, others in itertools.product(one.targets, other.targets)
            if (one, its) != (other, others) and compatible(one, its, other, others)
        ]
        for one, other in itertools.product(faults, repeat=2)
        # What is noticed only when somebody calls has to be there before that.
        if other.moves
    ]
    return [aimed for aimed in found if aimed]


def _placed(rng: random.Random, pair: tuple[_Aimed, _Aimed], duration_s: float) -> tuple[Placed, ...]:
    (first, its), (second, others) = pair
    lasts_s = _lasts_s(rng, first, duration_s)
    # Squared: the moments just after the first fault, in which a takeover is under way, are worth more tries.
    later_s = lasts_s * rng.random() ** 2
    return (Placed(first, its, 0.0, lasts_s), Placed(second, others, later_s, _lasts_s(rng, second, duration_s)))


def _lasts_s(rng: random.Random, fault: Fault, duration_s: float) -> float:
    """Half of the faults that last are over before a Lease is, the others outlive it."""
    outlives, share = rng.random() < 0.5, rng.random()
    if not fault.longest_s:
        return AT_ONCE_S[0] + share * (AT_ONCE_S[1] - AT_ONCE_S[0])
    return duration_s + share * fault.longest_s if outlives else SHORTEST_S + share * (duration_s - SHORTEST_S)
