"""``vipd lab``: what is wrong is told before a lab is built, and the list of scenarios is for scripts too."""

import json
import os

import pytest

from vipd.cli import lab
from vipd.cli.main import main
from vipd.lab import sandbox
from vipd.lab.followings import FOLLOWINGS
from vipd.lab.scenarios import SCENARIOS

ASKED_FOR = {
    "sigterm",
    "vipd-kill",
    "vipd-freeze",
    "node-loss",
    "node-partition",
    "link-down",
    "address-deleted",
    "eni-stolen",
    "ec2-throttled",
    "ec2-down",
    "both-start",
    "ipv6",
    "dual-stack",
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "node-los"], ["node-los", "node-loss"]),
        (["run", "nonsense"], ["nonsense", "sigterm", "all"]),
        (["run", "sigterm", "--rounds", "0"], ["--rounds 0", "1 to 10000"]),
        (["run", "sigterm", "--plot", "x.gif"], ["x.gif", ".svg", ".png"]),
        (["run", "sigterm", "--lease-duration", "1.5"], ["1.5", "whole"]),
        (["run", "sigterm", "--lease-duration", "x"], ["x", "whole"]),
        (["run", "sigterm", "--ec2-latency", "99"], ["99", "0 to 30"]),
        (["run", "sigterm-l2", "--lease-duration", "1"], ["sigterm-l2", "2 or more"]),
        (["campaign", "--minutes", "0"], ["--minutes", "'0'", "0.1 to 1440"]),
        (["campaign", "--minutes", "-3"], ["--minutes"]),
        (["campaign", "--minutes", "soon"], ["--minutes", "soon", "0.1 to 1440"]),
        (["campaign", "--minutes", "nan"], ["--minutes", "nan"]),
        (["campaign", "--seed", "x"], ["--seed", "x", "whole"]),
        (["campaign", "--seed", "1.5"], ["--seed", "1.5", "whole"]),
        (["campaign", "--seed", "-1"], ["--seed"]),
        (["campaign", "--only", "0"], ["--only", "whole numbers from 1"]),
        (["campaign", "--lease-duration", "0"], ["--lease-duration", "whole"]),
        (["campaign", "--fabric", "bridge", "--lease-duration", "1"], ["--lease-duration 2 or more"]),
        (["campaign", "--fabric", "bridge", "--fence", "eni"], ["--fence eni", "lease"]),
        (["campaign", "--fence", "lease", "--lease-duration", "1"], ["--lease-duration 1:", "2 or more"]),
        (["up", "--fabric", "bridge", "--fence", "eni"], ["--fence eni", "allowed is lease"]),
        (["up", "--fabric", "bridge", "--lease-duration", "1"], ["--lease-duration 1:", "2 or more"]),
        (["up", "--fence", "lease", "--lease-duration", "1"], ["--lease-duration 1:", "2 or more"]),
        (["run", "sigterm", "--fence", "lease", "--lease-duration", "1"], ["scenario sigterm: ", "2 or more"]),
        (["run", "sigterm-l2", "--fence", "eni"], ["scenario sigterm-l2: --fence eni: ", "allowed is lease"]),
        (
            ["run", "nodeport-static", "--fence", "lease"],
            ["scenario nodeport-static: --fence lease: ", "allowed is eni"],
        ),
        (["run", "all", "sigterm"], ["scenario 'all': stands alone; allowed: all, or names"]),
        (["run", "sigterm", "all"], ["scenario 'all': stands alone"]),
        (["run", "sigterm", "--json", "/dev/null/x/y"], ["flag --json: '/dev/null/x/y'", "allowed: a file"]),
        (["run", "sigterm", "--json", "/proc"], ["flag --json: '/proc' cannot be written: Is a directory; allowed"]),
        (["run", "sigterm", "--plot", "/dev/null/x/y.svg"], ["flag --plot: '/dev/null/x/y.svg' cannot be written"]),
        (["demo", "--plot", "/dev/null/y.svg"], ["flag --plot: '/dev/null/y.svg' cannot be written: Not a directory"]),
        (["campaign", "--json", "/dev/null/y"], ["flag --json: '/dev/null/y' cannot be written: Not a directory"]),
        (["dance"], ["dance"]),
    ],
)
def test_wrong_words_are_told_and_end_with_2(words, said, capsys, monkeypatch):
    # Were it not told, a lab would be built.
    monkeypatch.setattr(sandbox, "enter", lambda argv: 99)
    assert main(["lab", *words]) == 2
    told = capsys.readouterr().err
    assert [word for word in said if word not in told] == []


@pytest.mark.parametrize(
    ("flags", "left_out"),
    [
        ({}, set()),
        ({"fence": "eni"}, {"sigterm-l2", "vipd-kill-l2", "handover-l2", "conflict"}),
        ({"fence": "lease"}, {"nodeport-static"}),
        ({"duration_s": 1}, {"sigterm-l2", "vipd-kill-l2", "handover-l2", "conflict"}),
    ],
)
def test_all_are_those_in_which_vipd_can_start(flags, left_out):
    chosen = lab._chosen(["all"], **{"duration_s": None, "fence": None, **flags})
    assert set(SCENARIOS) - {scenario.name for scenario in chosen} == left_out


def test_where_nothing_is_elected_a_fence_by_lease_and_a_second_go_together():
    chosen = lab._chosen(["all"], duration_s=1, fence="lease")
    assert {scenario.name for scenario in chosen} == {scenario.name for scenario in FOLLOWINGS}


def test_an_output_file_is_made_with_its_folder_and_what_is_in_it_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "enter", lambda argv: 99)
    new, old, pipe = tmp_path / "a" / "new.svg", tmp_path / "old", tmp_path / "pipe"
    old.write_text("kept")
    os.mkfifo(pipe)
    assert main(["lab", "run", "sigterm", "--plot", str(new), "--json", str(old)]) == 99
    assert (new.exists(), old.read_text()) == (True, "kept")
    assert main(["lab", "run", "sigterm", "--json", str(pipe)]) == 99


def test_the_list_of_scenarios_names_each_with_its_promise(capsys):
    assert main(["lab", "scenarios", "-o", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) >= ASKED_FOR
    assert all(row["promise"] and row["summary"] for row in rows.values())
    assert main(["lab", "scenarios"]) == 0
    assert "promised: 0 probes lost" in capsys.readouterr().out


def test_a_promise_of_time_counts_durations_and_the_ec2_calls_of_the_round():
    promise = SCENARIOS["node-loss"].promise
    assert promise.limit_ms(3, 401.5) == pytest.approx(3401.5)
    assert promise.limit_ms(1, None) == pytest.approx(1000)
    assert SCENARIOS["sigterm"].promise.limit_ms(3, 400) is None
