"""Draws rounds: what the client got, and above all why, on one time axis that begins at the fault.

One panel a round.  From the top: who answered the probes and which were lost; then the three places that a floating IP
lives in (the Lease, each node's kernel, the VPC's mapping), the EC2 calls that moved it, and what was announced.
A node has the same colour in every panel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vipd.errors import ConfigError, VipdError
from vipd.lab.rows import NARROWEST, NOBODY, Row, Span, rows_of, shown_until

if TYPE_CHECKING:
    from vipd.lab.measure import Timeline

FORMATS = (".svg", ".png")
NODE_COLOURS = ("#0072B2", "#D98C00", "#009E73", "#AA4499", "#56B4E9")
"""Taken from the palette of Okabe and Ito ("Color Universal Design"), which colour-blind people can tell apart."""

BAD, OTHER, INK, FAINT = "#C4161C", "#8C8C8C", "#222222", "#E2E2E2"
_EMPTY = "#EFEFEF"
_WIDTH_IN, _ROW_IN, _FRAME_IN, _LEGEND_IN = 12.0, 0.28, 1.0, 0.35
_DPI = 130
_BAR = 0.62
"""Height of a bar; two rows are 1 apart."""

_LETTER = 0.0066
"""Share of the axis that a letter takes: a bar gets its text only where that fits."""


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
        _bars(axes, number, row, zero=t.fault_at, narrowest=(end - start) * NARROWEST, colours=colours)
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
