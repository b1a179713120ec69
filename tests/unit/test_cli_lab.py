"""``vipd lab``: what is wrong is told before a lab is built, and the list of scenarios is for scripts too."""

import json

import pytest

from vipd.cli.main import main
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
        (["dance"], ["dance"]),
    ],
)
def test_wrong_words_are_told_and_end_with_2(words, said, capsys):
    assert main(["lab", *words]) == 2
    told = capsys.readouterr().err
    assert [word for word in said if word not in told] == []


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
