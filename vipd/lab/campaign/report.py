"""The report of a campaign: what was tried and what it cost, what must never be, and what did not converge."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from vipd.lab.campaign.verdict import EpisodeResult
from vipd.lab.report import Spread

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Row:
    """All episodes of one kind; times in milliseconds."""

    kind: str
    count: int
    ok: int
    lost: Spread
    gap_ms: Spread
    converged_s: float | None
    """The longest; None where none converged."""
    two_owners_ms: float
    """All of them together."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole campaign."""

    episodes: int
    faults: int
    """How many different ones were tried."""
    pairs: int
    """How many different pairs."""
    sent: int
    lost: int
    worst_gap_ms: float
    two_owners_ms: float
    foreign_acts: int
    left_behind: int
    not_converged: int
    other: int
    """Episodes that are not right for another reason: a label, an exit code, a command."""


def rows_of(results: Sequence[EpisodeResult]) -> list[Row]:
    """One row a kind: single faults first, then pairs, by name."""
    kinds: dict[str, list[EpisodeResult]] = {}
    for result in results:
        kinds.setdefault(result.kind, []).append(result)
    return [_row(kind, kinds[kind]) for kind in sorted(kinds, key=lambda kind: (" + " in kind, kind))]


def _row(kind: str, results: Sequence[EpisodeResult]) -> Row:
    converged = [r.converged_s for r in results if r.converged_s is not None]
    return Row(
        kind=kind,
        count=len(results),
        ok=sum(r.ok for r in results),
        lost=Spread.of(r.lost for r in results),
        gap_ms=Spread.of(r.gap_ms for r in results),
        converged_s=max(converged, default=None),
        two_owners_ms=math.fsum(r.two_owners_ms for r in results),
    )


def totals_of(results: Sequence[EpisodeResult]) -> Totals:
    """Sums over all episodes."""
    plain = [r for r in results if not r.ok and r.converged_s is not None and not r.foreign_acts and not r.left_behind]
    kinds = {r.kind for r in results if r.faults}
    return Totals(
        episodes=len(results),
        faults=len({fault for kind in kinds for fault in kind.split(" + ")}),
        pairs=sum(" + " in kind for kind in kinds),
        sent=sum(r.sent for r in results),
        lost=sum(r.lost for r in results),
        worst_gap_ms=max((r.gap_ms for r in results), default=0.0),
        two_owners_ms=math.fsum(r.two_owners_ms for r in results),
        foreign_acts=sum(len(r.foreign_acts) for r in results),
        left_behind=sum(len(r.left_behind) for r in results),
        not_converged=sum(r.converged_s is None for r in results),
        other=sum(not r.two_owners_ms for r in plain),
    )


def write_json_line(file: TextIO, result: EpisodeResult) -> None:
    """Append one object and flush: an interrupted campaign keeps the episodes it has played."""
    file.write(json.dumps(result.as_json(), ensure_ascii=False, allow_nan=False) + "\n")
    file.flush()


def print_report(results: Sequence[EpisodeResult], *, again: str, file: TextIO | None = None) -> None:
    """The table of kinds, the totals, and each finding with what it takes to look into it.

    ``again``: the command that plays the same plan; ``--only N`` after it plays one step of it alone.
    """
    from rich.console import Console
    from rich.markup import escape

    stream = sys.stdout if file is None else file
    terminal = stream.isatty()
    console = Console(file=stream, width=None if terminal else _WIDTH, highlight=False, soft_wrap=False)
    if not results:
        console.print("no step was played")
        return
    console.print(_table(rows_of(results), terminal=terminal))
    for line in _lines(totals_of(results), results[-1]):
        console.print(escape(line), soft_wrap=True)
    for r in (r for r in results if not r.ok):
        told = escape(f"step {r.episode}, {'; '.join(r.faults) or r.kind}: {r.reason}; logs in {r.logs}")
        console.print(f"[bold red]✗ FOUND[/] {told}", soft_wrap=True)
        console.print(escape(f"  again: {again} --only {r.episode}"), soft_wrap=True)
    bad = sum(not r.ok for r in results)
    if bad:
        console.print(f"[bold red]{bad} of {len(results)} episodes found something that must not be[/]")
    else:
        console.print(f"[green]{len(results)} of {len(results)} episodes found nothing that must not be[/]")


def _lines(t: Totals, last: EpisodeResult) -> list[str]:
    enis = ", ".join(f"{name}: {' '.join(held) or 'nothing'}" for name, held in last.eni.items())
    return [
        "",
        f"faults tried        {t.faults} different ones, {t.pairs} different pairs, in {t.episodes} episodes",
        f"probes              {t.lost} lost of {t.sent}, longest gap {math.ceil(t.worst_gap_ms)} ms",
        f"two owners          {math.ceil(t.two_owners_ms)} ms",
        f"foreign acts        {t.foreign_acts} (EC2 writes and announcements of a member that the Lease did not name)",
        f"left behind         {t.left_behind} (addresses and mappings where they do not belong)",
        f"not converged       {t.not_converged}",
        f"otherwise wrong     {t.other} (labels, exit codes, commands)",
        *([f"ENIs at the end     {enis} (beside their own addresses)"] if enis else []),
        "",
    ]


def _table(rows: Sequence[Row], *, terminal: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("fault, or pair", no_wrap=True)
    measured = ("lost\nmedian/max", "gap, ms\nmedian/max", "two owners\nms", "converged\ns, max")
    for heading in ("times", "ok", *measured):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        right = row.ok == row.count
        table.add_row(
            Text("✓", style="green") if right else Text("✗", style="bold red"),
            Text(row.kind),
            str(row.count),
            Text(str(row.ok), style="green" if right else "bold red"),
            f"{math.ceil(row.lost.median)}/{math.ceil(row.lost.worst)}",
            f"{math.ceil(row.gap_ms.median)}/{math.ceil(row.gap_ms.worst)}",
            Text(str(math.ceil(row.two_owners_ms)), style="red" if row.two_owners_ms else ""),
            "–" if row.converged_s is None else f"{row.converged_s:.1f}",
        )
    return table
