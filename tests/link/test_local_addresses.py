"""Addresses of a namespace, whoever adds them: as events when they come, and as a list."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio
from link_lan import MAC, V4, V6, Events, Lan

from vipd.core.model import LinkState, LocalAddress
from vipd.core.ports import AddressCame, AddressGone, LinkChanged, MonitorResync
from vipd.link.kernel import VIPD_PROTO, KernelLink
from vipd.link.monitor import LinkMonitor

OURS = ip_address("fd00:10:0:1::11")
PREFIXED = ip_address("10.0.1.11")
NODAD, OPTIMISTIC = 0x02, 0x04


@pytest_asyncio.fixture
async def seen(lan: Lan, kernel: KernelLink) -> AsyncIterator[Events]:
    """Events from now on; the interface's own link-local address has passed."""
    while not [local for local in await kernel.addresses() if local.interface == "net1" and local.usable]:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.05)
    async with aclosing(LinkMonitor().events()) as stream:
        events = Events(stream)
        await events.until(MonitorResync)
        yield events


def sysctl(name: str, value: int) -> None:
    Path(f"/proc/sys/net/ipv6/conf/net1/{name}").write_text(str(value))


async def listed(kernel: KernelLink, interface: str = "net1") -> list[LocalAddress]:
    """What the interface bears, but for link-local addresses."""
    return [local for local in await kernel.addresses() if local.interface == interface and local.universe]


async def test_an_ipv6_address_is_told_as_it_comes_and_again_once_it_is_usable(
    lan: Lan, kernel: KernelLink, seen: Events
) -> None:
    await lan.add_address(str(OURS), 64)
    assert await listed(kernel) == [LocalAddress(OURS, 64, "net1", usable=False)]
    assert await seen.came(OURS, usable=False) == LocalAddress(OURS, 64, "net1", usable=False)
    assert await seen.came(OURS) == LocalAddress(OURS, 64, "net1")
    assert await listed(kernel) == [LocalAddress(OURS, 64, "net1")]


async def test_an_ipv6_address_that_another_bears_is_told_as_a_duplicate(
    lan: Lan, kernel: KernelLink, seen: Events
) -> None:
    there = lan.neighbour
    await there.ipr.addr("add", index=await there.index("net1"), address=str(OURS), prefixlen=64, flags=NODAD)
    await lan.add_address(str(OURS), 64)
    duplicate = LocalAddress(OURS, 64, "net1", usable=False, duplicate=True)
    await seen.until(AddressCame(duplicate))
    assert await listed(kernel) == [duplicate]


async def test_an_ipv6_address_of_an_interface_without_carrier_is_not_usable_until_it_has_one(
    lan: Lan, kernel: KernelLink, seen: Events
) -> None:
    await lan.ipr.link("add", ifname="net2", kind="veth", peer={"ifname": "net2-peer"})
    await lan.set("net2", state="up")
    await lan.ipr.addr("add", index=await lan.index("net2"), address=str(OURS), prefixlen=64)
    assert await seen.came(OURS, usable=False) == LocalAddress(OURS, 64, "net2", usable=False)
    await asyncio.sleep(2.5)
    assert await listed(kernel, "net2") == [LocalAddress(OURS, 64, "net2", usable=False)]
    await lan.set("net2-peer", state="up")
    assert await seen.came(OURS) == LocalAddress(OURS, 64, "net2")


async def test_an_address_without_duplicate_detection_is_usable_at_once(lan: Lan, seen: Events) -> None:
    await lan.ipr.addr("add", index=await lan.index(), address=str(OURS), prefixlen=128, flags=NODAD)
    event = await seen.next()
    assert event == AddressCame(LocalAddress(OURS, 128, "net1"))


async def test_an_optimistic_address_is_usable_while_duplicate_detection_goes_on(lan: Lan, seen: Events) -> None:
    sysctl("optimistic_dad", 1)
    await lan.ipr.addr("add", index=await lan.index(), address=str(OURS), prefixlen=64, flags=OPTIMISTIC)
    assert await seen.next() == AddressCame(LocalAddress(OURS, 64, "net1"))


async def test_a_privacy_address_is_told_as_temporary(lan: Lan, kernel: KernelLink, seen: Events) -> None:
    sysctl("use_tempaddr", 2)
    managed, lifetime = 0x100, {"ifa_preferred": 3600, "ifa_valid": 7200}
    await lan.ipr.addr(
        "add", index=await lan.index(), address=str(OURS), prefixlen=64, flags=managed | NODAD, IFA_CACHEINFO=lifetime
    )
    found = {local.temporary: local for local in await listed(kernel)}
    assert found[False].address == OURS
    assert await seen.came(found[True].address) == replace(found[True], usable=True)


@pytest.mark.parametrize("prefixlen", [24, 32])
async def test_an_ipv4_address_of_any_prefix_is_usable_at_once(
    lan: Lan, kernel: KernelLink, seen: Events, prefixlen: int
) -> None:
    await lan.add_address(str(PREFIXED), prefixlen)
    assert await seen.next() == AddressCame(LocalAddress(PREFIXED, prefixlen, "net1"))
    assert await listed(kernel) == [LocalAddress(PREFIXED, prefixlen, "net1")]


async def test_a_second_ipv4_address_of_a_subnet_is_no_temporary_one(lan: Lan, kernel: KernelLink) -> None:
    await lan.add_address("10.0.1.11", 24)
    await lan.add_address("10.0.1.12", 24)
    second = (await lan.addresses())["10.0.1.12/24"]
    assert second.get("flags") & 0x01
    assert [local.temporary for local in await listed(kernel)] == [False, False]


@pytest.mark.parametrize(
    ("local", "peer", "prefixlen"),
    [("10.0.1.11", "10.0.9.1", 32), ("fd00:10:0:1::11", "fd00:10:0:9::1", 128)],
    ids=["ipv4", "ipv6"],
)
async def test_of_an_address_with_a_peer_ours_is_told(
    lan: Lan, kernel: KernelLink, seen: Events, local: str, peer: str, prefixlen: int
) -> None:
    index = await lan.index()
    await lan.ipr.addr("add", index=index, local=local, address=peer, prefixlen=prefixlen, flags=NODAD)
    told = LocalAddress(ip_address(local), prefixlen, "net1")
    assert await seen.next() == AddressCame(told)
    assert await listed(kernel) == [told]
    await lan.ipr.addr("del", index=index, local=local, address=peer, prefixlen=prefixlen)
    assert await seen.next_but_arrivals() == AddressGone(told.address, "net1")


async def test_vipds_own_addresses_bear_its_number_and_each_refresh_is_told(
    lan: Lan, kernel: KernelLink, seen: Events
) -> None:
    for vip in (V4, V6):
        for _ in range(2):
            await kernel.put(vip, valid_s=30)
            told = LocalAddress(vip.address, vip.prefixlen, "net1", proto=VIPD_PROTO)
            assert await seen.next() == AddressCame(told)
    assert {(local.address, local.proto) for local in await listed(kernel)} == {
        (V4.address, VIPD_PROTO),
        (V6.address, VIPD_PROTO),
    }


async def test_addresses_of_link_and_host_scope_are_told_as_such(lan: Lan, kernel: KernelLink) -> None:
    await lan.ipr.addr("add", index=await lan.index(), address="169.254.7.7", prefixlen=32, scope=253)
    found = {str(local.address): local for local in await kernel.addresses()}
    assert (found["127.0.0.1"].interface, found["127.0.0.1"].universe) == ("lo", False)
    assert (found["::1"].interface, found["::1"].universe) == ("lo", False)
    assert (found["169.254.7.7"].interface, found["169.254.7.7"].universe) == ("net1", False)
    assert [local.universe for text, local in found.items() if text.startswith("fe80:")] == [False]


async def test_addresses_of_macvlan_and_bridge_interfaces_are_told(lan: Lan, kernel: KernelLink, seen: Events) -> None:
    await lan.ipr.link("add", ifname="mv0", kind="macvlan", link=await lan.index(), macvlan_mode="bridge")
    await lan.ipr.link("add", ifname="br0", kind="bridge")
    for number, name in enumerate(("mv0", "br0"), start=1):
        await lan.set(name, state="up")
        address = f"10.0.{number}.11"
        await lan.ipr.addr("add", index=await lan.index(name), address=address, prefixlen=24)
        told = LocalAddress(ip_address(address), 24, name)
        assert await seen.came(told.address) == told
        assert await listed(kernel, name) == [told]


async def test_an_interface_that_is_moved_in_and_renamed_is_told_with_its_addresses(
    lan: Lan, kernel: KernelLink, seen: Events
) -> None:
    there, mac = lan.neighbour.ipr, "02:00:00:00:02:0a"
    await there.link("add", ifname="hot0", kind="veth", address=mac, peer={"ifname": "hot0-peer"})
    await there.link("set", index=await lan.neighbour.index("hot0-peer"), state="up")
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    await there.link("set", index=await lan.neighbour.index("hot0"), net_ns_fd=here)
    os.close(here)
    index = await lan.index("hot0")
    await seen.until(LinkChanged("hot0", LinkState("hot0", index, up=False, mac=mac)))
    await lan.set("hot0", ifname="net3")
    await lan.ipr.addr("add", index=index, address=str(PREFIXED), prefixlen=24)
    await lan.set("net3", state="up")
    told = LocalAddress(PREFIXED, 24, "net3")
    before = await seen.until(AddressCame(told))
    assert LinkChanged("hot0", None) in before
    await seen.until(LinkChanged("net3", LinkState("net3", index, up=True, mac=mac)))
    assert await listed(kernel, "net3") == [told]


async def test_after_a_rename_the_addresses_are_listed_under_the_new_name(
    lan: Lan, kernel: KernelLink, seen: Events
) -> None:
    await lan.add_address(str(PREFIXED), 24)
    await lan.set("net1", ifname="net7")
    await seen.until(LinkChanged("net7", LinkState("net7", await lan.index("net7"), up=True, mac=MAC)))
    assert await listed(kernel, "net7") == [LocalAddress(PREFIXED, 24, "net7")]
    await lan.ipr.addr("del", index=await lan.index("net7"), address=str(PREFIXED), prefixlen=24)
    assert await seen.next_but_arrivals() == AddressGone(PREFIXED, "net7")
