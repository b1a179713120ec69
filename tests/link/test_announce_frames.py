"""The frames of an announcement, field by field against the RFCs, and how they are built."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from ipaddress import IPv6Address, ip_address

import pytest

from vipd.announce.child import build_in_child
from vipd.announce.frames import announcement

MAC = "02:00:00:00:01:0a"
V4, V6 = ip_address("10.0.1.100"), ip_address("fd00:10:0:1::100")
OURS = bytes.fromhex("02000000010a")


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_arp_request_is_an_rfc_5227_announcement() -> None:
    request, _ = announcement(V4, MAC)
    ethernet = b"\xff" * 6 + OURS + bytes.fromhex("0806")
    header = bytes.fromhex("0001 0800 06 04 0001")  # Ethernet, IPv4, lengths, request
    assert request == ethernet + header + OURS + V4.packed + b"\0" * 6 + V4.packed


def test_the_arp_reply_is_an_rfc_5944_gratuitous_reply() -> None:
    _, reply = announcement(V4, MAC)
    ethernet = b"\xff" * 6 + OURS + bytes.fromhex("0806")
    header = bytes.fromhex("0001 0800 06 04 0002")
    assert reply == ethernet + header + OURS + V4.packed + OURS + V4.packed


def test_the_advertisement_is_an_rfc_4861_unsolicited_one() -> None:
    [frame] = announcement(V6, MAC)
    assert frame[:14] == bytes.fromhex("333300000001") + OURS + bytes.fromhex("86dd")
    ip, message = frame[14:54], frame[54:]
    assert ip[:4] == bytes.fromhex("60000000")
    assert struct.unpack("!H", ip[4:6]) == (len(message),)
    assert ip[6] == 58  # ICMPv6
    assert ip[7] == 255  # RFC 4861, 7.1.2: anything less was forwarded, and is discarded
    assert ip[8:24] == V6.packed
    assert ip[24:40] == IPv6Address("ff02::1").packed
    assert message[:2] == bytes([136, 0])
    assert message[4:8] == bytes.fromhex("20000000")  # router no, solicited no, override yes
    assert message[8:24] == V6.packed
    assert message[24:] == bytes([2, 1]) + OURS  # target link-layer address, 8 bytes


def test_the_advertisements_checksum_is_right() -> None:
    [frame] = announcement(V6, MAC)
    message = frame[54:]
    pseudo_header = frame[22:54] + struct.pack("!I", len(message)) + b"\0\0\0" + bytes([58])  # RFC 8200, 8.1
    assert ones_complement_sum(pseudo_header + message) == 0xFFFF


async def test_a_child_process_builds_the_same_frames() -> None:
    pairs = [(V4, MAC), (V6, MAC), (V4, "02:00:00:00:01:0b")]
    assert await build_in_child(pairs) == [announcement(*pair) for pair in pairs]


async def test_a_child_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        await build_in_child([(V4, MAC)], timeout_s=0.01)


async def test_a_child_that_fails_tells_why() -> None:
    with pytest.raises(
        ValueError, match=r"exit code 1: ValueError: 'nonsense' does not appear to be an IPv4 or IPv6 address"
    ):
        await build_in_child([("nonsense", MAC)])  # type: ignore[list-item]


WARM = """
import asyncio, sys
from ipaddress import ip_address
from vipd.announce.packet import PacketAnnouncer
from vipd.core.model import LinkState, Vip
vips = [Vip(ip_address(a), p, "net1") for a, p in (("10.0.1.100", 32), ("fd00:10:0:1::100", 128))]
asyncio.run(PacketAnnouncer().warm(vips, [LinkState("net1", 7, True, "02:00:00:00:01:0a")]))
print([name for name in sys.modules if name.startswith("scapy")])
"""

AUDIT = """
import sys
seen = []
def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and isinstance(arguments[1], str):
        if set(arguments[1]) & set("wax+"):
            seen.append(arguments[0])
    if event in ("socket.connect", "subprocess.Popen", "os.exec", "pickle.find_class"):
        seen.append(event)
    if event == "os.mkdir" and not str(arguments[0]).startswith("/dev/null/"):  # where nothing can be made
        seen.append(arguments[0])
sys.dont_write_bytecode = True
sys.addaudithook(audit)
from ipaddress import ip_address
from vipd.announce.frames import announcement
for address in ("10.0.1.100", "fd00:10:0:1::100"):
    announcement(ip_address(address), "02:00:00:00:01:0a")
from scapy.config import conf
print(seen, bool(conf.route.routes), bool(conf.route6.routes))
"""


async def run(code: str) -> tuple[str, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    out, err = await child.communicate()
    return out.decode().strip(), err.decode().strip()


async def test_warming_up_loads_no_scapy_into_this_process() -> None:
    assert await run(WARM) == ("[]", "")


async def test_building_frames_writes_nothing_reads_no_routes_and_warns_of_nothing() -> None:
    assert await run(AUDIT) == ("[] False False", "")
