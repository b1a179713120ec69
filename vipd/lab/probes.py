"""What the prober saw, and the questions that are asked of it: lost probes, gaps, who answered."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe; ``answered_at`` None: nobody answered within a second."""

    sent_at: float
    answered_at: float | None
    who: str


@dataclass(frozen=True, slots=True)
class Window:
    """The probes of a stretch of time, summed up."""

    sent: int
    lost: int
    gap_s: float
    """The longest time between the sending of two neighbouring answered probes; the probe interval where none was
    lost.  What the prober was held up by the machine next to an answered probe is left out: the VIP may have served
    then.  Between two lost probes it counts.  Where nobody answers any more the gap goes to the end of the window."""
    gap_from: float
    first_who: str
    last_who: str


class ProbeLog:
    """The probes of one VIP, in the order of sending."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.probes: list[Probe] = []
        self.stalls: list[tuple[float, float]] = []
        self.again: list[float] = []
        """When requests were sent whose connection was reset, and that were sent once more (HTTP)."""
        self._sent: list[float] = []

    def add(self, line: str) -> None:
        """One line of the prober: ``sequence sent_at answered_at who``."""
        _, sent, answered, who = line.split()
        self.probes.append(Probe(float(sent), None if answered == "-" else float(answered), "" if who == "-" else who))
        self._sent.append(float(sent))

    def stalled(self, line: str) -> None:
        """``from until``: the prober was held up."""
        since, until = line.split()
        self.stalls.append((float(since), float(until)))

    def between(self, start: float, end: float) -> list[Probe]:
        """The probes sent in the window."""
        return self.probes[bisect_left(self._sent, start) : bisect_left(self._sent, end)]

    def window(self, start: float, end: float) -> Window:
        """Sum up a window; the last answered probe before it counts for the first gap."""
        inside = self.between(start, end)
        before = [p for p in self.between(start - 5.0, start) if p.answered_at is not None][-1:]
        answered = [*before, *(p for p in inside if p.answered_at is not None)]
        gap_s, gap_from = self._longest_gap(answered, start, end)
        return Window(
            sent=len(inside),
            lost=sum(p.answered_at is None for p in inside),
            gap_s=gap_s,
            gap_from=gap_from,
            first_who=answered[0].who if answered else "",
            last_who=answered[-1].who if answered else "",
        )

    def _longest_gap(self, answered: list[Probe], start: float, end: float) -> tuple[float, float]:
        # Where nobody answered in the seconds before the window, the silence counts from its start.
        moments = [p.sent_at for p in answered]
        if not moments or moments[0] > start:
            moments.insert(0, start)
        gaps = [(later - at - self._doubtful_s(at, later), at) for at, later in pairwise(moments)]
        tail = end - moments[-1] - self._doubtful_s(moments[-1], end)
        # The probes of the last second may still be answered; only a longer silence is one.
        if tail > 1.0:
            gaps.append((tail, moments[-1]))
        return max(gaps, default=(0.0, start))

    def _doubtful_s(self, start: float, end: float) -> float:
        """How long the prober was held up between two answered probes, but for what lies between two lost ones."""
        lost = [p.sent_at for p in self.between(start, end) if p.answered_at is None]
        edges = [(start, lost[0]), (lost[-1], end)] if lost else [(start, end)]
        return sum(
            max(0.0, min(until, last) - max(since, first)) for since, until in self.stalls for first, last in edges
        )

    def answered_since(self, moment: float) -> str | None:
        """Who answered the latest probe sent after ``moment``; None where none was answered."""
        for probe in reversed(self.probes):
            if probe.sent_at < moment:
                return None
            if probe.answered_at is not None:
                return probe.who
        return None

    def forget(self, before: float) -> None:
        """Drop the probes sent before this moment: a long run would keep half a thousand a second."""
        kept = bisect_left(self._sent, before)
        del self.probes[:kept], self._sent[:kept]
        self.stalls = [stall for stall in self.stalls if stall[1] >= before]

    def last_sent_at(self) -> float:
        """Up to where the log is complete."""
        return self._sent[-1] if self._sent else 0.0
