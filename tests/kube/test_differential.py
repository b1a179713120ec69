"""The lab's API answers as a real kube-apiserver does: status, reason, words, objects, and what watches tell.

Differences that are kept, since vipd neither asks for these things nor reads them:
- managedFields are not kept, and there is no server-side apply, no protobuf, no DELETE of a collection;
- a resource of an unknown group is refused with a Status, where a real one answers in plain text;
- numbers of resourceVersions differ: a real one counts the changes of all objects of the cluster;
- the words of a refusal of what cannot be read (400, or 422 for a patch that leaves no Lease) are those of Go, and a
  real one quotes the object: vipd goes by status and reason;
- causes that a real one lists several times (it checks the metadata of an update again and again) are listed once;
- the place in etcd that a refused precondition names differs in a dry run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import aiohttp
import pytest
from api_server import Raw, RunningApi
from conftest import USER
from differential import NEVER, Script, Side, both
from real_api import RealApi

from vipd.lab.controlplane.controlplane import ControlPlane

SEQUENCES = int(os.environ.get("VIPD_DIFFERENTIAL_SEQUENCES", "8"))
STEPS = 120


@pytest.fixture
async def sides(control_plane: ControlPlane) -> AsyncIterator[tuple[Side, Side]]:
    """The lab's API and a real one."""
    ours, real = RunningApi(), RealApi(control_plane)
    ours.add_user(USER, RunningApi.token)
    await ours.start()
    await real.start()
    async with aiohttp.ClientSession() as plain, aiohttp.ClientSession(connector=real.connector()) as secure:
        yield Side(Raw(plain, ours)), Side(Raw(secure, real))
    await real.stop()
    await ours.stop()


@pytest.mark.parametrize("seed", range(SEQUENCES))
async def test_random_requests_are_answered_alike(sides: tuple[Side, Side], seed: int) -> None:
    script = Script(seed)
    for number in range(STEPS):
        step = script.step()
        ours, real = await both(*sides, step)
        assert ours == real, f"step {number} of seed {seed}: {step}"


@pytest.mark.parametrize("seed", range(1000, 1003))
async def test_watches_tell_the_same_of_random_changes(sides: tuple[Side, Side], seed: int) -> None:
    script = Script(seed)
    for _ in range(STEPS):
        await both(*sides, script.step())
    count = len(sides[0].memory.versions)
    assert count == len(sides[1].memory.versions) > 5
    for version in {0, count // 2, count - 1}:
        ours, real = [await side.events(version) for side in sides]
        assert ours == real


async def test_a_watch_from_a_version_that_is_gone_ends_alike(sides: tuple[Side, Side]) -> None:
    """A restarted server has forgotten what was before: 410, in a stream that has begun with 200."""
    script = Script(2000)
    for _ in range(STEPS):
        await both(*sides, script.step())
    await asyncio.gather(*(side.raw.api.restart() for side in sides))
    ours, real = [await side.events(0) for side in sides]
    assert ours == real
    ((word, status),) = real
    assert (word, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


@pytest.mark.parametrize("version", ["abc", "-1", "1.5", NEVER])
async def test_a_watch_from_what_is_no_version_is_answered_alike(sides: tuple[Side, Side], version: str) -> None:
    ours, real = [await side.watch(version) for side in sides]
    assert ours == real
