"""What keeps AWS credentials fresh beside an election says once what fails, and never ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from vipd.agent import follow_aws, follower, member
from vipd.agent.follow_aws import FollowAws
from vipd.errors import AwsError

FAILURES: list[Exception] = [
    AwsError("no credentials"),
    AwsError("no credentials"),
    KeyError("AccessKeyId"),
    RuntimeError("can't start new thread"),
]


class Mover:
    """Fails in each of these ways, one after the other, and then no more."""

    def __init__(self) -> None:
        self.warmed = 0

    async def warm(self) -> None:
        self.warmed += 1
        if self.warmed <= len(FAILURES):
            raise FAILURES[self.warmed - 1]


class Side:
    imds = None

    def __init__(self) -> None:
        self.mover = Mover()


async def lasts(job: Coroutine[Any, Any, None], mover: Mover) -> None:
    """Run it until all the failures are behind it."""
    running = asyncio.create_task(job)
    async with asyncio.timeout(5):
        while mover.warmed < len(FAILURES) + 3 and not running.done():
            await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_members_credentials_are_renewed_whatever_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(member, "CREDENTIALS_S", 0.0)
    side = Side()
    await lasts(member._keep_credentials(side), side.mover)  # type: ignore[arg-type]
    first, *others = told(caplog)
    assert first == "no credentials"
    assert ["KeyError" in others[0], "can't start new thread" in others[1], len(others)] == [True, True, 2]


async def test_followings_credentials_are_renewed_whatever_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower, "WARM_EVERY_S", 0.0)
    monkeypatch.setattr(follow_aws, "ImdsMapping", lambda imds: None)
    side = Side()
    follow = follower.Follower.__new__(follower.Follower)
    follow._aws = FollowAws(region="us-east-2", environ={}, shared=side)  # type: ignore[arg-type]
    await lasts(follow._keep_warm(), side.mover)
    first, *others = told(caplog)
    assert first == "no credentials"
    assert ["KeyError" in others[0], "can't start new thread" in others[1], len(others)] == [True, True, 2]
