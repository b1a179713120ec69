"""The lab's EC2 as unmodified boto3 clients meet it over TCP."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from ipaddress import IPv4Network

import pytest
from aws_clients import KEY_A, VIP4, VIP6, Boto, eni, eni_id, ips
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from vipd.lab.ec2 import Call, Ec2
from vipd.lab.ec2_faults import DROP, HANG, Bucket
from vipd.lab.vpc import Vpc, boottime

A, B = eni_id("a"), eni_id("b")
(V4,), (V6,) = ips(VIP4), ips(VIP6)
NewBoto = Callable[..., Boto]


async def until(what: Callable[[], bool]) -> None:
    """Wait for it, 10 s at most."""
    for _ in range(2000):
        if what():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen within 10 s")


def last(ec2: Ec2) -> tuple[str, str, str, str]:
    """Action, caller, ENI and outcome of the last call."""
    call = ec2.log[-1]
    return call.action, call.caller, call.eni, call.outcome


# ------------------------------------------------------------------------------------------- the calls


async def test_boto3_assigns_moves_and_unassigns_an_ipv4_address(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    client = boto()
    answer = await client.assign("a", VIP4, "10.0.1.101")
    assert answer["NetworkInterfaceId"] == A
    assert [each["PrivateIpAddress"] for each in answer["AssignedPrivateIpAddresses"]] == [VIP4, "10.0.1.101"]
    await client.assign("b", VIP4)
    assert vpc.owner(V4) == B
    await client.call("unassign_private_ip_addresses", NetworkInterfaceId=B, PrivateIpAddresses=[VIP4])
    assert vpc.owner(V4) is None
    assert vpc.history[-1].by == "a"


async def test_boto3_assigns_and_unassigns_an_ipv6_address(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    client = boto()
    answer = await client.assign("a", VIP6)
    assert (answer["NetworkInterfaceId"], answer["AssignedIpv6Addresses"]) == (A, [VIP6])
    answer = await client.call("unassign_ipv6_addresses", NetworkInterfaceId=A, Ipv6Addresses=[VIP6])
    assert (answer["NetworkInterfaceId"], answer["UnassignedIpv6Addresses"]) == (A, [VIP6])
    assert vpc.owner(V6) is None


@pytest.mark.parametrize(
    ("address", "reassign", "code"),
    [
        ("10.0.9.9", True, "InvalidParameterValue"),
        ("10.0.1.2", True, "InvalidParameterValue"),
        ("10.0.1.12", True, "InvalidParameterValue"),
        ("10.0.1.66", True, "InvalidParameterValue"),
        ("10.0.1.100", False, "InvalidParameterValue"),
        ("nonsense", True, "InvalidParameterValue"),
        ("10.0.1.101", True, "PrivateIpAddressLimitExceeded"),
        ("fd00:10:0:1::12", True, "InvalidParameterValue"),
    ],
)
async def test_what_the_vpc_refuses_reaches_boto3_as_ec2s_error_code(
    vpc: Vpc, boto: NewBoto, address: str, reassign: bool, code: str
) -> None:
    vpc.assign_v4(B, [V4], by="b")
    vpc.add(eni("c", prefixes4=[IPv4Network("10.0.1.64/28")]))
    vpc.enis[A].limit4 = 1
    before = list(vpc.history)
    assert await boto().assign_refused("a", address, reassign=reassign) == (code, 400)
    assert vpc.history == before


async def test_an_unknown_eni_a_call_without_addresses_and_an_unknown_action_are_refused(boto: NewBoto) -> None:
    client = boto()
    assert await client.assign_refused("nobody", VIP4) == ("InvalidNetworkInterfaceID.NotFound", 400)
    assert await client.refused("assign_private_ip_addresses", NetworkInterfaceId=A) == ("MissingParameter", 400)
    counted = {"NetworkInterfaceId": A, "SecondaryPrivateIpAddressCount": 1}
    assert await client.refused("assign_private_ip_addresses", **counted) == ("UnsupportedOperation", 400)
    assert await client.refused("describe_vpcs") == ("InvalidAction", 400)


async def test_describe_tells_what_an_eni_is_and_has(vpc: Vpc, boto: NewBoto) -> None:
    vpc.add(eni("c", prefixes4=[IPv4Network("10.0.1.64/28")], tags={"Name": "<c> & co"}))
    await boto().assign("c", VIP4)
    answer = await boto().call("describe_network_interfaces", NetworkInterfaceIds=[eni_id("c")])
    (found,) = answer["NetworkInterfaces"]
    assert found["PrivateIpAddresses"] == [
        {"PrivateIpAddress": "10.0.1.13", "Primary": True},
        {"PrivateIpAddress": VIP4, "Primary": False},
    ]
    assert found["Ipv6Addresses"] == [{"Ipv6Address": "fd00:10:0:1::13"}]
    assert found["Ipv4Prefixes"] == [{"Ipv4Prefix": "10.0.1.64/28"}]
    assert found["TagSet"] == [{"Key": "Name", "Value": "<c> & co"}]
    assert found["Attachment"]["InstanceId"] == eni("c").instance_id
    assert (found["MacAddress"], found["Attachment"]["DeviceIndex"]) == ("02:00:00:00:01:0c", 1)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("network_interface_id", B, "b"),
        ("addresses__private_ip_address", VIP4, "b"),
        ("addresses__private_ip_address", "10.0.1.199", ""),
        ("ipv6_addresses__ipv6_address", "fd00:10:0:1:0:0:0:0012", "b"),
        ("mac_address", "02:00:00:00:01:0a", "a"),
        ("subnet_id", "subnet-000000000000lab01", "ab"),
        ("attachment__instance_id", eni("a").instance_id, "a"),
        ("tag:role", "vip*", "b"),
        ("tag:nothing", "*", ""),
    ],
)
async def test_describe_filters(vpc: Vpc, boto: NewBoto, name: str, value: str, found: str) -> None:
    vpc.assign_v4(B, [V4], by="b")
    vpc.enis[B].tags["role"] = "vip.holder"
    assert await boto().described(**{name: value}) == [eni_id(each) for each in found]


async def test_several_filters_must_all_pass_and_an_unknown_one_is_refused(boto: NewBoto) -> None:
    both = {"mac_address": "02:00:00:00:01:0a", "network_interface_id": B}
    assert await boto().described(**both) == []
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        await boto().described(colour="red")


async def test_describe_may_lag_behind_the_write(vpc: Vpc, boto: NewBoto) -> None:
    client = boto()
    vpc.describe_lag_s = 1.0
    await client.assign("a", VIP4)
    assert await client.described(addresses__private_ip_address=VIP4) == []
    await until(lambda: V4 in vpc.describe_view(A))
    assert await client.described(addresses__private_ip_address=VIP4) == [A]


# ---------------------------------------------------------------------------- credentials and policies


async def test_only_known_keys_with_the_right_region_are_let_in(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    assert await boto(key="AKIASTRANGER").assign_refused("a", VIP4) == ("AuthFailure", 401)
    assert await boto(region="eu-west-1").assign_refused("a", VIP4) == ("AuthFailure", 401)
    ec2.credentials.clear()
    assert await boto().assign_refused("a", VIP4) == ("AuthFailure", 401)
    assert vpc.owner(V4) is None


@pytest.mark.parametrize("code", ["RequestExpired", "ExpiredToken"])
async def test_an_expired_token_is_refused_until_there_is_another(ec2: Ec2, boto: NewBoto, code: str) -> None:
    ec2.faults.expired[KEY_A] = code
    assert await boto().assign_refused("a", VIP4) == (code, 400)
    ec2.faults.expired.clear()
    await boto().assign("a", VIP4)


async def test_a_policy_denies_an_action_to_one_caller_or_to_all(ec2: Ec2, boto: NewBoto) -> None:
    ec2.faults.denied.add("a:AssignPrivateIpAddresses")
    assert await boto().assign_refused("a", VIP4) == ("UnauthorizedOperation", 403)
    await boto(key="AKIALABB").assign("a", VIP4)
    ec2.faults.denied.add("DescribeNetworkInterfaces")
    assert await boto(key="AKIALABB").refused("describe_network_interfaces") == ("UnauthorizedOperation", 403)


async def test_a_dry_run_tells_the_permission_and_nothing_else(ec2: Ec2, boto: NewBoto) -> None:
    assert await boto().refused("describe_network_interfaces", DryRun=True) == ("DryRunOperation", 412)
    ec2.faults.denied.add("DescribeNetworkInterfaces")
    assert await boto().refused("describe_network_interfaces", DryRun=True) == ("UnauthorizedOperation", 403)


# -------------------------------------------------------------------------------------- time and faults


async def test_a_write_is_applied_at_the_end_of_its_latency_and_logged_with_its_times(
    vpc: Vpc, ec2: Ec2, boto: NewBoto
) -> None:
    client, ec2.write_s = boto(), 0.2
    before = boottime()
    call = asyncio.create_task(client.assign("a", VIP4))
    await asyncio.sleep(0.1)
    assert vpc.owner(V4) is None
    await call
    (logged,) = ec2.log
    applied_at = vpc.history[-1].at
    assert before <= logged.started_at <= applied_at - 0.19
    assert applied_at <= logged.ended_at <= applied_at + 0.05
    assert logged == Call(
        logged.started_at, logged.ended_at, "AssignPrivateIpAddresses", "a", A, (V4,), "OK", answered=True
    )


async def test_a_write_is_applied_although_its_client_gave_up(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    ec2.latency_s["AssignPrivateIpAddresses"] = 0.3
    with pytest.raises(ReadTimeoutError):
        await boto(read_timeout_s=0.1).assign("a", VIP4)
    assert vpc.owner(V4) is None
    await until(lambda: vpc.owner(V4) == A)


async def test_of_two_writes_under_way_the_one_that_ends_last_has_the_address(
    vpc: Vpc, ec2: Ec2, boto: NewBoto
) -> None:
    first, second = boto(), boto(key="AKIALABB")
    ec2.write_s = 1.5
    slow = asyncio.create_task(first.assign("a", VIP4))
    await until(lambda: not ec2.log and ec2.buckets["AssignPrivateIpAddresses"].tokens == 49)
    ec2.write_s = 0.0
    await second.assign("b", VIP4)
    await slow
    assert [change.eni for change in vpc.history[-2:]] == [B, A]


async def test_a_late_write_is_never_answered_and_applied_all_the_same(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    impatient, other = boto(read_timeout_s=0.1), boto()
    ec2.faults.late_s, ec2.faults.late_calls = 0.6, 1
    with pytest.raises(ReadTimeoutError):
        await impatient.assign("a", VIP4)
    await other.assign("b", VIP4)
    assert vpc.owner(V4) == B
    await until(lambda: vpc.owner(V4) == A)
    assert last(ec2) == ("AssignPrivateIpAddresses", "a", A, "OK")
    assert not ec2.log[-1].answered
    assert ec2.log[-1].ended_at - ec2.log[-1].started_at >= 0.59


async def test_a_late_write_that_the_vpc_refuses_is_noted(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    ec2.faults.late_s = 0.05
    with pytest.raises(ReadTimeoutError):
        await boto(read_timeout_s=0.1).assign("a", "10.0.1.2")
    await until(lambda: bool(ec2.log))
    assert last(ec2) == ("AssignPrivateIpAddresses", "a", A, "InvalidParameterValue")


async def test_no_late_write_is_applied_once_the_server_has_stopped(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    ec2.faults.late_s = 0.3
    with pytest.raises(ReadTimeoutError):
        await boto(read_timeout_s=0.1).assign("a", VIP4)
    await ec2.stop()
    await asyncio.sleep(0.3)
    assert vpc.owner(V4) is None


async def test_calls_beyond_the_token_bucket_are_throttled_action_by_action(ec2: Ec2, boto: NewBoto) -> None:
    bucket = ec2.buckets["AssignPrivateIpAddresses"] = Bucket(capacity=2, refill=0)
    client = boto()
    await client.assign("a", VIP4)
    await client.assign("b", VIP4)
    assert await client.assign_refused("a", VIP4) == ("RequestLimitExceeded", 503)
    await client.assign("a", VIP6)
    bucket.refill = 1000
    await asyncio.sleep(0.01)
    await client.assign("a", VIP4)


def test_a_bucket_refills_up_to_its_capacity_and_no_further() -> None:
    bucket = Bucket(capacity=3, refill=1, tokens=0, at=boottime() - 3600)
    assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("code", "status"),
    [("InternalError", 500), ("Unavailable", 503), ("RequestLimitExceeded", 503), ("Throttling", 400)],
)
async def test_an_injected_error_lasts_for_so_many_calls(
    vpc: Vpc, ec2: Ec2, boto: NewBoto, code: str, status: int
) -> None:
    ec2.faults.error, ec2.faults.calls = code, 2
    client = boto()
    for _ in range(2):
        assert await client.assign_refused("a", VIP4) == (code, status)
        assert last(ec2) == ("AssignPrivateIpAddresses", "a", A, code)
    assert vpc.owner(V4) is None
    await client.assign("a", VIP4)


async def test_an_injected_error_may_concern_one_action_until_it_is_cleared(ec2: Ec2, boto: NewBoto) -> None:
    ec2.faults.error, ec2.faults.only = "InternalError", frozenset({"AssignIpv6Addresses"})
    client = boto()
    await client.assign("a", VIP4)
    for _ in range(3):
        assert await client.assign_refused("a", VIP6) == ("InternalError", 500)
    ec2.faults.error = None
    await client.assign("a", VIP6)


async def test_a_hanging_call_is_never_answered_nor_applied(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    ec2.faults.error, ec2.faults.calls = HANG, 1
    with pytest.raises(ReadTimeoutError):
        await boto(read_timeout_s=0.1).assign("a", VIP4)
    assert last(ec2) == ("AssignPrivateIpAddresses", "a", A, HANG)
    await boto().assign("b", VIP4)
    ec2.faults.hang = True
    with pytest.raises(ReadTimeoutError):
        await boto(read_timeout_s=0.1).assign("a", VIP4)
    await ec2.stop()
    assert vpc.owner(V4) == B


async def test_a_dropped_call_ends_with_a_broken_connection(vpc: Vpc, ec2: Ec2, boto: NewBoto) -> None:
    ec2.faults.error, ec2.faults.calls = DROP, 1
    with pytest.raises(ConnectionClosedError):
        await boto().assign("a", VIP4)
    assert (vpc.owner(V4), ec2.log[-1].outcome, ec2.log[-1].answered) == (None, DROP, False)


async def test_an_ec2_that_is_away_refuses_connections_and_comes_back_at_the_same_place(
    ec2: Ec2, boto: NewBoto
) -> None:
    client = boto()
    await client.assign("a", VIP4)
    await ec2.refuse()
    for _ in range(2):
        with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
            await client.assign("a", VIP4)
    with pytest.raises(EndpointConnectionError):
        await boto().assign("a", VIP4)
    await ec2.resume()
    await client.assign("a", VIP4)


async def test_many_clients_at_once_leave_one_owner_and_a_history_without_holes(
    vpc: Vpc, ec2: Ec2, boto: NewBoto
) -> None:
    clients = [boto(), boto(key="AKIALABB")]
    await asyncio.gather(*(clients[n % 2].assign("ab"[n % 2], VIP4) for n in range(20)))
    moves = [change for change in vpc.history if change.address == V4]
    assert all(one.eni != other.eni for one, other in itertools.pairwise(moves))
    assert [eni_ for eni_, record in vpc.enis.items() if V4 in record.addresses] == [moves[-1].eni]
    assert len(ec2.log) == 20


async def test_what_is_no_request_of_aws_is_refused(ec2: Ec2) -> None:
    assert await _status(ec2, "POST / HTTP/1.1", "Authorization: Basic abc") == 401
    assert await _status(ec2, "POST / HTTP/1.1", "X-Nothing: 1") == 401
    assert await _status(ec2, "GET /latest/meta-data HTTP/1.1", "X-Nothing: 1") == 404


async def _status(ec2: Ec2, line: str, header: str) -> int:
    host, port = ec2.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{line}\r\nHost: x\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 2)
    writer.close()
    return int(answer.split()[1])
