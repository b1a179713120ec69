"""The five actions of the lab's EC2: from the parameters of a Query request to a call of the VPC, and to the answer.

Parameters and answers are those of the EC2 API Reference for each action.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

from vipd.core.model import Address
from vipd.lab.vpc import Ec2Refusal, EniRecord, Vpc, parse_addresses

Form = Mapping[str, str]
Content = Mapping[str, object]
Action = Callable[[Vpc, Form, str], Content]
"""(vpc, parameters, caller) to the content of the answer.  Raises Ec2Refusal."""

ACCOUNT = "123456789012"


def listed(form: Form, name: str) -> list[str]:
    """The values of ``name.1``, ``name.2`` ... in the order of their numbers."""
    numbered = [(int(m[1]), value) for key, value in form.items() if (m := re.fullmatch(rf"{name}\.(\d+)", key))]
    return [value for _, value in sorted(numbered)]


def addresses_of(form: Form) -> list[Address]:
    """The addresses that an assigning or unassigning request names.  Raises Ec2Refusal."""
    return parse_addresses(listed(form, "PrivateIpAddress") + listed(form, "Ipv6Addresses"))


def _named(form: Form) -> list[Address]:
    for key in form:
        if "Prefix" in key or key.endswith("Count"):
            raise Ec2Refusal("UnsupportedOperation", f"This EC2 chooses no addresses and delegates no prefixes: {key}")
    addresses = addresses_of(form)
    if not addresses:
        raise Ec2Refusal("MissingParameter", "The request must contain at least one address")
    return addresses


def _assign_v4(vpc: Vpc, form: Form, caller: str) -> Content:
    eni, addresses = form.get("NetworkInterfaceId", ""), _named(form)
    reassign = form.get("AllowReassignment", "false").lower() == "true"
    vpc.assign_v4(eni, addresses, allow_reassignment=reassign, by=caller)
    return {
        "networkInterfaceId": eni,
        "assignedPrivateIpAddressesSet": [{"privateIpAddress": address} for address in addresses],
        "assignedIpv4PrefixSet": [],
        "return": True,
    }


def _unassign_v4(vpc: Vpc, form: Form, caller: str) -> Content:
    vpc.unassign_v4(form.get("NetworkInterfaceId", ""), _named(form), by=caller)
    return {"return": True}


def _assign_v6(vpc: Vpc, form: Form, caller: str) -> Content:
    eni, addresses = form.get("NetworkInterfaceId", ""), _named(form)
    vpc.assign_v6(eni, addresses, by=caller)
    return {"networkInterfaceId": eni, "assignedIpv6Addresses": addresses, "assignedIpv6PrefixSet": []}


def _unassign_v6(vpc: Vpc, form: Form, caller: str) -> Content:
    eni, addresses = form.get("NetworkInterfaceId", ""), _named(form)
    vpc.unassign_v6(eni, addresses, by=caller)
    return {"networkInterfaceId": eni, "unassignedIpv6Addresses": addresses, "unassignedIpv6PrefixSet": []}


def _describe(vpc: Vpc, form: Form, caller: str) -> Content:
    wanted = listed(form, "NetworkInterfaceId")
    enis = [vpc.eni(eni) for eni in wanted] if wanted else list(vpc.enis.values())
    for number in listed_numbers(form, "Filter"):
        name, values = form.get(f"Filter.{number}.Name", ""), listed(form, rf"Filter\.{number}\.Value")
        enis = [eni for eni in enis if _passes(vpc, eni, name, values)]
    return {"networkInterfaceSet": [_interface(vpc, eni) for eni in enis]}


def listed_numbers(form: Form, name: str) -> list[int]:
    """The numbers n for which there is a ``name.n.<something>``."""
    return sorted({int(m[1]) for key in form if (m := re.match(rf"{name}\.(\d+)\.", key))})


def _passes(vpc: Vpc, eni: EniRecord, name: str, values: Sequence[str]) -> bool:
    seen = vpc.describe_view(eni.id)
    fours, sixes = [str(a) for a in seen if a.version == 4], [str(a) for a in seen if a.version == 6]
    known = {
        "network-interface-id": [eni.id],
        "private-ip-address": [str(eni.primary)],
        "addresses.private-ip-address": fours,
        "ipv6-addresses.ipv6-address": sixes,
        "mac-address": [eni.mac],
        "subnet-id": [eni.subnet.id],
        "vpc-id": [eni.subnet.vpc_id],
        "attachment.instance-id": [eni.instance_id],
        "attachment.device-index": [str(eni.device_number)],
        "tag-key": list(eni.tags),
    }
    if name.startswith("tag:"):
        known[name] = [value for key, value in eni.tags.items() if name == f"tag:{key}"]
    if name not in known:
        raise Ec2Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")
    return any(_pattern(value).fullmatch(text) for value in values for text in known[name])


def _pattern(value: str) -> re.Pattern[str]:
    """A filter's value with its wildcards ``*`` and ``?``; an address in any spelling means the address."""
    try:
        value = str(ip_address(value))
    except ValueError:
        value = re.escape(value).replace(r"\*", ".*").replace(r"\?", ".")
        return re.compile(value)
    return re.compile(re.escape(value))


def _interface(vpc: Vpc, eni: EniRecord) -> Content:
    seen = vpc.describe_view(eni.id)
    return {
        "networkInterfaceId": eni.id,
        "subnetId": eni.subnet.id,
        "vpcId": eni.subnet.vpc_id,
        "ownerId": ACCOUNT,
        "interfaceType": "interface",
        "status": "in-use",
        "macAddress": eni.mac,
        "privateIpAddress": eni.primary,
        "sourceDestCheck": True,
        "attachment": {
            "attachmentId": f"eni-attach-{eni.id.removeprefix('eni-')}",
            "instanceId": eni.instance_id,
            "instanceOwnerId": ACCOUNT,
            "deviceIndex": eni.device_number,
            "status": "attached",
            "deleteOnTermination": False,
        },
        "privateIpAddressesSet": [{"privateIpAddress": a, "primary": a == eni.primary} for a in seen if a.version == 4],
        "ipv6AddressesSet": [{"ipv6Address": a} for a in seen if a.version == 6],
        "ipv4PrefixSet": [{"ipv4Prefix": prefix} for prefix in eni.prefixes4],
        "ipv6PrefixSet": [{"ipv6Prefix": prefix} for prefix in eni.prefixes6],
        "tagSet": [{"key": key, "value": value} for key, value in sorted(eni.tags.items())],
    }


WRITES: Mapping[str, Action] = {
    "AssignPrivateIpAddresses": _assign_v4,
    "UnassignPrivateIpAddresses": _unassign_v4,
    "AssignIpv6Addresses": _assign_v6,
    "UnassignIpv6Addresses": _unassign_v6,
}
ACTIONS: Mapping[str, Action] = {**WRITES, "DescribeNetworkInterfaces": _describe}
