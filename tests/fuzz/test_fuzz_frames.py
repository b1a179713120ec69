"""Whatever is on the wire: a claim is heard only of a frame that claims a VIP, and never of one's own."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from ipaddress import ip_address

import pytest
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st

from vipd.announce import claims as claims_module
from vipd.announce import wire
from vipd.announce.bpf import advertisements_of, arp_from, attach
from vipd.announce.claims import MACS, PacketClaims
from vipd.announce.frames import announcement
from vipd.core.model import Address, AddressClaim, LinkState, Vip

V4, V6 = Vip(ip_address("10.0.1.100"), 32, "net1"), Vip(ip_address("fd00:10:0:1::100"), 128, "net1")
OWN, OTHER = "02:00:00:00:01:0a", "02:00:00:00:01:0b"
LINK = LinkState("net1", 7, True, OWN)
SEEDS = tuple(frame for vip in (V4, V6) for mac in (OWN, OTHER) for frame in announcement(vip.address, mac)) + tuple(
    wire.question(vip.address, mac=bytes.fromhex(mac.replace(":", "")), sender=sender)
    for vip in (V4, V6)
    for mac in (OWN, OTHER)
    for sender in (None, vip.address)
)

MACS_OF_NOBODY = st.sampled_from([bytes(6), b"\xff" * 6, bytes.fromhex(OWN.replace(":", "")), b"\x33\x33\0\0\0\1"])


def _mutated(frame: bytes, changes: Sequence[tuple[int, int]]) -> bytes:
    changed = bytearray(frame)
    for where, value in changes:
        changed[where % len(changed)] = value
    return bytes(changed)


def _checksum_put_right(frame: bytes) -> bytes:
    """Of ICMPv6 in a frame without VLAN tag: what was changed is then the only thing that is wrong."""
    if len(frame) < 62 or frame[12:14] != b"\x86\xdd":
        return frame
    length = struct.unpack_from("!H", frame, 18)[0]
    message = frame[54 : 54 + length]
    if len(message) < 4:
        return frame
    message = message[:2] + b"\0\0" + message[4:]
    checksum = wire._checksum(frame[22:38], frame[38:54], message)
    return frame[:56] + struct.pack("!H", checksum) + frame[58:]


seeds = st.sampled_from(SEEDS)
changes = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), min_size=1, max_size=3)
mutated = st.builds(_mutated, seeds, changes)
frames = (
    st.binary(max_size=120)
    | seeds
    | mutated
    | mutated.map(_checksum_put_right)
    | st.tuples(seeds, st.integers(0, 90)).map(lambda told: told[0][: told[1]])
    | st.tuples(seeds, st.binary(max_size=40)).map(lambda told: told[0] + told[1])
    | st.tuples(seeds, MACS_OF_NOBODY, st.sampled_from([6, 22, 80])).map(
        lambda told: _checksum_put_right(told[0][: told[2]] + told[1] + told[0][told[2] + 6 :])
    )
    | st.tuples(seeds, st.sampled_from([b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05\x81\x00\x00\x06"])).map(
        lambda told: told[0][:12] + told[1] + told[0][12:]
    )
)


def claimed(frame: bytes) -> Address | None:
    """Told from the standards' figures alone: whose address a frame speaks for, where it can speak for one at all."""
    if frame[12:14] == b"\x08\x06" and len(frame) >= 42:
        right = frame[14:20] == b"\0\1\x08\0\6\4" and frame[20:22] in (b"\0\1", b"\0\2")
        return ip_address(frame[28:32]) if right and any(frame[28:32]) else None
    if frame[12:14] == b"\x86\xdd" and len(frame) >= 78:
        right = frame[14] >> 4 == 6 and frame[20:22] == b"\x3a\xff" and frame[54:56] == b"\x88\0"
        return ip_address(frame[62:78]) if right and frame[62] != 0xFF else None
    return None


@fuzz(500)
@given(frames)
def test_only_a_frame_that_speaks_for_an_address_is_heard(frame: bytes) -> None:
    heard = wire.read(frame)
    if heard is None:
        return
    assert heard.address == claimed(frame)
    assert heard.source == frame[6:12].hex(":")
    assert heard.mac in {heard.source, frame[22:28].hex(":")} | {
        frame[i : i + 6].hex(":") for i in range(78, len(frame))
    }


@pytest.mark.parametrize("frame", SEEDS, ids=range(len(SEEDS)))
def test_a_truncated_frame_says_nothing(frame: bytes) -> None:
    assert all(wire.read(frame[:length]) is None for length in range(len(frame)))


@pytest.mark.parametrize("frame", SEEDS, ids=range(len(SEEDS)))
def test_one_wrong_byte_makes_no_claim_of_another_address_than_is_there(frame: bytes) -> None:
    for where in range(len(frame)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, frame[where] ^ 1):
            changed = _mutated(frame, [(where, value)])
            heard = wire.read(changed)
            assert heard is None or heard.address == claimed(changed)


# ---------------------------------------------------------------------------------------- the whole listener


class Wire:
    """In the place of packet sockets: hands out the frames, as the kernel would."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = list(frames)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int, int]]:
        if not self.frames:
            raise BlockingIOError
        return self.frames.pop(0)[:size], ("net1", 0, socket.PACKET_BROADCAST)

    def send(self, frame: bytes) -> None:
        """Questions go to nobody."""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""


@contextmanager
def _wire(frames: list[bytes]) -> Iterator[Wire]:
    made = Wire(frames)

    async def readable(socks: Sequence[Wire]) -> None:
        if not any(sock.frames for sock in socks):
            await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims_module, "_sockets", lambda *_, **__: iter([made]))
        patch.setattr(claims_module, "_readable", readable)
        patch.setattr(claims_module, "PAUSE_S", 0.0)
        patch.setattr(claims_module, "ANSWER_S", 0.0)
        yield made


async def _claims(frames: list[bytes]) -> list[AddressClaim]:
    found = []
    with _wire(frames) as left:
        async with aclosing(PacketClaims().listen([V4, V6], LINK)) as stream:
            heard = asyncio.ensure_future(anext(stream))
            for _ in range(2 * len(frames) + 5):
                await asyncio.sleep(0)
                if heard.done():
                    found.append(heard.result())
                    heard = asyncio.ensure_future(anext(stream))
            heard.cancel()
            await asyncio.gather(heard, return_exceptions=True)
        assert not left.frames
    return found


@fuzz(200)
@given(st.lists(frames, max_size=40))
def test_claims_are_of_watched_addresses_by_others_and_few(said: list[bytes]) -> None:
    found = asyncio.run(_claims(said))
    for claim in found:
        assert claim.address in (V4.address, V6.address)
        assert claim.mac != OWN
        assert any(claimed(f) == claim.address and f[6:12].hex(":") != OWN for f in said)
    assert len(found) == len(set(found)), "repeated within the pause"
    assert len(found) <= 2 * MACS


def test_others_are_heard_amid_garbage() -> None:
    """So that the test above cannot pass by silence."""
    said = [b"", b"\xff" * 60, *(f for vip in (V4, V6) for f in announcement(vip.address, OTHER))]
    found = asyncio.run(_claims(said))
    assert found == [AddressClaim(V4.address, "net1", OTHER), AddressClaim(V6.address, "net1", OTHER)]


@fuzz(200)
@given(st.lists(frames, max_size=20), st.sampled_from([V4, V6]))
def test_somebody_answers_only_with_the_links_own_mac(said: list[bytes], vip: Vip) -> None:
    async def ask() -> bool:
        with _wire(said), pytest.MonkeyPatch.context() as patch:
            patch.setattr(claims_module, "_own_address", lambda *_: None)
            return await PacketClaims().anybody(vip, LINK)

    if asyncio.run(ask()):
        heard = [wire.read(frame) for frame in said]
        assert any(one is not None and (one.address, one.mac) == (vip.address, OWN) for one in heard)
        assert any(claimed(frame) == vip.address for frame in said)


async def test_a_sibling_is_heard_amid_garbage() -> None:
    with _wire([b"\xff" * 60, *announcement(V4.address, OWN)]):
        assert await PacketClaims().anybody(V4, LINK)


# ------------------------------------------------------------------------------------------ kernel's filter


@pytest.fixture(scope="module")
def filters() -> Iterator[dict[int, tuple[socket.socket, socket.socket]]]:
    """The programs on pairs of datagram sockets: the kernel runs a socket's filter on whatever kind it is."""
    own = bytes.fromhex(OWN.replace(":", ""))
    pairs = {}
    for version, program in (
        (4, arp_from([V4.address], but_from=own)),
        (6, advertisements_of([V6.address], but_from=own)),
    ):
        inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        attach(inside, program)
        inside.setblocking(False)
        outside.setblocking(False)
        pairs[version] = (inside, outside)
    yield pairs
    for pair in pairs.values():
        for sock in pair:
            sock.close()


def _passes(pair: tuple[socket.socket, socket.socket], frame: bytes) -> bool:
    inside, outside = pair
    outside.send(frame)
    try:
        return bool(inside.recv(2048))
    except BlockingIOError:
        return False


@fuzz(500)
@given(frame=frames.filter(bool))
def test_the_filter_in_the_kernel_passes_every_claim(
    filters: dict[int, tuple[socket.socket, socket.socket]], frame: bytes
) -> None:
    passed = {version for version, pair in filters.items() if _passes(pair, frame)}
    heard = wire.read(frame)
    if heard is not None and heard.address in (V4.address, V6.address) and OWN not in (heard.mac, heard.source):
        assert passed == {heard.address.version}
    if passed:
        # And nothing that is no neighbour message about a VIP wakes the process.
        assert frame[12:14] in (b"\x08\x06", b"\x86\xdd")
        assert V4.address.packed in frame or V6.address.packed in frame
