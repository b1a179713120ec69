"""Links and what happens to them, as the kernel tells it."""

from __future__ import annotations

import threading
from contextlib import aclosing

from link_lan import MAC, V4, Events, Lan
from pyroute2 import IPRoute

from vipd.core.model import LinkState
from vipd.core.ports import AddressGone, LinkChanged, MonitorResync
from vipd.link.kernel import KernelLink
from vipd.link.monitor import LinkMonitor


async def test_a_veth_with_both_ends_up_is_up(lan: Lan, kernel: KernelLink) -> None:
    assert await kernel.link("net1") == LinkState(name="net1", index=await lan.index(), up=True, mac=MAC)


async def test_an_interface_that_is_set_down_is_down(lan: Lan, kernel: KernelLink) -> None:
    await lan.set("net1", state="down")
    link = await kernel.link("net1")
    assert link is not None
    assert link.up is False


async def test_an_interface_without_carrier_is_down(lan: Lan, kernel: KernelLink) -> None:
    await lan.neighbour.ipr.link("set", index=await lan.neighbour.index("net1"), state="down")
    link = await kernel.link("net1")
    assert link is not None
    assert link.up is False


async def test_an_unknown_operational_state_with_carrier_is_up(lan: Lan, kernel: KernelLink) -> None:
    link = await kernel.link("lo")
    assert link is not None
    assert link.up is True


async def test_a_macvlan_is_up_and_goes_down_with_its_parent(lan: Lan, kernel: KernelLink) -> None:
    await lan.ipr.link("add", ifname="mv0", kind="macvlan", link=await lan.index(), macvlan_mode="bridge")
    await lan.set("mv0", state="up")
    up = await kernel.link("mv0")
    await lan.set("net1", state="down")
    down = await kernel.link("mv0")
    assert (up and up.up, down and down.up) == (True, False)


async def test_there_is_no_link_of_another_name(lan: Lan, kernel: KernelLink) -> None:
    await lan.ipr.link("property_add", index=await lan.index(), altname="other-name")
    assert await kernel.link("other-name") is None
    assert await kernel.link("net9") is None
    assert await kernel.link("a-name-that-no-interface-can-have") is None


async def test_the_first_event_is_a_resync(events: Events) -> None:
    assert await events.next() == MonitorResync()


async def test_an_address_that_somebody_deletes_is_told(lan: Lan, kernel: KernelLink, events: Events) -> None:
    await events.until(MonitorResync)
    await kernel.put(V4, valid_s=30)
    await lan.delete_address(str(V4.address), V4.prefixlen)
    assert await events.next_but_arrivals() == AddressGone(address=V4.address, interface="net1")


async def test_down_and_up_are_told(lan: Lan, events: Events) -> None:
    await events.until(MonitorResync)
    index = await lan.index()
    await lan.set("net1", state="down")
    await events.until(LinkChanged(name="net1", link=LinkState("net1", index, up=False, mac=MAC)))
    await lan.set("net1", state="up")
    await events.until(LinkChanged(name="net1", link=LinkState("net1", index, up=True, mac=MAC)))


async def test_lost_carrier_is_told(lan: Lan, events: Events) -> None:
    await events.until(MonitorResync)
    await lan.neighbour.ipr.link("set", index=await lan.neighbour.index("net1"), state="down")
    await events.until(LinkChanged(name="net1", link=LinkState("net1", await lan.index(), up=False, mac=MAC)))


async def test_deletion_with_its_addresses_and_creation_anew_are_told(
    lan: Lan, kernel: KernelLink, events: Events
) -> None:
    await kernel.put(V4, valid_s=30)
    await events.until(MonitorResync)
    await lan.delete()
    seen = await events.until(LinkChanged(name="net1", link=None))
    assert AddressGone(address=V4.address, interface="net1") in seen
    await lan.create("net1")
    await events.until(LinkChanged(name="net1", link=LinkState("net1", await lan.index(), up=True, mac=MAC)))


async def test_a_rename_is_a_departure_and_an_arrival(lan: Lan, events: Events) -> None:
    await events.until(MonitorResync)
    index = await lan.index()
    await lan.set("net1", ifname="net7")
    assert await events.next_but_arrivals() == LinkChanged(name="net1", link=None)
    assert await events.next_but_arrivals() == LinkChanged(name="net7", link=LinkState("net7", index, up=True, mac=MAC))


async def test_moving_to_another_namespace_is_a_departure(lan: Lan, events: Events) -> None:
    await lan.create("net2")
    await events.until(MonitorResync)
    await lan.set("net2", net_ns_fd=lan.neighbour.path)
    await events.until(LinkChanged(name="net2", link=None))


async def test_leaving_a_bridge_is_no_departure(lan: Lan, events: Events) -> None:
    await lan.ipr.link("add", ifname="br0", kind="bridge")
    await lan.set("net1", master=await lan.index("br0"))
    await events.until(MonitorResync)
    await lan.set("net1", master=0)
    await lan.set("net1", state="down")
    seen = await events.until(LinkChanged(name="net1", link=LinkState("net1", await lan.index(), up=False, mac=MAC)))
    assert LinkChanged(name="net1", link=None) not in seen


async def test_a_change_that_changes_nothing_is_not_told(lan: Lan, events: Events) -> None:
    await events.until(MonitorResync)
    await lan.set("net1", mtu=1400)
    await lan.set("net1", state="down")
    event = await events.next_but_arrivals()
    assert isinstance(event, LinkChanged)
    assert event.link is not None
    assert event.link.up is False


def _flood(index: int) -> None:
    with IPRoute() as ipr:
        for number in range(150):
            address = f"10.9.{number % 200}.1"
            ipr.addr("add", index=index, address=address, prefixlen=32)
            ipr.addr("del", index=index, address=address, prefixlen=32)


async def test_lost_events_are_answered_with_a_resync_and_the_monitor_goes_on(lan: Lan, kernel: KernelLink) -> None:
    index = await lan.index()
    await kernel.put(V4, valid_s=30)
    async with aclosing(LinkMonitor(rcvbuf=4096).events()) as stream:
        events = Events(stream)
        assert await events.next() == MonitorResync()
        flood = threading.Thread(target=_flood, args=(index,))
        flood.start()
        flood.join()  # the loop stands still, as under a load that keeps it from reading
        await events.until(MonitorResync)
        await lan.delete_address(str(V4.address), V4.prefixlen)
        await events.until(AddressGone(address=V4.address, interface="net1"))
