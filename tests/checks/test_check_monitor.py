"""The monitor: who is healthy after which results, what is reported when, and that it goes on whatever a check does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from check_servers import PATIENCE_S, happens, runs

from vipd.checks.command import ExecCheck
from vipd.checks.monitor import HealthMonitor, Tally

Reports = list[tuple[bool, str]]


class Script:
    """A check whose results are given: "+" a success, "-" a failure, "!" an exception; the last one for ever."""

    def __init__(self, results: str, *, name: str = "script", takes_s: float = 0.0) -> None:
        self.results = results
        self.runs = 0
        self.running = 0
        self.most = 0
        self._name = name
        self._takes_s = takes_s

    def __str__(self) -> str:
        return self._name

    async def run(self) -> str | None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self._takes_s)
        finally:
            self.running -= 1
        result = self.results[min(self.runs, len(self.results) - 1)]
        self.runs += 1
        if result == "!":
            raise RuntimeError("what no check should do")
        return None if result == "+" else "broken"


@asynccontextmanager
async def monitored(
    checks: Sequence[Script | ExecCheck], *, rise: int = 2, fall: int = 3, interval_s: float = 0.01
) -> AsyncIterator[Reports]:
    """The reports of a monitor that runs."""
    reports: Reports = []
    monitor = HealthMonitor(checks, interval_s=interval_s, rise=rise, fall=fall)
    task = asyncio.create_task(monitor.run(lambda healthy, detail: reports.append((healthy, detail))))
    try:
        yield reports
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)


def verdicts(results: str, *, rise: int, fall: int) -> str:
    """What the tally says after each result."""
    tally = Tally(rise=rise, fall=fall)
    said = ""
    for result in results:
        before = tally.healthy
        turned = tally.add(None if result == "+" else "broken")
        assert turned == (tally.healthy != before)
        said += "+" if tally.healthy else "-"
    return said


@pytest.mark.parametrize(
    ("rise", "fall", "results", "said"),
    [
        (2, 3, "+", "+"),
        (2, 3, "-", "-"),
        (2, 3, "+--+--+---+", "+++++++++--"),
        (2, 3, "-+-+-++", "------+"),
        (2, 3, "---++---", "----+++-"),
        (1, 1, "+-+-", "+-+-"),
        (3, 1, "+-++-+++", "+------+"),
        (100, 2, "-" + "+" * 100, "-" * 100 + "+"),
    ],
)
def test_the_first_result_decides_then_rise_and_fall_do(rise: int, fall: int, results: str, said: str) -> None:
    assert verdicts(results, rise=rise, fall=fall) == said


async def test_nothing_is_told_before_every_check_has_a_result() -> None:
    slow = Script("+", takes_s=0.3)
    async with monitored([Script("-", name="quick"), slow]) as reports:
        await asyncio.sleep(0.1)
        assert reports == [] or slow.runs > 0
        assert await happens(lambda: bool(reports))
    assert reports == [(False, "check quick: broken")]


async def test_only_changes_of_the_whole_are_told_with_the_first_that_fails() -> None:
    first, second = Script("+" * 5 + "-" * 10 + "+", name="first"), Script("+-", name="second")
    async with monitored([first, second]) as reports:
        assert await happens(lambda: first.runs > 20 and second.runs > 5)
        assert reports == [(True, ""), (False, "check second: broken")]
        second.results = "+"
        assert await happens(lambda: len(reports) == 3)
    assert reports[2] == (True, "")


async def test_a_failure_that_does_not_last_is_not_told() -> None:
    check = Script("+--+--+")
    async with monitored([check]) as reports:
        assert await happens(lambda: check.runs > 10)
    assert reports == [(True, "")]


async def test_a_check_that_raises_has_failed_and_the_monitor_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    check = Script("+!!!!!!+")
    with caplog.at_level(logging.INFO, "vipd.checks"):
        async with monitored([check]) as reports:
            assert await happens(lambda: len(reports) == 3)
    assert [healthy for healthy, _ in reports] == [True, False, True]
    assert "what no check should do" in reports[1][1]
    assert len([record for record in caplog.records if record.exc_info]) == 1
    said = [record.getMessage().partition(":")[0] for record in caplog.records if not record.exc_info]
    assert said == ["check script is healthy", "check script is unhealthy", "check script is healthy"]


async def test_attempts_of_one_check_never_overlap_and_others_do_not_wait_for_it() -> None:
    slow, quick = Script("+", takes_s=0.2), Script("+", name="quick")
    async with monitored([slow, quick]):
        assert await happens(lambda: slow.runs >= 3)
    assert slow.most == 1
    assert quick.runs > slow.runs


async def test_a_check_is_not_run_more_often_than_its_interval() -> None:
    check = Script("-")
    async with monitored([check], interval_s=0.2):
        assert await happens(lambda: check.runs >= 1)
        await asyncio.sleep(0.3)
        assert check.runs <= 4
        assert await happens(lambda: check.runs >= 3)


async def test_cancelling_ends_every_check_and_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    text = f"sleep 1000 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait"
    waiting = Script("+", takes_s=1000)
    hanging = ExecCheck(("sh", "-c", text), timeout_s=PATIENCE_S * 6, text="exec:sh")
    async with monitored([hanging, waiting]) as reports:
        assert await happens(lambda: pids.exists() and waiting.running == 1)
    started = [int(pid) for pid in pids.read_text().split()]
    assert waiting.running == 0
    assert await happens(lambda: not any(map(runs, started)))
    assert reports == []


def test_a_monitor_without_checks_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs a check"):
        HealthMonitor([], interval_s=1.0, rise=2, fall=3)
