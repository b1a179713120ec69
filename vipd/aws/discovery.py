"""Which ENI stands behind an interface, in which Region, and whether the VIPs can live there at all.

An interface's MAC names its ENI: host interfaces bear the ENI's own, and ipvlan children bear their parent's.  macvlan
children and some host-device set-ups bear a MAC that IMDS does not know; there the subnet decides, and where two ENIs
share a subnet nothing decides: guessing moves the VIP to an ENI that drops its packets.  For the same reason the subnet
decides only where IMDS, asked once more, does not list the MAC either: an ENI that is just being attached is listed
after its interface is there.

What EC2 would refuse for certain is refused here, before anything is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vipd.aws.imds import Imds, ImdsError
from vipd.core.model import Address, Eni, Network, Vip
from vipd.errors import AwsError, ConfigError

RESERVED_AT_START = 4
"""Network, router, DNS and one kept by AWS, and the last one too (Amazon VPC User Guide, "Subnet CIDR blocks")."""

UNLISTED_S = 0.2
"""IMDS is asked again so long after it did not list a MAC."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The ENI is known, and its subnet does not have the address: EC2 would refuse it."""

    detail: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """AWS keeps the address for itself in every subnet."""

    detail: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Another ENI of this node has it in a way that cannot move: as its primary, or within a delegated prefix."""

    detail: str


@dataclass(frozen=True, slots=True)
class Nobody:
    """No ENI of this node has the MAC, nor a subnet with the address: it is none of the VPC's."""

    detail: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """IMDS does not know the MAC, and several ENIs have a subnet with the address."""

    detail: str


NotFound = Outside | Reserved | Taken | Nobody | Ambiguous
"""Why no ENI is to have an address; ``detail`` says in one line what, where, and what is allowed."""


async def find_region(flag: str | None, env: Mapping[str, str], imds: Imds) -> str:
    """The Region: ``flag``, AWS_REGION, AWS_DEFAULT_REGION, then IMDS.  Raises AwsError where none tells."""
    told = flag or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    if told:
        return told
    try:
        return await imds.region()
    except ImdsError as error:
        raise AwsError(f"no AWS region: --region, AWS_REGION and AWS_DEFAULT_REGION are unset, and {error}") from error


async def find_eni(
    imds: Imds,
    *,
    interface: str,
    mac: str,
    addresses: Sequence[Address] = (),
    vips: Sequence[Vip] = (),
    eni_id: str | None = None,
    subnet_cidrs: Sequence[Network] = (),
) -> Eni:
    """The ENI behind ``interface``, whose MAC and present addresses are given.

    ``eni_id`` and ``subnet_cidrs`` are the operator's word (``--eni``, ``--subnet-cidr``): with the first IMDS may be
    silent.  Raises AwsError where IMDS is silent and no ENI is given, ConfigError where the choice is empty or open.
    """
    try:
        known = list((await imds.enis()).values())
    except ImdsError:
        if eni_id is None:
            raise
        return Eni(id=eni_id, mac=mac.lower(), subnet_cidrs=tuple(subnet_cidrs))
    if eni_id is not None:
        return _named(known, eni_id)
    if by_mac(known, mac) is None:
        await asyncio.sleep(UNLISTED_S)
        with contextlib.suppress(ImdsError):
            known = list((await imds.enis()).values())
    return match_eni(known, interface=interface, mac=mac, addresses=addresses, vips=vips)


def match_eni(
    enis: Collection[Eni], *, interface: str, mac: str, addresses: Sequence[Address] = (), vips: Sequence[Vip] = ()
) -> Eni:
    """The one of ``enis`` behind ``interface``: by MAC, else by the subnet of its addresses, else by that of the VIPs.

    Link-local addresses say nothing and are left out.  Raises ConfigError where none or several fit.
    """
    if (named := by_mac(enis, mac)) is not None:
        return named
    own = [a for a in addresses if not a.is_link_local]
    candidates = _in_subnets(enis, own) or _in_subnets(enis, [v.address for v in vips])
    if len(candidates) == 1:
        return candidates[0]
    asked = ", ".join(str(a) for a in (*own, *(v.address for v in vips))) or "no address"
    seen = "; ".join(_described(e) for e in enis) or "none"
    if not candidates:
        raise ConfigError(
            f"interface {interface}: no ENI of this node has its MAC {mac} or a subnet with {asked}. "
            f"ENIs in IMDS: {seen}"
        )
    raise ConfigError(
        f"interface {interface}: IMDS does not know its MAC {mac}, and more than one ENI has a subnet with {asked}: "
        f"{'; '.join(_described(e) for e in candidates)}. Name the right one with --eni"
    )


def by_mac(enis: Iterable[Eni], mac: str) -> Eni | None:
    """The one of ``enis`` that bears this MAC."""
    return next((eni for eni in enis if eni.mac == mac.lower()), None)


def eni_for(enis: Collection[Eni], *, mac: str, address: Address) -> Eni | NotFound:
    """The one of ``enis`` that is to have one address of an interface with this MAC.

    By the MAC; else by the address: the ENI whose primary it is or whose prefix has it, or the only one in whose
    subnet it is.  What EC2 would refuse for certain is no match.
    """
    eni = by_mac(enis, mac)
    if eni is None:
        candidates = [e for e in enis if already_there(e, address)] or _in_subnets(enis, [address])
        if not candidates:
            seen = "; ".join(_described(e) for e in enis) or "none"
            return Nobody(
                f"{address}: no ENI of this node has the interface's MAC {mac} or a subnet with this address, so it "
                f"is none of the VPC's; ENIs in IMDS: {seen}"
            )
        if len(candidates) > 1:
            return Ambiguous(
                f"{address}: IMDS does not know the interface's MAC {mac}, and more than one ENI has a subnet with "
                f"this address: {'; '.join(_described(e) for e in candidates)}. Name the right one with --eni"
            )
        [eni] = candidates
    return _unfit(eni, address) or _taken(enis, eni, address) or eni


def already_there(eni: Eni, address: Address) -> str:
    """Why ``address`` is mapped to ``eni`` without any call, and must never be assigned; empty where it is not."""
    if address == eni.primary:
        return f"{address} is the primary address of {eni.id}"
    prefix = next((n for n in eni.prefixes if address in n), None)
    return "" if prefix is None else f"{address} is in the prefix {prefix}, which is delegated to {eni.id}"


def check_fits(eni: Eni, vips: Iterable[Vip]) -> None:
    """Raises ConfigError for a VIP that EC2 could never map to ``eni``.

    That is one outside the ENI's subnet (where that is known), one that the subnet reserves (the first four and the
    last address), the ENI's own primary address, and one in a prefix that is delegated to it: these cannot move.
    """
    for vip in vips:
        if why := already_there(eni, vip.address):
            raise ConfigError(
                f"VIP {vip}: {why}, and cannot move; allowed are the other addresses of {_subnets(eni)} that nobody "
                "hands out (a CIDR reservation of the subnet keeps some free)"
            )
        if (fault := _unfit(eni, vip.address)) is not None:
            raise ConfigError(f"VIP {vip}: {fault.detail}")


def _unfit(eni: Eni, address: Address) -> Outside | Reserved | None:
    if not eni.subnet_cidrs:
        return None
    subnet = next((n for n in eni.subnet_cidrs if address in n), None)
    if subnet is None:
        same = [n for n in eni.subnet_cidrs if n.version == address.version]
        if not same:
            return Outside(
                f"{address}: the subnet of {eni.id} ({_subnets(eni)}) has no IPv{address.version} CIDR block; add one "
                "to the subnet, or drop this address"
            )
        allowed = ", ".join(map(str, same))
        return Outside(f"{address} is outside the subnet of {eni.id}; allowed are free addresses of {allowed}")
    if address in reserved(subnet):
        return Reserved(
            f"AWS reserves {address} in the subnet {subnet} of {eni.id} (the first four addresses and the last); "
            f"allowed are {subnet[RESERVED_AT_START]} to {subnet[-2]}"
        )
    return None


def _taken(enis: Iterable[Eni], eni: Eni, address: Address) -> Taken | None:
    for other in enis:
        if other.id != eni.id and (why := already_there(other, address)):
            return Taken(f"{why}, and cannot move to {eni.id}; allowed are other addresses of {_subnets(eni)}")
    return None


def reserved(subnet: Network) -> frozenset[Address]:
    """The addresses of a subnet that AWS gives to nobody.  A subnet is a /28 at the least, an IPv6 one a /64."""
    first = range(min(RESERVED_AT_START, subnet.num_addresses))
    return frozenset(ipaddress.ip_address(subnet[i]) for i in first) | {subnet[-1]}


def _named(enis: Collection[Eni], eni_id: str) -> Eni:
    for eni in enis:
        if eni.id == eni_id:
            return eni
    seen = "; ".join(_described(e) for e in enis) or "none"
    raise ConfigError(f"--eni {eni_id}: not an ENI of this node; allowed are those in IMDS: {seen}")


def _in_subnets(enis: Iterable[Eni], addresses: Collection[Address]) -> list[Eni]:
    return [eni for eni in enis if any(a in n for n in eni.subnet_cidrs for a in addresses)]


def _subnets(eni: Eni) -> str:
    return ", ".join(map(str, eni.subnet_cidrs)) or "its subnet"


def _described(eni: Eni) -> str:
    return f"{eni.id} ({eni.mac}, device {eni.device_number}, {_subnets(eni)})"
