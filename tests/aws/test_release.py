"""Addresses that left are given back, each once, and never against an assignment of the same address."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest
from aws_servers import Scripted, now
from tiny_ec2 import TinyEc2

from vipd.aws.ec2 import Ec2
from vipd.aws.mover import Ec2Mover
from vipd.core.model import Address, Assigned, AssignVerdict, Eni
from vipd.core.ports import Releaser

V = AssignVerdict
ip = ipaddress.ip_address
VIP4, VIP6 = ip("10.0.1.100"), ip("fd00:10:0:1::100")
PRIMARY = ip("10.0.1.11")
A = Eni(id="eni-0000000000000000a", mac="02:00:00:00:01:0a")
B = "eni-0000000000000000b"
pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def ec2(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> TinyEc2:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url)
    scripted.handler = tiny = TinyEc2(owner={PRIMARY: A.id}, primaries={PRIMARY})
    return tiny


@pytest.fixture
def mover(ec2: TinyEc2) -> Ec2Mover:
    return Ec2Mover(Ec2("us-east-2"))


async def release(mover: Releaser, *addresses: Address, within_s: float = 10.0) -> list[Assigned]:
    end = now() + within_s
    return list(await mover.release(A, addresses, right_until=lambda: end))


async def until_sent(ec2: TinyEc2, action: str) -> None:
    async with asyncio.timeout(5):
        while not any(line.startswith(action) for line in ec2.log):
            await asyncio.sleep(0.01)


async def test_addresses_of_both_families_are_given_back_in_one_call_each(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner |= {VIP4: A.id, VIP6: A.id}
    assert await release(mover, VIP6, VIP4) == [Assigned(VIP6, V.OK), Assigned(VIP4, V.OK)]
    assert ec2.owner == {PRIMARY: A.id}
    assert sorted(ec2.log) == [f"UnassignIpv6Addresses {A.id} {VIP6}", f"UnassignPrivateIpAddresses {A.id} {VIP4}"]


@pytest.mark.parametrize("words", ["{} has none of these", TinyEc2.not_there, "not mapped to interface ID '{}'"])
@pytest.mark.parametrize("address", [VIP4, VIP6])
@pytest.mark.parametrize("owner", [None, B])
async def test_what_is_not_there_is_given_back_already(
    ec2: TinyEc2, mover: Ec2Mover, address: Address, owner: str | None, words: str
) -> None:
    ec2.not_there = words
    if owner is not None:
        ec2.owner[address] = owner
    assert await release(mover, address) == [Assigned(address, V.OK)]
    assert ec2.owner.get(address) == owner


async def test_known_words_need_no_look_up(ec2: TinyEc2, mover: Ec2Mover) -> None:
    assert (await release(mover, VIP4))[0].verdict is V.OK
    assert len(ec2.log) == 1


async def test_the_primary_address_stays_and_does_not_sink_the_rest(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP4] = A.id
    outcomes = await release(mover, PRIMARY, VIP4, ip("10.0.1.101"))
    assert [o.verdict for o in outcomes] == [V.NEVER, V.OK, V.OK]
    assert "cannot be unassigned" in outcomes[0].detail
    assert ec2.owner == {PRIMARY: A.id}


async def test_unknown_words_without_the_permission_to_describe_are_no_success(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.not_there = "{} has none of these"
    ec2.fail["DescribeNetworkInterfaces", "*"] = "UnauthorizedOperation"
    assert (await release(mover, VIP4))[0].verdict is V.NEVER


@pytest.mark.parametrize(
    ("code", "verdict"), [("RequestLimitExceeded", V.THROTTLED), ("UnauthorizedOperation", V.NOT_ALLOWED)]
)
async def test_what_no_address_can_cause_is_asked_once(
    ec2: TinyEc2, mover: Ec2Mover, code: str, verdict: AssignVerdict
) -> None:
    ec2.fail["UnassignPrivateIpAddresses", "*"] = code
    outcomes = await release(mover, VIP4, ip("10.0.1.101"))
    assert [(o.verdict, o.code) for o in outcomes] == [(verdict, code)] * 2
    assert len(ec2.log) == 1


async def test_after_the_right_nothing_is_given_back(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP4] = A.id
    assert (await release(mover, VIP4, within_s=-1))[0].verdict is V.RIGHT_OVER
    assert ec2.owner[VIP4] == A.id


@pytest.mark.parametrize("address", [VIP4, VIP6])
async def test_an_address_that_is_back_while_it_is_given_back_ends_up_here(
    ec2: TinyEc2, mover: Ec2Mover, address: Address
) -> None:
    ec2.owner[address] = A.id
    ec2.delay_s = 0.3
    await mover.warm()
    # Nobody waits for the release any longer, but EC2 has the call.
    releasing = asyncio.create_task(release(mover, address))
    await until_sent(ec2, "Unassign")
    releasing.cancel()
    (outcome,) = await mover.assign(A, [address], right_until=lambda: now() + 10)
    assert outcome.verdict is V.OK
    assert ec2.owner[address] == A.id
    assert [line.split()[0].startswith("Unassign") for line in ec2.log] == [True, False]


async def test_an_address_that_is_being_assigned_is_given_back_afterwards(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.delay_s = 0.3
    await mover.warm()
    assigning = asyncio.ensure_future(mover.assign(A, [VIP4], right_until=lambda: now() + 10))
    await until_sent(ec2, "Assign")
    assert (await release(mover, VIP4))[0].verdict is V.OK
    assert (await assigning)[0].verdict is V.OK
    assert VIP4 not in ec2.owner


async def test_other_addresses_do_not_wait_for_a_release(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP4] = A.id
    ec2.delay_s = 0.5
    await mover.warm()
    releasing = asyncio.create_task(release(mover, VIP4))
    await until_sent(ec2, "Unassign")
    assigning = asyncio.ensure_future(mover.assign(A, [ip("10.0.1.101")], right_until=lambda: now() + 10))
    await until_sent(ec2, "Assign")
    assert not releasing.done()
    await asyncio.gather(releasing, assigning)
