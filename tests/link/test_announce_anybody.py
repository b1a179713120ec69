"""Asking the link whether somebody bears the VIP: real kernels answer, or nobody does."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest
from link_lan import EACH_FAMILY, MAC, V4, V6, Lan

from vipd.announce import wire
from vipd.announce.claims import PacketClaims
from vipd.announce.frames import announcement
from vipd.core.model import LinkState, Vip
from vipd.errors import AnnounceError
from vipd.lab.netns import Namespace
from vipd.link.kernel import KernelLink

OTHER_MAC = "02:00:00:00:01:0b"
NO_DAD = 0x02


async def link_of(kernel: KernelLink) -> LinkState:
    link = await kernel.link("net1")
    assert link is not None
    return link


async def bear(place: Namespace, vip: Vip) -> None:
    flags = {"flags": NO_DAD} if vip.address.version == 6 else {}
    index = await place.index("net1")
    await place.ipr.addr("add", index=index, address=str(vip.address), prefixlen=vip.prefixlen, **flags)


async def link_local() -> None:
    """Wait until the interface here has an IPv6 link-local address that is ready for use."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        async with asyncio.timeout(5):
            while sock.connect_ex(("ff02::1", 9, 0, socket.if_nametoindex("net1"))) == errno.EADDRNOTAVAIL:
                await asyncio.sleep(0.02)


@pytest.fixture
def wire_end(lan: Lan) -> Iterator[socket.socket]:
    """Everything at the neighbour's end."""

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
        sock.bind(("net1", 3))
        return sock

    with lan.neighbour.run(bound) as sock:
        yield sock


def questions(sock: socket.socket, vip: Vip) -> list[bytes]:
    """Frames that arrived there and ask for the VIP."""
    found = []
    while True:
        try:
            frame, where = sock.recvfrom(2048)
        except BlockingIOError:
            return found
        asks = frame[12:14] == b"\x08\x06" or frame[54:55] == b"\x87"
        if where[2] != socket.PACKET_OUTGOING and asks and vip.address.packed in frame:
            found.append(frame)


@EACH_FAMILY
@pytest.mark.parametrize("own", [True, False], ids=["from its own address", "from nobody"])
async def test_a_kernel_that_bears_the_vip_is_found(lan: Lan, kernel: KernelLink, vip: Vip, own: bool) -> None:
    await _own_addresses(lan, own)
    await _same_mac(lan)
    await bear(lan.neighbour, vip)
    assert await PacketClaims().anybody(vip, await link_of(kernel))


async def _own_addresses(lan: Lan, own: bool) -> None:
    if own:
        await lan.add_address("10.0.1.11", 24)
        await link_local()
    else:
        await lan.ipr.flush_addr(index=await lan.index(), family=socket.AF_INET6)


async def _same_mac(lan: Lan) -> None:
    """As ipvlan siblings have it, though not by ipvlan."""
    await lan.neighbour.ipr.link("set", index=await lan.neighbour.index("net1"), address=MAC)


@EACH_FAMILY
async def test_the_vpc_that_answers_for_every_address_with_another_mac_bears_nothing(
    lan: Lan, kernel: KernelLink, vip: Vip
) -> None:
    await lan.add_address("10.0.1.11", 24)
    await bear(lan.neighbour, vip)
    assert not await PacketClaims().anybody(vip, await link_of(kernel))


@EACH_FAMILY
async def test_nobody_is_found_after_three_questions(
    lan: Lan, kernel: KernelLink, wire_end: socket.socket, vip: Vip
) -> None:
    await lan.add_address("10.0.1.11", 24)
    await bear(lan.neighbour, replace(vip, address=vip.address + 1))
    link, began = await link_of(kernel), time.monotonic()
    assert not await PacketClaims().anybody(vip, link)
    assert time.monotonic() - began >= 0.3
    await asyncio.sleep(0.05)
    assert len(questions(wire_end, vip)) == 3


@EACH_FAMILY
async def test_bearing_the_vip_oneself_is_no_answer_and_one_does_not_ask_as_the_vip(
    lan: Lan, kernel: KernelLink, wire_end: socket.socket, vip: Vip
) -> None:
    await kernel.put(vip, valid_s=30)
    assert not await PacketClaims().anybody(vip, await link_of(kernel))
    asked = questions(wire_end, vip)
    assert len(asked) == 3
    assert [frame.count(vip.address.packed) for frame in asked] == [1] * 3


async def test_the_question_bears_the_interfaces_own_address(
    lan: Lan, kernel: KernelLink, wire_end: socket.socket
) -> None:
    await lan.add_address("10.0.1.11", 24)
    await link_local()
    link = await link_of(kernel)
    assert not await PacketClaims().anybody(V4, link)
    assert {frame[28:32] for frame in questions(wire_end, V4)} == {ip_address("10.0.1.11").packed}
    assert not await PacketClaims().anybody(V6, link)
    assert {frame[22:24] for frame in questions(wire_end, V6)} == {b"\xfe\x80"}


async def test_without_an_address_of_its_own_nobody_asks(lan: Lan, kernel: KernelLink, wire_end: socket.socket) -> None:
    await lan.ipr.flush_addr(index=await lan.index(), family=socket.AF_INET6)
    for vip, where in ((V4, slice(28, 32)), (V6, slice(22, 38))):
        assert not await PacketClaims().anybody(vip, await link_of(kernel))
        assert [set(frame[where]) for frame in questions(wire_end, vip)] == [{0}] * 3


@EACH_FAMILY
@pytest.mark.parametrize("sender", [True, False], ids=["from somebody", "from nobody"])
def test_questions_are_as_scapy_understands_them(vip: Vip, sender: bool) -> None:
    from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
    from scapy.layers.l2 import ARP, Ether

    own = {4: ip_address("10.0.1.11"), 6: ip_address("fe80::b")}[vip.address.version] if sender else None
    frame = wire.question(vip.address, mac=bytes.fromhex(MAC.replace(":", "")), sender=own)
    read = Ether(frame)
    assert read.src == MAC
    if vip.address.version == 4:
        said = read[ARP]
        assert (said.op, said.hwsrc, said.psrc, said.pdst) == (1, MAC, str(own or "0.0.0.0"), str(vip.address))
        assert read.dst == "ff:ff:ff:ff:ff:ff"
    else:
        said = read[ICMPv6ND_NS]
        assert (read[IPv6].src, read[IPv6].dst, said.tgt) == (str(own or "::"), "ff02::1:ff00:100", str(vip.address))
        assert (read.dst, read[IPv6].hlim) == ("33:33:ff:00:01:00", 255)
        assert (said.payload.lladdr == MAC) if sender else ICMPv6NDOptSrcLLAddr not in read
        written = said.cksum
        del said.cksum
        assert Ether(bytes(read))[ICMPv6ND_NS].cksum == written


@asynccontextmanager
async def saying(place: Namespace, frame: bytes) -> AsyncIterator[None]:
    """Somebody sends the frame again and again."""

    async def say() -> None:
        with place.open(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            while True:
                sock.sendto(frame, ("net1", 0))
                await asyncio.sleep(0.03)

    task = asyncio.create_task(say())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@EACH_FAMILY
async def test_who_announces_the_vip_meanwhile_bears_it(lan: Lan, kernel: KernelLink, vip: Vip) -> None:
    async with saying(lan.neighbour, announcement(vip.address, MAC)[0]):
        assert await PacketClaims().anybody(vip, await link_of(kernel))


async def test_who_only_asks_for_the_vip_too_does_not_bear_it(lan: Lan, kernel: KernelLink) -> None:
    other = bytes.fromhex(OTHER_MAC.replace(":", ""))
    async with saying(lan.neighbour, wire.question(V4.address, mac=other, sender=None)):
        assert not await PacketClaims().anybody(V4, await link_of(kernel))


@EACH_FAMILY
async def test_an_interface_that_is_down_is_an_error(lan: Lan, kernel: KernelLink, vip: Vip) -> None:
    link = await link_of(kernel)
    await lan.set("net1", state="down")
    with pytest.raises(AnnounceError, match=r"cannot ask for .*: ENETDOWN"):
        await PacketClaims().anybody(vip, link)
