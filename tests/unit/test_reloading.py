"""SIGHUP and SIGUSR1: what changes at once, what needs a restart for as long as it differs, and the state."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vipd.agent import follow_side
from vipd.agent.host import Waiting
from vipd.agent.member import Member
from vipd.agent.reloading import LIVE, Reloading
from vipd.config import load_host, load_sidecar
from vipd.core.model import Fence
from vipd.core.settings import ElectionConfig

BASE = ("--vip=10.0.1.100", "--lease=web", "--listen=off")


@pytest.fixture(autouse=True)
def own_log_level() -> Iterator[None]:
    vipd = logging.getLogger("vipd")
    before, vipd.level = vipd.level, logging.DEBUG
    yield
    vipd.setLevel(before)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "vipd.yaml"
    file.write_text("")
    return file


def write(file: Path, text: str) -> None:
    file.write_text(text)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since the last look."""
    lines = [record.getMessage() for record in caplog.records if record.name == "vipd"]
    caplog.clear()
    return lines


def reloading(file: Path, **more: Any) -> Reloading:
    argv = [*BASE, f"--config={file}"]
    return Reloading(load_sidecar(argv, {}), argv, {}, **more)


# ------------------------------------------------------------------------------------------ reading


def test_what_needs_a_restart_says_so_each_time_and_no_more_once_it_is_undone(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = reloading(file, live=LIVE)
    file.write_text("region: us-east-2\npriority: 7")
    for changed in ("priority", "nothing"):
        one.again()
        assert said(caplog) == [
            "SIGHUP: these need a restart and stay as they were: region",
            f"SIGHUP: configuration reloaded; changed: {changed}",
        ]
    file.write_text("priority: 7")
    one.again()
    assert said(caplog) == ["SIGHUP: configuration reloaded; changed: nothing"]
    assert (one.told.priority, one.told.region) == (7, None)


def test_a_wrong_file_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = reloading(file, live=LIVE)
    file.write_text("priority: 7\nlog-level: loud")
    before = one.told
    assert not one.again()
    assert one.told is before
    (line,) = said(caplog)
    assert line.startswith("SIGHUP: the new configuration is not used, the old one stays: ")


def test_without_an_election_the_log_level_alone_is_live(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = reloading(file)
    file.write_text("priority: 7\nlog-level: error")
    caplog.set_level(logging.ERROR, "vipd")
    one.again()
    assert logging.getLogger("vipd").level == logging.ERROR
    assert (one.told.priority, one.told.log_level) == (100, "error")


# ---------------------------------------------------------------------------------------- the three


async def signalled(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    await asyncio.sleep(0.05)


def status_told(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The document that SIGUSR1 logged."""
    (record,) = [record for record in caplog.records if record.getMessage() == "state on request"]
    caplog.clear()
    found: dict[str, Any] = record.__dict__["fields"]["status"]
    return found


async def test_a_host_that_waits_for_an_eni_reloads_and_tells(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    argv = [*BASE, f"--config={file}"]
    settings = load_host(argv, {})
    waiting = await Waiting(settings, Reloading(settings, argv, {})).start()
    waiting.detail = "no ENI"
    await signalled(signal.SIGUSR1)
    assert status_told(caplog)["reason"] == "no ENI"
    write(file, "log-level: debug\npriority: 7")
    await signalled(signal.SIGHUP)
    assert said(caplog) == [
        "SIGHUP: these need a restart and stay as they were: priority",
        "SIGHUP: configuration reloaded; changed: log-level",
    ]
    await waiting.stop()
    await signalled(signal.SIGUSR1)
    assert said(caplog) == ["SIGUSR1: there is no election here yet, so nothing is done"]


async def test_a_sidecar_that_only_follows_reloads_and_tells(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Side:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        async def run(self) -> None:
            await asyncio.Event().wait()

        def status(self) -> dict[str, object]:
            return {"following": []}

        async def close(self) -> None:
            pass

    monkeypatch.setattr(follow_side, "FollowSide", Side)
    monkeypatch.setattr(
        follow_side, "following_lock", lambda names: SimpleNamespace(acquire=lambda: None, close=lambda: None)
    )
    argv, stopping = ["--listen=off", f"--config={file}"], asyncio.Event()
    follower = asyncio.create_task(follow_side.follow_only(load_sidecar(argv, {}), argv, {}, stopping))
    await asyncio.sleep(0.05)
    await signalled(signal.SIGUSR1)
    assert status_told(caplog)["following"] == []
    write(file, "log-level: debug")
    await signalled(signal.SIGHUP)
    assert said(caplog) == ["SIGHUP: configuration reloaded; changed: log-level"]
    stopping.set()
    assert await asyncio.wait_for(follower, 5) == 0


class Election:
    """An agent that does nothing but take a new configuration."""

    def __init__(self, fence: Fence) -> None:
        self.state = SimpleNamespace(config=ElectionConfig(identity="a", incarnation="i", addresses=(), fence=fence))
        self.ended = asyncio.Event()

    def stop(self) -> None:
        self.ended.set()

    def reconfigure(self, config: ElectionConfig) -> None:
        self.state.config = config

    async def run(self) -> int:
        await self.ended.wait()
        return 0


async def serving(file: Path, agent: Election) -> asyncio.Task[int]:
    argv = [*BASE, f"--config={file}"]
    settings = load_sidecar(argv, {})

    async def close() -> None:
        pass

    stubs: dict[str, Any] = {"agent": agent, "hands": None, "metrics": None, "teller": SimpleNamespace(close=close)}
    member = Member(settings, told=settings, aws=None, beside=None, **stubs)
    task = asyncio.create_task(member.serve(argv, {}, asyncio.Event()))
    await asyncio.sleep(0.05)
    return task


async def test_a_lease_too_short_for_its_fence_is_refused_before_anything_changes(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Election(Fence.LEASE)
    task = await serving(file, agent)
    # Possible by themselves, but the fence in force stays what it is.
    write(file, "lease-duration: 1s\npriority: 7\nlog-level: error")
    for _ in range(2):
        await signalled(signal.SIGHUP)
        (line,) = said(caplog)
        assert "the old one stays: lease-duration 1s: fence lease needs 2s or more" in line
    assert logging.getLogger("vipd").level == logging.DEBUG
    assert (agent.state.config.priority, agent.state.config.duration_s) == (100, 3)
    write(file, "lease-duration: 2s\npriority: 7")
    await signalled(signal.SIGHUP)
    assert said(caplog) == ["SIGHUP: configuration reloaded; changed: lease-duration, priority, renew-interval"]
    assert (agent.state.config.priority, agent.state.config.duration_s) == (7, 2)
    agent.stop()
    assert await asyncio.wait_for(task, 5) == 0


async def test_an_election_says_at_every_reload_what_needs_a_restart(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Election(Fence.ENI)
    task = await serving(file, agent)
    write(file, "region: us-east-2")
    for _ in range(2):
        await signalled(signal.SIGHUP)
        assert said(caplog)[0] == "SIGHUP: these need a restart and stay as they were: region"
    write(file, "")
    await signalled(signal.SIGHUP)
    assert said(caplog) == ["SIGHUP: configuration reloaded; changed: nothing"]
    agent.stop()
    assert await asyncio.wait_for(task, 5) == 0
