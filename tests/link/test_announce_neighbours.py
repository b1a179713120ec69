"""Announcements on the wire, and what real neighbours make of them."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from link_lan import EACH_FAMILY, MAC, V4, V6, Lan
from pyroute2 import AsyncIPRoute

from vipd.announce.frames import announcement
from vipd.announce.packet import PacketAnnouncer
from vipd.core.model import Address, LinkState, Vip
from vipd.errors import AnnounceError
from vipd.lab.netns import Namespace
from vipd.link.kernel import KernelLink

ETH_P_ALL = 0x0003
OTHER_MAC = "02:00:00:00:01:0b"
NEIGHBOUR_V4, NEIGHBOUR_V6 = "10.0.1.200", "fd00:10:0:1::200"


@pytest.fixture
def announcer() -> Iterator[PacketAnnouncer]:
    it = PacketAnnouncer()
    yield it
    it.close()


async def link_of(kernel: KernelLink) -> LinkState:
    link = await kernel.link("net1")
    assert link is not None
    return link


def sniffer(place: Namespace) -> socket.socket:
    """Everything that arrives at the neighbour's ``net1``."""

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.bind(("net1", ETH_P_ALL))
        sock.setblocking(False)
        return sock

    return place.run(bound)


async def received(sock: socket.socket, count: int, *, address: Address) -> list[bytes]:
    """The first ``count`` frames that bear ``address``."""
    loop, frames = asyncio.get_running_loop(), []
    async with asyncio.timeout(2):
        while len(frames) < count:
            frame = await loop.sock_recv(sock, 2048)
            if address.packed in frame:
                frames.append(frame)
    return frames


async def neighbour_says(place: Namespace, address: Address) -> str | None:
    """The MAC that the neighbour's kernel has for ``address``."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    found: list[Any] = [m async for m in await place.ipr.neigh("dump", family=family)]
    return next((m.get("lladdr") for m in found if m.get("dst") == str(address)), None)


async def resolve(place: Namespace, address: Address, wanted: str) -> None:
    """Have the neighbour's kernel find out where ``address`` is, by sending something there."""
    with place.open(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        async with asyncio.timeout(3):
            while await neighbour_says(place, address) != wanted:
                sock.sendto(b"anybody there?", (str(address), 9))
                await asyncio.sleep(0.02)


async def give_addresses(place: Namespace) -> None:
    index = await place.index("net1")
    await place.ipr.addr("add", index=index, address=NEIGHBOUR_V4, prefixlen=24)
    await place.ipr.addr("add", index=index, address=NEIGHBOUR_V6, prefixlen=64, flags=0x02)


@EACH_FAMILY
async def test_the_frames_arrive_as_they_were_built(
    lan: Lan, kernel: KernelLink, announcer: PacketAnnouncer, vip: Vip
) -> None:
    link = await link_of(kernel)
    await announcer.warm([vip], [link])
    with sniffer(lan.neighbour) as wire:
        announcer.announce(vip, link)
        frames = announcement(vip.address, MAC)
        assert await received(wire, len(frames), address=vip.address) == list(frames)


@EACH_FAMILY
async def test_a_neighbour_that_knew_another_owner_learns_the_new_one(
    lan: Lan, kernel: KernelLink, announcer: PacketAnnouncer, vip: Vip
) -> None:
    await give_addresses(lan.neighbour)
    await lan.add_address("10.0.1.11", 24)
    await lan.ipr.addr("add", index=await lan.index(), address="fd00:10:0:1::11", prefixlen=64, flags=0x02)
    await kernel.put(vip, valid_s=30)
    await resolve(lan.neighbour, vip.address, MAC)
    moved = replace(await link_of(kernel), mac=OTHER_MAC)
    await announcer.warm([vip], [moved])
    assert await neighbour_says(lan.neighbour, vip.address) == MAC
    announcer.announce(vip, moved)
    assert await neighbour_says(lan.neighbour, vip.address) == OTHER_MAC


async def test_a_socket_for_sending_keeps_no_copy_of_the_traffic(
    lan: Lan, kernel: KernelLink, announcer: PacketAnnouncer
) -> None:
    link = await link_of(kernel)
    announcer.announce(V4, link)
    with lan.neighbour.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as other:
        other.sendto(announcement(V4.address, OTHER_MAC)[0], ("net1", 0))
    [bound] = announcer._bound.values()
    with pytest.raises(BlockingIOError):
        bound.sock.recv(2048)


async def test_an_interface_that_is_down_is_told_and_announced_on_when_it_is_up_again(
    lan: Lan, kernel: KernelLink, announcer: PacketAnnouncer
) -> None:
    link = await link_of(kernel)
    announcer.announce(V4, link)
    await lan.set("net1", state="down")
    with pytest.raises(AnnounceError) as failure:
        announcer.announce(V4, link)
    assert f"cannot announce {V4} at {MAC} (interface index {link.index}): ENETDOWN" in str(failure.value)
    await lan.set("net1", state="up")
    with sniffer(lan.neighbour) as wire:
        announcer.announce(V4, link)
        await received(wire, 2, address=V4.address)


async def test_a_recreated_interface_is_announced_on(lan: Lan, kernel: KernelLink, announcer: PacketAnnouncer) -> None:
    link = await link_of(kernel)
    announcer.announce(V6, link)
    await lan.delete()
    with pytest.raises(AnnounceError, match="ENODEV"):
        announcer.announce(V6, link)
    peer = {"ifname": "net1", "net_ns_fd": lan.neighbour.path}
    await lan.ipr.link("add", ifname="net1", kind="veth", address=OTHER_MAC, peer=peer)
    await lan.set("net1", state="up")
    await lan.neighbour.ipr.link("set", index=await lan.neighbour.index("net1"), state="up")
    with sniffer(lan.neighbour) as wire:
        announcer.announce(V6, await link_of(kernel))
        assert await received(wire, 1, address=V6.address) == list(announcement(V6.address, OTHER_MAC))


async def test_announcing_to_a_full_interface_does_not_wait(
    lan: Lan, kernel: KernelLink, announcer: PacketAnnouncer
) -> None:
    link = await link_of(kernel)
    await lan.ipr.tc("add", "pfifo", await lan.index(), 0x10000, limit=0)  # a queue without room
    with pytest.raises(AnnounceError) as failure:
        announcer.announce(V4, link)
    cause = failure.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno in (errno.ENOBUFS, errno.EAGAIN)


async def test_an_interface_without_ethernet_address_is_refused(announcer: PacketAnnouncer) -> None:
    link = LinkState(name="tun0", index=3, up=True, mac="")
    await announcer.warm([replace(V4, interface="tun0")], [link])
    with pytest.raises(AnnounceError, match="tun0 has no Ethernet address"):
        announcer.announce(replace(V4, interface="tun0"), link)


async def test_frames_are_built_here_where_no_child_can(
    lan: Lan,
    kernel: KernelLink,
    announcer: PacketAnnouncer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = await link_of(kernel)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with caplog.at_level(logging.WARNING, "vipd.announce"):
        await announcer.warm([V4], [link])
    assert "could not build announcements in a child process" in caplog.text
    with sniffer(lan.neighbour) as wire:
        announcer.announce(V4, link)
        await received(wire, 2, address=V4.address)


@EACH_FAMILY
async def test_a_vip_that_moves_between_two_nodes_draws_the_clients_packets_with_it(
    lan: Lan, kernel: KernelLink, announcer: PacketAnnouncer, vip: Vip
) -> None:
    """Client and former owner on one bridge with this node: the next datagram after the announcement comes here."""
    client, former = lan.neighbour, await Namespace("former").start()
    try:
        await _bridge(client, former)
        await lan.add_address("10.0.1.11", 24)
        await lan.ipr.addr("add", index=await lan.index(), address="fd00:10:0:1::11", prefixlen=64, flags=0x02)
        await former.ipr.addr(
            "add", index=await former.index("net1"), address=str(vip.address), prefixlen=vip.prefixlen
        )
        await resolve(client, vip.address, OTHER_MAC)
        link = await link_of(kernel)
        await announcer.warm([vip], [link])
        await kernel.put(vip, valid_s=30)
        kind = socket.AF_INET if vip.address.version == 4 else socket.AF_INET6
        with socket.socket(kind, socket.SOCK_DGRAM) as here, client.open(kind, socket.SOCK_DGRAM) as there:
            here.bind((str(vip.address), 4711))
            here.setblocking(False)
            there.sendto(b"before", (str(vip.address), 4711))
            announcer.announce(vip, link)
            there.sendto(b"after", (str(vip.address), 4711))
            async with asyncio.timeout(1):
                assert await asyncio.get_running_loop().sock_recv(here, 100) == b"after"
        assert await neighbour_says(client, vip.address) == MAC
    finally:
        await former.close()


async def _bridge(client: Namespace, former: Namespace) -> None:
    """``br0`` in the client's namespace, with this node's cable and the former owner's plugged in."""
    ipr: AsyncIPRoute = client.ipr
    await ipr.link("add", ifname="br0", kind="bridge")
    await ipr.link(
        "add", ifname="other", kind="veth", peer={"ifname": "net1", "net_ns_fd": former.path, "address": OTHER_MAC}
    )
    bridge = await client.index("br0")
    for name in ("net1", "other"):
        await ipr.link("set", index=await client.index(name), master=bridge, state="up")
    await ipr.link("set", index=bridge, state="up")
    await former.ipr.link("set", index=await former.index("net1"), state="up")
    await former.ipr.addr("add", index=await former.index("net1"), address="10.0.1.12", prefixlen=24)
    await former.ipr.addr("add", index=await former.index("net1"), address="fd00:10:0:1::12", prefixlen=64, flags=0x02)
    await ipr.addr("add", index=bridge, address=NEIGHBOUR_V4, prefixlen=24)
    await ipr.addr("add", index=bridge, address=NEIGHBOUR_V6, prefixlen=64, flags=0x02)
