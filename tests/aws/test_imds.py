"""The IMDSv2 client: tokens, hard limits, and what absence and silence mean."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aws_servers import Scripted, now

from vipd.aws.imds import IPV4_ENDPOINT, IPV6_ENDPOINT, Imds, ImdsError, endpoint_from
from vipd.aws.mapping import ImdsMapping
from vipd.core.model import Eni, Mapped
from vipd.errors import ConfigError

MAC = "02:00:00:00:01:0a"
MINE = Eni(id="eni-0000000000000000a", mac=MAC)
VIP4 = ipaddress.ip_address("10.0.1.100")
VIP6 = ipaddress.ip_address("fd00:10:0:1::100")
TOKEN = "PUT /latest/api/token"


@dataclass
class Metadata:
    """IMDSv2 as the user guide describes it: nothing without a valid token, 404 for absent keys."""

    keys: dict[str, str] = field(default_factory=dict)
    valid: set[str] = field(default_factory=set)
    issued: int = 0

    async def __call__(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            assert 1 <= int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
            self.issued += 1
            self.valid.add(f"token-{self.issued}")
            return web.Response(text=f"token-{self.issued}")
        if request.headers.get("X-aws-ec2-metadata-token") not in self.valid:
            return web.Response(status=401)
        text = self.keys.get(request.path.removeprefix("/latest/meta-data/").rstrip("/"))
        return web.Response(status=404) if text is None else web.Response(text=text)


@pytest.fixture
def metadata(scripted: Scripted) -> Metadata:
    at = f"network/interfaces/macs/{MAC}"
    served = Metadata(
        {
            "placement/region": "us-east-2",
            "network/interfaces/macs": f"{MAC}/\n02:00:00:00:01:ff/",
            f"{at}/interface-id": "eni-0000000000000000a",
            f"{at}/device-number": "1",
            f"{at}/vpc-id": "vpc-0000000000lab0001",
            f"{at}/subnet-ipv4-cidr-block": "10.0.1.0/24",
            f"{at}/subnet-ipv6-cidr-blocks": "fd00:10:0:1::/64",
            f"{at}/local-ipv4s": "10.0.1.11\n10.0.1.100",
            f"{at}/ipv4-prefix": "10.0.1.64/28\n10.0.1.80/28",
            f"{at}/ipv6-prefix": "fd00:10:0:1:7::/80",
        }
    )
    scripted.handler = served
    return served


@pytest.fixture
async def imds(scripted: Scripted, metadata: Metadata) -> Imds:
    # Not the limits of production: a busy machine may take its time over a dozen answers.
    return Imds(scripted.url, connect_s=5, total_s=10)


async def test_enis_are_told_by_mac_and_a_half_attached_one_is_left_out(imds: Imds) -> None:
    assert await imds.enis() == {
        MAC: Eni(
            id="eni-0000000000000000a",
            mac=MAC,
            device_number=1,
            subnet_cidrs=(ipaddress.ip_network("10.0.1.0/24"), ipaddress.ip_network("fd00:10:0:1::/64")),
            vpc_id="vpc-0000000000lab0001",
            primary=ipaddress.ip_address("10.0.1.11"),
            prefixes=tuple(map(ipaddress.ip_network, ("10.0.1.64/28", "10.0.1.80/28", "fd00:10:0:1:7::/80"))),
        )
    }
    await imds.close()


async def test_an_eni_without_prefixes_has_none(imds: Imds, metadata: Metadata) -> None:
    for family in ("ipv4", "ipv6"):
        del metadata.keys[f"network/interfaces/macs/{MAC}/{family}-prefix"]
    assert (await imds.enis())[MAC].prefixes == ()
    await imds.close()


async def test_all_of_an_eni_is_asked_for_at_the_same_time(scripted: Scripted, metadata: Metadata) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return await metadata(request)

    scripted.handler = slow
    imds = Imds(scripted.url, total_s=5)
    started = now()
    await imds.enis()
    assert now() - started < 0.7, "token, list, and eight keys that would take 0.8 s one after another"
    await imds.close()


async def test_one_token_serves_many_calls(imds: Imds, scripted: Scripted) -> None:
    await imds.enis()
    assert await imds.region() == "us-east-2"
    assert scripted.requests.count(TOKEN) == 1
    await imds.close()


async def test_a_token_is_renewed_before_its_end(scripted: Scripted, metadata: Metadata) -> None:
    imds = Imds(scripted.url, token_ttl_s=1)
    await imds.region()
    imds._renew_at -= 0.9
    await imds.region()
    assert [r for r in scripted.requests if r == TOKEN] == [TOKEN, TOKEN]
    assert metadata.issued == 2, "renewed by our clock, not by a refusal"
    assert scripted.requests.count("GET /latest/meta-data/placement/region") == 2
    await imds.close()


async def test_a_token_that_imds_forgot_is_fetched_anew_within_the_same_call(imds: Imds, metadata: Metadata) -> None:
    await imds.region()
    metadata.valid.clear()
    assert await imds.region() == "us-east-2"
    assert metadata.issued == 2
    await imds.close()


async def test_a_service_that_refuses_every_token_is_an_error_not_a_loop(scripted: Scripted) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(text="t") if request.method == "PUT" else web.Response(status=401)

    scripted.handler = refuse
    imds = Imds(scripted.url)
    with pytest.raises(ImdsError, match="HTTP 401"):
        await imds.region()
    assert len(scripted.requests) == 4
    await imds.close()


async def test_imds_switched_off_tells_what_to_do(scripted: Scripted) -> None:
    async def off(_request: web.Request) -> web.Response:
        return web.Response(status=403)

    scripted.handler = off
    imds = Imds(scripted.url)
    with pytest.raises(ImdsError, match=r"HTTP 403.*hop limit of 2.*--eni, --region and --subnet-cidr"):
        await imds.region()
    await imds.close()


async def test_silence_ends_within_the_limit(silence: str) -> None:
    imds = Imds(silence)
    started = now()
    with pytest.raises(ImdsError, match=r"no answer .* within 0\.5 s"):
        await imds.region()
    assert 0.4 < now() - started < 3
    started = now()
    assert await imds.ping(timeout_s=0.1) is False
    assert now() - started < 2
    await imds.close()


async def test_nobody_there_is_told_at_once() -> None:
    imds = Imds("http://127.0.0.1:9")
    assert await imds.ping() is False
    await imds.close()


async def test_no_proxy_is_ever_used(imds: Imds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert await imds.region() == "us-east-2"
    await imds.close()


def test_the_endpoint_is_the_one_botocore_would_use() -> None:
    assert endpoint_from({}) == IPV4_ENDPOINT
    assert endpoint_from({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}) == IPV6_ENDPOINT
    both = {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338/",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6",
    }
    assert endpoint_from(both) == "http://127.0.0.1:1338"
    with pytest.raises(ConfigError, match="IPv4 and IPv6"):
        endpoint_from({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv5"})


async def test_the_mapping_is_read_for_both_families(imds: Imds, metadata: Metadata) -> None:
    metadata.keys[f"network/interfaces/macs/{MAC}/ipv6s"] = "fd00:10:0:1::11\nfd00:10:0:1::100"
    mapping = ImdsMapping(imds)
    assert await mapping.read(MINE, [VIP4, VIP6], timeout_s=0.5) == {VIP4: Mapped.MINE, VIP6: Mapped.MINE}
    metadata.keys[f"network/interfaces/macs/{MAC}/local-ipv4s"] = "10.0.1.11"
    assert await mapping.read(MINE, [VIP4, VIP6], timeout_s=0.5) == {VIP4: Mapped.GONE, VIP6: Mapped.MINE}
    await imds.close()


async def test_an_absent_ipv6s_key_means_that_the_address_is_gone(imds: Imds) -> None:
    assert await ImdsMapping(imds).read(MINE, [VIP6], timeout_s=0.5) == {VIP6: Mapped.GONE}
    await imds.close()


async def test_an_eni_that_imds_does_not_know_is_unknown_for_ipv4(imds: Imds) -> None:
    other = Eni(id="eni-0000000000000000b", mac="02:00:00:00:01:0b")
    assert await ImdsMapping(imds).read(other, [VIP4], timeout_s=0.5) == {VIP4: Mapped.UNKNOWN}
    await imds.close()


async def test_only_the_families_in_question_are_asked_for(imds: Imds, scripted: Scripted) -> None:
    await ImdsMapping(imds).read(MINE, [VIP4], timeout_s=0.5)
    assert not any("ipv6s" in request for request in scripted.requests)
    await imds.close()


async def test_silence_is_unknown_for_all_within_the_time_given(silence: str) -> None:
    imds = Imds(silence)
    started = now()
    assert await ImdsMapping(imds).read(MINE, [VIP4, VIP6], timeout_s=0.2) == {
        VIP4: Mapped.UNKNOWN,
        VIP6: Mapped.UNKNOWN,
    }
    assert now() - started < 2
    await imds.close()


async def test_nonsense_in_place_of_addresses_is_unknown(imds: Imds, metadata: Metadata) -> None:
    metadata.keys[f"network/interfaces/macs/{MAC}/local-ipv4s"] = "<html>log in first</html>"
    assert await ImdsMapping(imds).read(MINE, [VIP4], timeout_s=0.5) == {VIP4: Mapped.UNKNOWN}
    await imds.close()
