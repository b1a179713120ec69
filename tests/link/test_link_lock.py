"""One vipd for a Lease in one network namespace."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from link_lan import Lan

from vipd.errors import VipdError
from vipd.link.lock import InstanceLock

HOLDER = """
import sys
from vipd.link.lock import InstanceLock
lock = InstanceLock(sys.argv[1])
lock.acquire()
print("have it", flush=True)
sys.stdin.read()
"""


@pytest_asyncio.fixture
async def holder(namespace: None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that has the lock ``default/web``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        "default/web",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"have it\n"
    yield process
    if process.returncode is None:
        process.kill()
    await process.wait()


def refusal(name: str) -> str:
    with pytest.raises(VipdError) as failure:
        InstanceLock(name).acquire()
    return str(failure.value)


async def test_a_taken_lock_names_its_holder_however_often_it_is_asked(holder: asyncio.subprocess.Process) -> None:
    for _ in range(20):
        text = refusal("default/web")
        assert f"another vipd (pid {holder.pid}) takes part for the Lease default/web" in text


async def test_the_kernel_gives_back_the_lock_of_a_killed_process(holder: asyncio.subprocess.Process) -> None:
    holder.kill()
    await holder.wait()
    lock = InstanceLock("default/web")
    lock.acquire()
    lock.close()


async def test_other_leases_have_other_locks(holder: asyncio.subprocess.Process) -> None:
    lock = InstanceLock("default/db")
    lock.acquire()
    lock.close()


async def test_other_network_namespaces_have_other_locks(lan: Lan) -> None:
    here, there = InstanceLock("default/web"), InstanceLock("default/web")
    here.acquire()
    lan.neighbour.run(there.acquire)
    there.close()
    here.close()


def test_a_closed_lock_can_be_taken_again(namespace: None) -> None:
    lock = InstanceLock("default/web")
    lock.acquire()
    lock.close()
    lock.acquire()
    lock.close()


def test_names_of_any_length_are_told_apart(namespace: None) -> None:
    longest = "n" * 63 + "/" + "l" * 252
    one, other = InstanceLock(longest + "1"), InstanceLock(longest + "2")
    one.acquire()
    other.acquire()
    assert f"pid {os.getpid()}" in refusal(longest + "1")
    one.close()
    other.close()
