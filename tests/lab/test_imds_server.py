"""The lab's IMDSv2 over HTTP, with a bare client and with botocore's own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import aiohttp
import boto3
import botocore.session
import pytest
from aws_clients import KEY_A, VIP4, VIP6, eni, eni_id, ips
from botocore.utils import InstanceMetadataFetcher

from vipd.lab.ec2 import Ec2
from vipd.lab.imds import ROLE, TOKEN_HEADER, TTL_HEADER, Imds
from vipd.lab.vpc import Vpc

A = eni_id("a")
MACS = "meta-data/network/interfaces/macs"
MAC = eni("a").mac
IP_MINTTL = 21
"""Linux (ip(7)): a socket drops what comes with a lower TTL.  To the server it is as far away as a pod."""


class Curl:
    """A bare HTTP client of one IMDS."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session
        self.token = ""

    async def put(self, **headers: str) -> tuple[int, str]:
        """Status and body of a token request."""
        async with self.session.put(f"{self.url}/latest/api/token", headers=headers) as answer:
            return answer.status, await answer.text()

    async def log_in(self, ttl_s: int = 60) -> None:
        """Get a token and use it from now on."""
        status, self.token = await self.put(**{TTL_HEADER: str(ttl_s)})
        assert status == 200

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of a path below /latest/."""
        headers = {TOKEN_HEADER: self.token} if self.token else {}
        async with self.session.get(f"{self.url}/latest/{path}", headers=headers) as answer:
            return answer.status, await answer.text()

    async def text(self, path: str) -> str:
        """The body of a path that there is."""
        status, text = await self.get(path)
        assert status == 200, path
        return text


@pytest.fixture
async def curl(imds: Imds) -> AsyncIterator[Curl]:
    """A client without a token, which waits half a second at most."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as session:
        yield Curl(imds.url, session)


# ---------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("ttl", "status"), [("1", 200), ("21600", 200), ("0", 400), ("21601", 400), ("-5", 400), ("soon", 400), ("", 400)]
)
async def test_a_token_lives_one_second_to_six_hours(curl: Curl, ttl: str, status: int) -> None:
    assert (await curl.put(**{TTL_HEADER: ttl}))[0] == status


async def test_a_token_request_without_a_lifetime_or_from_a_proxy_is_refused(curl: Curl) -> None:
    assert (await curl.put())[0] == 400
    assert (await curl.put(**{TTL_HEADER: "60", "X-Forwarded-For": "10.0.1.5"}))[0] == 403


async def test_without_a_valid_token_nothing_is_told(imds: Imds, curl: Curl) -> None:
    assert (await curl.get("meta-data/instance-id"))[0] == 401
    curl.token = "made-up"
    assert (await curl.get("meta-data/instance-id"))[0] == 401
    await curl.log_in()
    assert await curl.text("meta-data/instance-id") == eni("a").instance_id
    imds.forget_tokens()
    assert (await curl.get("meta-data/instance-id"))[0] == 401


async def test_a_token_expires(curl: Curl) -> None:
    await curl.log_in(ttl_s=1)
    assert (await curl.get("meta-data/instance-id"))[0] == 200
    await asyncio.sleep(1.05)
    assert (await curl.get("meta-data/instance-id"))[0] == 401


@pytest.mark.parametrize(("hop_limit", "answered"), [(1, False), (2, True)])
async def test_the_answer_to_a_token_request_travels_no_further_than_the_hop_limit(
    imds: Imds, hop_limit: int, answered: bool
) -> None:
    imds.hop_limit = hop_limit
    host, port = imds.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, IP_MINTTL, 2)
    writer.write(f"PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\n{TTL_HEADER}: 60\r\n\r\n".encode())
    try:
        heard = (await asyncio.wait_for(reader.readline(), 2 if answered else 0.2)).startswith(b"HTTP/1.1 200")
    except TimeoutError:
        heard = False
    finally:
        writer.transport.abort()
    assert heard == answered


# ------------------------------------------------------------------------------------------------ tree


async def test_the_tree_tells_of_this_instances_enis_and_of_no_others(vpc: Vpc, curl: Curl) -> None:
    vpc.add(eni("c", instance_id=eni("a").instance_id, device_number=0))
    await curl.log_in()
    assert (await curl.text(f"{MACS}/")).split("\n") == [f"{eni('c').mac}/", f"{MAC}/"]
    assert await curl.text("meta-data/mac") == eni("c").mac
    assert (await curl.get(f"{MACS}/{eni('b').mac}/interface-id"))[0] == 404


async def test_an_eni_is_told_of_in_full(curl: Curl) -> None:
    await curl.log_in()
    told = {
        "device-number": "1",
        "interface-id": A,
        "ipv6s": "fd00:10:0:1::11",
        "local-ipv4s": "10.0.1.11",
        "mac": MAC,
        "owner-id": "123456789012",
        "subnet-id": "subnet-000000000000lab01",
        "subnet-ipv4-cidr-block": "10.0.1.0/24",
        "subnet-ipv6-cidr-blocks": "fd00:10:0:1::/64",
        "vpc-id": "vpc-0000000000lab0001",
        "vpc-ipv4-cidr-block": "10.0.0.0/16",
        "vpc-ipv4-cidr-blocks": "10.0.0.0/16",
    }
    assert {key: await curl.text(f"{MACS}/{MAC}/{key}") for key in told} == told
    assert (await curl.text(f"{MACS}/{MAC}/")).split("\n") == list(told)


async def test_prefixes_are_told_where_there_are_any(vpc: Vpc, curl: Curl) -> None:
    vpc.enis[A].prefixes4.append(IPv4Network("10.0.1.64/28"))
    vpc.enis[A].prefixes6.append(IPv6Network("fd00:10:0:1:aaaa::/80"))
    await curl.log_in()
    assert await curl.text(f"{MACS}/{MAC}/ipv4-prefix") == "10.0.1.64/28"
    assert await curl.text(f"{MACS}/{MAC}/ipv6-prefix") == "fd00:10:0:1:aaaa::/80"


async def test_a_key_without_a_value_is_absent(vpc: Vpc, curl: Curl) -> None:
    vpc.unassign_v6(A, eni("a").ipv6s, by="test")
    await curl.log_in()
    for path in (f"{MACS}/{MAC}/ipv6s", f"{MACS}/{MAC}/ipv4-prefix", f"{MACS}/02:00:00:00:00:99/", "nonsense"):
        assert (await curl.get(path))[0] == 404, path
    assert "ipv6s" not in await curl.text(f"{MACS}/{MAC}")


async def test_addresses_appear_after_the_lag_and_the_primary_stays_first(vpc: Vpc, curl: Curl) -> None:
    await curl.log_in()
    vpc.imds_lag_s = 0.5
    vpc.assign_v4(A, ips(VIP4), by="test")
    vpc.assign_v6(A, ips(VIP6), by="test")
    assert await curl.text(f"{MACS}/{MAC}/local-ipv4s") == "10.0.1.11"
    await asyncio.sleep(0.6)
    assert await curl.text(f"{MACS}/{MAC}/local-ipv4s") == f"10.0.1.11\n{VIP4}"
    assert await curl.text(f"{MACS}/{MAC}/ipv6s") == f"fd00:10:0:1::11\n{VIP6}"


async def test_the_instance_tells_where_it_is(curl: Curl) -> None:
    await curl.log_in()
    assert await curl.text("meta-data/placement/region") == "us-east-2"
    assert await curl.text("meta-data/placement/availability-zone") == "us-east-2a"
    identity = json.loads(await curl.text("dynamic/instance-identity/document"))
    assert (identity["region"], identity["instanceId"]) == ("us-east-2", eni("a").instance_id)
    assert (await curl.text("")).split("\n") == ["meta-data/", "dynamic/"]
    assert (await curl.text("meta-data/")).split("\n") == [
        "instance-id",
        "placement/",
        "mac",
        "local-ipv4",
        "network/",
        "iam/",
    ]


# ---------------------------------------------------------------------------------------------- faults


async def test_a_silent_imds_accepts_and_says_nothing(imds: Imds, curl: Curl) -> None:
    imds.faults.silent = True
    with pytest.raises(TimeoutError):
        await curl.put(**{TTL_HEADER: "60"})
    imds.faults.silent = False
    await curl.log_in()


@pytest.mark.parametrize("status", [403, 500, 503])
async def test_an_imds_in_trouble_answers_everything_with_that_status(imds: Imds, curl: Curl, status: int) -> None:
    await curl.log_in()
    imds.faults.status = status
    assert (await curl.put(**{TTL_HEADER: "60"}))[0] == status
    assert (await curl.get("meta-data/instance-id"))[0] == status
    imds.faults.status = None
    assert (await curl.get("meta-data/instance-id"))[0] == 200


async def test_a_slow_imds_answers_later(imds: Imds, curl: Curl) -> None:
    await curl.log_in()
    imds.faults.delay_s = 0.1
    began = asyncio.get_running_loop().time()
    assert (await curl.get("meta-data/instance-id"))[0] == 200
    assert asyncio.get_running_loop().time() - began >= 0.1


async def test_an_imds_that_is_down_refuses_connections_and_comes_back_with_its_tokens(imds: Imds, curl: Curl) -> None:
    await curl.log_in()
    await imds.refuse()
    for _ in range(2):
        with pytest.raises(aiohttp.ClientConnectorError):
            await curl.get("meta-data/instance-id")
    await imds.resume()
    assert (await curl.get("meta-data/instance-id"))[0] == 200


async def test_it_serves_on_a_socket_that_somebody_else_bound_also_over_ipv6(vpc: Vpc) -> None:
    bound = socket.create_server(("::1", 0), family=socket.AF_INET6)
    imds = await Imds(vpc, eni("a").instance_id).start(bound)
    async with aiohttp.ClientSession() as session:
        curl = Curl(imds.url, session)
        await curl.log_in()
        assert await curl.text(f"{MACS}/{MAC}/interface-id") == A
        assert (await curl.get("meta-data/iam/security-credentials/"))[0] == 404
    await imds.stop()


# -------------------------------------------------------------------------------------------- botocore


async def test_botocore_fetches_the_roles_credentials(imds: Imds) -> None:
    fetcher = InstanceMetadataFetcher(timeout=1, base_url=imds.url)
    found = await asyncio.to_thread(fetcher.retrieve_iam_role_credentials)
    assert (found["role_name"], found["access_key"]) == (ROLE, KEY_A)
    lasts = datetime.fromisoformat(found["expiry_time"]) - datetime.now(UTC)
    assert 6 * 3600 - 60 < lasts.total_seconds() <= 6 * 3600


async def test_botocore_finds_no_credentials_where_the_instance_has_no_role(imds: Imds) -> None:
    imds.access_key = ""
    fetcher = InstanceMetadataFetcher(timeout=1, base_url=imds.url)
    assert await asyncio.to_thread(fetcher.retrieve_iam_role_credentials) == {}


async def test_boto3_finds_its_credentials_by_itself_and_ec2_knows_them(
    vpc: Vpc, ec2: Ec2, imds: Imds, monkeypatch: pytest.MonkeyPatch, aws_session: boto3.Session
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", ec2.url)
    client: Any = await asyncio.to_thread(_own_client)
    await asyncio.to_thread(
        client.assign_private_ip_addresses, NetworkInterfaceId=A, PrivateIpAddresses=[VIP4], AllowReassignment=True
    )
    assert (vpc.owner(ips(VIP4)[0]), ec2.log[-1].caller) == (A, "a")


def _own_client() -> Any:
    return botocore.session.Session().create_client("ec2", region_name="us-east-2")
