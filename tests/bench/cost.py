"""What an idle sidecar costs: memory and CPU of the active and the standby one in the lab, over SECONDS.

    python -m vipd.lab.sandbox python tests/bench/cost.py [SECONDS]

Exit 1 where a limit is passed.  Timings on shared machines are noisy: the limits are for regressions, not goals.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from vipd.lab.run import staged
from vipd.lab.setting import Setting

MAX_RSS_MB = 120
MAX_CPU_PERCENT = 1.5


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(seconds: float) -> int:
    """Print a line for each member; 1 where a limit is passed."""
    passed = False
    async with staged(Setting(), folder=Path(tempfile.mkdtemp())) as stage:
        # The first seconds after a take are busier: announcements, and IMDS every half second.
        await stage.pause(12.0)
        pids = {name: node.vipd.pid for name, node in stage.lab.nodes.items() if node.vipd is not None}
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        await stage.pause(seconds)
        for name, pid in pids.items():
            role = "active" if name == stage.active else "standby"
            percent = 100 * (cpu_s(pid) - before[name]) / seconds
            print(f"{role:8} RSS {rss_mb(pid):6.1f} MB   CPU {percent:5.2f} %")
            passed |= rss_mb(pid) > MAX_RSS_MB or percent > MAX_CPU_PERCENT
    return int(passed)


if __name__ == "__main__":
    sys.exit(asyncio.run(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)))
