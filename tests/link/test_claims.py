"""Who else claims a VIP on a link, and whether anybody answers for it: real frames over a veth pair."""

import asyncio
import socket
import time
from contextlib import aclosing
from ipaddress import ip_address

import pytest
from link_lan import EACH_FAMILY, MAC, V4, V6, Lan

from vipd.announce import bpf
from vipd.announce.claims import PacketClaims
from vipd.announce.frames import announcement
from vipd.announce.hearing import said
from vipd.announce.packet import PacketAnnouncer
from vipd.core.model import AddressClaim, LinkState
from vipd.errors import AnnounceError

RIVAL = "02:00:00:00:66:66"


def link(index: int = 2) -> LinkState:
    return LinkState(name="net1", index=index, up=True, mac=MAC)


class Neighbour:
    """Sends frames from the other end of the veth pair."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan

    async def __aenter__(self) -> "Neighbour":
        def bound() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sock.bind(("net1", 0))
            return sock

        self._sock = self._lan.neighbour.run(bound)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self._sock.send(frame)


async def heard(lan: Lan, *frames: bytes, within_s: float = 0.5) -> list[AddressClaim]:
    """What is heard when the neighbour sends these frames."""
    found: list[AddressClaim] = []

    async def listen() -> None:
        async with aclosing(PacketClaims().listen([V4, V6], link())) as claims:
            async for claim in claims:
                found.append(claim)

    listening = asyncio.create_task(listen())
    async with Neighbour(lan) as neighbour:
        await asyncio.sleep(0.1)
        neighbour.send(*frames)
        await asyncio.sleep(within_s)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    return found


@EACH_FAMILY
async def test_an_announcement_from_another_mac_is_a_claim(lan: Lan, vip) -> None:
    assert await heard(lan, *announcement(vip.address, RIVAL)) == [AddressClaim(vip.address, "net1", RIVAL)]


@EACH_FAMILY
async def test_frames_of_the_own_mac_are_no_claim_even_if_they_come_back(lan: Lan, vip) -> None:
    assert await heard(lan, *announcement(vip.address, MAC)) == []


@EACH_FAMILY
async def test_what_this_host_announces_itself_is_not_heard(lan: Lan, vip) -> None:
    async def own() -> None:
        announcer = PacketAnnouncer()
        announcer.announce(vip, LinkState(name="net1", index=await lan.index(), up=True, mac=RIVAL))
        announcer.close()

    quiet = asyncio.create_task(heard(lan))
    await asyncio.sleep(0.2)
    await own()
    assert await quiet == []


async def test_other_addresses_and_probes_are_no_claims(lan: Lan) -> None:
    from vipd.announce.asking import question

    probe = question(V4.address, mac=bytes.fromhex(RIVAL.replace(":", "")), sender=ip_address("0.0.0.0"))
    others = [f for a in ("10.0.1.99", "fd00:10:0:1::99") for f in announcement(ip_address(a), RIVAL)]
    assert await heard(lan, probe, *others) == []


async def test_an_advertisement_without_the_option_is_claimed_by_the_frames_source() -> None:
    (frame,) = announcement(V6.address, RIVAL)
    assert said(frame[:78], {V6.address}) == (V6.address, RIVAL)
    assert said(frame[:78] + b"\x02\x00" + bytes(6), {V6.address}) == (V6.address, RIVAL)


@EACH_FAMILY
def test_no_cut_or_changed_frame_makes_the_parser_raise(vip) -> None:
    frame = announcement(vip.address, RIVAL)[0]
    for length in range(len(frame)):
        for value in (0, 1, 255):
            at = max(0, length - 1)
            changed = frame[:at] + bytes([value]) + frame[at + 1 :]
            said(frame[:length], {vip.address})
            said(changed, {vip.address})
    assert said(frame[:40], {vip.address}) is None
    assert said(b"", {vip.address}) is None


async def test_an_advertisement_from_beyond_the_link_is_ignored() -> None:
    (frame,) = announcement(V6.address, RIVAL)
    assert said(frame[:21] + b"\xfe" + frame[22:], {V6.address}) is None


async def test_a_storm_of_claims_is_looked_at_five_times_a_second_and_leaves_the_loop_free(lan: Lan) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    found = await heard(lan, *announcement(V4.address, RIVAL) * 5000, within_s=1.0)
    turning.cancel()
    assert 1 <= len(found) <= 8
    assert turns > 20


async def test_the_filter_lets_nothing_through_but_frames_about_the_vips(lan: Lan) -> None:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    bpf.attach(sock, bpf.about([V4.address, V6.address, *(ip_address(f"10.9.0.{n}") for n in range(200))]))
    sock.bind(("net1", 0x0003))
    with sock:
        async with Neighbour(lan) as neighbour:
            neighbour.send(*announcement(ip_address("10.0.1.99"), RIVAL), bytes(60), b"\xff" * 60)
            neighbour.send(*announcement(V4.address, RIVAL), *announcement(V6.address, RIVAL))
            neighbour.send(*announcement(ip_address("10.9.0.199"), RIVAL))
            await asyncio.sleep(0.2)
        frames = []
        while True:
            try:
                frames.append(sock.recv(2048))
            except BlockingIOError:
                break
    spoken_for = {said(f, {V4.address, V6.address, ip_address("10.9.0.199")}) for f in frames}
    assert len(frames) == 5
    assert {address for address, _ in spoken_for} == {V4.address, V6.address, ip_address("10.9.0.199")}


async def test_a_link_that_goes_away_ends_the_listening_with_an_error_that_names_it(lan: Lan) -> None:
    async def listen() -> None:
        async with aclosing(PacketClaims().listen([V4], link())) as claims:
            async for _ in claims:
                pass

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.1)
    await lan.delete()
    with pytest.raises(AnnounceError, match="net1"):
        await asyncio.wait_for(listening, 5)


@EACH_FAMILY
async def test_a_neighbour_that_bears_the_address_is_found(lan: Lan, vip) -> None:
    # nodad, as vipd adds it: a tentative address answers nobody.
    index = await lan.neighbour.index("net1")
    flags = {"flags": 0x02} if vip.address.version == 6 else {}
    await lan.neighbour.ipr.addr("add", index=index, address=str(vip.address), prefixlen=vip.prefixlen, **flags)
    assert await PacketClaims().anybody(vip, link(await lan.index()))


@EACH_FAMILY
async def test_where_nobody_bears_the_address_three_questions_tell_so(lan: Lan, vip) -> None:
    started = time.monotonic()
    assert not await PacketClaims().anybody(vip, link(await lan.index()))
    assert time.monotonic() - started >= 0.29
