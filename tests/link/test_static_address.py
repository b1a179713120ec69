"""An address that user data put there: it is looked at, and never touched."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from link_lan import EACH_FAMILY, V4, Lan

from vipd.agent.static_address import StaticAddresses, StaticKernel
from vipd.core.model import Vip
from vipd.errors import LinkError
from vipd.link.kernel import KernelLink


@EACH_FAMILY
async def test_it_is_borne_once_it_is_put_and_stays_when_it_is_removed(lan: Lan, kernel: KernelLink, vip: Vip) -> None:
    static = StaticKernel(kernel)
    await lan.add_address(str(vip.address), 24 if vip.address.version == 4 else 64)
    before = await lan.addresses()
    assert await static.borne() == []
    await static.put(vip, valid_s=10)
    assert [b.vip for b in await static.borne()] == [vip]
    assert await static.remove(vip)
    assert not await static.remove(vip)
    assert await static.borne() == []
    assert (await lan.addresses()).keys() == before.keys()


@EACH_FAMILY
async def test_without_it_nothing_can_be_put_and_it_says_who_is_to(lan: Lan, kernel: KernelLink, vip: Vip) -> None:
    with pytest.raises(LinkError, match=r"is not on net1, where user data is to put it"):
        await StaticKernel(kernel).put(vip, valid_s=10)
    assert await lan.addresses() == {}


async def test_one_that_goes_is_no_longer_borne(lan: Lan, kernel: KernelLink) -> None:
    static = StaticKernel(kernel)
    await lan.add_address("10.0.1.100", 32)
    await static.put(V4, valid_s=10)
    await lan.delete_address("10.0.1.100", 32)
    assert await static.borne() == []


async def test_the_monitor_hears_it_come_and_go(lan: Lan, kernel: KernelLink) -> None:
    heard: asyncio.Queue[tuple[bool, str]] = asyncio.Queue()

    async def run() -> None:
        with suppress(asyncio.CancelledError):
            await StaticAddresses(kernel, [V4]).run(lambda well, detail: heard.put_nowait((well, detail)))

    task = asyncio.create_task(run())
    try:
        well, detail = await asyncio.wait_for(heard.get(), 5)
        assert (well, "10.0.1.100 is not on net1" in detail) == (False, True)
        await lan.add_address("10.0.1.100", 24)
        assert await asyncio.wait_for(heard.get(), 5) == (True, "")
        await lan.add_address("10.0.1.101", 24)
        await lan.delete_address("10.0.1.100", 24)
        assert not (await asyncio.wait_for(heard.get(), 5))[0]
    finally:
        task.cancel()
        await task
