"""What a campaign judges and tells: everything that must never be is reported, and nothing else."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from vipd.lab.campaign.eyes import Sight
from vipd.lab.campaign.logs import LogReader
from vipd.lab.campaign.report import print_report, rows_of, totals_of, write_json_line
from vipd.lab.campaign.verdict import EpisodeResult, Holding, Observed, judge, left_behind, nothing_tried
from vipd.lab.measure import Away
from vipd.lab.observer import Announcement, Bearing
from vipd.lab.probes import ProbeLog, Window
from vipd.lab.setting import Setting

VIP, VIP6, STRANGE = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100"), ip_address("10.0.1.77")
JUDGED_FROM, BEGUN, HEALED, ENDED = 90.0, 100.0, 110.0, 115.0

SIGHT = Sight(
    owner="b",
    vips=(VIP,),
    roles={"a": "standby", "b": "active"},
    foreign={"a": (), "b": (VIP,)},
    enis={"client": (), "a": (), "b": (VIP,)},
    delivered={VIP: "b"},
)
GOOD = Observed(
    judged_from=JUDGED_FROM,
    begun_at=BEGUN,
    healed_at=HEALED,
    ended_at=ENDED,
    missing="",
    barred=frozenset(),
    owner_before="a",
    windows=[Window(5000, 40, 0.082, 101.0, "a", "b")],
    bearings=[Bearing("a", VIP, 50.0, 105.0), Bearing("b", VIP, 104.0)],
    away=[],
    ports={"a": "a", "b": "b"},
    holders=[Holding(50.0, "a"), Holding(102.8, "a", offered=True), Holding(103.0, "b")],
    takes=1,
    announcements=[Announcement(104.1, "b", VIP, "garp-request", "")],
    foreign_calls=[],
    complaints=[],
    sight=SIGHT,
)


def verdict(number: int = 1, kind: str = "kill", **changes: object) -> EpisodeResult:
    seen = replace(GOOD, **changes)  # type: ignore[arg-type]
    return judge(seen, episode=number, kind=kind, faults=["kill active at 0.00 s for 1.00 s (a)"], logs="/logs")


def test_a_takeover_in_which_the_mapping_tells_two_bearers_apart_is_right() -> None:
    result = verdict()
    assert (result.ok, result.reason) == (True, "")
    assert (result.lost, result.gap_ms, result.converged_s) == (40, 82.0, 5.0)
    assert (result.two_owners_ms, result.two_bearers_ms) == (0.0, 1000.0)
    assert (result.owner_before, result.owner_after, result.lease_transitions) == ("a", "b", 1)
    assert result.eni == {"client": [], "a": [], "b": ["10.0.1.100"]}


def test_two_owners_on_a_plain_segment_are_found() -> None:
    result = verdict(ports=None)
    assert result.two_owners_ms == 1000.0
    assert (result.ok, result.reason) == (False, "two owners for 1000.0 ms")


def test_two_owners_between_two_episodes_are_found() -> None:
    before = [Bearing("a", VIP, 50.0, 93.0), Bearing("b", VIP, 92.0, 94.0), Bearing("b", VIP, 104.0)]
    assert verdict(bearings=before, ports=None).two_owners_ms == 1000.0


def test_an_unplugged_bearer_is_no_second_owner() -> None:
    result = verdict(ports=None, away=[Away("a", 103.0, 106.0)])
    assert (result.ok, result.two_owners_ms) == (True, 0.0)


def test_two_on_one_eni_are_found() -> None:
    assert verdict(ports={"a": "one", "b": "one"}).two_owners_ms == 1000.0


def test_an_announcement_of_one_that_the_lease_no_longer_names_is_found() -> None:
    late = Announcement(104.0, "a", VIP, "garp-reply", "")
    result = verdict(announcements=[*GOOD.announcements, late, replace(late, at=104.5)])
    [said] = result.foreign_acts
    assert "node a announced 10.0.1.100 (garp-reply)" in said
    assert not result.ok


def test_an_announcement_of_a_holder_that_offers_is_found() -> None:
    holders = [Holding(50.0, "a"), Holding(101.0, "a", offered=True), Holding(103.0, "b")]
    [said] = verdict(holders=holders, announcements=[Announcement(102.0, "a", VIP, "na", "")]).foreign_acts
    assert said == "node a announced 10.0.1.100 (na) while its own offer stood"


@pytest.mark.parametrize("at", [101.2, 103.2])
def test_an_announcement_that_may_have_been_sent_before_the_offer_or_after_its_end_is_right(at: float) -> None:
    holders = [Holding(50.0, "a"), Holding(101.0, "a", offered=True), Holding(103.0, "a")]
    assert verdict(holders=holders, announcements=[Announcement(at, "a", VIP, "na", "")]).ok


@pytest.mark.parametrize("at", [102.9, 103.2])
def test_an_announcement_that_may_have_been_sent_before_the_take_is_right(at: float) -> None:
    assert verdict(announcements=[Announcement(at, "a", VIP, "garp-reply", "")]).ok


def test_while_nobody_holds_the_lease_nobody_is_foreign() -> None:
    freed = [Holding(50.0, "a"), Holding(103.0, ""), Holding(108.0, "b")]
    assert verdict(holders=freed, announcements=[Announcement(106.0, "a", VIP, "garp-reply", "")]).ok


def test_an_ec2_write_of_a_stranger_to_the_lease_is_found() -> None:
    result = verdict(foreign_calls=["a called AssignPrivateIpAddresses while the Lease named b"])
    assert result.foreign_acts == ("a called AssignPrivateIpAddresses while the Lease named b",)
    assert not result.ok


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"foreign": {"a": (VIP,), "b": (VIP,)}}, "10.0.1.100 was left behind on node a"),
        ({"foreign": {"a": (), "b": (VIP, STRANGE)}}, "10.0.1.77 was left behind on node b"),
        ({"foreign": {"a": (), "b": ()}}, "10.0.1.100 is missing on the owner, node b"),
        ({"enis": {"client": (VIP,), "a": (), "b": ()}}, "10.0.1.100 was left behind on the ENI of client"),
        ({"enis": {"client": (), "a": (STRANGE,), "b": (VIP,)}}, "10.0.1.77 was left behind on the ENI of a"),
        ({"delivered": {VIP: "a"}}, "the VPC delivers 10.0.1.100 to a"),
        ({"delivered": {VIP: ""}}, "the VPC delivers 10.0.1.100 to nobody"),
    ],
)
def test_what_is_left_behind_is_found(changes: dict[str, object], said: str) -> None:
    sight = replace(SIGHT, **changes)  # type: ignore[arg-type]
    assert left_behind(sight) == (said,)
    result = verdict(sight=sight)
    assert (result.ok, result.left_behind) == (False, (said,))


def test_a_lab_that_does_not_converge_is_found_and_nothing_more_is_said_of_what_lies_about() -> None:
    result = verdict(missing="no node serves", sight=replace(SIGHT, owner="", foreign={"a": (), "b": (VIP,)}))
    assert (result.ok, result.reason, result.converged_s) == (False, "not converged: no node serves", None)


def test_a_hold_down_needs_a_fault_that_explains_it() -> None:
    barred = replace(SIGHT, roles={"a": "fault", "b": "active"})
    assert not verdict(sight=barred).ok
    assert verdict(sight=barred, barred=frozenset("a")).ok
    assert verdict(sight=barred, barred=frozenset("b")).reason == (
        "node a sits out a hold-down, which no fault here explains"
    )


def test_an_exit_code_is_found() -> None:
    assert verdict(complaints=["vipd on node a ended with exit code 1"]).reason == (
        "vipd on node a ended with exit code 1"
    )


# ------------------------------------------------------------------------------------------------- report


def told(results: list[EpisodeResult]) -> str:
    out = io.StringIO()
    print_report(results, again="vipd lab campaign --seed 7", file=out)
    return out.getvalue()


def test_an_episode_is_one_json_line_with_exactly_the_promised_keys_in_order() -> None:
    out = io.StringIO()
    write_json_line(out, verdict())
    write_json_line(out, nothing_tried(2, "why", logs="/logs"))
    first, second = map(json.loads, out.getvalue().splitlines())
    assert list(first) == [
        *("episode", "kind", "faults", "sent", "lost", "gap_ms", "owner_before", "owner_after", "two_owners_ms"),
        *("two_bearers_ms", "lease_transitions", "converged_s", "foreign_acts", "left_behind", "eni", "roles"),
        *("notes", "ok", "reason", "logs"),
    ]
    assert list(first) == list(second)
    assert second["reason"] == "not ready: why"


def test_kinds_are_summed_up_singles_first() -> None:
    window = Window(5000, 90, 0.2, 101.0, "a", "b")
    rows = rows_of([verdict(1), verdict(2, windows=[window]), verdict(3, "freeze + kill"), verdict(4, "api-cut")])
    assert [row.kind for row in rows] == ["api-cut", "kill", "freeze + kill"]
    assert (rows[1].count, rows[1].ok, rows[1].lost.median, rows[1].lost.worst) == (2, 2, 65, 90)
    assert (rows[1].gap_ms.worst, rows[1].converged_s) == (200.0, 5.0)


def test_each_finding_counts_as_what_it_is() -> None:
    totals = totals_of(
        [
            verdict(1),
            verdict(2, ports=None),
            verdict(3, "freeze + kill", missing="no node serves"),
            verdict(4, foreign_calls=["a called"]),
            verdict(5, sight=replace(SIGHT, delivered={VIP: "a"})),
            verdict(6, complaints=["exit code 1"]),
            nothing_tried(7, "why", logs=""),
        ]
    )
    assert (totals.episodes, totals.faults, totals.pairs) == (7, 2, 1)
    assert (totals.two_owners_ms, totals.not_converged, totals.foreign_acts, totals.left_behind) == (1000.0, 2, 1, 1)
    assert totals.other == 1


def test_a_finding_is_told_with_its_logs_and_the_way_to_play_it_again() -> None:
    text = told([verdict(1), verdict(12, missing="no node serves")])
    assert "step 12, kill active at 0.00 s for 1.00 s (a): not converged: no node serves; logs in /logs" in text
    assert "again: vipd lab campaign --seed 7 --only 12" in text
    assert text.rstrip().endswith("1 of 2 episodes found something that must not be")


def test_a_clean_campaign_says_so_with_the_state_of_the_enis() -> None:
    text = told([verdict(1), verdict(2, "freeze + kill")])
    assert "FOUND" not in text
    assert "client: nothing, a: nothing, b: 10.0.1.100" in text
    assert "2 different ones, 1 different pairs, in 2 episodes" in text
    assert text.rstrip().endswith("2 of 2 episodes found nothing that must not be")


def test_without_an_episode_nothing_is_claimed() -> None:
    assert told([]) == "no step was played\n"


def test_a_log_of_probes_forgets_what_is_old_and_still_answers_for_the_rest() -> None:
    log = ProbeLog("x")
    for n in range(10):
        log.add(f"{n} {100 + n}.0 {100 + n}.1 a")
    log.stalled("100.0 101.0")
    log.stalled("106.0 107.0")
    log.forget(105.0)
    assert [p.sent_at for p in log.between(0, 200)] == [105.0, 106.0, 107.0, 108.0, 109.0]
    assert log.stalls == [(106.0, 107.0)]
    assert log.window(107.0, 109.5).sent == 3


def test_a_log_is_read_on_for_exceptions_that_nobody_expected(tmp_path: Path) -> None:
    log, reader = tmp_path / "vipd-a.log", LogReader()
    assert reader.crashes([log]) == []
    log.write_text('{"message": "well"}\n')
    assert reader.crashes([log]) == []
    with log.open("a") as file:
        file.write('{"message": "Task exception was never retrieved"}\n')
    [told] = reader.crashes([log])
    assert told.startswith("vipd-a.log tells of a crash: ")
    assert reader.crashes([log]) == []


def test_a_fence_by_the_lease_alone_is_judged_by_bearers_also_on_a_vpc() -> None:
    assert not Setting().by_lease
    assert Setting("bridge").by_lease
    assert Setting(arguments=("--check", "x", "--fence", "lease")).by_lease
    assert not Setting(arguments=("--fence", "eni")).by_lease
