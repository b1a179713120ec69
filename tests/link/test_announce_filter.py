"""The kernel's filter passes what is about the VIPs, and wakes nobody for anything else."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from link_lan import MAC, V4, V6

from vipd.announce import wire
from vipd.announce.bpf import Program, advertisements_of, arp_from, attach
from vipd.announce.frames import announcement
from vipd.core.model import Address

OTHER_MAC = "02:00:00:00:01:0b"
OWN, OTHER = (bytes.fromhex(mac.replace(":", "")) for mac in (MAC, OTHER_MAC))


class Gate:
    """A pair of datagram sockets with the program between them."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.here.setblocking(False)

    def passes(self, program: Program, *frames: bytes) -> list[bytes]:
        attach(self.here, program)
        passed = []
        for frame in frames:
            self.there.send(frame)
            try:
                passed.append(self.here.recv(4096))
            except BlockingIOError:
                continue
        return passed


@pytest.fixture
def gate() -> Iterator[Gate]:
    it = Gate()
    with it.here, it.there:
        yield it


def addresses(first: str, how_many: int) -> list[Address]:
    return [ip_address(first) + n for n in range(how_many)]


def near_misses(frame: bytes, fields: range) -> list[bytes]:
    """The frame with one bit of one byte of these fields turned over."""
    return [frame[:n] + bytes([frame[n] ^ 0x10]) + frame[n + 1 :] for n in fields]


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_each_of_many_addresses_passes_and_no_other(gate: Gate, version: int) -> None:
    build, first = (arp_from, "10.0.1.100") if version == 4 else (advertisements_of, "fd00:10:0:1::100")
    *watched, other = addresses(first, 51)
    frames = [announcement(address, OTHER_MAC)[0] for address in watched]
    assert gate.passes(build(watched, but_from=OWN), *frames) == frames
    assert gate.passes(build(watched, but_from=OWN), announcement(other, OTHER_MAC)[0]) == []


def test_what_differs_in_any_byte_that_matters_is_dropped(gate: Gate) -> None:
    garp, _ = announcement(V4.address, OTHER_MAC)
    [na] = announcement(V6.address, OTHER_MAC)
    assert (
        gate.passes(arp_from([V4.address]), *near_misses(garp, range(12, 20)), *near_misses(garp, range(28, 32))) == []
    )
    fields = [12, 13, 20, 21, 54, *range(62, 78)]
    assert gate.passes(advertisements_of([V6.address]), *(near_misses(na, range(n, n + 1))[0] for n in fields)) == []


def test_own_frames_are_dropped_where_told_so(gate: Gate) -> None:
    garps, nas = announcement(V4.address, MAC), announcement(V6.address, MAC)
    assert gate.passes(arp_from([V4.address], but_from=OWN), *garps) == []
    assert gate.passes(advertisements_of([V6.address], but_from=OWN), *nas) == []
    assert gate.passes(arp_from([V4.address]), *garps) == list(garps)
    assert gate.passes(advertisements_of([V6.address]), *nas) == list(nas)


def test_a_mac_that_is_half_ones_own_is_not_ones_own(gate: Gate) -> None:
    for mac in (OWN[:4] + OTHER[4:], OTHER[:3] + b"\x77" + OWN[4:]):
        frames = announcement(V4.address, mac.hex(":"))
        assert gate.passes(arp_from([V4.address], but_from=OWN), *frames) == list(frames)


def test_traffic_and_truncated_frames_are_dropped(gate: Gate) -> None:
    ipv4 = OWN + OTHER + b"\x08\x00" + bytes(60)
    payload = V6.address.packed * 8  # data that looks like the target, wherever it is looked for
    udp = OWN + OTHER + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 128, 17, 255) + payload
    [na] = announcement(V6.address, OTHER_MAC)
    garp = announcement(V4.address, OTHER_MAC)[0]
    asks = wire.question(V4.address, mac=OTHER, sender=None), wire.question(V6.address, mac=OTHER, sender=None)
    for program in (arp_from([V4.address]), advertisements_of([V6.address])):
        assert gate.passes(program, ipv4, udp, *asks) == []
    assert gate.passes(arp_from([V4.address]), *(garp[:n] for n in range(1, 32))) == []
    assert gate.passes(advertisements_of([V6.address]), *(na[:n] for n in range(1, 78))) == []
