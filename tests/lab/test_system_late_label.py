"""What a vipd sent in vain, before it ended, must not arrive when its successor has said otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path

from system import eventually

from vipd.lab.setting import Setting
from vipd.lab.topology import NAMESPACE, Lab

UNHEARD_S = 3.6
"""The kernel sends again what nobody confirmed, after 0.2 s, 0.4 s, 0.8 s, 1.6 s and 3.2 s; the next time is 6.4 s."""


def role(lab: Lab, name: str) -> str:
    pod = lab.api.pod(NAMESPACE, f"vipd-{name}")
    return "" if pod is None else str(pod["metadata"].get("labels", {}).get("vipd.io/role", ""))


async def test_the_last_label_of_one_that_ended_during_an_outage_does_not_undo_the_next_ones(tmp_path: Path) -> None:
    async with Lab(Setting(), folder=tmp_path) as lab:
        for node in lab.nodes.values():
            await lab.start_vipd(node)
        await eventually(lambda: {role(lab, "a"), role(lab, "b")} == {"active", "standby"})
        standby = next(node for node in lab.nodes.values() if role(lab, node.name) == "standby")
        await lab.partition(None, "api", cut=True)
        told_at = asyncio.get_running_loop().time()
        assert standby.vipd is not None
        # It takes the label off as it goes, and is not heard.
        standby.vipd.terminate()
        await asyncio.wait_for(standby.vipd.wait(), 10)
        await lab.start_vipd(standby)
        await asyncio.sleep(told_at + UNHEARD_S - asyncio.get_running_loop().time())
        await lab.partition(None, "api", cut=False)
        await eventually(lambda: role(lab, standby.name) == "standby")
        for _ in range(50):
            assert role(lab, standby.name) == "standby"
            await asyncio.sleep(0.1)
