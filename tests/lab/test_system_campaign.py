"""The campaign on real processes: episodes that converge, one that leaves something behind, a run that is cut short."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess

import pytest
from system import VIPD, environment

from vipd.lab.campaign.campaign import campaign_setting
from vipd.lab.campaign.episode import Episodes
from vipd.lab.campaign.eyes import Eyes
from vipd.lab.campaign.faults import FAULTS, Fault, Part, Target
from vipd.lab.campaign.plan import Placed, Step
from vipd.lab.campaign.scene import Scene
from vipd.lab.stage import SceneFailed, Stage
from vipd.lab.topology import Lab

KILL = Placed(FAULTS["kill"], Target.ACTIVE, 0.0, 0.5)
POWER_OFF = Placed(FAULTS["power-off"], Target.ACTIVE, 0.0, 4.0)
HANDOVER = Placed(FAULTS["handover"], Target.SERVICE, 0.0, 0.5)
API_CUT = Placed(FAULTS["api-cut"], Target.STANDBY, 0.5, 1.0)


async def _litter(scene: Scene, name: str) -> None:
    """Of no ENI's subnet, so that nobody maps it."""
    space = scene.stage.node(name).space
    await space.ipr.addr("add", index=await space.index("net1"), address="192.0.2.77", prefixlen=32)


async def _go(_: Scene, __: str) -> None:
    """Leaves it there."""


LITTER = Placed(
    Fault("litter", "an address too many", (Target.STANDBY,), frozenset({Part.KERNEL}), _litter, _go, 0.0),
    Target.STANDBY,
    0.0,
    0.1,
)


async def test_episodes_converge_and_what_is_left_behind_is_seen(tmp_path):
    async with Lab(campaign_setting(fabric="vpc", families=(4,)), folder=tmp_path) as lab:
        told: list[str] = []
        stage = Stage(lab)
        episodes = Episodes(stage, await Eyes(lab).open())
        killed = await episodes.play(Step(1, 0.1, 0.0, (KILL,)), tell=told.append)
        assert killed.ok, killed.reason
        assert killed.kind == "kill"
        assert killed.sent > 100
        assert any("kill on node" in line for line in told)

        pair = await episodes.play(Step(2, 0.1, 0.0, (POWER_OFF, API_CUT)), tell=told.append)
        assert pair.ok, pair.reason
        assert pair.kind == "api-cut + power-off"
        assert pair.owner_after != pair.owner_before
        assert pair.lost > 0
        assert pair.eni[pair.owner_after] == ["10.0.1.100"]

        littered = await episodes.play(Step(3, 0.1, 0.0, (LITTER,)), tell=told.append)
        assert not littered.ok
        [left] = littered.left_behind
        assert left.startswith("192.0.2.77 was left behind on node")

        lab.signal(lab.nodes[stage.standby], signal.SIGKILL)
        await lab.nodes[stage.standby].vipd.wait()
        with pytest.raises(SceneFailed, match="ended with exit code -9"):
            await episodes.play(Step(4, 0.1, 0.0, (KILL,)), tell=told.append)


async def test_a_vipd_that_ends_after_all_was_well_is_found(tmp_path):
    async with Lab(campaign_setting(fabric="vpc", families=(4,)), folder=tmp_path) as lab:
        stage = Stage(lab)
        late = asyncio.ensure_future(_die_late(stage))
        result = await Episodes(stage, await Eyes(lab).open()).play(Step(1, 0.1, 0.0, (HANDOVER,)), tell=print)
        await late
    assert not result.ok
    assert "ended with exit code -9" in result.reason


async def _die_late(stage: Stage) -> None:
    """Once the handover is over, and before the campaign is content that nothing changes any more."""
    while not stage.fault_at:
        await asyncio.sleep(0.05)
    first = stage.owner_before
    while stage.holder() == first or not stage.serves(stage.holder()) or stage.lab.observer.bears(first):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    stage.lab.signal(stage.lab.nodes[first], signal.SIGKILL)


def test_an_interrupted_campaign_gives_its_report_and_keeps_its_records(tmp_path):
    out = tmp_path / "out.jsonl"
    campaign = subprocess.Popen(
        [*VIPD, "campaign", "--minutes", "2", "--json", str(out), "--folder", str(tmp_path / "logs")],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert campaign.stdout is not None
    for line in campaign.stdout:
        if line.startswith("  lost "):
            break
    campaign.send_signal(signal.SIGINT)
    rest, _ = campaign.communicate(timeout=30)
    assert campaign.returncode == 130, rest
    assert "two owners          0 ms" in rest
    assert "1 episodes" in rest
    [record] = [json.loads(line) for line in out.read_text().splitlines()]
    assert (record["episode"], record["ok"]) == (1, True)
