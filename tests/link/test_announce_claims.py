"""Who else says that a VIP is his: real frames on a cable, by the kernel, by hand and by scapy."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest
from link_lan import EACH_FAMILY, MAC, V4, V6, Lan

from vipd.announce import claims as claims_module
from vipd.announce import wire
from vipd.announce.claims import BATCH, MACS, REPEAT_S, PacketClaims
from vipd.announce.frames import announcement
from vipd.announce.packet import PacketAnnouncer
from vipd.core.model import AddressClaim, LinkState, Vip
from vipd.errors import AnnounceError
from vipd.lab.netns import Namespace
from vipd.link.kernel import KernelLink

OTHER_MAC = "02:00:00:00:01:0b"
THIRD_MAC = "02:00:00:00:01:0c"
BOTH = [V4, V6]
EVERYBODY = b"\xff" * 6


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def arp(operation: int, mac: str, sender: str, *, to: bytes = EVERYBODY, source: str = "", target: str = "") -> bytes:
    addresses = [raw(mac), ip_address(sender).packed, bytes(6), ip_address(target or sender).packed]
    return to + raw(source or mac) + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, operation) + b"".join(addresses)


def advertisement(*, source: str, option: str = "", hop_limit: int = 255, target: str = str(V6.address)) -> bytes:
    """By scapy, so that the reader's checksums and offsets are not checked against its own mistakes."""
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
    from scapy.layers.l2 import Ether

    packet = Ether(src=source, dst="33:33:00:00:00:01") / IPv6(src="fe80::b", dst="ff02::1", hlim=hop_limit)
    packet = packet / ICMPv6ND_NA(R=0, S=0, O=1, tgt=target)
    return bytes(packet / ICMPv6NDOptDstLLAddr(lladdr=option) if option else packet)


class Voice:
    """The neighbour's raw socket."""

    def __init__(self, place: Namespace) -> None:
        self.sock = place.open(socket.AF_PACKET, socket.SOCK_RAW)
        self.index = place.run(lambda: socket.if_nametoindex("net1"))

    def say(self, *frames: bytes) -> None:
        for frame in frames:
            self.sock.sendto(frame, ("net1", 0))


@pytest.fixture
def voice(lan: Lan) -> Iterator[Voice]:
    it = Voice(lan.neighbour)
    yield it
    it.sock.close()


async def link_of(kernel: KernelLink, name: str = "net1") -> LinkState:
    link = await kernel.link(name)
    assert link is not None
    return link


class Heard:
    """Claims as they come."""

    def __init__(self) -> None:
        self.claims: list[AddressClaim] = []
        self.came = asyncio.Event()

    async def listen(self, stream: AsyncIterator[AddressClaim]) -> None:
        async for claim in stream:
            self.claims.append(claim)
            self.came.set()

    async def until(self, wanted: AddressClaim, within_s: float = 3.0) -> list[AddressClaim]:
        """All claims before the one wanted."""
        async with asyncio.timeout(within_s):
            while wanted not in self.claims:
                self.came.clear()
                await self.came.wait()
        return self.claims[: self.claims.index(wanted)]


@asynccontextmanager
async def listening(link: LinkState, vips: list[Vip] = BOTH) -> AsyncIterator[Heard]:
    heard = Heard()
    async with aclosing(PacketClaims().listen(vips, link)) as stream:
        task = asyncio.create_task(heard.listen(stream))
        await asyncio.sleep(0.01)  # sockets are open after the first turn of the loop
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def claim_of(vip: Vip, mac: str = OTHER_MAC) -> AddressClaim:
    return AddressClaim(address=vip.address, interface="net1", mac=mac)


LAST = claim_of(V4, "02:00:00:00:01:ff")


async def before_last(voice: Voice, heard: Heard) -> list[AddressClaim]:
    """What was claimed up to now; told by a claim that is sure to be heard."""
    await asyncio.sleep(0.05)
    voice.say(arp(1, LAST.mac, str(V4.address)))
    return await heard.until(LAST)


# ---------------------------------------------------------------------------------------------- claims


@EACH_FAMILY
async def test_an_announcement_by_another_mac_is_a_claim(lan: Lan, kernel: KernelLink, voice: Voice, vip: Vip) -> None:
    async with listening(await link_of(kernel)) as heard:
        voice.say(*announcement(vip.address, OTHER_MAC))
        assert await before_last(voice, heard) == [claim_of(vip)]


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
async def test_ordinary_arp_from_the_vip_is_a_claim(lan: Lan, kernel: KernelLink, voice: Voice, operation: int) -> None:
    async with listening(await link_of(kernel)) as heard:
        voice.say(arp(operation, OTHER_MAC, str(V4.address), to=raw(MAC), target="10.0.1.11"))
        assert await before_last(voice, heard) == [claim_of(V4)]


async def test_an_advertisement_without_option_is_its_senders_claim(lan: Lan, kernel: KernelLink, voice: Voice) -> None:
    async with listening(await link_of(kernel)) as heard:
        voice.say(advertisement(source=OTHER_MAC), advertisement(source=OTHER_MAC, option=THIRD_MAC))
        assert await before_last(voice, heard) == [claim_of(V6), claim_of(V6, THIRD_MAC)]


async def test_a_kernel_that_resolves_others_from_the_vip_claims_it(lan: Lan, kernel: KernelLink) -> None:
    place = lan.neighbour
    index = await place.index("net1")
    await place.ipr.link("set", index=index, address=OTHER_MAC)
    await place.ipr.addr("add", index=index, address=str(V4.address), prefixlen=24)
    async with listening(await link_of(kernel)) as heard:
        with place.open(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"who has it?", ("10.0.1.11", 9))
        await heard.until(claim_of(V4))


async def test_what_is_no_claim_is_not_heard(lan: Lan, kernel: KernelLink, voice: Voice) -> None:
    truth = arp(2, OTHER_MAC, str(V4.address))
    good = advertisement(source=OTHER_MAC, option=OTHER_MAC)
    tagged = truth[:12] + b"\x81\x00\x00\x07" + truth[12:]
    no_claims = {
        "an ARP probe": arp(1, OTHER_MAC, "0.0.0.0", target=str(V4.address)),
        "a question for the VIP": arp(1, OTHER_MAC, "10.0.1.11", target=str(V4.address)),
        "another address": arp(2, OTHER_MAC, "10.0.1.101"),
        "own frames": arp(1, MAC, str(V4.address)),
        "own MAC, rewritten on the way": arp(1, MAC, str(V4.address), source=OTHER_MAC),
        "for another host": arp(2, OTHER_MAC, str(V4.address), to=raw(THIRD_MAC)),
        "of another VLAN": tagged,
        "another kind of address": truth[:14] + b"\0\6" + truth[16:],
        "an operation that is neither": arp(8, OTHER_MAC, str(V4.address)),
        "an advertisement of another": advertisement(source=OTHER_MAC, target="fd00:10:0:1::101"),
        "own advertisement": advertisement(source=MAC, option=MAC),
        "own advertisement, rewritten": advertisement(source=OTHER_MAC, option=MAC),
        "an advertisement that was forwarded": advertisement(source=OTHER_MAC, hop_limit=254),
        "a wrong checksum": good[:56] + bytes([good[56] ^ 1]) + good[57:],
        "a solicitation": wire.question(V6.address, mac=raw(OTHER_MAC), sender=None),
    }
    async with listening(await link_of(kernel)) as heard:
        for frame in no_claims.values():
            voice.say(frame)
        assert await before_last(voice, heard) == []


@EACH_FAMILY
async def test_own_announcements_are_no_claims_also_when_a_bridge_brings_them_back(
    lan: Lan, kernel: KernelLink, voice: Voice, vip: Vip
) -> None:
    link = await link_of(kernel)
    announcer = PacketAnnouncer()
    await _loop_back(lan.neighbour)
    with lan.neighbour.run(lambda: _sniffer("net1")) as wire_end:
        async with listening(link) as heard:
            announcer.announce(vip, link)
            announcer.close()
            await asyncio.sleep(0.05)
            returned = [where[2] for where in _drain(wire_end, vip) if where[2] == socket.PACKET_OUTGOING]
            assert returned, "the bridge did not bring the frames back: this test shows nothing"
            await lan.neighbour.ipr.link("set", index=await lan.neighbour.index("net1"), master=0)
            assert await before_last(voice, heard) == []


async def _loop_back(place: Namespace) -> None:
    """A bridge in hairpin mode: what comes in at the port goes out there, too."""
    await place.ipr.link("add", ifname="br0", kind="bridge")
    bridge, port = await place.index("br0"), await place.index("net1")
    await place.ipr.link("set", index=bridge, state="up")
    await place.ipr.link("set", index=port, master=bridge)
    await place.ipr.brport("set", index=port, mode=1)
    async with asyncio.timeout(3):
        while (await place.ipr.link("get", index=bridge))[0].get("operstate") != "UP":
            await asyncio.sleep(0.02)


def _sniffer(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
    sock.bind((name, 3))
    return sock


def _drain(sock: socket.socket, vip: Vip) -> list[tuple[object, ...]]:
    found = []
    while True:
        try:
            frame, where = sock.recvfrom(2048)
        except BlockingIOError:
            return found
        if vip.address.packed in frame:
            found.append(where)


async def test_truncated_and_malformed_frames_are_ignored() -> None:
    frames = [arp(2, OTHER_MAC, str(V4.address)), advertisement(source=OTHER_MAC, option=OTHER_MAC)]
    for frame in frames:
        assert wire.read(frame) is not None
        assert wire.read(frame + bytes(18)) == wire.read(frame), "padding to the least length of a frame"
        assert [n for n in range(len(frame)) if wire.read(frame[:n]) is not None] == []
        for place in range(len(frame)):
            wire.read(frame[:place] + b"\xff\xff" + frame[place + 2 :])  # never raises
    no_length = frames[1][:79] + b"\0" + frames[1][80:]
    assert wire.read(no_length) is None


# ----------------------------------------------------------------------------------------------- storms


async def test_a_storm_neither_holds_up_the_loop_nor_yields_a_claim_for_each_frame(
    lan: Lan, kernel: KernelLink, voice: Voice
) -> None:
    frame = arp(2, OTHER_MAC, str(V4.address))
    late: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - before)

    async with listening(await link_of(kernel)) as heard:
        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        await asyncio.to_thread(voice.say, *[frame] * 10_000)
        await heard.until(claim_of(V4))
        ticking.cancel()
        lasted = time.monotonic() - began
        assert len(heard.claims) <= 1 + lasted / REPEAT_S
        assert max(late, default=0) < 1.0


async def test_a_storm_from_ever_new_macs_is_bounded_too(lan: Lan, kernel: KernelLink, voice: Voice) -> None:
    frames = [arp(1, f"02:00:00:01:{n >> 8:02x}:{n & 0xFF:02x}", str(V4.address)) for n in range(10_000)]
    async with listening(await link_of(kernel)) as heard:
        began = time.monotonic()
        await asyncio.to_thread(voice.say, *frames)
        await asyncio.sleep(0.1)
        lasted = time.monotonic() - began
        assert MACS <= len(heard.claims) <= MACS * (1 + lasted / REPEAT_S)


async def test_a_claim_that_lasts_is_told_again(lan: Lan, kernel: KernelLink, voice: Voice) -> None:
    async with listening(await link_of(kernel)) as heard:
        async with asyncio.timeout(5):
            while len(heard.claims) < 2:
                voice.say(arp(1, OTHER_MAC, str(V4.address)))
                await asyncio.sleep(0.05)
        assert heard.claims[:2] == [claim_of(V4)] * 2


async def test_one_wake_up_reads_no_more_than_a_batch(lan: Lan, kernel: KernelLink, voice: Voice) -> None:
    [sock] = claims_module._sockets(await link_of(kernel), [V4.address])
    with sock:
        voice.say(*[arp(2, OTHER_MAC, str(V4.address))] * (2 * BATCH))
        await asyncio.sleep(0.05)
        assert [len(claims_module._take(sock)) for _ in range(3)] == [BATCH, BATCH, 0]


async def test_a_claim_that_is_not_taken_does_not_turn_the_loop(lan: Lan, kernel: KernelLink, voice: Voice) -> None:
    async with aclosing(PacketClaims().listen(BOTH, await link_of(kernel))) as stream:
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        voice.say(arp(1, OTHER_MAC, str(V4.address)))
        assert await first == claim_of(V4)
        voice.say(arp(1, OTHER_MAC, str(V4.address)))
        used = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - used < 0.15


# ------------------------------------------------------------------------------------------------ trouble


@pytest.mark.parametrize("trouble", ["down", "gone"])
async def test_listening_ends_with_an_error_when_the_interface_goes(lan: Lan, kernel: KernelLink, trouble: str) -> None:
    async with aclosing(PacketClaims().listen(BOTH, await link_of(kernel))) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        await (lan.set("net1", state="down") if trouble == "down" else lan.delete())
        with pytest.raises(AnnounceError, match=r"cannot listen for claims on net1: (ENETDOWN|ENODEV)"):
            async with asyncio.timeout(3):
                await waiting


async def test_an_interface_that_is_not_there_or_another_or_no_ethernet_is_refused(
    lan: Lan, kernel: KernelLink
) -> None:
    link = await link_of(kernel)
    wrong = {
        "ENODEV": replace(link, name="net7"),
        "ENODEV, net1 is another interface by now": replace(link, index=link.index + 40),
        "no Ethernet address": replace(link, mac=""),
    }
    for words, one in wrong.items():
        with pytest.raises(AnnounceError, match=words):
            await anext(PacketClaims().listen([V4], one))
        with pytest.raises(AnnounceError, match=words):
            await PacketClaims().anybody(V4, one)


async def test_closing_the_generator_closes_its_sockets(lan: Lan, kernel: KernelLink) -> None:
    before = _packet_sockets()
    async with listening(await link_of(kernel)):
        assert _packet_sockets() == before + 2
    assert _packet_sockets() == before


def _packet_sockets() -> int:
    with open("/proc/thread-self/net/packet") as file:
        return len(file.readlines())
