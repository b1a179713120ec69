"""Runs seeds, on several cores, and tells of those that fail."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from .schedule import Fault, Setting, schedule
from .world import Result, Violation, World

BATCH = 50
"""Seeds that one worker takes at a time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed whose schedule broke a promise."""

    seed: int
    violation: Violation


@contextmanager
def quietly() -> Iterator[None]:
    """No logging, and no garbage collection in the middle of a schedule: both only cost time here."""
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


def run(setting: Setting, *, telling: bool = False) -> Result:
    """One schedule."""
    with quietly():
        return World(setting, telling=telling).run()


def run_seeds(seeds: Iterable[int], *, stop_at_first: bool = False) -> tuple[list[Failure], float]:
    """Those that fail, and the virtual seconds run."""
    failures: list[Failure] = []
    seconds = 0.0
    with quietly():
        for count, seed in enumerate(seeds):
            result = World(schedule(seed)).run()
            seconds += result.seconds
            if result.violation is not None:
                failures.append(Failure(seed, result.violation))
                if stop_at_first:
                    break
            if count % 20 == 19:
                gc.collect()
    return failures, seconds


def _batch(first: int, count: int) -> tuple[list[Failure], float]:
    return run_seeds(range(first, first + count))


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of many seeds."""

    seeds: int
    virtual_s: float
    took_s: float
    failures: tuple[Failure, ...]

    def __str__(self) -> str:
        rate = self.seeds / self.took_s if self.took_s else 0.0
        return (
            f"{self.seeds} schedules, {self.virtual_s / 3600:.1f} virtual hours in {self.took_s:.1f} s "
            f"({rate:.0f} a second), {len(self.failures)} failed"
        )


def run_many(first: int, count: int, *, jobs: int, most_failures: int = 10) -> Summary:
    """Seeds ``first`` to ``first + count - 1`` on ``jobs`` cores; ends early after ``most_failures``."""
    began = time.perf_counter()
    batches = [(at, min(BATCH, first + count - at)) for at in range(first, first + count, BATCH)]
    failures: list[Failure] = []
    virtual_s, done = 0.0, 0
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs) as pool:
        results = [(size, pool.apply_async(_batch, (at, size))) for at, size in batches]
        for size, result in results:
            failed, seconds = result.get()
            failures += failed
            virtual_s += seconds
            done += size
            if len(failures) >= most_failures:
                pool.terminate()
                break
    took = time.perf_counter() - began
    return Summary(done, virtual_s, took, tuple(sorted(failures, key=lambda failure: failure.seed)))


def shrink(setting: Setting, what: str) -> Setting:
    """Leave out faults one by one as long as the same promise is broken."""
    kept = list(setting.faults)
    for fault in list(kept):
        without = tuple(f for f in kept if f is not fault)
        if _breaks(replace(setting, faults=without), what):
            kept.remove(fault)
    return replace(setting, faults=tuple(kept))


def _breaks(setting: Setting, what: str) -> bool:
    violation = run(setting).violation
    return violation is not None and violation.what == what


def tell(seed: int, *, shrunk: bool = True) -> str:
    """The story of a seed, for people; a failing one with as few faults as still break the promise."""
    setting = schedule(seed)
    result = run(setting, telling=True)
    lines = [f"seed {seed}", *setting.describe()]
    if result.violation is not None and shrunk:
        setting = shrink(setting, result.violation.what)
        result = run(setting, telling=True)
    lines += ["faults:", *(f"  {fault}" for fault in setting.faults or ())]
    lines += ["what happened:", *result.story]
    lines.append(f"broken: {result.violation}" if result.violation is not None else "all promises kept")
    lines.append(f"again: python -m tests.sim --replay {seed}")
    return "\n".join(lines)


__all__ = ["Failure", "Fault", "Summary", "run", "run_many", "run_seeds", "shrink", "tell"]
