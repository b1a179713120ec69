"""``vipd lab`` as a person runs it: a lab to play with by commands, and runs that are written down and cleaned up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

from system import VIPD, environment


def test_up_obeys_commands_and_says_what_is_wrong(tmp_path):
    commands = "show\nstatus a\nbogus\nkill z\nsh b echo in-node-b\nlog a\nhandover\nlease\nquit\n"
    done = subprocess.run(
        [*VIPD, "up", "--folder", str(tmp_path)],
        input=commands,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "The lab is up",
        "Lease names",
        '"state": "',
        "unknown command 'bogus'",
        "which node?",
        "in-node-b",
        "now held by",
        "taken for the reason offered",
    ):
        assert words in done.stdout


def test_run_writes_one_object_a_round_and_draws_the_timeline(tmp_path):
    out, plot = tmp_path / "out.jsonl", tmp_path / "deep" / "out.svg"
    done = subprocess.run(
        [*VIPD, "run", "address-deleted", "--rounds", "2", "--json", str(out), "--plot", str(plot)],
        capture_output=True,
        text=True,
        timeout=90,
        env=environment() | {"TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [json.loads(line) for line in out.read_text().splitlines()]
    assert " ".join(rounds[0]) == (
        "scenario round sent lost gap_ms owner_before owner_after two_owners_ms lease_transitions phases ok reason"
    )
    assert " ".join(rounds[0]["phases"]) == "detect_ms lease_ms address_ms eni_ms announce_ms"
    assert [r["round"] for r in rounds] == [1, 2]
    assert plot.read_text().lstrip().startswith("<?xml")
    assert "address-deleted" in done.stdout


def test_ctrl_c_takes_the_lab_down_and_a_kill_leaves_nothing_behind(tmp_path):
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        lab = subprocess.Popen(
            [*VIPD, "run", "node-loss", "--folder", str(tmp_path)],
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            env=environment(),
        )
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("*/vipd-a.log")) and time.monotonic() < deadline:
            time.sleep(0.1)
        mark = str(tmp_path)
        assert running(mark) > 1
        lab.send_signal(number)
        assert lab.wait(20) == code
        deadline = time.monotonic() + 10
        while running(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert running(mark) == 0
        for log in tmp_path.glob("*/vipd-a.log"):
            log.unlink()


def running(mark: str) -> int:
    """How many processes have the mark in their command line or environment."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as variables:
                count += mark.encode() in line.read() + variables.read()
        except OSError:
            continue
    return count
