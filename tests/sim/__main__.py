"""``python -m tests.sim --seeds N [--first S] [--jobs J]``, ``... --replay SEED``, ``... --mutations``."""

from __future__ import annotations

import argparse
import os
import sys

from .mutations import MUTATIONS
from .runner import run, run_many, run_seeds, tell

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
    parser.add_argument("--mutations", action="store_true", help="which seed finds each broken rule")
    given = parser.parse_args()
    if given.mutations:
        return mutations(given.seeds)
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


def mutations(within: int) -> int:
    """A line for each broken rule: the seed that finds it, or "script", and what was seen."""
    missed = 0
    for name, mutation in MUTATIONS.items():
        with mutation.applied():
            if mutation.script is not None:
                found, violation = "script", run(mutation.script).violation
            else:
                failures, _ = run_seeds(range(within), stop_at_first=True)
                found = str(failures[0].seed) if failures else "-"
                violation = failures[0].violation if failures else None
        missed += violation is None
        print(f"{name:34} {found:>7}  {violation or 'not found'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
