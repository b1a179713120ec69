"""Draws rounds: what the client got, and above all why, on one time axis that begins at the fault.

One panel a round.  From the top: who answered the probes and which were lost; then the three places that a floating IP
lives in (the Lease, each node's kernel, the VPC's mapping), the EC2 calls that moved it, and what was announced.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vipd.errors import ConfigError, VipdError

if TYPE_CHECKING:
    from vipd.core.model import Address
    from vipd.lab.measure import Timeline
    from vipd.lab.probes import Probe

FORMATS = (".svg", ".png")
NODE_COLOURS = ("#0072B2", "#D98C00", "#009E73", "#AA4499", "#56B4E9")
"""Taken from the palette of Okabe and Ito ("Color Universal Design"), which colour-blind people can tell apart."""

BAD, OTHER, INK, FAINT = "#C4161C", "#8C8C8C", "#222222", "#E2E2E2"
NOBODY = "nobody"
MARGIN_S = 0.4
"""What is drawn after the last thing that happened."""

SHORTEST_S = 1.0
_NEIGHBOURS_S = 0.05
"""Probes further apart than this were not sent one after the other: the prober was held up."""

_PROBE_S = 0.002
_WIDTH_IN, _ROW_IN, _FRAME_IN = 12.0, 0.28, 1.0
_DPI = 130
_BAR = 0.62
"""Height of a bar; two rows are 1 apart."""

_NARROWEST = 0.0016
"""Share of the axis that everything has at least: a single lost probe must be seen."""

_LETTER = 0.0066
"""Share of the axis that a letter takes: a bar gets its text only where that fits."""


@dataclass(frozen=True, slots=True)
class Span:
    """Something that was so from ``since`` to ``until`` (CLOCK_BOOTTIME); ``who``: the node, or empty."""

    since: float
    until: float
    who: str
    text: str = ""
    bad: bool = False
    unknown: bool = False
    """Nothing was measured."""
    beside: bool = False
    """Whether the text may stand behind the bar where it does not fit inside."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a panel: bars, or ticks (at, node)."""

    label: str
    spans: tuple[Span, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()


def write_timeline(path: Path, timelines: Sequence[Timeline]) -> None:
    """Draw the rounds below each other into one file, SVG or PNG by its suffix.

    Raises ConfigError for another suffix or where there is nothing to draw, VipdError where the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"timeline {path}: allowed are files that end in {' or '.join(FORMATS)}")
    if not timelines:
        raise ConfigError(f"timeline {path}: no round was played, there is nothing to draw")
    # The object interface and not pyplot: no window system is asked for, and no figure outlives this call.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The SVG keeps its text as text, to be searched and read aloud, and bears no date: same rounds, same file.
    # No text is a formula, whatever signs a reason bears.
    style = {"font.size": 9, "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "vipd"}
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    with rc_context(style):
        panels = [(t, rows_of(t)) for t in timelines]
        heights = [len(rows) * _ROW_IN + _FRAME_IN for _, rows in panels]
        figure = Figure(figsize=(_WIDTH_IN, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for (one,), (timeline, rows) in zip(axes, panels, strict=True):
            _draw(one, timeline, rows)
        try:
            figure.savefig(path, dpi=_DPI, metadata=metadata)
        except OSError as error:
            raise VipdError(f"timeline {path}: cannot be written: {error.strerror}") from error


# ------------------------------------------------------------------------------------------------ what is drawn


def rows_of(t: Timeline) -> list[Row]:
    """The lines of one round's panel, from the top."""
    until = shown_until(t)
    several = len(t.probes) > 1
    rows = []
    for vip, probes in t.probes.items():
        shown = [p for p in probes if p.sent_at <= until]
        rows.append(Row(f"probes, IPv{vip.version}" if several else "probes", tuple(probe_spans(shown))))
    rows.append(Row("Lease holder", tuple(state_spans(t.holders, t.start, until, t.nodes))))
    for node, vip in itertools.product(t.nodes, t.probes):
        label = f"address on {node}, IPv{vip.version}" if several else f"address on {node}"
        rows.append(Row(label, tuple(_bearing_spans(t, node, vip, until))))
    for vip, history in t.mapped.items():
        label = f"EC2 mapping, IPv{vip.version}" if several else "EC2 mapping"
        rows.append(Row(label, tuple(state_spans(history, t.start, until, t.nodes))))
    if t.mapped or t.calls:
        lanes = _lanes(_call_spans(t, until)) or [()]
        rows += [Row("" if number else "EC2 calls", lane) for number, lane in enumerate(lanes)]
    claims = tuple((a.at, a.node) for a in t.announcements if t.start <= a.at <= until)
    rows.append(Row("GARP / NA", ticks=claims))
    return rows


def shown_until(t: Timeline) -> float:
    """Where the panel ends: a little after the last thing that happened, so that a long quiet wait takes no room.

    The regular announcements of a settled owner are nothing that happened.
    """
    moments = [t.fault_at + SHORTEST_S]
    for probes in t.probes.values():
        moments += [p.sent_at for p in probes if p.answered_at is None]
        moments += [later.sent_at for one, later in itertools.pairwise(probes) if one.who != later.who]
    for history in (t.holders, *t.mapped.values()):
        moments += [at for at, _ in history]
    moments += [b.since for b in t.bearings]
    moments += [b.until for b in t.bearings if b.until is not None]
    moments += [call.ended_at for call in t.calls]
    return min(t.end, max(at for at in moments if at <= max(t.end, moments[0])) + MARGIN_S)


def probe_spans(probes: Sequence[Probe]) -> list[Span]:
    """Runs of neighbouring probes with one answerer, ``bad`` where nobody answered; ``unknown`` where none was sent."""
    runs: list[list[Probe]] = []
    for probe in probes:
        last = runs[-1][-1] if runs else None
        if last is None or _outcome(last) != _outcome(probe) or not _neighbours(last, probe):
            runs.append([])
        runs[-1].append(probe)
    spans = []
    for run, following in zip(runs, [*runs[1:], []], strict=False):
        first, last = run[0], run[-1]
        end = following[0].sent_at if following and _neighbours(last, following[0]) else last.sent_at + _PROBE_S
        lost = first.answered_at is None
        spans.append(Span(first.sent_at, end, first.who, f"{len(run)} lost" if lost else f"node {first.who}", bad=lost))
        if following and not _neighbours(last, following[0]):
            spans.append(Span(end, following[0].sent_at, "", "prober held up", unknown=True))
    return spans


def _outcome(probe: Probe) -> tuple[bool, str]:
    return probe.answered_at is None, probe.who


def _neighbours(one: Probe, later: Probe) -> bool:
    return later.sent_at - one.sent_at <= _NEIGHBOURS_S


def state_spans(history: Iterable[tuple[float, str]], start: float, until: float, nodes: Sequence[str]) -> list[Span]:
    """A history of (since, who) as spans within the window; empty: nobody; who is no node has a name only."""
    ends = [*history, (until, "")]
    spans = []
    for (since, who), (later, _) in itertools.pairwise(ends):
        if max(since, start) < min(later, until):
            spans.append(
                Span(max(since, start), min(later, until), who, f"node {who}" if who in nodes else who or NOBODY)
            )
    return spans


def _bearing_spans(t: Timeline, node: str, vip: Address, until: float) -> Iterable[Span]:
    for b in t.bearings:
        since, end = max(b.since, t.start), min(until if b.until is None else b.until, until)
        if b.node == node and b.address == vip and since < end:
            yield Span(since, end, node, f"node {node}")


def _call_spans(t: Timeline, until: float) -> Iterable[Span]:
    for call in t.calls:
        if call.started_at > until or call.ended_at < t.start:
            continue
        refused = call.outcome != "OK"
        text = call.outcome if refused else f"{_short(call.action)} by {call.caller}"
        yield Span(max(call.started_at, t.start), min(call.ended_at, until), call.caller, text, refused, beside=True)


def _lanes(spans: Iterable[Span]) -> list[tuple[Span, ...]]:
    """As many lines as it takes that no two spans of one line overlap."""
    lanes: list[list[Span]] = []
    for span in sorted(spans, key=lambda s: s.since):
        free = next((lane for lane in lanes if lane[-1].until <= span.since), None)
        if free is None:
            lanes.append([span])
        else:
            free.append(span)
    return [tuple(lane) for lane in lanes]


def _short(action: str) -> str:
    """ "AssignPrivateIpAddresses" -> "Assign": the address family stands in the rows above."""
    return action.removesuffix("PrivateIpAddresses").removesuffix("Ipv6Addresses") or action


# ---------------------------------------------------------------------------------------------- how it is drawn


def _draw(axes: Any, t: Timeline, rows: Sequence[Row]) -> None:
    start, end = t.start - t.fault_at, shown_until(t) - t.fault_at
    colours = dict(zip(t.nodes, itertools.cycle(NODE_COLOURS), strict=False))
    for number, row in enumerate(rows):
        axes.axhline(number, color=FAINT, linewidth=0.6, zorder=0)
        for span, following in itertools.zip_longest(row.spans, row.spans[1:]):
            colour = BAD if span.bad else FAINT if span.unknown else colours.get(span.who, OTHER)
            room = (following.since - t.fault_at if following else end) - (span.until - t.fault_at)
            _bar(axes, number, span, zero=t.fault_at, width=end - start, room=room, colour=colour)
        _ticks(axes, number, row, t.fault_at, colours)
    axes.axvline(0.0, color=INK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=7)
    axes.set_xlim(start, end)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds from the fault", loc="right", labelpad=1)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    _heading(axes, t)


def _bar(axes: Any, row: int, span: Span, *, zero: float, width: float, room: float, colour: str) -> None:
    """A bar with its text inside or beside it, wherever that fits; ``room``: what is free beside it."""
    left, length = span.since - zero, max(span.until - span.since, width * _NARROWEST)
    # The losses lie on top: beside them, a run of answers may be narrower than a line.
    axes.barh(row, length, left=left, height=_BAR, color=colour, linewidth=0, zorder=4 if span.bad else 3)
    place: dict[str, Any] = {"va": "center", "fontsize": 8, "zorder": 6}
    needed = width * _LETTER * (len(span.text) + 1)
    if length > needed:
        ink = INK if span.unknown else "white"
        axes.text(left + length / 2, row, span.text, ha="center", color=ink, **place)
    elif span.beside and room > needed:
        axes.text(left + length + width * _LETTER / 2, row, span.text, ha="left", color=colour, **place)


def _ticks(axes: Any, number: int, row: Row, zero: float, colours: Mapping[str, str]) -> None:
    for node in dict.fromkeys(who for _, who in row.ticks):
        moments = [at - zero for at, who in row.ticks if who == node]
        colour = colours.get(node, OTHER)
        axes.plot(moments, [number] * len(moments), "|", color=colour, markersize=11, markeredgewidth=1.6, zorder=3)


def _heading(axes: Any, t: Timeline) -> None:
    result = t.result
    axes.set_title(t.title, loc="left", fontweight="bold", fontsize=10.5, color=INK, pad=18)
    text = f"gap {result.gap_ms:.0f} ms, {result.lost} of {result.sent} probes lost"
    if not result.ok:
        text += f"   BROKEN: {result.reason}"[:150]
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(text, (0, 1), (0, 6), color=INK if result.ok else BAD, **place)
