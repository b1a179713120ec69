"""VIPs in the kernel: their lifetime, their mark, and everybody else's addresses left alone."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from link_lan import EACH_FAMILY, V4, V6, Events, Lan

from vipd.core.model import Vip
from vipd.core.ports import AddressGone, MonitorResync
from vipd.errors import LinkError
from vipd.link import kernel as kernel_module
from vipd.link import netlink
from vipd.link.kernel import VIPD_PROTO, KernelLink, kernel_note

TENTATIVE, NODAD, NOPREFIXROUTE = 0x40, 0x02, 0x200
FOREVER = 0xFFFFFFFF


def sysctl(name: str, value: int) -> None:
    Path(f"/proc/sys/net/{name}").write_text(str(value))


def text(vip: Vip) -> str:
    return f"{vip.address}/{vip.prefixlen}"


@EACH_FAMILY
async def test_a_vip_bears_the_protocol_number_a_lifetime_and_the_flags(lan: Lan, kernel: KernelLink, vip: Vip) -> None:
    await kernel.put(vip, valid_s=30)
    message = (await lan.addresses())[text(vip)]
    assert message.get("proto") == VIPD_PROTO
    assert 28 <= message.get("cacheinfo")["ifa_valid"] <= 30
    preferred = message.get("cacheinfo")["ifa_preferred"]
    assert preferred == 0 if vip.address.version == 6 else 28 <= preferred <= 30
    flags = message.get("flags")
    assert flags & NOPREFIXROUTE
    assert not flags & TENTATIVE
    assert bool(flags & NODAD) == (vip.address.version == 6)
    assert message["scope"] == 0


@pytest.mark.parametrize(
    ("vip", "own", "neighbour"),
    [(V4, "10.0.1.11/24", "10.0.1.12"), (V6, "fd00:10:0:1::11/64", "fd00:10:0:1::12")],
    ids=["ipv4", "ipv6"],
)
async def test_a_vip_answers_and_can_be_bound_but_nothing_begins_from_it(
    lan: Lan, kernel: KernelLink, vip: Vip, own: str, neighbour: str
) -> None:
    nodad = NODAD if vip.address.version == 6 else 0
    address, _, prefixlen = own.partition("/")
    await lan.ipr.addr("add", index=await lan.index(), address=address, prefixlen=int(prefixlen), flags=nodad)
    there = lan.neighbour.ipr
    await there.addr(
        "add", index=await lan.neighbour.index("net1"), address=neighbour, prefixlen=int(prefixlen), flags=nodad
    )
    for _ in range(2):  # added, and refreshed
        await kernel.put(vip, valid_s=30)
        assert text(vip) in await lan.addresses()
        assert source_towards(neighbour) == address
    family = socket.AF_INET if vip.address.version == 4 else socket.AF_INET6
    with (
        socket.socket(family, socket.SOCK_DGRAM) as mine,
        lan.neighbour.open(family, socket.SOCK_DGRAM) as theirs,
    ):
        mine.bind((str(vip.address), 0))
        mine.settimeout(2)
        theirs.settimeout(2)
        theirs.sendto(b"?", mine.getsockname()[:2])
        question, asker = mine.recvfrom(1)
        mine.sendto(b"!", asker)
        assert (question, theirs.recvfrom(1)[1][0]) == (b"?", str(vip.address))


def source_towards(destination: str) -> str:
    """The source address that the kernel gives to a socket that nobody bound."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as unbound:
        unbound.connect((destination, 9))
        return str(unbound.getsockname()[0])


@EACH_FAMILY
async def test_a_vip_that_nobody_refreshes_ends_by_the_kernels_hand(
    lan: Lan, kernel: KernelLink, events: Events, vip: Vip
) -> None:
    await events.until(MonitorResync)
    before = time.monotonic()
    await kernel.put(vip, valid_s=1)
    await events.until(AddressGone(address=vip.address, interface="net1"))
    assert 0.99 <= time.monotonic() - before < 2.0
    assert text(vip) not in await lan.addresses()


async def test_refreshing_prolongs_the_lifetime(lan: Lan, kernel: KernelLink) -> None:
    for _ in range(2):
        for vip in (V4, V6):
            await kernel.put(vip, valid_s=2)
        await asyncio.sleep(1.1)
    assert {text(V4), text(V6)} <= set(await lan.addresses())


@EACH_FAMILY
async def test_an_expired_vip_is_added_again(lan: Lan, kernel: KernelLink, events: Events, vip: Vip) -> None:
    await events.until(MonitorResync)
    await kernel.put(vip, valid_s=1)
    await events.until(AddressGone)
    await kernel.put(vip, valid_s=30)
    assert text(vip) in await lan.addresses()


@EACH_FAMILY
async def test_remove_says_whether_the_vip_was_there(lan: Lan, kernel: KernelLink, vip: Vip) -> None:
    await kernel.put(vip, valid_s=30)
    assert await kernel.remove(vip) is True
    assert await lan.addresses() == {}
    assert await kernel.remove(vip) is False
    assert await kernel.remove(replace(vip, interface="net9")) is False


@pytest.mark.parametrize(
    ("vip", "theirs"),
    [(V4, 32), (V4, 24), (V6, 128), (V6, 64)],
    ids=["ipv4", "ipv4 with another prefix", "ipv6", "ipv6 with another prefix"],
)
async def test_an_address_of_somebody_elses_is_neither_taken_over_nor_removed(
    lan: Lan, kernel: KernelLink, vip: Vip, theirs: int
) -> None:
    await lan.add_address(str(vip.address), theirs)
    with pytest.raises(LinkError, match=f"cannot add {vip}: the address is on net1 already and is not vipd's"):
        await kernel.put(vip, valid_s=30)
    assert await kernel.remove(vip) is False
    assert await kernel.borne() == []
    [(name, message)] = (await lan.addresses()).items()
    assert name == f"{vip.address}/{theirs}"
    assert message.get("proto") is None
    assert message.get("cacheinfo")["ifa_valid"] == FOREVER


async def test_removing_a_primary_vip_leaves_the_secondaries_of_its_subnet(lan: Lan, kernel: KernelLink) -> None:
    await kernel.put(replace(V4, prefixlen=24), valid_s=30)
    await lan.add_address("10.0.1.11", 24)
    await lan.add_address("10.0.1.12", 24)
    sysctl("ipv4/conf/net1/promote_secondaries", 0)
    assert await kernel.remove(V4) is True
    assert set(await lan.addresses()) == {"10.0.1.11/24", "10.0.1.12/24"}


async def test_an_expiring_primary_vip_leaves_the_secondaries_of_its_subnet(
    lan: Lan, kernel: KernelLink, events: Events
) -> None:
    await events.until(MonitorResync)
    await kernel.put(replace(V4, prefixlen=24), valid_s=1)
    await lan.add_address("10.0.1.11", 24)
    await events.until(AddressGone(address=V4.address, interface="net1"))
    assert set(await lan.addresses()) == {"10.0.1.11/24"}


@pytest.mark.parametrize(("vip", "prefixlen"), [(V4, 24), (V6, 64)], ids=["ipv4", "ipv6"])
async def test_another_prefix_length_replaces_the_former(
    lan: Lan, kernel: KernelLink, vip: Vip, prefixlen: int
) -> None:
    await kernel.put(vip, valid_s=30)
    await kernel.put(replace(vip, prefixlen=prefixlen), valid_s=30)
    assert set(await lan.addresses()) == {f"{vip.address}/{prefixlen}"}


async def test_borne_lists_what_vipd_added_here_and_before(lan: Lan, kernel: KernelLink) -> None:
    await lan.add_address("10.0.1.11", 24)
    await lan.create("net2")
    earlier = KernelLink()
    await earlier.put(replace(V6, interface="net2"), valid_s=20)
    await earlier.close()
    await kernel.put(V4, valid_s=30)
    borne = {b.vip: b.valid_s for b in await kernel.borne()}
    assert set(borne) == {V4, replace(V6, interface="net2")}
    assert 28 <= (borne[V4] or 0) <= 30
    assert 18 <= (borne[replace(V6, interface="net2")] or 0) <= 20


@EACH_FAMILY
async def test_a_recreated_interface_gets_the_vip_though_its_index_is_another(
    lan: Lan, kernel: KernelLink, vip: Vip
) -> None:
    await kernel.put(vip, valid_s=30)
    before = await lan.index()
    await lan.delete()
    with pytest.raises(LinkError, match=f"cannot add {vip}: there is no interface net1"):
        await kernel.put(vip, valid_s=30)
    await lan.create("net1")
    assert await lan.index() != before
    await kernel.put(vip, valid_s=30)
    assert text(vip) in await lan.addresses()


async def test_the_kernels_refusal_is_told_in_its_own_words(lan: Lan, kernel: KernelLink) -> None:
    sysctl("ipv6/conf/net1/disable_ipv6", 1)
    with pytest.raises(LinkError, match=f"cannot add {V6}: Permission denied .*IPv6 is disabled"):
        await kernel.put(V6, valid_s=30)


@pytest.mark.parametrize("valid_s", [0, -1, FOREVER])
async def test_a_lifetime_that_is_none_is_refused(kernel: KernelLink, valid_s: int) -> None:
    with pytest.raises(LinkError, match="the kernel takes whole seconds from 1"):
        await kernel.put(V4, valid_s=valid_s)


async def test_many_calls_at_once_do_not_disturb_each_other(
    lan: Lan, kernel: KernelLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They wait for each other: a busy machine is no kernel that does not answer.
    monkeypatch.setattr(netlink, "CALL_TIMEOUT_S", 30.0)
    for last in range(1, 120):
        await lan.add_address(f"10.0.7.{last}", 32)
    await asyncio.gather(*(kernel.put(vip, valid_s=30) for vip in (V4, V6)))
    readings = await asyncio.gather(*(kernel.borne() for _ in range(20)), *(kernel.borne() for _ in range(20)))
    assert all({b.vip for b in reading} == {V4, V6} for reading in readings)


async def test_a_call_without_answer_ends_in_time_and_the_next_one_works(
    kernel: KernelLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kernel.put(V4, valid_s=30)
    with monkeypatch.context() as patch:
        patch.setattr(netlink, "CALL_TIMEOUT_S", 0.0)
        with pytest.raises(LinkError, match=f"cannot remove {V4}: no answer from the kernel within 0 s"):
            await kernel.remove(V4)
    assert await kernel.remove(V4) is True


async def test_a_kernel_that_does_not_keep_the_protocol_number_is_refused(
    lan: Lan, kernel: KernelLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Number 0 is what a kernel without IFA_PROTO makes of ours: it is not told when asked.
    monkeypatch.setattr(kernel_module, "VIPD_PROTO", 0)
    with pytest.raises(LinkError, match=r"Linux 5\.18 or newer is needed"):
        await kernel.put(V4, valid_s=30)
    assert await lan.addresses() == {}


@pytest.mark.parametrize(
    ("release", "noted"),
    [
        ("5.10.230-223.885.amzn2.x86_64", True),
        ("5.17.1", True),
        ("5.18.0", False),
        ("6.1.119-129.201.amzn2023.x86_64", False),
        ("?", False),
    ],
)
def test_a_kernel_that_does_not_keep_the_protocol_number_is_noted(release: str, noted: bool) -> None:
    assert bool(kernel_note(release)) is noted
