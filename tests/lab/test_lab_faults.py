"""Faults that scenarios bring about: writes held on their way, random lags, a claim, an ill application."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import aiohttp
import pytest
from aws_clients import KEY_A, KEY_B, VIP4, Boto, eni, eni_id

from vipd.announce.frames import announcement
from vipd.lab.ec2 import Ec2
from vipd.lab.ec2_faults import Hold
from vipd.lab.health import ILL, Health
from vipd.lab.intruder import MAC, gratuitous
from vipd.lab.vpc import Vpc

V4 = ip_address(VIP4)
A, B = eni_id("a"), eni_id("b")


async def test_a_held_write_is_applied_when_it_is_let_go_over_what_others_have_done_since(
    vpc: Vpc, ec2: Ec2, boto: type[Boto]
) -> None:
    hold = ec2.faults.held["a"] = Hold()
    held = asyncio.create_task(boto(key=KEY_A).assign("a", VIP4))
    async with asyncio.timeout(10):
        while not hold.waiting:
            await asyncio.sleep(0.005)
    await boto(key=KEY_B).assign("b", VIP4)
    assert (vpc.owner(V4), held.done()) == (B, False)
    hold.released.set()
    await held
    assert vpc.owner(V4) == A
    late = ec2.log[-1]
    assert (late.caller, late.outcome) == ("a", "OK")
    assert late.started_at < ec2.log[0].started_at < late.ended_at


async def test_a_hold_is_for_writes_of_one_caller(vpc: Vpc, ec2: Ec2, boto: type[Boto]) -> None:
    ec2.faults.held["b"] = Hold()
    await boto(key=KEY_A).assign("a", VIP4)
    assert await boto(key=KEY_B).described(addresses__private_ip_address=VIP4) == [A]
    assert ec2.faults.held["b"].waiting == 0


async def test_each_change_of_the_data_plane_takes_its_own_share_of_the_lag() -> None:
    shares = iter((1.0, 0.0))
    vpc = Vpc(remap_lag_s=0.1, remap_share=lambda: next(shares))
    for name in ("a", "b"):
        vpc.enis[eni_id(name)] = eni(name)
    vpc.assign_v4(A, [V4], by="a")
    vpc.assign_v4(B, [V4], allow_reassignment=True, by="b")
    assert vpc.reached(V4) is None
    await asyncio.sleep(0.2)
    (first, second) = vpc.delivered
    assert (first.eni, second.eni) == (A, B)
    assert first.at - vpc.history[0].at >= 0.095
    assert second.at - first.at < 0.05


def test_an_intruder_claims_as_a_gratuitous_arp_request_does() -> None:
    request, _reply = announcement(V4, MAC)
    assert gratuitous(V4, MAC) == request


@pytest.mark.parametrize("status", [200, ILL])
async def test_an_application_tells_how_it_is(status: int) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    health = await Health().start(sock)
    health.status = status
    try:
        port = sock.getsockname()[1]
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == status
    finally:
        await health.stop()
    assert health.asked == 1
