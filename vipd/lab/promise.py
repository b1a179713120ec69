"""What a scenario is: a fault on a setting, and the promise that every round of it is held to.

Promises about time are in milliseconds on top of the EC2 calls of the takeover, which are measured in the same round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from vipd.lab.setting import Setting
from vipd.lab.stage import Stage

Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Promise:
    """What must be true of every round; None: not promised."""

    text: str
    lost: int | None = None
    """The most probes that may stay unanswered."""
    gap_ms: float | None = None
    """The longest gap, not counting the EC2 calls of the takeover."""
    durations: float = 0.0
    """How many Lease durations come on top of ``gap_ms``."""
    detect_ms: float | None = None
    """The most that the phase ``detect_ms`` may be."""
    owner_changes: bool | None = None
    two_owners: bool = False
    """Whether two owners are tolerated (never, at durations of 2 s and above)."""

    def limit_ms(self, duration_s: float, eni_ms: float | None) -> float | None:
        """The longest gap that keeps the promise in a round whose EC2 calls took ``eni_ms``."""
        if self.gap_ms is None:
            return None
        return self.gap_ms + self.durations * duration_s * 1000 + (eni_ms or 0.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault.  ``act`` brings it about and returns when the dust has settled."""

    name: str
    summary: str
    promise: Promise
    act: Act
    setting: Setting = field(default_factory=Setting)
