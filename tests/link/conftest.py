"""A network namespace of its own for each test, joined to a neighbour's by a veth pair."""

from __future__ import annotations

import ctypes
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from link_lan import MAC, Events, Lan
from pyroute2 import AsyncIPRoute

from vipd.lab.netns import Namespace
from vipd.link.kernel import KernelLink
from vipd.link.monitor import LinkMonitor

CLONE_NEWNET = 0x40000000


@pytest.fixture
def namespace() -> Iterator[None]:
    """This thread in a fresh network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(before)


@pytest_asyncio.fixture
async def lan(namespace: None) -> AsyncIterator[Lan]:
    neighbour = await Namespace("neighbour").start()
    ipr = AsyncIPRoute()
    here = Lan(ipr=ipr, neighbour=neighbour)
    try:
        await ipr.link("set", index=1, state="up")
        peer = {"ifname": "net1", "net_ns_fd": neighbour.path}
        await ipr.link("add", ifname="net1", kind="veth", address=MAC, peer=peer)
        await here.set("net1", state="up")
        await neighbour.ipr.link("set", index=await neighbour.index("net1"), state="up")
        yield here
    finally:
        ipr.close()
        await neighbour.close()


@pytest_asyncio.fixture
async def kernel(lan: Lan) -> AsyncIterator[KernelLink]:
    link = KernelLink()
    yield link
    await link.close()


@pytest_asyncio.fixture
async def events(lan: Lan) -> AsyncIterator[Events]:
    async with aclosing(LinkMonitor().events()) as stream:
        yield Events(stream)
