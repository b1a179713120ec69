"""What is drawn of a round: rows of spans and ticks, made of what was observed.  Pure; ``plot`` draws them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vipd.core.model import Address
    from vipd.lab.measure import Timeline
    from vipd.lab.probes import Probe

NOBODY = "nobody"
MARGIN_S = 0.4
"""What is drawn after the last thing that happened."""

SHORTEST_S = 1.0
_NEIGHBOURS_S = 0.05
"""Probes further apart than this were not sent one after the other: the prober was held up."""

_PROBE_S = 0.002
NARROWEST = 0.0016
"""Share of the axis that everything has at least: a single lost probe must be seen.  What is closer together than this
is joined: more cannot be seen, and the drawing of a flapping VIP stays small."""


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


def rows_of(t: Timeline) -> list[Row]:
    """The lines of one round's panel, from the top."""
    until = shown_until(t)
    several = len(t.probes) > 1
    rows = []
    for vip, probes in t.probes.items():
        shown = [p for p in probes if p.sent_at <= until]
        spans = joined(probe_spans(shown), (until - t.start) * NARROWEST)
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
        if a.at - shown.get(a.node, float("-inf")) >= (until - t.start) * NARROWEST:
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
