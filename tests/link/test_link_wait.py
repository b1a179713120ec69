"""Waiting for interfaces, by events and up to a limit."""

from __future__ import annotations

import asyncio
import time

import pytest
from link_lan import Lan

from vipd.errors import TimeUp
from vipd.link.kernel import KernelLink
from vipd.link.wait import wait_for_interface


async def test_interfaces_that_are_up_are_not_waited_for(kernel: KernelLink) -> None:
    await wait_for_interface(kernel, ["net1", "lo"], 3.0)


async def test_interfaces_that_are_up_need_no_time_at_all(kernel: KernelLink) -> None:
    await wait_for_interface(kernel, ["net1"], 0.0)
    with pytest.raises(TimeUp, match=r"there is no interface net2 after 0 s"):
        await wait_for_interface(kernel, ["net2"], 0.0)


async def test_the_wait_ends_as_soon_as_the_last_interface_is_up(lan: Lan, kernel: KernelLink) -> None:
    waiting = asyncio.create_task(wait_for_interface(kernel, ["net1", "net2"], 5.0))
    await lan.set("net1", state="down")
    await lan.create("net2")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await lan.set("net1", state="up")
    before = time.monotonic()
    await waiting
    assert time.monotonic() - before < 1


async def test_time_up_tells_what_is_missing_and_what_is_there(lan: Lan, kernel: KernelLink) -> None:
    await lan.set("net1", state="down")
    with pytest.raises(TimeUp) as failure:
        await wait_for_interface(kernel, ["net1", "net2", "lo"], 0.1)
    assert "there is no interface net2, interface net1 is down after 0.1 s" in str(failure.value)
    assert "interfaces here: lo, net1" in str(failure.value)
    assert failure.value.exit_code == 3
