"""What is told of rounds: JSON lines that others script against, a table for people, a drawing."""

from __future__ import annotations

import io
import json
import os
import pty
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.core.model import Address
from vipd.errors import ConfigError, VipdError
from vipd.lab.ec2 import Call
from vipd.lab.measure import Phases, RoundResult, Timeline
from vipd.lab.observer import Announcement, Bearing
from vipd.lab.plot import colours_of, write_timeline
from vipd.lab.probes import Probe
from vipd.lab.report import Summary, print_summary, summary_rows, write_json_line
from vipd.lab.rows import Span, joined, probe_spans, rows_of, shown_until, state_spans

VIP4, VIP6 = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")
PROMISES = {"node-loss": "gap ≤ Lease duration + the EC2 calls", "sigterm": "0 probes lost"}


def result(number: int = 1, **changes: object) -> RoundResult:
    base = RoundResult(
        scenario="node-loss",
        round=number,
        sent=2000,
        lost=1300,
        gap_ms=2602.0,
        owner_before="a",
        owner_after="b",
        two_owners_ms=0.0,
        lease_transitions=1,
        phases=Phases(2200.0, 0.3, 11.2, 402.4, 0.9),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- JSON


def test_a_round_is_one_json_line_with_exactly_the_promised_keys_in_order() -> None:
    out = io.StringIO()
    write_json_line(out, result())
    write_json_line(out, result(2, phases=Phases(), ok=False, reason="gap ≤ 3000 ms broken"))
    first, second = out.getvalue().splitlines()

    assert list(json.loads(first)) == [
        *("scenario", "round", "sent", "lost", "gap_ms", "owner_before", "owner_after", "two_owners_ms"),
        *("lease_transitions", "phases", "ok", "reason"),
    ]
    assert json.loads(first)["phases"] == {
        "detect_ms": 2200.0,
        "lease_ms": 0.3,
        "address_ms": 11.2,
        "eni_ms": 402.4,
        "announce_ms": 0.9,
    }
    assert list(json.loads(first)["phases"]) == ["detect_ms", "lease_ms", "address_ms", "eni_ms", "announce_ms"]
    assert json.loads(second)["phases"]["eni_ms"] is None
    assert (json.loads(second)["ok"], json.loads(second)["reason"]) == (False, "gap ≤ 3000 ms broken")


def test_a_line_is_on_disk_as_soon_as_its_round_is_over(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with path.open("w") as out:
        write_json_line(out, result())

        assert json.loads(path.read_text())["round"] == 1


def test_a_number_that_json_cannot_bear_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json_line(io.StringIO(), result(gap_ms=float("inf")))


# --------------------------------------------------------------------------------------------------- table


def test_a_scenario_is_summed_up_by_median_and_worst_of_its_rounds() -> None:
    rounds = [result(n, lost=lost, gap_ms=lost * 2.0) for n, lost in enumerate([10, 30, 11], 1)]
    rounds[1] = replace(rounds[1], ok=False, two_owners_ms=3.5, reason="two owners for 3.5 ms")
    summary, other = summary_rows([*rounds, result(scenario="sigterm-l2", phases=Phases())], PROMISES)

    assert isinstance(summary, Summary)
    assert (summary.scenario, summary.rounds, summary.ok, summary.sent) == ("node-loss", 3, 2, 6000)
    assert (summary.lost.median, summary.lost.worst) == (11, 30)
    assert (summary.gap_ms.median, summary.gap_ms.worst) == (22.0, 60.0)
    assert summary.eni_ms is not None
    assert summary.eni_ms.median == 402.4
    assert summary.two_owners_ms == 3.5
    assert summary.promise == PROMISES["node-loss"]
    assert summary.broken == ((2, "two owners for 3.5 ms"),)
    assert (other.scenario, other.eni_ms, other.promise, other.broken) == ("sigterm-l2", None, "", ())


def test_a_round_without_an_ec2_call_does_not_lower_the_median_of_the_others() -> None:
    (summary,) = summary_rows([result(1), result(2, phases=Phases())], PROMISES)

    assert summary.eni_ms is not None
    assert summary.eni_ms.median == 402.4


def test_elsewhere_than_on_a_terminal_the_table_is_plain_text_a_line_a_row() -> None:
    out = io.StringIO()
    long_reason = "gap 4000 ms, promised 3402 ms; not within 8 s: [b] serves; logs in /tmp/" + "x" * 200
    broken = result(2, ok=False, reason=long_reason)
    print_summary([result(), broken, result(scenario="sigterm", lost=0, gap_ms=2.0)], PROMISES, file=out)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]

    assert "\x1b" not in out.getvalue()
    (row,) = [line for line in lines if line.startswith("✗ node-loss")]
    assert row.split()[:8] == ["✗", "node-loss", "2", "1", "1300/1300", "2602/2602", "0", "403"]
    assert row.endswith(PROMISES["node-loss"])
    assert f"✗ BROKEN node-loss, round 2: {long_reason}" in lines
    assert [line.split()[1] for line in lines if line.startswith("✓")] == ["sigterm"]
    assert lines[-1] == "1 of 3 rounds broke a promise"


def test_more_than_nothing_never_reads_as_nothing() -> None:
    out = io.StringIO()
    print_summary([result(two_owners_ms=0.2)], PROMISES, file=out)

    assert out.getvalue().splitlines()[-2].split()[6] == "1"


def test_when_every_promise_was_kept_the_last_line_says_so() -> None:
    out = io.StringIO()
    print_summary([result(), result(2)], PROMISES, file=out)

    assert out.getvalue().rstrip().endswith("2 of 2 rounds kept what is promised")
    assert "BROKEN" not in out.getvalue()


def test_without_a_round_there_is_no_table() -> None:
    out = io.StringIO()
    print_summary([], PROMISES, file=out)

    assert out.getvalue() == "no round was played\n"


def test_on_a_terminal_it_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        print_summary([result()], PROMISES, file=terminal)
        shown = os.read(master, 65536).decode()
    os.close(master)

    assert "\x1b[" in shown
    assert "node-loss" in shown


# ------------------------------------------------------------------------------------------------- drawing


def probes(*runs: tuple[float, float, str]) -> list[Probe]:
    """Runs of (from, to, who), a probe every 2 ms; an empty who: lost."""
    found = []
    for start, end, who in runs:
        for number in range(round((end - start) / 0.002)):
            sent_at = start + number * 0.002
            found.append(Probe(sent_at, sent_at + 0.0002 if who else None, who))
    return found


def timeline(**changes: object) -> Timeline:
    base = Timeline(
        title="node-loss: the active node loses power",
        fault_at=100.0,
        start=99.7,
        end=110.0,
        result=result(),
        probes={VIP4: probes((99.7, 100, "a"), (100, 102.6, ""), (102.6, 110, "b"))},
        holders=[(50.0, "a"), (102.2, "b")],
        mapped={VIP4: [(50.0, "a"), (102.6, "b")]},
        bearings=[Bearing("a", VIP4, 50.0, 100.0), Bearing("b", VIP4, 102.21)],
        calls=[Call(102.2, 102.6, "AssignPrivateIpAddresses", "b", "eni-b", (VIP4,), "OK")],
        announcements=[Announcement(102.22, "b", VIP4, "garp-request", "02:00:00:00:01:0b")],
        nodes=["a", "b"],
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def row(t: Timeline, label: str) -> tuple[Span, ...]:
    (found,) = [r for r in rows_of(t) if r.label == label]
    return found.spans


def short(spans: Sequence[Span]) -> list[tuple[float, float, str]]:
    return [(round(s.since, 3), round(s.until, 3), s.text) for s in spans]


def test_every_place_an_address_lives_in_has_its_row_on_one_axis() -> None:
    t = timeline()

    assert [r.label for r in rows_of(t)] == [
        *("probes", "Lease holder", "address on a", "address on b", "EC2 mapping", "EC2 calls", "GARP / NA"),
    ]
    assert short(row(t, "probes")) == [(99.7, 100, "node a"), (100, 102.6, "1300 lost"), (102.6, 103.002, "node b")]
    assert short(row(t, "Lease holder")) == [(99.7, 102.2, "node a"), (102.2, 103, "node b")]
    assert short(row(t, "address on a")) == [(99.7, 100, "node a")]
    assert short(row(t, "address on b")) == [(102.21, 103, "node b")]
    assert short(row(t, "EC2 calls")) == [(102.2, 102.6, "Assign by b")]


def test_a_long_quiet_end_is_not_drawn() -> None:
    assert shown_until(timeline()) == pytest.approx(103.0)
    assert shown_until(timeline(probes={VIP4: probes((99.7, 108, "a"), (108, 108.002, ""))})) == pytest.approx(108.4)
    quiet = timeline(probes={VIP4: probes((99.7, 110, "a"))}, holders=[], mapped={}, bearings=[], calls=[])
    assert shown_until(quiet) == pytest.approx(101.4)
    assert shown_until(timeline(end=101.0)) == 101.0


def test_a_single_lost_probe_is_a_span_of_its_own() -> None:
    spans = probe_spans(probes((10, 11, "a"), (11, 11.002, ""), (11.002, 12, "a")))

    assert [(s.who, s.bad, s.text) for s in spans] == [
        ("a", False, "node a"),
        ("", True, "1 lost"),
        ("a", False, "node a"),
    ]


def test_what_is_too_fine_to_be_seen_is_joined_and_no_loss_goes_missing() -> None:
    flapping = [p for n in range(2000) for p in probes((10 + n * 0.004, 10.002 + n * 0.004, "a" if n % 2 else ""))]
    spans = joined(probe_spans(flapping), 0.02)

    assert [s.text for s in spans if s.bad] == ["1000 lost"]
    assert [s.who for s in spans if not s.bad] == ["a"]


def test_losses_that_can_be_seen_apart_stay_apart() -> None:
    spans = joined(probe_spans(probes((10, 11, "a"), (11, 11.002, ""), (11.002, 12, "a"), (12, 12.002, ""))), 0.02)

    assert [s.since for s in spans if s.bad] == pytest.approx([11.0, 12.0])


def test_a_single_answer_of_somebody_else_is_kept() -> None:
    spans = joined(probe_spans(probes((10, 11, "a"), (11, 11.002, "b"), (11.002, 12, "a"))), 0.02)

    assert [s.who for s in spans] == ["a", "b", "a"]


@given(st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=400), st.sampled_from([0.003, 0.02, 0.1]))
def test_joining_keeps_every_loss_and_leaves_no_more_spans_than_can_be_seen(who: list[str], shortest_s: float) -> None:
    sent = [Probe(n * 0.002, n * 0.002 if name else None, name) for n, name in enumerate(who)]
    spans = joined(probe_spans(sent), shortest_s)
    lost = [s for s in spans if s.bad]

    assert sum(s.lost for s in lost) == who.count("")
    assert all(any(s.since <= p.sent_at <= s.until for s in lost) for p in sent if p.answered_at is None)
    assert len(lost) <= len(who) * 0.002 / shortest_s + 1
    assert len(spans) - len(lost) <= 2 * len(who) * 0.002 / shortest_s + 3


def test_where_the_prober_was_held_up_nothing_is_claimed() -> None:
    spans = probe_spans(probes((10, 11, "a"), (11.5, 12, "a")))

    assert short(spans) == [(10, 11, "node a"), (11, 11.5, "prober held up"), (11.5, 12, "node a")]
    assert [s.unknown for s in spans] == [False, True, False]


def test_an_address_that_nobody_has_is_said_to_be_nobodys() -> None:
    spans = state_spans([(1.0, "a"), (5.0, ""), (6.0, "b"), (7.0, "client")], 2.0, 8.0, ["a", "b"])

    assert short(spans) == [(2, 5, "node a"), (5, 6, "nobody"), (6, 7, "node b"), (7, 8, "client")]


def test_calls_at_the_same_time_stand_below_each_other_and_a_refused_one_stands_out() -> None:
    def ec2(start: float, end: float, action: str, outcome: str = "OK") -> Call:
        return Call(start, end, action, "b", "eni-b", (VIP6,), outcome)

    t = timeline(
        calls=[
            ec2(102.2, 102.6, "AssignPrivateIpAddresses"),
            ec2(102.2, 102.5, "UnassignIpv6Addresses", "Unavailable"),
            ec2(102.7, 102.9, "AssignIpv6Addresses"),
        ]
    )
    lanes = [r for r in rows_of(t) if r.label in ("EC2 calls", "")]

    assert [[s.text for s in lane.spans] for lane in lanes] == [
        ["Assign by b", "Assign by b"],
        ["Unavailable"],
    ]
    assert [s.bad for lane in lanes for s in lane.spans] == [False, False, True]


def test_two_families_have_rows_of_their_own() -> None:
    both: dict[Address, list[Probe]] = {VIP4: probes((99.7, 101, "a")), VIP6: probes((99.7, 101, "b"))}
    labels = [r.label for r in rows_of(timeline(probes=both))]

    assert labels[:2] == ["probes, IPv4", "probes, IPv6"]
    assert "address on b, IPv6" in labels


def texts_of(path: Path) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_the_svg_bears_its_texts_and_is_the_same_each_time(tmp_path: Path) -> None:
    broken = timeline(title="sigterm: told to stop", result=result(ok=False, reason="7 probes lost, promised 0"))
    for name in ("one.svg", "two.svg"):
        write_timeline(tmp_path / name, [timeline(), broken])
    drawn = (tmp_path / "one.svg").read_bytes()
    texts = texts_of(tmp_path / "one.svg")

    assert "node-loss: the active node loses power" in texts
    assert "sigterm: told to stop" in texts
    assert "gap 2602 ms, 1300 of 2000 probes lost" in texts
    assert any("BROKEN: 7 probes lost, promised 0" in text for text in texts)
    assert texts.count("1300 lost") == 2
    assert drawn == (tmp_path / "two.svg").read_bytes()


def test_a_reason_with_the_signs_of_a_formula_is_drawn_as_it_is(tmp_path: Path) -> None:
    reason = r"$HOME/logs of $\alpha^2"
    write_timeline(tmp_path / "t.svg", [timeline(title=reason, result=result(ok=False, reason=reason))])

    assert sum(reason in text for text in texts_of(tmp_path / "t.svg")) == 2


def test_a_node_has_one_colour_in_all_panels_and_the_legend_names_it_once(tmp_path: Path) -> None:
    rounds = [timeline(), timeline(nodes=["b", "a"]), timeline(nodes=["b", "c"])]
    write_timeline(tmp_path / "t.svg", rounds)
    colours = colours_of(rounds)

    assert list(colours) == ["a", "b", "c"]
    assert len(set(colours.values())) == 3
    assert [colours_of([t])["a"] for t in rounds[:2]] == [colours["a"]] * 2
    assert texts_of(tmp_path / "t.svg").count("node c") == 1
    assert texts_of(tmp_path / "t.svg").count("the fault") == 1


def test_a_time_without_a_holder_is_hatched(tmp_path: Path) -> None:
    write_timeline(tmp_path / "with.svg", [timeline(holders=[(50.0, "a"), (100.5, ""), (102.2, "b")])])
    write_timeline(tmp_path / "without.svg", [timeline()])
    hatched = [(tmp_path / name).read_text().count("fill: url(#") for name in ("with.svg", "without.svg")]

    # One of them is the legend's.
    assert hatched == [2, 1]


def test_a_drawing_of_a_flapping_vip_stays_small(tmp_path: Path) -> None:
    names = ("a", "", "b", "a", "", "c")
    flapping = [Probe(99.7 + n * 0.002, 99.7 + n * 0.002 if names[n % 6] else None, names[n % 6]) for n in range(8000)]
    claims = [Announcement(100 + n * 0.005, "b", VIP4, "garp-request", "02:00:00:00:01:0b") for n in range(3000)]
    write_timeline(tmp_path / "t.svg", [timeline(end=116.0, probes={VIP4: flapping}, announcements=claims)] * 3)

    assert (tmp_path / "t.svg").stat().st_size < 300_000


def test_a_png_is_as_tall_as_its_panels_need(tmp_path: Path) -> None:
    sizes = []
    for number in (1, 2, 3):
        path = tmp_path / f"{number}.png"
        write_timeline(path, [timeline()] * number)
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        sizes.append((int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")))

    (width, one), (_, two), (_, three) = sizes
    assert {wide for wide, _ in sizes} == {width}
    # The legend stands there once, so a second panel adds less than the first one's drawing has.
    assert two - one == pytest.approx(three - two, abs=2)
    assert one * 0.7 < two - one < one


def test_a_round_in_which_nothing_was_seen_can_be_drawn(tmp_path: Path) -> None:
    empty = timeline(probes={VIP4: []}, holders=[], mapped={}, bearings=[], calls=[], announcements=[])
    write_timeline(tmp_path / "t.svg", [empty])

    assert (tmp_path / "t.svg").stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "number", "says"), [("t.pdf", 1, "end in .svg or .png"), ("t", 1, "allowed"), ("t.svg", 0, "no round")]
)
def test_what_cannot_be_drawn_is_wrong_usage(tmp_path: Path, name: str, number: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        write_timeline(tmp_path / name, [timeline()] * number)


def test_the_folder_is_created(tmp_path: Path) -> None:
    write_timeline(tmp_path / "new" / "folder" / "t.SVG", [timeline()])

    assert "node-loss: the active node loses power" in texts_of(tmp_path / "new" / "folder" / "t.SVG")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "t.svg").mkdir()
    for path in (tmp_path / "file" / "t.svg", tmp_path / "t.svg"):
        with pytest.raises(VipdError, match=rf"{path}: cannot be written"):
            write_timeline(path, [timeline()])
