"""Two pods that bear one address: their vipds take it from each other a few times, and then leave it at that."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from ipaddress import ip_address

from system import eventually

from vipd.lab.ec2 import Call
from vipd.lab.setting import Node, Setting
from vipd.lab.topology import Lab

BOTH = ip_address("10.0.1.80")
HOMES = {"a": ("10.0.1.80/24",), "b": ("10.0.1.80/24",)}
REPAIRS = 3

HASTY = """
import functools, sys
from vipd.agent import follow_side
from vipd.core import follow
follow.LAG_S = 0.5
follow_side.FollowConfig = functools.partial(
    follow_side.FollowConfig, repair_after_s=(0.3, 0.6, 1.2), ask_fast_s=0.2, ask_slow_s=0.2
)
from vipd.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""vipd as it is, but for pauses of minutes, which are made seconds here."""


async def start(lab: Lab, node: Node) -> Process:
    node.log = lab.folder / f"vipd-{node.name}.log"
    with node.log.open("ab") as log:
        return await node.space.spawn(
            [sys.executable, "-c", HASTY, *lab.vipd_command(node)], env=lab.environment(node), stderr=log
        )


def calls(lab: Lab) -> list[Call]:
    return [call for call in lab.ec2.log if BOTH in call.addresses]


async def test_two_pods_with_one_address_do_not_fight_over_it_for_ever(tmp_path):
    setting = Setting(targets=(BOTH,), homes=HOMES, ec2_s=0.05)
    async with Lab(setting, folder=tmp_path) as lab:
        nodes = list(lab.nodes.values())
        processes = [await start(lab, node) for node in nodes]
        try:
            await eventually(lambda: any("10.0.1.80: contended" in n.log.read_text() for n in nodes), within_s=60)
            await asyncio.sleep(2)
            before = len(calls(lab))
            await asyncio.sleep(3)
            assert len(calls(lab)) == before
        finally:
            for process in processes:
                process.kill()
                await process.wait()
    by_caller = {node.name: sum(call.caller == node.name for call in calls(lab)) for node in nodes}
    assert all(1 <= number <= 1 + REPAIRS for number in by_caller.values()), by_caller
    assert max(by_caller.values()) == 1 + REPAIRS
