"""Which ENI stands behind an interface, in which Region, and whether the VIPs can live there at all.

An interface's MAC names its ENI: host interfaces bear the ENI's own, and ipvlan children bear their parent's.  macvlan
children and some host-device set-ups bear a MAC that IMDS does not know; there the subnet decides, and where two ENIs
share a subnet nothing decides: guessing moves the VIP to an ENI that drops its packets.

What EC2 would refuse for certain is refused here, before anything is touched.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence

from vipd.aws.imds import Imds, ImdsError
from vipd.core.model import Address, Eni, Network, Vip
from vipd.errors import AwsError, ConfigError

RESERVED_AT_START = 4
"""Network, router, DNS and one kept by AWS, and the last one too (Amazon VPC User Guide, "Subnet CIDR blocks")."""


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
    return match_eni(known, interface=interface, mac=mac, addresses=addresses, vips=vips)


def match_eni(
    enis: Collection[Eni], *, interface: str, mac: str, addresses: Sequence[Address] = (), vips: Sequence[Vip] = ()
) -> Eni:
    """The one of ``enis`` behind ``interface``: by MAC, else by the subnet of its addresses, else by that of the VIPs.

    Link-local addresses say nothing and are left out.  Raises ConfigError where none or several fit.
    """
    for eni in enis:
        if eni.mac == mac.lower():
            return eni
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


def check_fits(eni: Eni, vips: Iterable[Vip], *, primaries: Collection[Address] = ()) -> None:
    """Raises ConfigError for a VIP that EC2 could never map to ``eni``.

    That is one outside the ENI's subnet (where that is known), one that the subnet reserves (the first four and the
    last address), and one of ``primaries``: this node's own primary addresses, which cannot move.
    """
    for vip in vips:
        if vip.address in primaries:
            raise ConfigError(
                f"VIP {vip}: {vip.address} is this node's own primary address on {eni.id}, and a primary address "
                f"cannot move; allowed are the other addresses of {_subnets(eni)}"
            )
        if eni.subnet_cidrs:
            _check_subnet(eni, vip)


def _check_subnet(eni: Eni, vip: Vip) -> None:
    subnet = next((n for n in eni.subnet_cidrs if vip.address in n), None)
    if subnet is None:
        same = [n for n in eni.subnet_cidrs if n.version == vip.address.version]
        if not same:
            raise ConfigError(
                f"VIP {vip}: the subnet of {eni.id} ({_subnets(eni)}) has no IPv{vip.address.version} CIDR block; add "
                "one to the subnet, or drop this VIP"
            )
        raise ConfigError(
            f"VIP {vip}: {vip.address} is outside the subnet of {eni.id} on {vip.interface}; allowed are free "
            f"addresses of {', '.join(map(str, same))}"
        )
    if vip.address in reserved(subnet):
        allowed = f"{subnet[RESERVED_AT_START]} to {subnet[-2]}"
        raise ConfigError(
            f"VIP {vip}: AWS reserves {vip.address} in the subnet {subnet} of {eni.id} (the first four addresses and "
            f"the last); allowed are {allowed}"
        )


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
