"""``exec:`` with real processes: what decides, what is told, and that nothing it started outlives the attempt."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from check_servers import PATIENCE_S, happens, runs

from vipd.checks.command import ExecCheck
from vipd.checks.detail import LONGEST
from vipd.checks.make import make_checks
from vipd.config.checkspec import check_spec
from vipd.core.ports import HealthCheck

PR_SET_CHILD_SUBREAPER = 36


def check(spec: str, *, timeout_s: float = PATIENCE_S) -> HealthCheck:
    (made,) = make_checks([check_spec(spec)], timeout_s=timeout_s)
    assert str(made) == spec
    return made


def script(text: str, *, timeout_s: float = PATIENCE_S) -> ExecCheck:
    return ExecCheck(("sh", "-c", text), timeout_s=timeout_s, text="exec:sh")


@pytest.fixture
def subreaper() -> Iterator[None]:
    """This process inherits orphans, as the first process of a container does."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children() -> set[str]:
    """Every child of this process, zombies too."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_exit_code_0_is_healthy_whatever_it_says() -> None:
    assert await check("exec:true").run() is None
    assert await check("exec:sh -c 'echo bad news >&2'").run() is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exit 3", "exit code 3"),
        ("echo first; echo last; exit 1", "exit code 1: last"),
        ("echo out; echo on stderr >&2; exit 1", "exit code 1: on stderr"),
        ("printf 'no line end'; exit 1", "exit code 1: no line end"),
        ("printf 'last\\n\\n \\n'; exit 1", "exit code 1: last"),
        ("printf '\\033[31mred\\a\\377\\n'; exit 1", "exit code 1: [31mred \ufffd"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo now; kill -TERM $$", "killed by SIGTERM: now"),
    ],
)
async def test_anything_else_is_told_with_the_last_line_of_the_output(text: str, told: str) -> None:
    assert await script(text).run() == told


async def test_a_long_line_is_cut() -> None:
    told = await script("head -c 100000 /dev/zero | tr '\\0' x; exit 1").run()
    assert told is not None
    assert told.startswith("exit code 1: xxx")
    assert len(told) == LONGEST


async def test_arguments_are_quoted_as_in_a_shell_but_there_is_no_shell() -> None:
    told = await check("""exec:sh -c 'echo "$@"; exit 1' name 'a  b' '$HOME' * c\\;d""").run()
    assert told == "exit code 1: a b $HOME * c;d"


async def test_there_is_nothing_to_read() -> None:
    assert await check("exec:cat").run() is None


async def test_a_command_that_has_gone_is_told(tmp_path: Path) -> None:
    command = tmp_path / "ready"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    known = check(f"exec:{command}")
    assert await known.run() is None
    command.unlink()
    assert await known.run() == f"cannot run {command}: No such file or directory"


async def test_at_the_time_limit_the_whole_group_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hanging = script(f"sleep 1000 & echo $! >{pids}; sh -c 'echo $$ >>{pids}; sleep 1000'; true", timeout_s=1.5)
    began = time.monotonic()
    assert await hanging.run() == "not done within 1.5s"
    assert 1.5 <= time.monotonic() - began < PATIENCE_S
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert await happens(lambda: not any(map(runs, started)))


async def test_a_command_that_ignores_sigterm_is_killed_and_its_last_words_are_told() -> None:
    told = await script(
        "trap '' TERM HUP; echo waiting for the disk; while :; do sleep 1000; done", timeout_s=1.5
    ).run()
    assert told == "not done within 1.5s: waiting for the disk"


async def test_a_cancelled_attempt_leaves_nothing_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    attempt = asyncio.create_task(script(f"sleep 1000 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait").run())
    assert await happens(pids.exists)
    started = [int(pid) for pid in pids.read_text().split()]
    attempt.cancel()
    (ended,) = await asyncio.gather(attempt, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)
    assert await happens(lambda: not any(map(runs, started)))


async def test_a_process_left_in_the_background_is_neither_waited_for_nor_left(tmp_path: Path) -> None:
    # It holds the pipe of the output open.
    began = time.monotonic()
    assert await script(f"sleep 1000 & echo $! >{tmp_path}/pid", timeout_s=60).run() is None
    assert time.monotonic() - began < 30
    left = int((tmp_path / "pid").read_text())
    assert await happens(lambda: not runs(left))


async def test_output_without_end_neither_blocks_nor_grows() -> None:
    assert await check("exec:yes", timeout_s=1.5).run() == "not done within 1.5s: y"
    # More than a pipe holds: who is not read would wait for ever.
    assert await script("head -c 1000000 /dev/zero; exit 7").run() == "exit code 7"


@pytest.mark.usefixtures("subreaper")
async def test_orphans_that_this_process_inherits_are_reaped() -> None:
    before = children()
    assert await script("sh -c 'sleep 1000 & sleep 1000' & sleep 1000", timeout_s=0.3).run() == "not done within 0.3s"
    assert await script("sh -c 'sleep 1000 & sleep 1000' & true").run() is None
    assert children() == before


async def test_neither_descriptors_nor_processes_pile_up() -> None:
    good, late, gone = script("true"), script("sleep 1000", timeout_s=0.05), ExecCheck(["/none"], timeout_s=1, text="")
    await good.run()
    before = len(os.listdir("/proc/self/fd")), children()
    for _ in range(10):
        assert await good.run() is None
        assert await late.run() is not None
        assert await gone.run() is not None
    assert (len(os.listdir("/proc/self/fd")), children()) == before


async def test_signals_of_a_check_are_not_ours() -> None:
    loop = asyncio.get_running_loop()
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, heard.append, number)
    try:
        assert await script("kill -HUP $$; sleep 1000").run() == "killed by SIGHUP"
        assert await script("kill -USR1 $$; sleep 1000").run() == "killed by SIGUSR1"
        assert await script("kill -TERM 0; sleep 1000").run() == "killed by SIGTERM"
        await asyncio.sleep(0.05)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            loop.remove_signal_handler(number)
    assert heard == []
