"""The demonstration: two nodes and one VIP, a rollout, a lost node, and an API outage that nobody notices."""

from __future__ import annotations

from pathlib import Path

from vipd.lab.live import View, shown
from vipd.lab.measure import Timeline
from vipd.lab.run import play, staged
from vipd.lab.scenarios import SCENARIOS
from vipd.lab.setting import Setting

ACTS = ("sigterm", "node-loss", "api-blip")


async def demonstrate(*, folder: Path, kube: str = "embedded") -> list[Timeline]:
    """Play the acts in one lab, showing what happens."""
    print("Building two nodes, a VPC, EC2, IMDS and a Kubernetes API in network namespaces ...", flush=True)
    timelines = []
    async with staged(Setting(kube=kube), folder=folder) as stage, shown(View(stage)) as view:
        for number, name in enumerate(ACTS, 1):
            scenario = SCENARIOS[name]
            view.title = f"{number}/{len(ACTS)}  {name}: {scenario.summary}"
            print(f"\n{view.title}\n      promised: {scenario.promise.text}", flush=True)
            timelines.append(await play(scenario, stage, 1))
    return timelines
