"""The VPC's rules, and the order and lag of its views."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from aws_clients import VIP4, VIP6, eni, eni_id, ips

from vipd.core.model import Address
from vipd.lab.vpc import Ec2Refusal, Remap, Vpc

A, B = eni_id("a"), eni_id("b")
(V4,), (V6,) = ips(VIP4), ips(VIP6)
INVALID = "InvalidParameterValue"


def changes(history: list[Remap]) -> list[tuple[Address, str | None, str]]:
    """What happened after the ENIs had been attached."""
    return [(remap.address, remap.eni, remap.by) for remap in history if remap.by != "attach"]


def refusal(call: object, *arguments: object, **options: object) -> tuple[str, str]:
    """The code and the message with which the call is refused."""
    assert callable(call)
    with pytest.raises(Ec2Refusal) as refused:
        call(*arguments, **options, by="test")
    return refused.value.code, refused.value.message


def test_an_address_moves_with_reassignment_and_every_view_agrees(vpc: Vpc) -> None:
    vpc.assign_v4(A, [V4], by="a")
    vpc.assign_v4(B, [V4], allow_reassignment=True, by="b")
    assert (vpc.owner(V4), vpc.reached(V4)) == (B, B)
    assert V4 not in vpc.imds_view(A)
    assert V4 in vpc.imds_view(B)
    assert V4 in vpc.describe_view(B)
    assert changes(vpc.history) == changes(vpc.delivered) == [(V4, A, "a"), (V4, B, "b")]


def test_an_address_of_another_eni_stays_there_without_reassignment(vpc: Vpc) -> None:
    vpc.assign_v4(A, [V4], by="a")
    assert refusal(vpc.assign_v4, B, [V4]) == (INVALID, "[10.0.1.100] assigned, but move is not allowed.")
    assert vpc.owner(V4) == A


def test_assigning_what_the_eni_has_already_is_no_change(vpc: Vpc) -> None:
    vpc.assign_v4(A, [V4], by="a")
    vpc.assign_v6(A, [V6], by="a")
    before = list(vpc.history)
    vpc.assign_v4(A, [V4, V4, vpc.enis[A].primary], by="a")
    vpc.assign_v6(A, [V6], by="a")
    assert vpc.history == before
    assert vpc.enis[A].secondaries == [V4]


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("10.0.2.5", "does not fall within the subnet's address range"),
        ("10.0.1.0", "reserved"),
        ("10.0.1.3", "reserved"),
        ("10.0.1.255", "reserved"),
        ("10.0.1.12", "primary"),
        ("10.0.1.66", "within a prefix"),
        (VIP6, "invalid value for parameter address"),
    ],
)
def test_an_ipv4_address_that_cannot_be_assigned_fails_the_whole_call(vpc: Vpc, address: str, part: str) -> None:
    vpc.add(eni("c", prefixes4=[IPv4Network("10.0.1.64/28")]))
    before = list(vpc.history)
    code, message = refusal(vpc.assign_v4, A, ips(VIP4, address), allow_reassignment=True)
    assert code == INVALID
    assert part in message
    assert vpc.history == before
    assert vpc.owner(V4) is None


def test_the_last_address_that_is_not_reserved_can_be_assigned(vpc: Vpc) -> None:
    vpc.assign_v4(A, ips("10.0.1.4", "10.0.1.254"), by="a")
    assert vpc.owner(ip_address("10.0.1.254")) == A


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("fd00:10:0:2::5", "does not fall within"),
        ("fd00:10:0:1::3", "reserved"),
        ("fd00:10:0:1:ffff:ffff:ffff:ffff", "reserved"),
        ("fd00:10:0:1::12", "already assigned"),
        ("fd00:10:0:1:aaaa::1", "within a prefix"),
        (VIP4, "invalid value for parameter address"),
    ],
)
def test_an_ipv6_address_that_cannot_be_assigned_fails_the_whole_call(vpc: Vpc, address: str, part: str) -> None:
    vpc.enis[B].ipv6s.append(ip_address("fd00:10:0:1::12"))
    vpc.add(eni("c", prefixes6=[IPv6Network("fd00:10:0:1:aaaa::/80")]))
    before = list(vpc.history)
    code, message = refusal(vpc.assign_v6, A, ips(VIP6, address))
    assert code == INVALID
    assert part in message
    assert vpc.history == before
    assert vpc.owner(V6) is None


def test_an_ipv6_address_moves_by_unassigning_first(vpc: Vpc) -> None:
    vpc.assign_v6(A, [V6], by="a")
    vpc.unassign_v6(A, [V6], by="b")
    assert vpc.reached(V6) is None
    vpc.assign_v6(B, [V6], by="b")
    assert changes(vpc.delivered) == [(V6, A, "a"), (V6, None, "b"), (V6, B, "b")]


def test_the_ipv4_limit_counts_the_primary_and_prefixes_and_holds_for_moved_addresses(vpc: Vpc) -> None:
    vpc.add(eni("c", limit4=4, prefixes4=[IPv4Network("10.0.1.64/28")]))
    vpc.assign_v4(A, [V4], by="a")
    two = ips("10.0.1.101", "10.0.1.102")
    vpc.assign_v4(eni_id("c"), two, by="c")
    code, message = refusal(vpc.assign_v4, eni_id("c"), [V4], allow_reassignment=True)
    assert (code, message) == ("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
    assert vpc.owner(V4) == A
    vpc.assign_v4(eni_id("c"), two, by="c")


def test_an_eni_full_of_ipv6_addresses_takes_no_more(vpc: Vpc) -> None:
    vpc.add(eni("c", limit6=2))
    vpc.assign_v6(eni_id("c"), [V6], by="c")
    code, message = refusal(vpc.assign_v6, eni_id("c"), ips("fd00:10:0:1::101"))
    assert code == INVALID
    assert message.startswith("Address count 3 per interface exceeds the limit")


def test_only_what_the_eni_has_can_be_unassigned_and_never_its_primary(vpc: Vpc) -> None:
    vpc.assign_v4(A, [V4], by="a")
    vpc.assign_v6(A, [V6], by="a")
    for call, eni_, addresses in (
        (vpc.unassign_v4, B, [V4]),
        (vpc.unassign_v4, A, ips(VIP4, "10.0.1.101")),
        (vpc.unassign_v4, A, ips(VIP4, "10.0.1.11")),
        (vpc.unassign_v6, B, [V6]),
        (vpc.unassign_v6, A, ips(VIP6, "fd00:10:0:1::101")),
    ):
        assert refusal(call, eni_, addresses)[0] == INVALID
    assert (vpc.owner(V4), vpc.owner(V6)) == (A, A)
    vpc.unassign_v4(A, [V4], by="a")
    assert vpc.owner(V4) is None


def test_an_unknown_eni_is_not_found_and_an_id_of_another_kind_is_malformed(vpc: Vpc) -> None:
    assert refusal(vpc.assign_v4, "eni-0123", [V4])[0] == "InvalidNetworkInterfaceID.NotFound"
    assert refusal(vpc.unassign_v6, "eni-0123", [V6])[0] == "InvalidNetworkInterfaceID.NotFound"
    assert refusal(vpc.assign_v4, "vol-0123", [V4])[0] == "InvalidNetworkInterfaceId.Malformed"


@pytest.mark.parametrize("address", [V4, V6])
def test_a_third_party_takes_an_address_from_whoever_has_it(vpc: Vpc, address: Address) -> None:
    (vpc.assign_v4 if address.version == 4 else vpc.assign_v6)(A, [address], by="a")
    vpc.steal(address, B)
    assert vpc.owner(address) == B
    assert vpc.history[-1].by == "third-party"
    vpc.forget([address])
    assert vpc.owner(address) is None


@pytest.mark.parametrize(
    "other", [eni("a"), eni("c", mac=eni("a").mac), eni("c", primary=eni("a").primary), eni("c", ipv6s=ips("fd00::5"))]
)
def test_an_eni_that_contradicts_the_others_is_not_attached(vpc: Vpc, other: object) -> None:
    before = dict(vpc.enis)
    with pytest.raises(ValueError, match=r"eni-0"):
        vpc.add(other)  # type: ignore[arg-type]
    assert vpc.enis == before


@pytest.mark.parametrize("late", ["remap_lag_s", "imds_lag_s", "describe_lag_s"])
async def test_each_view_follows_after_its_own_lag(vpc: Vpc, late: str) -> None:
    setattr(vpc, late, 0.05)
    vpc.assign_v4(A, [V4], by="a")
    assert vpc.owner(V4) == A
    assert _views(vpc) == {"remap_lag_s", "imds_lag_s", "describe_lag_s"} - {late}
    await asyncio.sleep(0.1)
    assert _views(vpc) == {"remap_lag_s", "imds_lag_s", "describe_lag_s"}


def _views(vpc: Vpc) -> set[str]:
    """The lags of the views that show the VIP on ENI a."""
    views = {
        "remap_lag_s": vpc.reached(V4) == A,
        "imds_lag_s": V4 in vpc.imds_view(A),
        "describe_lag_s": V4 in vpc.describe_view(A),
    }
    return {lag for lag, shows in views.items() if shows}


async def test_what_is_delivered_late_is_recorded_when_it_was_delivered(vpc: Vpc) -> None:
    vpc.remap_lag_s = 0.05
    vpc.assign_v4(A, [V4], by="a")
    await asyncio.sleep(0.1)
    assert changes(vpc.history) == changes(vpc.delivered) == [(V4, A, "a")]
    assert vpc.delivered[-1].at - vpc.history[-1].at >= 0.045


async def test_the_data_plane_changes_in_the_order_of_the_calls_even_when_the_lag_shrinks(vpc: Vpc) -> None:
    heard: list[tuple[Address, str | None]] = []
    vpc.on_mapping(lambda address, to: heard.append((address, to)))
    for lag_s, to in ((0.05, A), (0.01, B), (0.0, A), (0.0, B)):
        vpc.remap_lag_s = lag_s
        vpc.steal(V4, to)
    assert heard == []
    await asyncio.sleep(0.1)
    assert heard == [(V4, A), (V4, B), (V4, A), (V4, B)]


def test_what_a_listener_changes_itself_is_told_after_what_it_was_told(vpc: Vpc) -> None:
    async def scenario() -> list[str | None]:
        heard: list[str | None] = []
        vpc.on_mapping(lambda address, to: vpc.steal(V4, A) if to == B else None)
        vpc.on_mapping(lambda address, to: heard.append(to))
        vpc.steal(V4, B)
        await asyncio.sleep(0.01)
        return heard

    assert asyncio.run(scenario()) == [B, A]
