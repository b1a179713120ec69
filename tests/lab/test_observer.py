"""The observer against a real kernel: who bears which VIP from when to when, and which frames claim one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address

import pytest
from pyroute2 import IPRoute

from vipd.announce.frames import announcement
from vipd.errors import VipdError
from vipd.lab.netns import Namespace, join
from vipd.lab.observer import Observer, claimed
from vipd.lab.vpc import boottime

VIP4, VIP6 = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")
MAC = "02:00:00:00:01:0a"
LO = 1


class Wire:
    """A node with the interface net1, plugged into the fabric's port p-a, and an observer of both."""

    def __init__(self) -> None:
        self.fabric, self.node = Namespace("fabric"), Namespace("a")
        self.observer = Observer([VIP4, VIP6])

    async def start(self) -> None:
        await self.fabric.start()
        await self.node.start()
        self.port, self.net1 = await join(self.fabric, "p-a", self.node, "net1", other_mac=MAC)

    async def watched(self) -> None:
        """Until the observer hears: a VIP that comes is seen, and goes again."""
        self.observer.watch_addresses("a", self.node)
        await self.add(VIP6, interface=LO)
        await eventually(lambda: self.observer.bearing("a", VIP6) is not None)
        await self.remove(VIP6, interface=LO)
        await eventually(lambda: self.observer.bearing("a", VIP6) is None)
        self.observer.bearings.clear()

    async def add(self, address: object, *, interface: int = 0, verb: str = "add", **options: object) -> None:
        length = 128 if ":" in str(address) else 32
        index = interface or self.net1
        await self.node.ipr.addr(verb, index=index, address=str(address), prefixlen=length, **options)

    async def remove(self, address: object, *, interface: int = 0) -> None:
        length = 128 if ":" in str(address) else 32
        await self.node.ipr.addr("del", index=interface or self.net1, address=str(address), prefixlen=length)

    def send(self, *frames: bytes) -> None:
        with self.node.open(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("net1", 0))
            for frame in frames:
                sock.send(frame)

    async def close(self) -> None:
        await self.observer.close()
        await self.node.close()
        await self.fabric.close()


async def eventually(true: Callable[[], bool], *, within_s: float = 5.0) -> None:
    deadline = boottime() + within_s
    while not true():
        assert boottime() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    await wire.start()
    yield wire
    await wire.close()


async def test_an_address_is_borne_from_the_moment_it_comes_to_the_moment_it_goes(wire: Wire) -> None:
    await wire.watched()
    before = boottime()
    await wire.add(VIP4)
    await eventually(lambda: wire.observer.bears("a"))
    between = boottime()
    await wire.remove(VIP4)
    await eventually(lambda: not wire.observer.bears("a"))
    after = boottime()

    (bearing,) = wire.observer.bearings
    assert (bearing.node, bearing.address) == ("a", VIP4)
    assert bearing.until is not None
    assert before <= bearing.since <= between <= bearing.until <= after


async def test_what_a_node_bears_already_is_seen_too(wire: Wire) -> None:
    await wire.add(VIP4)
    await wire.add(VIP6, flags=0x02)
    wire.observer.watch_addresses("a", wire.node)

    await eventually(lambda: all(wire.observer.bearing("a", vip) for vip in (VIP4, VIP6)))


async def test_an_address_that_outlives_its_lifetime_ends_by_the_kernels_hand(wire: Wire) -> None:
    await wire.watched()
    await wire.add(VIP4, IFA_CACHEINFO={"ifa_preferred": 1, "ifa_valid": 1})
    await eventually(lambda: wire.observer.bears("a"))
    await eventually(lambda: not wire.observer.bears("a"))

    (bearing,) = wire.observer.bearings
    assert bearing.until is not None
    assert 0.8 < bearing.until - bearing.since < 2.5


async def test_refreshing_and_moving_an_address_does_not_interrupt_it(wire: Wire) -> None:
    await wire.watched()
    await wire.add(VIP4, IFA_CACHEINFO={"ifa_preferred": 60, "ifa_valid": 60})
    await wire.add(VIP4, verb="replace", IFA_CACHEINFO={"ifa_preferred": 90, "ifa_valid": 90})
    await wire.add(VIP4, interface=LO)
    await wire.remove(VIP4)
    # The next event of the stream shows that the ones before have been read.
    await wire.add(VIP6, flags=0x02)
    await eventually(lambda: wire.observer.bearing("a", VIP6) is not None)

    (four,) = (b for b in wire.observer.bearings if b.address == VIP4)
    assert four.until is None


async def test_addresses_that_are_no_vips_are_nobodys_business(wire: Wire) -> None:
    await wire.watched()
    await wire.add("10.0.1.11")
    await wire.add(VIP4)
    await eventually(lambda: wire.observer.bears("a"))

    assert [b.address for b in wire.observer.bearings] == [VIP4]


async def test_a_node_that_lost_power_bears_nothing_and_may_bear_again(wire: Wire) -> None:
    await wire.watched()
    await wire.add(VIP4)
    await eventually(lambda: wire.observer.bears("a"))
    wire.observer.lost_power("a")
    assert not wire.observer.bears("a")

    await wire.remove(VIP4)
    await wire.add(VIP4)
    await eventually(lambda: wire.observer.bears("a"))
    assert [b.until is None for b in wire.observer.bearings] == [False, True]


async def test_an_observer_that_lost_events_says_so_rather_than_report_nothing(wire: Wire) -> None:
    await wire.watched()

    def flood() -> None:
        with IPRoute(netns=wire.node.path) as kernel:
            for number in range(4000):
                address = f"172.16.{number // 250}.{number % 250 + 1}"
                kernel.addr("add", index=wire.net1, address=address, prefixlen=32)

    flooder = threading.Thread(target=flood)
    flooder.start()
    # Holds up the loop that reads, as an overloaded machine would, until the socket's buffer has overflowed.
    flooder.join(timeout=60)

    def blind() -> bool:
        try:
            wire.observer.bears("a")
        except VipdError as error:
            return "node a" in str(error)
        return False

    await eventually(blind)
    with pytest.raises(VipdError, match="no longer sees"):
        wire.observer.bearing("a", VIP4)


async def test_watching_does_not_tell_the_lab_to_end(wire: Wire) -> None:
    told: list[int] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.append, signal.SIGTERM)
    try:
        for number in range(20):
            wire.observer.watch_addresses(f"node {number}", wire.node)
        await wire.watched()
        await asyncio.sleep(0.2)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)

    assert told == []


async def test_announcements_are_told_by_kind_node_and_mac_and_nothing_else_is(wire: Wire) -> None:
    wire.observer.sniff("a", wire.fabric, "p-a")
    before = boottime()
    stranger = announcement(ip_address("10.0.1.50"), MAC)
    wire.send(*stranger, arp(1, "10.0.1.11", str(VIP4)), *announcement(VIP4, MAC), *announcement(VIP6, MAC))
    await eventually(lambda: len(wire.observer.announcements) >= 3)
    await asyncio.sleep(0.05)

    heard = wire.observer.announcements
    assert [(a.kind, a.address) for a in heard] == [("garp-request", VIP4), ("garp-reply", VIP4), ("na", VIP6)]
    assert {(a.node, a.mac) for a in heard} == {("a", MAC)}
    assert all(before <= a.at <= boottime() for a in heard)


async def test_announcements_are_heard_again_after_the_port_was_down(wire: Wire) -> None:
    wire.observer.sniff("a", wire.fabric, "p-a")
    await wire.fabric.ipr.link("set", index=wire.port, state="down")
    await asyncio.sleep(0.05)
    await wire.fabric.ipr.link("set", index=wire.port, state="up")

    def heard() -> bool:
        # The carrier needs a moment to come back; until then the node's interface refuses to send.
        with contextlib.suppress(OSError):
            wire.send(*announcement(VIP4, MAC))
        return bool(wire.observer.announcements)

    await eventually(heard)


async def test_what_the_fabric_itself_sends_is_no_announcement_of_the_node(wire: Wire) -> None:
    wire.observer.sniff("a", wire.fabric, "p-a")
    with wire.fabric.open(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("p-a", 0))
        for frame in announcement(VIP4, MAC):
            sock.send(frame)
    wire.send(*announcement(VIP6, MAC))
    await eventually(lambda: bool(wire.observer.announcements))

    assert {a.kind for a in wire.observer.announcements} == {"na"}


def arp(operation: int, sender: str, target: str) -> bytes:
    mac = bytes.fromhex(MAC.replace(":", ""))
    body = operation.to_bytes(2, "big") + mac + ip_address(sender).packed + bytes(6) + ip_address(target).packed
    return b"\xff" * 6 + mac + bytes.fromhex("0806000108000604") + body


def na(flags: int, target: str, kind: int = 136) -> bytes:
    ethernet = bytes.fromhex("333300000001") + bytes.fromhex(MAC.replace(":", "")) + b"\x86\xdd"
    header = bytes.fromhex("6000000000183aff") + ip_address(target).packed + ip_address("ff02::1").packed
    return ethernet + header + bytes([kind, 0, 0, 0, flags, 0, 0, 0]) + ip_address(target).packed


@pytest.mark.parametrize(
    ("frame", "claim"),
    [
        (arp(1, "10.0.1.100", "10.0.1.100"), (VIP4, "garp-request")),
        (arp(2, "10.0.1.100", "10.0.1.100"), (VIP4, "garp-reply")),
        (arp(1, "10.0.1.100", "10.0.1.1"), None),
        (arp(1, "0.0.0.0", "10.0.1.100"), None),
        (arp(1, "10.0.1.100", "10.0.1.100")[:-1], None),
        (na(0x20, "fd00:10:0:1::100"), (VIP6, "na")),
        (na(0xA0, "fd00:10:0:1::100"), (VIP6, "na")),
        (na(0x60, "fd00:10:0:1::100"), None),
        (na(0x00, "fd00:10:0:1::100"), None),
        (na(0x20, "fd00:10:0:1::100", kind=135), None),
        (b"\xff" * 12 + b"\x08\x00" + bytes(60), None),
    ],
    ids=[
        "gratuitous request",
        "gratuitous reply",
        "ordinary request",
        "probe",
        "cut short",
        "unsolicited NA",
        "unsolicited NA of a router",
        "solicited NA",
        "NA without override",
        "solicitation",
        "IPv4 packet",
    ],
)
def test_only_a_gratuitous_arp_and_an_unsolicited_overriding_na_are_claims(frame: bytes, claim: object) -> None:
    assert claimed(frame) == claim
