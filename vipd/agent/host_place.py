"""Where on a host the VIPs belong: the interface in front of the ENI that is in their subnet, whatever its name.

A node of EKS has several ENIs in one subnet: its own (device 0) and those that the VPC CNI adds for pods.  NodePort
traffic is for the first of them, so the lowest device number is taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from vipd.aws.imds import Imds, ImdsError
from vipd.config import HostSettings
from vipd.config.table_host import AUTO
from vipd.core.model import Eni, LinkState, Vip
from vipd.errors import AwsError, ConfigError, LinkError
from vipd.link.kernel import KernelLink

log = logging.getLogger("vipd")

START_S = 5.0
"""How long a start waits for IMDS, which may be late on a node that boots."""

AGAIN_S = 0.3


@dataclass(frozen=True, slots=True)
class NoPlace:
    """This node is no candidate: none of its ENIs is in the VIPs' subnet.  Others may be."""

    detail: str


async def place(settings: HostSettings, imds: Imds, links: Sequence[LinkState]) -> HostSettings | NoPlace:
    """The settings with the interface's name in the place of ``auto``.

    Raises AwsError where IMDS is silent, ConfigError where the VIPs could not be on any node of this kind.
    """
    if not any(vip.interface == AUTO for vip in settings.vips):
        return settings
    mine = [vip for vip in settings.vips if vip.interface == AUTO]
    found = choose(await _enis(imds), links, mine, eni_id=settings.eni_ids.get(AUTO))
    if isinstance(found, NoPlace):
        return found
    vips = tuple(replace(v, interface=found) if v.interface == AUTO else v for v in settings.vips)
    eni_ids = {found if name == AUTO else name: eni for name, eni in settings.eni_ids.items()}
    return replace(settings, vips=vips, interface=found, eni_ids=eni_ids)


async def place_again(settings: HostSettings, imds: Imds, kernel: KernelLink, before: str) -> HostSettings | NoPlace:
    """``place`` for a node that waits: what fails then is a reason to go on waiting, and is told where it is new.

    ``before``: why it has waited so far.  Raises ConfigError as ``place`` does.
    """
    try:
        return await place(settings, imds, await kernel.links())
    except (AwsError, LinkError) as error:
        if str(error) != before:
            log.warning("this node is no candidate still: %s", error)
        return NoPlace(str(error))


async def _enis(imds: Imds) -> Collection[Eni]:
    now = asyncio.get_running_loop().time
    deadline = now() + START_S
    while True:
        try:
            return (await imds.enis()).values()
        except ImdsError as error:
            if now() >= deadline:
                raise AwsError(
                    f"--interface auto: {error}; with IMDS blocked pass --interface, --eni and --region"
                ) from error
        await asyncio.sleep(AGAIN_S)


def choose(
    enis: Iterable[Eni], links: Sequence[LinkState], vips: Sequence[Vip], *, eni_id: str | None = None
) -> str | NoPlace:
    """The interface for the VIPs.  ``eni_id``: the operator's word.  Raises ConfigError for a choice that is none."""
    there = sorted(enis, key=lambda eni: (eni.device_number, eni.id))
    if eni_id is not None and eni_id not in {eni.id for eni in there}:
        listed = ", ".join(eni.id for eni in there) or "none"
        raise ConfigError(f"--eni {eni_id}: not an ENI of this node; allowed are those in IMDS: {listed}")
    for eni in there:
        if eni_id not in (None, eni.id) or not all(_in_subnet(eni, vip) for vip in vips):
            continue
        # Children of an interface may bear its MAC, too; it was there before them.
        named = sorted((link.index, link.name) for link in links if link.mac == eni.mac and not link.loopback)
        if named:
            return named[0][1]
        if any(link.mac == other.mac for link in links for other in there):
            return NoPlace(f"{eni.id} is in the VIPs' subnet, but no interface bears its MAC {eni.mac} yet")
        seen = ", ".join(f"{link.name} ({link.mac})" for link in links if not link.loopback) or "none"
        raise ConfigError(
            f"--interface auto: no interface here bears the MAC of an ENI of this node, as {eni.id} with {eni.mac}; "
            f"interfaces here: {seen}. It needs the host's network (hostNetwork: true)"
        )
    subnets = "; ".join(f"{eni.id}: {', '.join(map(str, eni.subnet_cidrs)) or 'unknown'}" for eni in there) or "none"
    wanted = ", ".join(str(vip.address) for vip in vips)
    return NoPlace(f"no ENI of this node is in the subnet of {wanted}; subnets of its ENIs: {subnets}")


def _in_subnet(eni: Eni, vip: Vip) -> bool:
    return any(vip.address in cidr for cidr in eni.subnet_cidrs)
