"""Which ENI one address of a pod belongs to: outcomes, not errors, because a pod has addresses of many kinds.

The interface's MAC names the ENI where IMDS knows it: the ENI's own interface, and its ipvlan children.  Else
(macvlan, host-device with a MAC of its own, a bridge over the ENI) the subnet does, unless several ENIs share it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from vipd.aws.discovery import reserved
from vipd.core.model import Address, Eni


@dataclass(frozen=True, slots=True)
class Nobody:
    """No ENI of this node: it is not an address of the VPC's, or the interface is not on an ENI."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """The ENI is known, but EC2 would refuse: the address is outside its subnet, or reserved there."""

    detail: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Several ENIs would do, and guessing would have the wrong one drop the address's packets."""

    detail: str


Belonging = Eni | Nobody | Unfit | Ambiguous


def eni_for(enis: Collection[Eni], *, mac: str, address: Address) -> Belonging:
    """The ENI that ``address``, on an interface with this MAC, is to be mapped to."""
    by_mac = next((eni for eni in enis if eni.mac == mac.lower()), None)
    if by_mac is not None:
        return _fitting(by_mac, address)
    found = [eni for eni in enis if any(address in network for network in eni.subnet_cidrs)]
    if not found:
        listed = "; ".join(_described(eni) for eni in enis) or "none"
        return Nobody(f"no ENI of this node has the MAC {mac} or a subnet with {address}; ENIs in IMDS: {listed}")
    if len(found) > 1:
        these = "; ".join(map(_described, found))
        return Ambiguous(
            f"IMDS does not know the MAC {mac}, and several ENIs have a subnet with {address}: {these}; name the right "
            "one with --eni"
        )
    return _fitting(found[0], address)


def unfit(eni: Eni, address: Address) -> str:
    """Why EC2 would refuse to map the address to this ENI; empty where it would not, or that is not known."""
    if not eni.subnet_cidrs:
        return ""
    subnet = next((network for network in eni.subnet_cidrs if address in network), None)
    blocks = ", ".join(map(str, eni.subnet_cidrs))
    if subnet is None:
        return f"outside the subnet of {eni.id}; allowed are addresses of {blocks}"
    if address in reserved(subnet):
        return f"AWS reserves it in the subnet {subnet} of {eni.id} (the first four addresses and the last)"
    return ""


def already_there(eni: Eni, address: Address) -> str:
    """Why the address is mapped to the ENI without any call; empty where it is not."""
    if address == eni.primary:
        return f"the primary address of {eni.id}"
    prefix = next((network for network in eni.prefixes if address in network), None)
    return f"in the prefix {prefix} that is delegated to {eni.id}" if prefix else ""


def _fitting(eni: Eni, address: Address) -> Eni | Unfit:
    why = unfit(eni, address)
    return Unfit(why) if why else eni


def _described(eni: Eni) -> str:
    return f"{eni.id} ({eni.mac}, {', '.join(map(str, eni.subnet_cidrs)) or 'subnet unknown'})"
