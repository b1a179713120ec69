"""The EC2 calls there are, with outcomes for answers: None (or the data asked for), or a Refusal.

All of them block and belong into a worker thread; every one passes the gate of its attempt.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from vipd.aws.ec2 import Ec2
from vipd.aws.gate import Gate, RightOver
from vipd.aws.verdicts import OUTDATED, GarbledAnswer, Refusal, classify
from vipd.core.model import Address, AssignVerdict

T = TypeVar("T")


class Calls:
    """EC2 as one attempt may use it."""

    def __init__(self, ec2: Ec2, gate: Gate) -> None:
        self._ec2 = ec2
        self._gate = gate
        self.under_way = ""
        """The operation that was begun and has not ended; for messages."""

    def assign_ipv4(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        """AssignPrivateIpAddresses with AllowReassignment: takes them from any ENI of the subnet (not its primary)."""
        return self._none(
            "AssignPrivateIpAddresses",
            lambda: self._ec2.client().assign_private_ip_addresses(
                NetworkInterfaceId=eni, PrivateIpAddresses=_texts(addresses), AllowReassignment=True
            ),
        )

    def assign_ipv6(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        """AssignIpv6Addresses: refused for an address that another ENI has."""
        return self._none(
            "AssignIpv6Addresses",
            lambda: self._ec2.client().assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6Addresses=_texts(addresses)),
        )

    def unassign_ipv4(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        """UnassignPrivateIpAddresses: refused for all when one of them is not on this ENI, or is its primary."""
        return self._none(
            "UnassignPrivateIpAddresses",
            lambda: self._ec2.client().unassign_private_ip_addresses(
                NetworkInterfaceId=eni, PrivateIpAddresses=_texts(addresses)
            ),
        )

    def unassign_ipv6(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        """UnassignIpv6Addresses: refused for all when one of them is not on this ENI."""
        return self._none(
            "UnassignIpv6Addresses",
            lambda: self._ec2.client().unassign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6Addresses=_texts(addresses)),
        )

    def ipv6_owners(self, addresses: Sequence[Address]) -> dict[Address, str] | Refusal:
        """The ENI that has each address; one that nobody has is left out (DescribeNetworkInterfaces, may lag)."""
        wanted = frozenset(addresses)

        def work() -> dict[Address, str]:
            answer = _checked(
                self._ec2.client().describe_network_interfaces(
                    Filters=[{"Name": "ipv6-addresses.ipv6-address", "Values": _texts(addresses)}]
                )
            )
            with _reading():
                return {
                    address: eni["NetworkInterfaceId"]
                    for eni in answer["NetworkInterfaces"]
                    for each in eni.get("Ipv6Addresses", [])
                    if (address := ipaddress.ip_address(each["Ipv6Address"])) in wanted
                }

        return self._call("DescribeNetworkInterfaces", work)

    def addresses(self, eni: str) -> frozenset[Address] | Refusal:
        """Every IPv4 and IPv6 address that the ENI has (DescribeNetworkInterfaces, may lag).

        An answer without this very ENI says nothing of its addresses, least of all that it has none.
        """

        def work() -> frozenset[Address]:
            answer = _checked(self._ec2.client().describe_network_interfaces(NetworkInterfaceIds=[eni]))
            with _reading():
                [interface] = [each for each in answer["NetworkInterfaces"] if each["NetworkInterfaceId"] == eni]
                found = (
                    *(each["PrivateIpAddress"] for each in interface.get("PrivateIpAddresses", [])),
                    *(each["Ipv6Address"] for each in interface.get("Ipv6Addresses", [])),
                )
                return frozenset(ipaddress.ip_address(text) for text in found)

        return self._call("DescribeNetworkInterfaces", work)

    def tags(self, eni: str) -> dict[str, str] | Refusal:
        """The ENI's tags (DescribeNetworkInterfaces)."""

        def work() -> dict[str, str]:
            answer = _checked(self._ec2.client().describe_network_interfaces(NetworkInterfaceIds=[eni]))
            with _reading():
                [interface] = [each for each in answer["NetworkInterfaces"] if each["NetworkInterfaceId"] == eni]
                return {tag["Key"]: tag["Value"] for tag in interface.get("TagSet", [])}

        return self._call("DescribeNetworkInterfaces", work)

    def _none(self, operation: str, work: Callable[[], Any]) -> Refusal | None:
        outcome = self._call(operation, lambda: _checked(work()))
        return outcome if isinstance(outcome, Refusal) else None

    def _call(self, operation: str, work: Callable[[], T]) -> T | Refusal:
        from botocore.exceptions import HTTPClientError

        try:
            self._gate.check()
            self.under_way = operation
            with self._gate.guarding():
                return work()
        except RightOver:
            return _not_sent(operation)
        except Exception as error:  # noqa: BLE001 - classify() raises again what is not botocore's
            # Raised inside urllib3, the gate's own exception comes wrapped.
            if isinstance(error, HTTPClientError) and isinstance(error.kwargs.get("error"), RightOver):
                return _not_sent(operation)
            refusal = classify(error)
            if refusal.code in OUTDATED:
                self._ec2.forget()
            return refusal
        finally:
            self.under_way = ""


def _checked(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer, where EC2 gave it: every one of its answers bears a request's id.

    Any other XML under a status of 200 (a proxy's page) makes botocore return an empty answer, which would otherwise
    count as done.  Raises GarbledAnswer.
    """
    if not answer["ResponseMetadata"].get("RequestId"):
        raise GarbledAnswer("it is not EC2's: it bears no request id")
    return answer


@contextmanager
def _reading() -> Iterator[None]:
    """Raises GarbledAnswer where an element is missing or an address is none."""
    try:
        yield
    except (KeyError, ValueError) as error:
        raise GarbledAnswer(f"{type(error).__name__}: {error}") from error


def _not_sent(operation: str) -> Refusal:
    return Refusal(AssignVerdict.RIGHT_OVER, "right-over", f"the right to act ended before {operation} was sent")


def _texts(addresses: Sequence[Address]) -> list[str]:
    return [str(address) for address in addresses]
