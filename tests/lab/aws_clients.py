"""What the tests of the lab's AWS side share: ENIs with the lab's usual numbers, and boto3 as a coroutine."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from vipd.core.model import Address
from vipd.lab.vpc import LAB_SUBNET, EniRecord

VIP4, VIP6 = "10.0.1.100", "fd00:10:0:1::100"
KEY_A, KEY_B = "AKIALABA", "AKIALABB"


def eni_id(name: str) -> str:
    """The id of that node's ENI."""
    return f"eni-{name:0>17}"


def eni(name: str, **more: Any) -> EniRecord:
    """The ENI of node a, b ..., with whatever is to differ."""
    number = ord(name) - ord("a") + 1
    usual: dict[str, Any] = {
        "id": eni_id(name),
        "mac": f"02:00:00:00:01:{9 + number:02x}",
        "subnet": LAB_SUBNET,
        "primary": ip_address(f"10.0.1.{10 + number}"),
        "ipv6s": [ip_address(f"fd00:10:0:1::{10 + number}")],
        "instance_id": f"i-{name:0>17}",
    }
    return EniRecord(**(usual | more))


def ips(*texts: str) -> list[Address]:
    """Addresses, for brevity."""
    return [ip_address(text) for text in texts]


class Boto:
    """An EC2 client of boto3 that is called from a thread, as it blocks."""

    def __init__(
        self,
        session: boto3.Session,
        url: str,
        *,
        key: str | None = KEY_A,
        region: str = "us-east-2",
        read_timeout_s: float = 5.0,
    ) -> None:
        """``key`` None: boto3 finds credentials for itself."""
        secret = {} if key is None else {"aws_access_key_id": key, "aws_secret_access_key": "not-a-secret"}
        config = Config(connect_timeout=1, read_timeout=read_timeout_s, retries={"total_max_attempts": 1})
        self._client = session.client("ec2", endpoint_url=url, region_name=region, config=config, **secret)

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The answer.  Raises botocore's exceptions."""
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self._client, operation), **parameters)
        return answer

    async def refused(self, operation: str, **parameters: Any) -> tuple[str, int]:
        """The error code and the HTTP status with which the call was refused."""
        try:
            answer = await self.call(operation, **parameters)
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        raise AssertionError(f"{operation} was not refused: {answer}")

    async def assign(self, name: str, *addresses: str, reassign: bool = True) -> dict[str, Any]:
        """AssignPrivateIpAddresses or AssignIpv6Addresses, as the first address wants it."""
        if ":" in addresses[0]:
            return await self.call(
                "assign_ipv6_addresses", NetworkInterfaceId=eni_id(name), Ipv6Addresses=list(addresses)
            )
        return await self.call(
            "assign_private_ip_addresses",
            NetworkInterfaceId=eni_id(name),
            PrivateIpAddresses=list(addresses),
            AllowReassignment=reassign,
        )

    async def assign_refused(self, name: str, *addresses: str, **options: Any) -> tuple[str, int]:
        """The error code and HTTP status with which ``assign`` was refused."""
        try:
            answer = await self.assign(name, *addresses, **options)
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        raise AssertionError(f"{addresses} were not refused: {answer}")

    async def described(self, **filters: str) -> list[str]:
        """The ids of the ENIs that pass ``name="value"`` (underscores stand for dashes, two for a dot)."""
        wanted = [
            {"Name": name.replace("__", ".").replace("_", "-"), "Values": [value]} for name, value in filters.items()
        ]
        answer = await self.call("describe_network_interfaces", Filters=wanted)
        return [each["NetworkInterfaceId"] for each in answer["NetworkInterfaces"]]
