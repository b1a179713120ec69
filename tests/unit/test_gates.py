"""Several monitors as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from vipd.agent.gates import Gates

Report = Callable[[bool, str], None]


class Scripted:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.say: Report

    async def run(self, report: Report) -> None:
        self.say = report
        await asyncio.Event().wait()


class Broken:
    async def run(self, report: Report) -> None:
        raise ZeroDivisionError


@pytest.fixture
async def scene() -> tuple[list[Scripted], list[tuple[bool, str]]]:
    monitors, heard = [Scripted(), Scripted()], []

    async def run() -> None:
        with suppress(asyncio.CancelledError):
            await Gates(monitors).run(lambda well, detail: heard.append((well, detail)))

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    yield monitors, heard  # type: ignore[misc]
    task.cancel()
    await task


async def test_well_is_said_when_all_have_said_so(scene: tuple[list[Scripted], list[tuple[bool, str]]]) -> None:
    (one, other), heard = scene
    one.say(True, "")
    assert heard == []
    other.say(True, "")
    assert heard == [(True, "")]


async def test_one_that_is_not_well_is_enough_and_need_not_wait(
    scene: tuple[list[Scripted], list[tuple[bool, str]]],
) -> None:
    (one, other), heard = scene
    other.say(False, "the node is cordoned")
    one.say(True, "")
    one.say(False, "kube-proxy")
    other.say(True, "")
    one.say(True, "")
    assert heard == [(False, "the node is cordoned"), (False, "kube-proxy"), (True, "")]


async def test_nothing_is_said_twice(scene: tuple[list[Scripted], list[tuple[bool, str]]]) -> None:
    (one, other), heard = scene
    for _ in range(3):
        one.say(True, "")
        other.say(False, "x")
    assert heard == [(False, "x")]


async def test_a_monitor_that_breaks_is_not_hidden() -> None:
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(Gates([Scripted(), Broken()]).run(lambda well, detail: None), 5)
