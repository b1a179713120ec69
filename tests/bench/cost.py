"""What vipd costs in the lab: memory and CPU of idle sidecars over SECONDS, and the time of ``vipd init``.

    python -m vipd.lab.sandbox python tests/bench/cost.py [SECONDS]

Exit 1 where a limit is passed.  Timings on shared machines are noisy: the limits are for regressions, not goals.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from statistics import median

from vipd.lab.podstage import PodStage
from vipd.lab.run import staged
from vipd.lab.setting import Setting
from vipd.lab.stage import Stage

MAX_RSS_MB = 120
MAX_CPU_PERCENT = {"active": 1.5, "standby": 1.0, "follows": 0.5}
MAX_INIT_S = 2.0
INITS = 9

BUSY_S = 12.0
"""The first seconds after a take are busier: announcements, and IMDS every half second."""

HOME = "10.0.1.80"


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """CPU time that the threads of a process have used, as the scheduler counts it: ticks are too coarse here."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


async def idle(stage: Stage, roles: Mapping[str, str], seconds: float) -> bool:
    """Print a line for each member; whether a limit is passed."""
    await stage.pause(BUSY_S)
    pids = {name: node.vipd.pid for name, node in stage.lab.nodes.items() if node.vipd is not None}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    await stage.pause(seconds)
    passed = False
    for name, pid in pids.items():
        role = roles[name]
        percent = 100 * (cpu_s(pid) - before[name]) / seconds
        print(f"{role:8} RSS {rss_mb(pid):6.1f} MB   CPU {percent:5.2f} %", flush=True)
        passed |= rss_mb(pid) > MAX_RSS_MB or percent > MAX_CPU_PERCENT[role]
    return passed


async def elected(seconds: float) -> bool:
    """The two members of a VIP group."""
    async with staged(Setting(), folder=Path(tempfile.mkdtemp())) as stage:
        standbys = dict.fromkeys(stage.lab.nodes, "standby")
        return await idle(stage, standbys | {stage.active: "active"}, seconds)


async def following(seconds: float) -> bool:
    """A sidecar without an election, that follows one address."""
    setting = Setting(nodes=("a",), targets=(ip_address(HOME),), homes={"a": (f"{HOME}/24",)})
    async with staged(setting, folder=Path(tempfile.mkdtemp())) as stage:
        return await idle(stage, {"a": "follows"}, seconds)


async def init() -> bool:
    """``vipd init`` from its start to its exit, besides the EC2 call."""
    setting = Setting(nodes=("a",), targets=(ip_address(HOME),), homes={"a": (f"{HOME}/24",)}, sidecars=False)
    took = []
    async with staged(setting, folder=Path(tempfile.mkdtemp())) as stage:
        assert isinstance(stage, PodStage)
        for _ in range(INITS):
            await stage.set()
            done = await stage.init("a")
            if done.code:
                print(done.said)
                return True
            calls = stage.calls(done.began_at)
            # Those of IPv4 and of IPv6 are under way at the same time.
            ec2_s = max(call.ended_at for call in calls) - min(call.started_at for call in calls)
            took.append(done.ended_at - done.began_at - ec2_s)
    print(f"vipd init {median(took):.2f} s besides the EC2 call (median of {INITS}; {min(took):.2f}-{max(took):.2f})")
    return median(took) > MAX_INIT_S


async def measure(seconds: float) -> int:
    """1 where a limit is passed."""
    return int(any([await elected(seconds), await following(seconds), await init()]))


if __name__ == "__main__":
    sys.exit(asyncio.run(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)))
