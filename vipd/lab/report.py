"""What the lab tells of its rounds: one JSON object a line for programs, one table for people.

The keys of the JSON object are a contract that others script against; ``RoundResult`` gives their names and order.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from vipd.lab.measure import RoundResult

if TYPE_CHECKING:
    from rich.table import Table

NONE = "–"
"""In a cell: this did not happen in any round."""

_WIDTH = 200
"""Columns where the output is no terminal: wide enough that no row is folded, so that grep and diff can work on it."""


def write_json_line(file: TextIO, result: RoundResult) -> None:
    """Append one object and flush: an interrupted run keeps the rounds it has played.

    Raises ValueError for a number that JSON cannot bear (infinite, not a number).
    """
    file.write(json.dumps(result.as_json(), ensure_ascii=False, allow_nan=False) + "\n")
    file.flush()


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and worst of one quantity over rounds."""

    median: float
    worst: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError (statistics.StatisticsError) where there is no value."""
        known = list(values)
        return cls(statistics.median(known), max(known))


@dataclass(frozen=True, slots=True)
class Summary:
    """All rounds of one scenario; times in milliseconds."""

    scenario: str
    rounds: int
    ok: int
    sent: int
    lost: Spread
    gap_ms: Spread
    eni_ms: Spread | None
    """None where no round moved a mapping."""
    two_owners_ms: float
    """The longest of all rounds."""
    promise: str
    broken: tuple[tuple[int, str], ...] = ()
    """(round, reason) of the rounds that broke the promise."""


def summary_rows(results: Sequence[RoundResult], promises: Mapping[str, str]) -> list[Summary]:
    """One summary a scenario, in the order in which they were first played."""
    by_scenario: dict[str, list[RoundResult]] = {}
    for result in results:
        by_scenario.setdefault(result.scenario, []).append(result)
    return [_summary(name, rounds, promises.get(name, "")) for name, rounds in by_scenario.items()]


def _summary(scenario: str, rounds: Sequence[RoundResult], promise: str) -> Summary:
    eni = [r.phases.eni_ms for r in rounds if r.phases.eni_ms is not None]
    return Summary(
        scenario=scenario,
        rounds=len(rounds),
        ok=sum(r.ok for r in rounds),
        sent=sum(r.sent for r in rounds),
        lost=Spread.of(r.lost for r in rounds),
        gap_ms=Spread.of(r.gap_ms for r in rounds),
        eni_ms=Spread.of(eni) if eni else None,
        two_owners_ms=max(r.two_owners_ms for r in rounds),
        promise=promise,
        broken=tuple((r.round, r.reason) for r in rounds if not r.ok),
    )


def print_summary(results: Sequence[RoundResult], promises: Mapping[str, str], *, file: TextIO | None = None) -> None:
    """A row for each scenario (times in milliseconds), and below it each broken promise with its round.

    On a terminal with colours and as wide as it is; elsewhere plain text, one line a row.
    """
    from rich.console import Console
    from rich.markup import escape

    stream = sys.stdout if file is None else file
    terminal = stream.isatty()
    console = Console(file=stream, width=None if terminal else _WIDTH, highlight=False, soft_wrap=False)
    if not results:
        console.print("no round was played")
        return
    console.print(_table(summary_rows(results, promises), terminal=terminal))
    broken = [r for r in results if not r.ok]
    for result in broken:
        where = escape(f"{result.scenario}, round {result.round}")
        # Not folded: a reason names files, and a terminal folds long lines by itself.
        console.print(f"[bold red]✗ BROKEN[/] {where}: {escape(result.reason)}", soft_wrap=True)
    if broken:
        console.print(f"[bold red]{len(broken)} of {len(results)} rounds broke a promise[/]")
    else:
        console.print(f"[green]{len(results)} of {len(results)} rounds kept what is promised[/]")


def _table(summaries: Sequence[Summary], *, terminal: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("scenario", no_wrap=True)
    measured = ("lost\nmedian/max", "gap, ms\nmedian/max", "two owners\nms, max", "EC2, ms\nmedian")
    for heading in ("rounds", "ok", *measured):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("promised")
    for s in summaries:
        table.add_row(
            Text("✗", style="bold red") if s.broken else Text("✓", style="green"),
            Text(s.scenario, style="bold"),
            str(s.rounds),
            Text(str(s.ok), style="green" if s.ok == s.rounds else "bold red"),
            _spread(s.lost),
            _spread(s.gap_ms),
            Text(_ms(s.two_owners_ms), style="red" if s.two_owners_ms else ""),
            _ms(s.eni_ms.median) if s.eni_ms else NONE,
            Text(s.promise),
        )
    return table


def _spread(spread: Spread) -> str:
    return f"{_ms(spread.median)}/{_ms(spread.worst)}"


def _ms(value: float) -> str:
    """Whole milliseconds (or probes), rounded up: what is more than nothing never reads as 0."""
    return str(math.ceil(value))
