"""Repeats the checks and counts: when this member is healthy, and when it no longer is.

A check's first result decides about it at once; from then on it changes its mind after ``fall`` failures or ``rise``
successes in a row.  All checks run beside each other, and no two attempts of one check overlap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from vipd.checks.detail import one_line
from vipd.core.ports import HealthCheck

log = logging.getLogger("vipd.checks")

Report = Callable[[bool, str], None]
"""Whether every check is healthy, and where not, which one is not and why.  Must return at once."""

SHOWN = 80
"""Characters of a check that a detail repeats."""


class Tally:
    """What one check's results come to."""

    def __init__(self, *, rise: int, fall: int) -> None:
        self.healthy: bool | None = None
        """None: no result yet."""
        self.problem = ""
        """What was wrong at the last failure."""
        self._rise = rise
        self._fall = fall
        self._against = 0
        """Results in a row that contradict ``healthy``."""

    def add(self, problem: str | None) -> bool:
        """Count a result (None: a success); True where it turned the verdict, which the first one does."""
        success = problem is None
        if problem is not None:
            self.problem = problem
        if success == self.healthy:
            self._against = 0
            return False
        self._against += 1
        if self.healthy is not None and self._against < (self._rise if success else self._fall):
            return False
        self.healthy, self._against = success, 0
        return True


class HealthMonitor:
    """Runs checks for ever and tells when the overall answer changes."""

    def __init__(self, checks: Sequence[HealthCheck], *, interval_s: float, rise: int, fall: int) -> None:
        """``interval_s`` > 0 lies between the beginnings of two attempts, as far as the first has ended by then.

        ``rise``, ``fall``: 1 or more.  Raises ValueError where there is no check.
        """
        if not checks:
            raise ValueError("a monitor needs a check")
        self._interval_s = interval_s
        self._followed = [(check, Tally(rise=rise, fall=fall)) for check in checks]
        self._told: bool | None = None

    async def run(self, report: Report) -> None:
        """Until cancelled.  ``report`` is called once every check has a result, then at each change."""
        async with asyncio.TaskGroup() as group:
            for check, tally in self._followed:
                group.create_task(self._follow(check, tally, report))

    async def _follow(self, check: HealthCheck, tally: Tally, report: Report) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            problem = await _attempt(check, tally)
            if problem is not None:
                log.debug("check %s failed: %s", check, problem)
            if tally.add(problem):
                _log_verdict(check, tally)
                self._tell(report)
            await asyncio.sleep(self._interval_s - (loop.time() - began) % self._interval_s)

    def _tell(self, report: Report) -> None:
        if any(tally.healthy is None for _, tally in self._followed):
            return
        failing = [(check, tally) for check, tally in self._followed if not tally.healthy]
        if (not failing) == self._told:
            return
        self._told = not failing
        report(self._told, _detail(*failing[0]) if failing else "")


async def _attempt(check: HealthCheck, tally: Tally) -> str | None:
    try:
        return await check.run()
    except Exception as error:
        problem = f"failed in a way it must not: {one_line(repr(error))}"
        if problem != tally.problem:
            log.exception("check %s failed in a way it must not; please report this", check)
        return problem


def _detail(check: HealthCheck, tally: Tally) -> str:
    name = str(check)
    return f"check {name if len(name) <= SHOWN else name[:SHOWN] + '...'}: {tally.problem}"


def _log_verdict(check: HealthCheck, tally: Tally) -> None:
    if tally.healthy:
        log.info("check %s is healthy", check)
    else:
        log.warning("check %s is unhealthy: %s", check, tally.problem)
