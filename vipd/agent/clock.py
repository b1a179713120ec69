"""The clocks of this machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from vipd.core.ports import Clock


class SystemClock:
    """CLOCK_BOOTTIME for decisions (it goes on while the guest is suspended), the wall clock for the wire."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> datetime:
        return datetime.now(UTC)


class JumpDetector:
    """Notices that the wall clock and CLOCK_BOOTTIME disagree about how much time went by.

    A snapshot that is resumed, or a hypervisor that stops a guest, may stop CLOCK_BOOTTIME too; the wall clock is
    put right afterwards.  A step by NTP looks the same and costs one read of the Lease.
    """

    def __init__(self, *, tolerance_s: float = 0.1) -> None:
        """``tolerance_s``: a stop of all clocks that is shorter is within the margin of every Lease duration."""
        self._tolerance_s = tolerance_s
        self._offset: float | None = None

    def jumped(self, clock: Clock) -> bool:
        """Call it regularly; True once for each jump of more than the tolerance."""
        before, offset = self._offset, _offset(clock)
        if before is not None and abs(offset - before) > self._tolerance_s:
            # This process may just have been stopped between the two readings (a CPU limit does that): read again.
            offset = _offset(clock)
        self._offset = offset
        return before is not None and abs(offset - before) > self._tolerance_s


def _offset(clock: Clock) -> float:
    now = clock.now()
    return clock.wall().timestamp() - now
