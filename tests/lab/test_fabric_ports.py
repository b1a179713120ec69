"""The VPC fabric when ports lose their link: a mapping that changes meanwhile holds as soon as the link is back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from vipd.lab.fabric import VpcFabric
from vipd.lab.netns import Namespace

VIP = ip_address("10.0.1.100")


@pytest.fixture
async def fabric() -> AsyncIterator[VpcFabric]:
    """A fabric with the ports a and b."""
    spaces = [await Namespace(name).start() for name in ("fabric", "a", "b")]
    fabric = await VpcFabric(spaces[0]).start()
    for space, mac in zip(spaces[1:], ("02:00:00:00:01:0a", "02:00:00:00:01:0b"), strict=True):
        await fabric.plug(space.name, space, "net1", mac)
    yield fabric
    await fabric.close()
    for space in spaces:
        await space.close()


async def link(fabric: VpcFabric, name: str, state: str) -> None:
    index = await fabric.space.index(f"p-{name}")
    await fabric.space.ipr.link("set", index=index, state=state)
    if state == "up":
        await fabric.replug(name)


async def delivered_to(fabric: VpcFabric) -> str:
    """The port of the host route; empty: there is none."""
    async with fabric.space.netlink() as kernel:
        routes = [m async for m in await kernel.route("dump", family=2, table=254)]
    ports = {await fabric.space.index(f"p-{name}"): name for name in ("a", "b")}
    found = [ports[m.get("oif")] for m in routes if m.get("dst") == str(VIP) and m.get("oif")]
    return "".join(found)


async def test_a_move_to_a_port_without_link_takes_it_from_the_old_one_and_holds_once_the_link_is_back(
    fabric: VpcFabric,
) -> None:
    await fabric.set_mapping(VIP, "a")
    assert await delivered_to(fabric) == "a"
    await link(fabric, "b", "down")
    await fabric.set_mapping(VIP, "b")
    assert await delivered_to(fabric) == ""
    await link(fabric, "b", "up")
    assert await delivered_to(fabric) == "b"


async def test_a_move_between_two_ports_without_link_holds_too(fabric: VpcFabric) -> None:
    await fabric.set_mapping(VIP, "a")
    for name in ("a", "b"):
        await link(fabric, name, "down")
    await fabric.set_mapping(VIP, "b")
    for name in ("a", "b"):
        await link(fabric, name, "up")
    assert await delivered_to(fabric) == "b"
