"""Which ENI stands behind an interface, and which VIPs can never live there."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import replace

import pytest

from vipd.aws.discovery import (
    Ambiguous,
    Nobody,
    Outside,
    Reserved,
    Taken,
    already_there,
    check_fits,
    eni_for,
    find_eni,
    find_region,
    match_eni,
)
from vipd.aws.imds import Imds
from vipd.core.model import Eni, Vip
from vipd.errors import AwsError, ConfigError

ip = ipaddress.ip_address
A = Eni(
    id="eni-0000000000000000a",
    mac="02:00:00:00:01:0a",
    device_number=1,
    subnet_cidrs=(ipaddress.ip_network("10.0.1.0/24"), ipaddress.ip_network("fd00:10:0:1::/64")),
)
GIVEN = replace(A, primary=ipaddress.ip_address("10.0.1.11"), prefixes=(ipaddress.ip_network("10.0.1.32/28"),))
TWIN = Eni(id="eni-0000000000000001a", mac="02:00:00:00:01:1a", device_number=2, subnet_cidrs=A.subnet_cidrs)
OTHER = Eni(
    id="eni-0000000000000002a",
    mac="02:00:00:00:02:0a",
    device_number=3,
    subnet_cidrs=(ipaddress.ip_network("10.0.2.0/24"),),
)


UNKNOWN_MAC = "de:ad:00:00:00:01"
PREFIXED = dataclasses.replace(
    TWIN,
    primary=ip("10.0.1.11"),
    prefixes=(ipaddress.ip_network("10.0.1.64/28"), ipaddress.ip_network("fd00:10:0:1:7::/80")),
)


def vip(text: str) -> Vip:
    address = ip(text)
    return Vip(address, address.max_prefixlen, "net1")


def test_the_mac_decides_even_where_two_enis_share_a_subnet() -> None:
    assert match_eni([TWIN, A, OTHER], interface="net1", mac="02:00:00:00:01:0A", addresses=[ip("10.0.1.11")]) is A


def test_an_unknown_mac_falls_back_to_the_subnet_of_the_interfaces_addresses() -> None:
    found = match_eni([OTHER, A], interface="net1", mac="de:ad:00:00:00:01", addresses=[ip("fe80::1"), ip("10.0.1.11")])
    assert found is A


class Listing:
    """IMDS that lists these, one list an answer; the last one for ever."""

    def __init__(self, *answers: list[Eni]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def enis(self) -> dict[str, Eni]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return {eni.mac: eni for eni in answer}


async def test_an_eni_that_is_listed_only_when_asked_again_goes_before_another_one_of_its_subnet() -> None:
    imds = Listing([A, OTHER], [A, OTHER, TWIN])
    found = await find_eni(imds, interface="net2", mac=TWIN.mac, vips=[vip("10.0.1.100")])  # type: ignore[arg-type]
    assert found is TWIN


async def test_a_mac_that_is_not_listed_when_asked_again_is_left_to_the_subnet() -> None:
    imds = Listing([A, OTHER])
    found = await find_eni(imds, interface="net1", mac=UNKNOWN_MAC, vips=[vip("10.0.1.100")])  # type: ignore[arg-type]
    assert (found, imds.asked) == (A, 2)


async def test_a_mac_that_is_listed_is_asked_for_once() -> None:
    imds = Listing([A, TWIN])
    found = await find_eni(imds, interface="net1", mac=A.mac, vips=[vip("10.0.1.100")])  # type: ignore[arg-type]
    assert (found, imds.asked) == (A, 1)


def test_an_interface_without_addresses_is_matched_by_the_subnet_of_its_vip() -> None:
    found = match_eni([OTHER, A], interface="net1", mac="de:ad:00:00:00:01", vips=[vip("fd00:10:0:1::100")])
    assert found is A


def test_two_enis_in_one_subnet_are_refused_with_both_names_and_the_way_out() -> None:
    with pytest.raises(ConfigError, match="more than one ENI") as refused:
        match_eni([A, TWIN, OTHER], interface="net1", mac="de:ad:00:00:00:01", addresses=[ip("10.0.1.50")])
    assert A.id in str(refused.value)
    assert TWIN.id in str(refused.value)
    assert OTHER.id not in str(refused.value)
    assert "--eni" in str(refused.value)


def test_no_match_names_the_interface_and_the_enis_there_are() -> None:
    with pytest.raises(ConfigError, match=r"net1: no ENI of this node .*de:ad:00:00:00:01") as refused:
        match_eni([A], interface="net1", mac="de:ad:00:00:00:01", addresses=[ip("192.0.2.1")])
    assert A.id in str(refused.value)


def test_good_vips_of_both_families_fit() -> None:
    check_fits(A, [vip("10.0.1.100"), vip("fd00:10:0:1::100"), vip("10.0.1.4"), vip("10.0.1.254")])


def test_without_a_known_subnet_nothing_is_refused() -> None:
    check_fits(Eni(id="eni-1", mac="02:00:00:00:00:01"), [vip("198.51.100.1")])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.0.2.100", r"outside the subnet of eni-0000000000000000a; .*10\.0\.1\.0/24"),
        ("fd00:10:0:2::100", r"outside the subnet of eni-0000000000000000a; .*fd00:10:0:1::/64"),
        ("10.0.1.0", r"AWS reserves 10\.0\.1\.0 .*allowed are 10\.0\.1\.4 to 10\.0\.1\.254"),
        ("10.0.1.3", r"AWS reserves 10\.0\.1\.3"),
        ("10.0.1.255", r"AWS reserves 10\.0\.1\.255"),
        ("fd00:10:0:1::3", r"AWS reserves fd00:10:0:1::3"),
        ("fd00:10:0:1:ffff:ffff:ffff:ffff", r"AWS reserves"),
        ("10.0.1.11", r"10\.0\.1\.11 is the primary address of eni-0000000000000000a, and cannot move"),
        (
            "10.0.1.37",
            r"10\.0\.1\.37 is in the prefix 10\.0\.1\.32/28, .*delegated to eni-0000000000000000a, and cannot",
        ),
    ],
)
def test_a_vip_that_ec2_could_never_map_is_refused_beforehand(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_fits(GIVEN, [vip("10.0.1.100"), vip(address)])


def test_an_ipv6_vip_on_a_subnet_without_ipv6_says_so() -> None:
    with pytest.raises(ConfigError, match="has no IPv6 CIDR block"):
        check_fits(OTHER, [vip("fd00:10:0:1::100")])


# ---------------------------------------------------------------------------------- one address of a pod


def test_the_mac_names_the_eni_of_an_address_even_where_two_share_a_subnet() -> None:
    assert eni_for([TWIN, A, OTHER], mac="02:00:00:00:01:0A", address=ip("10.0.1.50")) is A
    assert eni_for([TWIN, A, OTHER], mac=TWIN.mac, address=ip("fd00:10:0:1::50")) is TWIN


@pytest.mark.parametrize("address", ["10.0.1.50", "fd00:10:0:1::50"])
def test_an_unknown_mac_leaves_it_to_the_subnet_of_the_address(address: str) -> None:
    assert eni_for([OTHER, A], mac=UNKNOWN_MAC, address=ip(address)) is A


def test_every_cidr_block_of_a_subnet_counts() -> None:
    second = dataclasses.replace(A, subnet_cidrs=(*A.subnet_cidrs, ipaddress.ip_network("fd00:10:0:9::/64")))
    assert eni_for([OTHER, second], mac=UNKNOWN_MAC, address=ip("fd00:10:0:9::50")) is second


def test_without_a_known_subnet_the_mac_suffices() -> None:
    bare = Eni(id="eni-1", mac="02:00:00:00:00:01")
    assert eni_for([bare], mac=bare.mac, address=ip("198.51.100.1")) is bare


def test_several_enis_in_the_subnet_of_an_unknown_mac_are_ambiguous_and_named() -> None:
    found = eni_for([A, TWIN, OTHER], mac=UNKNOWN_MAC, address=ip("10.0.1.50"))
    assert isinstance(found, Ambiguous)
    assert all(word in found.detail for word in (A.id, TWIN.id, UNKNOWN_MAC, "10.0.1.50", "--eni"))
    assert OTHER.id not in found.detail


@pytest.mark.parametrize("address", ["10.0.1.11", "10.0.1.70", "fd00:10:0:1:7::1"])
def test_a_primary_address_or_a_prefix_tells_the_twins_apart(address: str) -> None:
    assert eni_for([A, PREFIXED], mac=UNKNOWN_MAC, address=ip(address)) is PREFIXED


@pytest.mark.parametrize("enis", [[], [A, OTHER]])
def test_an_address_of_no_subnet_under_an_unknown_mac_is_nobodys(enis: list[Eni]) -> None:
    found = eni_for(enis, mac=UNKNOWN_MAC, address=ip("192.168.7.7"))
    assert isinstance(found, Nobody)
    assert "192.168.7.7" in found.detail
    assert all(eni.id in found.detail for eni in enis)


@pytest.mark.parametrize("address", ["10.0.2.50", "192.168.7.7", "fd00:10:0:2::1"])
def test_an_address_outside_the_subnet_of_its_eni_is_told_with_what_is_allowed(address: str) -> None:
    found = eni_for([A, OTHER], mac=A.mac, address=ip(address))
    assert isinstance(found, Outside)
    block = A.subnet_cidrs[0 if ip(address).version == 4 else 1]
    assert all(word in found.detail for word in (address, A.id, str(block)))


@pytest.mark.parametrize("mac", [A.mac, UNKNOWN_MAC])
@pytest.mark.parametrize("address", ["10.0.1.1", "10.0.1.255", "fd00:10:0:1::"])
def test_a_reserved_address_is_told_with_what_is_allowed(address: str, mac: str) -> None:
    found = eni_for([A, OTHER], mac=mac, address=ip(address))
    assert isinstance(found, Reserved)
    assert f"AWS reserves {ip(address)}" in found.detail


@pytest.mark.parametrize("address", ["10.0.1.11", "10.0.1.70", "fd00:10:0:1:7::1"])
def test_what_another_eni_of_the_node_can_never_give_is_not_asked_for(address: str) -> None:
    found = eni_for([A, PREFIXED], mac=A.mac, address=ip(address))
    assert isinstance(found, Taken)
    assert all(word in found.detail for word in (address, A.id, PREFIXED.id))


def test_every_reason_is_one_line() -> None:
    asked = [(A.mac, "10.0.2.50"), (A.mac, "10.0.1.1"), (UNKNOWN_MAC, "10.0.1.50"), (UNKNOWN_MAC, "192.168.7.7")]
    for mac, address in asked:
        found = eni_for([A, TWIN], mac=mac, address=ip(address))
        assert not isinstance(found, Eni)
        assert "\n" not in found.detail


def test_an_enis_own_primary_and_its_prefixes_are_mapped_already() -> None:
    assert already_there(PREFIXED, ip("10.0.1.11")) == f"10.0.1.11 is the primary address of {TWIN.id}"
    assert "10.0.1.64/28" in already_there(PREFIXED, ip("10.0.1.79"))
    assert "fd00:10:0:1:7::/80" in already_there(PREFIXED, ip("fd00:10:0:1:7::9"))
    assert already_there(PREFIXED, ip("10.0.1.80")) == ""
    assert already_there(A, ip("10.0.1.11")) == ""


async def test_the_region_comes_from_the_flag_then_both_variables() -> None:
    imds = Imds("http://127.0.0.1:9")
    env = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}
    assert await find_region("us-east-2", env, imds) == "us-east-2"
    assert await find_region(None, env, imds) == "eu-west-1"
    assert await find_region(None, {"AWS_DEFAULT_REGION": "eu-west-2"}, imds) == "eu-west-2"


async def test_no_region_anywhere_says_what_was_looked_at() -> None:
    imds = Imds("http://127.0.0.1:9")
    with pytest.raises(AwsError, match="AWS_DEFAULT_REGION"):
        await find_region(None, {}, imds)
    await imds.close()
