"""Moving addresses between ENIs, by the rules of EC2, with the real client over TCP."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Sequence

import pytest
from aws_servers import Scripted, now
from tiny_ec2 import TinyEc2

from vipd.aws.ec2 import Ec2
from vipd.aws.mapping import DescribeMapping
from vipd.aws.mover import Ec2Mover
from vipd.core.model import Address, Assigned, AssignVerdict, Eni, Mapped

V = AssignVerdict
ip = ipaddress.ip_address
VIP4, VIP6 = ip("10.0.1.100"), ip("fd00:10:0:1::100")
OTHER6 = ip("fd00:10:0:1::101")
A = Eni(id="eni-0000000000000000a", mac="02:00:00:00:01:0a")
B, C = "eni-0000000000000000b", "eni-0000000000000000c"
pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def ec2(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> TinyEc2:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url)
    scripted.handler = tiny = TinyEc2()
    return tiny


@pytest.fixture
def mover(ec2: TinyEc2) -> Ec2Mover:
    return Ec2Mover(Ec2("us-east-2"))


async def assign(mover: Ec2Mover, *addresses: Address, previous: Sequence[str] = ()) -> list[Assigned]:
    return list(await mover.assign(A, addresses, right_until=lambda: now() + 10, previous=frozenset(previous)))


def actions(ec2: TinyEc2) -> list[str]:
    return [line.split()[0] for line in ec2.log]


async def test_an_ipv4_address_moves_in_one_call(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP4] = B
    assert await assign(mover, VIP4) == [Assigned(VIP4, V.OK)]
    assert ec2.owner[VIP4] == A.id
    assert ec2.log == [f"AssignPrivateIpAddresses {A.id} {VIP4}"]


async def test_many_ipv4_addresses_move_in_one_call(ec2: TinyEc2, mover: Ec2Mover) -> None:
    vips = [ip(f"10.0.1.{n}") for n in range(100, 105)]
    assert [o.verdict for o in await assign(mover, *vips)] == [V.OK] * 5
    assert len(ec2.log) == 1


async def test_one_bad_address_does_not_sink_the_rest(ec2: TinyEc2, mover: Ec2Mover) -> None:
    outside, primary = ip("192.0.2.1"), ip("10.0.1.12")
    ec2.owner[primary] = B
    ec2.primaries.add(primary)
    outcomes = await assign(mover, outside, VIP4, primary)
    assert [(o.address, o.verdict) for o in outcomes] == [(outside, V.NEVER), (VIP4, V.OK), (primary, V.NEVER)]
    assert ec2.owner == {VIP4: A.id, primary: B}


async def test_an_eni_with_one_place_left_takes_one_of_two(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.limit = 1
    outcomes = await assign(mover, VIP4, ip("10.0.1.101"))
    assert [o.verdict for o in outcomes] == [V.OK, V.NO_ROOM]


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("RequestLimitExceeded", V.THROTTLED),
        ("InternalError", V.RETRY),
        ("UnauthorizedOperation", V.NOT_ALLOWED),
        ("ExpiredToken", V.NOT_ALLOWED),
        ("InvalidNetworkInterfaceID.NotFound", V.NEVER),
    ],
)
async def test_what_no_single_address_can_cause_is_asked_only_once(
    ec2: TinyEc2, mover: Ec2Mover, code: str, verdict: AssignVerdict
) -> None:
    ec2.fail["AssignPrivateIpAddresses", A.id] = code
    outcomes = await assign(mover, VIP4, ip("10.0.1.101"))
    assert [(o.verdict, o.code) for o in outcomes] == [(verdict, code)] * 2
    assert len(ec2.log) == 1


async def test_both_families_move_at_the_same_time(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner |= {VIP4: B, VIP6: B}
    ec2.delay_s = 0.5
    await mover.warm()
    started = now()
    outcomes = await assign(mover, VIP6, VIP4, previous=[B])
    assert [(o.address, o.verdict) for o in outcomes] == [(VIP6, V.OK), (VIP4, V.OK)]
    assert now() - started < 1.45, "two IPv6 calls, and the IPv4 call beside them"


async def test_with_a_hint_an_ipv6_address_moves_in_two_calls(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    assert await assign(mover, VIP6, previous=[B, A.id]) == [Assigned(VIP6, V.OK)]
    assert ec2.log == [f"UnassignIpv6Addresses {B} {VIP6}", f"AssignIpv6Addresses {A.id} {VIP6}"]


@pytest.mark.parametrize("owner", [None, A.id])
@pytest.mark.parametrize("previous", [(), (A.id,)])
async def test_an_ipv6_address_of_nobody_or_ours_is_one_call_and_no_look_up(
    ec2: TinyEc2, mover: Ec2Mover, owner: str | None, previous: tuple[str, ...]
) -> None:
    ec2.owner = {} if owner is None else {VIP6: owner}
    assert await assign(mover, VIP6, previous=previous) == [Assigned(VIP6, V.OK)]
    assert ec2.log == [f"AssignIpv6Addresses {A.id} {VIP6}"]


async def test_without_a_hint_the_owner_is_looked_up_once_the_address_is_refused(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    assert await assign(mover, VIP6) == [Assigned(VIP6, V.OK)]
    assert ec2.log == [
        f"AssignIpv6Addresses {A.id} {VIP6}",
        f"DescribeNetworkInterfaces * {VIP6}",
        f"UnassignIpv6Addresses {B} {VIP6}",
        f"AssignIpv6Addresses {A.id} {VIP6}",
    ]


async def test_many_addresses_of_which_one_is_elsewhere_take_four_calls(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.limit = 50
    many = [ip(f"fd00:10:0:1::{n:x}") for n in range(0x100, 0x132)]
    ec2.owner[many[20]] = B
    assert {o.verdict for o in await assign(mover, *many)} == {V.OK}
    assert len(ec2.log) == 4
    assert set(ec2.owner.values()) == {A.id}


async def test_a_bad_ipv6_address_costs_the_good_ones_nothing_but_calls(ec2: TinyEc2, mover: Ec2Mover) -> None:
    outside = ip("fd00:10:0:2::1")
    ec2.owner[OTHER6] = B
    outcomes = await assign(mover, VIP6, outside, OTHER6)
    assert [(o.address, o.verdict) for o in outcomes] == [(VIP6, V.OK), (outside, V.NEVER), (OTHER6, V.OK)]
    assert actions(ec2).count("DescribeNetworkInterfaces") == 1


async def test_a_bad_ipv6_address_alone_is_asked_for_once(ec2: TinyEc2, mover: Ec2Mover) -> None:
    (outcome,) = await assign(mover, ip("fd00:10:0:2::1"))
    assert outcome.verdict is V.NEVER
    assert actions(ec2) == ["AssignIpv6Addresses", "DescribeNetworkInterfaces"]


@pytest.mark.parametrize(
    "code", ["InvalidNetworkInterfaceID.NotFound", "RequestLimitExceeded", "UnauthorizedOperation"]
)
async def test_what_no_ipv6_address_can_cause_is_asked_once_and_nothing_looked_up(
    ec2: TinyEc2, mover: Ec2Mover, code: str
) -> None:
    ec2.fail["AssignIpv6Addresses", A.id] = code
    outcomes = await assign(mover, VIP6, OTHER6)
    assert [o.code for o in outcomes] == [code] * 2
    assert actions(ec2) == ["AssignIpv6Addresses"]


async def test_where_some_found_no_room_nothing_is_taken_from_another_eni(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.limit = 1
    ec2.room_first = True
    ec2.owner[VIP6] = B
    outcomes = await assign(mover, VIP6, OTHER6)
    assert [o.verdict for o in outcomes] == [V.NO_ROOM, V.OK]
    assert ec2.owner == {VIP6: B, OTHER6: A.id}
    assert "UnassignIpv6Addresses" not in actions(ec2)


async def test_without_a_hint_a_full_eni_costs_one_gap_and_no_more(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.limit = 1
    ec2.owner |= {VIP6: B, OTHER6: A.id}
    for _ in range(2):
        (outcome,) = await assign(mover, VIP6)
        assert (outcome.verdict, ec2.owner[VIP6]) == (V.NO_ROOM, B)
    assert actions(ec2).count("UnassignIpv6Addresses") == 1


async def test_a_half_done_move_of_one_and_a_new_address_go_in_one_call(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["AssignIpv6Addresses", A.id] = "InternalError"
    await assign(mover, VIP6, previous=[B])
    ec2.fail.clear()
    ec2.log.clear()
    assert [o.verdict for o in await assign(mover, VIP6, OTHER6)] == [V.OK, V.OK]
    assert ec2.log == [f"AssignIpv6Addresses {A.id} {VIP6} {OTHER6}"]


async def test_a_wrong_hint_is_corrected_by_looking_up(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = C
    assert await assign(mover, VIP6, previous=[B]) == [Assigned(VIP6, V.OK)]
    assert ec2.owner[VIP6] == A.id


async def test_several_addresses_of_different_owners_all_come(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner |= {VIP6: B, OTHER6: C}
    free = ip("fd00:10:0:1::102")
    assert [o.verdict for o in await assign(mover, VIP6, OTHER6, free, previous=[B])] == [V.OK] * 3
    assert set(ec2.owner.values()) == {A.id}


@pytest.mark.parametrize("previous", [(), (A.id,), (B,), (A.id, B)])
async def test_it_never_unassigns_from_itself(ec2: TinyEc2, mover: Ec2Mover, previous: tuple[str, ...]) -> None:
    ec2.owner[VIP6] = A.id
    assert await assign(mover, VIP6, previous=previous) == [Assigned(VIP6, V.OK)]
    assert not any(line.startswith(f"UnassignIpv6Addresses {A.id}") for line in ec2.log)
    assert "AssignIpv6Addresses" in actions(ec2), "EC2 says whether it is ours, not our reading"


async def test_an_address_of_nobody_is_simply_assigned(ec2: TinyEc2, mover: Ec2Mover) -> None:
    assert await assign(mover, VIP6, previous=[B]) == [Assigned(VIP6, V.OK)]


async def test_a_refused_move_gives_the_address_back(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["AssignIpv6Addresses", A.id] = "UnauthorizedOperation"
    (outcome,) = await assign(mover, VIP6, previous=[B])
    assert (outcome.verdict, outcome.code) == (V.NOT_ALLOWED, "UnauthorizedOperation")
    assert f"given back to {B}" in outcome.detail
    assert ec2.owner[VIP6] == B


async def test_a_full_eni_costs_one_gap_and_no_more(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.limit = 2
    ec2.owner |= {VIP6: B, ip("fd00:10:0:1::11"): A.id, ip("fd00:10:0:1::21"): A.id}
    (first,) = await assign(mover, VIP6, previous=[B])
    assert (first.verdict, ec2.owner[VIP6]) == (V.NO_ROOM, B)
    ec2.log.clear()
    (second,) = await assign(mover, VIP6, previous=[B])
    assert second.verdict is V.NO_ROOM
    assert "UnassignIpv6Addresses" not in actions(ec2)
    del ec2.owner[ip("fd00:10:0:1::21")]
    (third,) = await assign(mover, VIP6, previous=[B])
    assert third.verdict is V.OK


async def test_of_two_addresses_only_the_one_without_room_is_given_back(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.limit = 1
    ec2.owner |= {VIP6: B, OTHER6: C}
    outcomes = await assign(mover, VIP6, OTHER6)
    assert [o.verdict for o in outcomes] == [V.OK, V.NO_ROOM]
    assert ec2.owner == {VIP6: A.id, OTHER6: C}


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError"])
async def test_a_move_that_broke_off_half_way_is_finished_by_the_next_attempt(
    ec2: TinyEc2, mover: Ec2Mover, code: str
) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["AssignIpv6Addresses", A.id] = code
    (first,) = await assign(mover, VIP6, previous=[B])
    assert first.verdict in (V.RETRY, V.THROTTLED)
    assert VIP6 not in ec2.owner
    ec2.fail.clear()
    ec2.log.clear()
    assert await assign(mover, VIP6, previous=[B]) == [Assigned(VIP6, V.OK)]
    assert actions(ec2) == ["AssignIpv6Addresses"], "nothing is asked again while nobody has the address"


async def test_a_move_that_another_process_left_half_done_is_repaired(ec2: TinyEc2) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["AssignIpv6Addresses", A.id] = "InternalError"
    await assign(Ec2Mover(Ec2("us-east-2")), VIP6, previous=[B])
    ec2.fail.clear()
    assert await assign(Ec2Mover(Ec2("us-east-2")), VIP6, previous=[B]) == [Assigned(VIP6, V.OK)]


async def test_half_a_move_refused_later_is_still_given_back(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["AssignIpv6Addresses", A.id] = "InternalError"
    await assign(mover, VIP6, previous=[B])
    ec2.fail["AssignIpv6Addresses", A.id] = "InvalidParameterValue"
    (second,) = await assign(mover, VIP6, previous=[B])
    assert second.verdict is V.NEVER
    assert ec2.owner[VIP6] == B


@pytest.mark.parametrize("thief", [B, C], ids=["whom-it-was-taken-from", "somebody-else"])
async def test_an_address_that_another_took_in_between_is_a_matter_of_trying_again(
    ec2: TinyEc2, mover: Ec2Mover, thief: str
) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["AssignIpv6Addresses", A.id] = "InternalError"
    await assign(mover, VIP6, previous=[B])
    ec2.fail.clear()
    ec2.owner[VIP6] = thief
    (second,) = await assign(mover, VIP6, previous=[B])
    assert (second.verdict, ec2.owner[VIP6]) == (V.RETRY, thief)
    (third,) = await assign(mover, VIP6, previous=[B])
    assert (third.verdict, ec2.owner[VIP6]) == (V.OK, A.id)


async def test_a_describe_that_lags_is_no_final_word(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = C
    ec2.stale = {VIP6: B}
    (first,) = await assign(mover, VIP6)
    assert (first.verdict, ec2.owner[VIP6]) == (V.RETRY, C)
    ec2.stale = None
    (second,) = await assign(mover, VIP6)
    assert second.verdict is V.OK


async def test_without_the_permission_to_describe_a_hint_suffices(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["DescribeNetworkInterfaces", "*"] = "UnauthorizedOperation"
    assert await assign(mover, VIP6, previous=[B]) == [Assigned(VIP6, V.OK)]


async def test_without_hint_and_permission_the_missing_permission_is_named(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["DescribeNetworkInterfaces", "*"] = "UnauthorizedOperation"
    (outcome,) = await assign(mover, VIP6)
    assert outcome.verdict is V.NOT_ALLOWED
    assert "DescribeNetworkInterfaces" in outcome.detail
    assert ec2.owner[VIP6] == B


async def test_without_the_permission_to_unassign_nothing_moves(ec2: TinyEc2, mover: Ec2Mover) -> None:
    ec2.owner[VIP6] = B
    ec2.fail["UnassignIpv6Addresses", "*"] = "UnauthorizedOperation"
    (outcome,) = await assign(mover, VIP6, previous=[B])
    assert (outcome.verdict, ec2.owner[VIP6]) == (V.NOT_ALLOWED, B)


async def test_wherever_a_move_breaks_off_the_next_attempts_end_with_the_address_here(ec2: TinyEc2) -> None:
    client = Ec2("us-east-2")
    steps = ("DescribeNetworkInterfaces", "UnassignIpv6Addresses", "AssignIpv6Addresses")
    for owner, previous, step in itertools.product((None, A.id, B, C), ((), (B,), (B, C)), steps):
        mover = Ec2Mover(client)
        ec2.owner = {} if owner is None else {VIP6: owner}
        ec2.fail = {(step, "*"): "RequestLimitExceeded"}
        await assign(mover, VIP6, previous=previous)
        ec2.fail = {}
        outcomes = [(await assign(mover, VIP6, previous=previous))[0].verdict for _ in range(2)]
        assert outcomes[-1] is V.OK, (owner, previous, step)
        assert ec2.owner == {VIP6: A.id}, (owner, previous, step)


async def test_describe_reads_the_mapping_where_imds_is_blocked(ec2: TinyEc2) -> None:
    mapping = DescribeMapping(Ec2("us-east-2"))
    ec2.owner = {VIP4: A.id, VIP6: B}
    assert await mapping.read(A, [VIP4, VIP6], timeout_s=5) == {VIP4: Mapped.MINE, VIP6: Mapped.GONE}
    ec2.delay_s = 1
    assert await mapping.read(A, [VIP4], timeout_s=0.2) == {VIP4: Mapped.UNKNOWN}


async def test_a_describe_that_is_refused_is_unknown_and_keeps_the_reason(ec2: TinyEc2) -> None:
    mapping = DescribeMapping(Ec2("us-east-2"))
    ec2.fail["DescribeNetworkInterfaces", "*"] = "UnauthorizedOperation"
    assert await mapping.read(A, [VIP4], timeout_s=5) == {VIP4: Mapped.UNKNOWN}
    assert mapping.last_refusal is not None
    assert mapping.last_refusal.code == "UnauthorizedOperation"
