"""``python -m tests.sim --seeds N [--first S] [--jobs J]`` and ``python -m tests.sim --replay SEED``."""

from __future__ import annotations

import argparse
import os
import sys

from .runner import run_many, tell

TOLD = 3
"""How many failing seeds are told in full."""


def main() -> int:
    """Exit 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="the deterministic simulator of vipd")
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many schedules (default: 1000)")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="cores to use")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one seed and tell what happens")
    parser.add_argument("--whole", action="store_true", help="with --replay: do not leave out faults")
    given = parser.parse_args()
    if given.replay is not None:
        story = tell(given.replay, shrunk=not given.whole)
        print(story)
        return 0 if "all promises kept" in story else 1
    summary = run_many(given.first, given.seeds, jobs=given.jobs)
    for failure in summary.failures[:TOLD]:
        print(tell(failure.seed), end="\n\n")
    for failure in summary.failures:
        print(f"seed {failure.seed}: {failure.violation}")
    print(summary)
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
