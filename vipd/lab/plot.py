"""Draws rounds: what the client got, and above all why, on one time axis that begins at the fault.

One panel a round.  From the top: who answered the probes and which were lost; then the three places that a floating IP
lives in (the Lease, each node's kernel, the VPC's mapping), the EC2 calls that moved it, and what was announced.
A node has the same colour in every panel.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
_EMPTY = "#EFEFEF"
NOBODY = "nobody"
MARGIN_S = 0.4
"""What is drawn after the last thing that happened."""

SHORTEST_S = 1.0
_NEIGHBOURS_S = 0.05
"""Probes further apart than this were not sent one after the other: the prober was held up."""

_PROBE_S = 0.002
_WIDTH_IN, _ROW_IN, _FRAME_IN, _LEGEND_IN = 12.0, 0.28, 1.0, 0.35
_DPI = 130
_BAR = 0.62
"""Height of a bar; two rows are 1 apart."""

_NARROWEST = 0.0016
"""Share of the axis that everything has at least: a single lost probe must be seen.  What is closer together than this
is joined: more cannot be seen, and the drawing of a flapping VIP stays small."""

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
    lost: int = 0
    """Of a run of probes: how many it stands for, where nobody answered."""
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
    """Draw the rounds below each other into one file, SVG or PNG by its suffix; its folder is created.

    Raises ConfigError for another suffix or where there is nothing to draw, VipdError where the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"timeline {path}: allowed are files that end in {' or '.join(FORMATS)}")
    if not timelines:
        raise ConfigError(f"timeline {path}: no round was played, there is nothing to draw")
    from matplotlib import rc_context

    # The SVG keeps its text as text, to be searched and read aloud, and bears no date: same rounds, same file.
    # No text is a formula, whatever signs a reason bears.
    style = {"font.size": 9, "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "vipd"}
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    with rc_context(style):
        figure = _figure(timelines)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
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
        spans = joined(probe_spans(shown), (until - t.start) * _NARROWEST)
        rows.append(Row(f"probes, IPv{vip.version}" if several else "probes", tuple(spans)))
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
    rows.append(Row("GARP / NA", ticks=tuple(_claims(t, until))))
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
        if first.answered_at is None:
            spans.append(_lost(first.sent_at, end, len(run)))
        else:
            spans.append(Span(first.sent_at, end, first.who, f"node {first.who}"))
        if following and not _neighbours(last, following[0]):
            spans.append(Span(end, following[0].sent_at, "", "prober held up", unknown=True))
    return spans


def _outcome(probe: Probe) -> tuple[bool, str]:
    return probe.answered_at is None, probe.who


def _neighbours(one: Probe, later: Probe) -> bool:
    return later.sent_at - one.sent_at <= _NEIGHBOURS_S


def _lost(since: float, until: float, number: int) -> Span:
    return Span(since, until, "", f"{number} lost", bad=True, lost=number)


def joined(spans: Iterable[Span], shortest_s: float) -> list[Span]:
    """The same picture in fewer spans, where ``shortest_s`` is the least that can be seen.

    No loss is left out, and none is blended into answers: losses lie on top when drawn.
    """
    lost: list[Span] = []
    others: list[Span] = []
    for span in spans:
        if not span.bad:
            others.append(span)
        elif lost and span.since - lost[-1].until < shortest_s:
            lost[-1] = _lost(lost[-1].since, span.until, lost[-1].lost + span.lost)
        else:
            lost.append(span)
    return sorted([*lost, *_join(_thin_out(_join(others, shortest_s), shortest_s), shortest_s)], key=lambda s: s.since)


def _join(spans: Iterable[Span], shortest_s: float) -> list[Span]:
    """Neighbours that look alike and that nothing visible separates become one."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].text == span.text and span.since - found[-1].until < shortest_s:
            found[-1] = replace(found[-1], until=span.until)
        else:
            found.append(span)
    return found


def _thin_out(spans: Iterable[Span], shortest_s: float) -> list[Span]:
    """Of several answerers in less time than can be seen, the one that answered longest is shown."""
    found: list[Span] = []
    crowd: list[Span] = []
    for span in spans:
        long = span.until - span.since >= shortest_s
        if crowd and (long or span.until - crowd[0].since > shortest_s):
            found.append(_foremost(crowd))
            crowd = []
        if long:
            found.append(span)
        else:
            crowd.append(span)
    return [*found, _foremost(crowd)] if crowd else found


def _foremost(crowd: Sequence[Span]) -> Span:
    times: Counter[str] = Counter()
    for span in crowd:
        times[span.text] += round((span.until - span.since) * 1e6)
    text = times.most_common(1)[0][0]
    chosen = next(span for span in crowd if span.text == text)
    return replace(chosen, since=crowd[0].since, until=crowd[-1].until)


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


def _claims(t: Timeline, until: float) -> Iterable[tuple[float, str]]:
    """The announcements of the window; of several that would be one tick, the first."""
    shown: dict[str, float] = {}
    for a in sorted((a for a in t.announcements if t.start <= a.at <= until), key=lambda a: a.at):
        if a.at - shown.get(a.node, float("-inf")) >= (until - t.start) * _NARROWEST:
            shown[a.node] = a.at
            yield a.at, a.node


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


def _figure(timelines: Sequence[Timeline]) -> Any:
    # The object interface and not pyplot: no window system is asked for, and no figure outlives its use.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(t, rows_of(t)) for t in timelines]
    heights = [len(rows) * _ROW_IN + _FRAME_IN for _, rows in panels]
    figure = Figure(figsize=(_WIDTH_IN, sum(heights) + _LEGEND_IN), layout="constrained")
    FigureCanvasAgg(figure)
    colours = colours_of(timelines)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for (one,), (timeline, rows) in zip(axes, panels, strict=True):
        _draw(one, timeline, rows, colours)
    _legend(figure, colours)
    return figure


def colours_of(timelines: Iterable[Timeline]) -> dict[str, str]:
    """One colour a node, the same in every panel, whatever order a round names its nodes in."""
    nodes = sorted({node for t in timelines for node in t.nodes})
    return dict(zip(nodes, itertools.cycle(NODE_COLOURS), strict=False))


def _legend(figure: Any, colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = [Patch(color=colour, linewidth=0, label=f"node {node}") for node, colour in colours.items()]
    entries += [
        Patch(label=NOBODY, **_style(Span(0, 0, ""), colours)),
        Patch(color=BAD, linewidth=0, label="probe lost, call refused"),
        Line2D([], [], color=INK, linewidth=1.1, linestyle=(0, (4, 2)), label="the fault"),
    ]
    figure.legend(handles=entries, loc="outside upper left", ncols=len(entries), frameon=False, handlelength=1.8)


def _draw(axes: Any, t: Timeline, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    start, end = t.start - t.fault_at, shown_until(t) - t.fault_at
    for number, row in enumerate(rows):
        axes.axhline(number, color=FAINT, linewidth=0.6, zorder=0)
        _bars(axes, number, row, zero=t.fault_at, narrowest=(end - start) * _NARROWEST, colours=colours)
        _texts(axes, number, row, zero=t.fault_at, end=end, letter=(end - start) * _LETTER, colours=colours)
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


def _style(span: Span, colours: Mapping[str, str]) -> dict[str, Any]:
    if span.bad or span.unknown:
        return {"facecolor": BAD if span.bad else FAINT, "linewidth": 0}
    if not span.who:
        return {"facecolor": _EMPTY, "edgecolor": OTHER, "hatch": "////", "linewidth": 0}
    return {"facecolor": colours.get(span.who, OTHER), "linewidth": 0}


def _bars(axes: Any, row: int, what: Row, *, zero: float, narrowest: float, colours: Mapping[str, str]) -> None:
    """One shape for all bars that look alike: thousands of single ones would make a slow and large drawing."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Shape

    alike: dict[tuple[float, bool, bool, str], list[Span]] = {}
    for span in what.spans:
        # The losses lie on top, and what is short lies on what is long: beside it, a bar may be narrower than a line.
        level = 3.0 + span.bad + 0.5 * (span.until - span.since < narrowest)
        alike.setdefault((level, span.bad, span.unknown, span.who), []).append(span)
    for (level, *_), spans in alike.items():
        corners: list[tuple[float, float]] = []
        for s in spans:
            left, right = s.since - zero, max(s.until, s.since + narrowest) - zero
            top, bottom = row - _BAR / 2, row + _BAR / 2
            corners += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        moves = [Shape.MOVETO, Shape.LINETO, Shape.LINETO, Shape.LINETO, Shape.CLOSEPOLY] * len(spans)
        axes.add_patch(PathPatch(Shape(corners, moves), zorder=level, **_style(spans[0], colours)))


def _texts(
    axes: Any, row: int, what: Row, *, zero: float, end: float, letter: float, colours: Mapping[str, str]
) -> None:
    """Inside or beside each bar, wherever that fits: clear of the losses on it and of the line of the fault."""
    losses = [(s.since - zero, s.until - zero) for s in what.spans if s.lost]
    for span, following in itertools.zip_longest(what.spans, what.spans[1:]):
        left, right = span.since - zero, span.until - zero
        place: dict[str, Any] = {"va": "center", "fontsize": 8, "zorder": 6}
        fill, needed = _style(span, colours)["facecolor"], letter * (len(span.text) + 1)
        if right - left > needed:
            begin, stop = _widest(left, right, [(0.0, 0.0), *(() if span.lost else losses)])
            if stop - begin > needed:
                behind = {"facecolor": fill, "edgecolor": "none", "pad": 1.0} if fill == _EMPTY else None
                ink = INK if _is_light(fill) else "white"
                axes.text((begin + stop) / 2, row, span.text, ha="center", color=ink, bbox=behind, **place)
        elif span.beside and (following.since - zero if following else end) - right > needed:
            axes.text(right + letter / 2, row, span.text, ha="left", color=BAD if span.bad else INK, **place)


def _widest(left: float, right: float, obstacles: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The widest piece of a bar that no obstacle lies on."""
    pieces, since = [], left
    for begin, end in sorted(o for o in obstacles if o[1] >= left and o[0] <= right):
        pieces.append((since, begin))
        since = max(since, end)
    return max([*pieces, (since, right)], key=lambda piece: piece[1] - piece[0])


def _is_light(colour: str) -> bool:
    """Whether dark letters are read better on it than white ones (relative luminance, WCAG 2.1)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.25


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
