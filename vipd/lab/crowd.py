"""Many pods of one node that start at once: what their ``vipd init`` make of EC2's request rates.

Each pod is an interface with the ENI's MAC and an address, and a process; none goes on before all are there, because
IMDS refuses until then.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from vipd.core.model import Address
from vipd.lab.pod_stage import PodStage

CROWD = 100
CALLS_A_POD = 2.2
TIMEOUT_S = 240.0


async def play_crowd(stage: PodStage) -> None:
    """All start, all are served; EC2 is called little more often than its rates make necessary."""
    addresses = [ip_address(f"10.0.1.{n}") for n in (*range(20, 80), *range(101, 200))][: stage.lab.setting.pods]
    node = stage.node("a")
    assert node.eni is not None
    assert node.imds is not None
    node.eni.limit4 = len(addresses) + 10
    stage.lab.vpc.forget(addresses)
    for number, address in enumerate(addresses):
        await _interface(stage, f"pod{number}", address)
    await node.imds.refuse()
    jobs = [await stage.lab.start_init(node, *_flags(number)) for number in range(len(addresses))]
    await stage.until("every vipd init waits", lambda: _waiting(stage) >= len(addresses), within_s=TIMEOUT_S)
    stage.bear_witness("a")
    await node.imds.resume()
    async with asyncio.timeout(TIMEOUT_S):
        codes = await asyncio.gather(*(job.wait() for job in jobs))
    if any(codes):
        stage.complaints.append(f"{sum(map(bool, codes))} of {len(codes)} vipd init failed")
    unserved = [a for a in addresses if stage.lab.vpc.owner(a) != node.eni.id]
    if unserved:
        stage.complaints.append(f"{len(unserved)} addresses are not mapped")
    stage.require_calls(int(CALLS_A_POD * len(addresses)))


def _flags(number: int) -> tuple[str, ...]:
    return ("--interface", f"pod{number}", "--timeout", f"{TIMEOUT_S:g}s")


async def _interface(stage: PodStage, name: str, address: Address) -> None:
    """The pod's end has the ENI's MAC, as an ipvlan child would have."""
    node = stage.node("a")
    ipr = node.space.ipr
    if not await ipr.link_lookup(ifname=name):
        await ipr.link("add", ifname=name, kind="veth", peer={"ifname": f"x{name}"}, address=node.mac)
        for end in (name, f"x{name}"):
            await ipr.link("set", index=await node.space.index(end), state="up")
        await stage.lab.add_address(node, f"{address}/32", interface=name)


def _waiting(stage: PodStage) -> int:
    """How many have said that IMDS does not answer."""
    return stage.node("a").log.read_text().count("IMDS at")
