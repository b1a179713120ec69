"""The clocks of one simulated machine: each has its own rate and start, and may stop or jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from .loop import Timeline

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class MachineClock:
    """``vipd.core.ports.Clock``: CLOCK_BOOTTIME and the wall clock of one machine."""

    def __init__(self, timeline: Timeline, *, rate: float, booted_s: float, wall_offset_s: float) -> None:
        """``rate``: its seconds in one second of the world.  ``booted_s``: its age at the world's start."""
        self._timeline = timeline
        self._rate = rate
        self._base = booted_s
        self._from = 0.0
        self._stopped = False
        self.wall_offset_s = wall_offset_s

    def now(self) -> float:
        if self._stopped:
            return self._base
        return self._base + (self._timeline.now - self._from) * self._rate

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now() + self.wall_offset_s)

    def stop(self) -> None:
        """The hypervisor stops the machine and its clocks."""
        self._base, self._stopped = self.now(), True

    def go_on(self, *, stood_s: float) -> None:
        """It goes on; the wall clock is put right at once (by the guest agent), CLOCK_BOOTTIME is not."""
        self._from, self._stopped = self._timeline.now, False
        self.wall_offset_s += stood_s

    def step_wall(self, by_s: float) -> None:
        """NTP (or somebody) steps the wall clock."""
        self.wall_offset_s += by_s
