"""The AWS side of a member: which ENI bears each VIP interface, who reads the mapping, who moves it.

Everything that can be known to be wrong is found here, before anything is touched: no ENI behind an interface, a VIP
outside its subnet or reserved, no region, no credentials.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vipd.aws.discovery import check_fits, find_eni, find_region
from vipd.aws.ec2 import Ec2
from vipd.aws.imds import Imds
from vipd.aws.mapping import DescribeMapping, ImdsMapping
from vipd.aws.mover import Ec2Mover
from vipd.core import timing
from vipd.core.model import Eni, LinkState, Network, Vip
from vipd.core.ports import MappingReader

log = logging.getLogger("vipd.aws")

IMDS_START_S = 5.0
"""How long a start waits for IMDS where it alone can tell the ENI; beyond that the silence is told, and fatal."""

IMDS_AGAIN_S = 0.3


@dataclass(frozen=True, slots=True)
class AwsSide:
    """What the agent needs of AWS."""

    enis: Mapping[str, Eni]
    """By interface."""
    reader: MappingReader
    mover: Ec2Mover
    ec2: Ec2
    imds: Imds
    ask_fast_s: float
    ask_slow_s: float
    """How often the reader may be asked: see ``vipd.core.timing``."""

    @property
    def eni_ids(self) -> str:
        """The ENI ids, sorted and joined by commas, as the tenure tells them."""
        return ",".join(sorted({eni.id for eni in self.enis.values()}))

    async def close(self) -> None:
        """Give back connections and threads."""
        await self.mover.close()
        await self.imds.close()


async def connect_aws(
    vips: Sequence[Vip],
    links: Mapping[str, LinkState],
    *,
    eni_ids: Mapping[str, str],
    region: str | None,
    subnet_cidrs: Sequence[Network],
    environ: Mapping[str, str],
) -> AwsSide:
    """Find the ENIs and prepare the calls.  ``eni_ids``: the operator's word, by interface.

    Raises AwsError (IMDS silent, no region, no credentials) and ConfigError (no ENI, a VIP that does not fit).
    """
    imds = Imds()
    try:
        if set(links) - set(eni_ids):
            await _await_imds(imds)
        enis: dict[str, Eni] = {}
        for name, link in links.items():
            mine = [vip for vip in vips if vip.interface == name]
            enis[name] = await find_eni(
                imds,
                interface=name,
                mac=link.mac,
                vips=mine,
                eni_id=eni_ids.get(name),
                subnet_cidrs=subnet_cidrs,
            )
            check_fits(enis[name], mine)
        ec2 = Ec2(region=await find_region(region, environ, imds))
        mover = Ec2Mover(ec2)
        await mover.warm()
        if await imds.ping():
            reader: MappingReader = ImdsMapping(imds)
            pace = (timing.MAPPING_FAST_S, timing.MAPPING_SLOW_S)
        else:
            log.warning("IMDS does not answer: the mapping is confirmed with DescribeNetworkInterfaces instead")
            reader = DescribeMapping(ec2)
            pace = (timing.DESCRIBE_FAST_S, timing.DESCRIBE_SLOW_S)
    except BaseException:
        await imds.close()
        raise
    for name, eni in enis.items():
        log.info("interface %s is %s in %s", name, eni.id, ", ".join(map(str, eni.subnet_cidrs)) or "an unknown subnet")
    fast_s, slow_s = pace
    return AwsSide(enis=enis, reader=reader, mover=mover, ec2=ec2, imds=imds, ask_fast_s=fast_s, ask_slow_s=slow_s)


async def _await_imds(imds: Imds) -> None:
    """Wait out an IMDS that is silent for a moment (a node that boots, a restart in the midst of an outage)."""
    deadline = asyncio.get_running_loop().time() + IMDS_START_S
    while not await imds.ping() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(IMDS_AGAIN_S)
