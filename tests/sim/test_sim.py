"""Thousands of seeded schedules on virtual time: whatever goes wrong, every promise is kept."""

from __future__ import annotations

import os

from .mutations import MUTATIONS
from .runner import run, run_many, run_seeds, tell
from .schedule import schedule

SEEDS = int(os.environ.get("VIPD_SIM_SEEDS", "3000"))


def test_no_schedule_breaks_a_promise():
    summary = run_many(0, SEEDS, jobs=os.cpu_count() or 1)
    assert not summary.failures, "\n\n".join(tell(failure.seed) for failure in summary.failures[:2])
    assert summary.seeds == SEEDS


def test_one_seed_is_one_story():
    for seed in range(0, 40, 4):
        first, second = (run(schedule(seed), telling=True) for _ in range(2))
        assert first.story == second.story
        assert len(first.story) > 10


def test_a_broken_promise_is_told_with_its_schedule_and_the_command_that_replays_it():
    with MUTATIONS["no_margin"].applied():
        failures, _ = run_seeds(range(2000), stop_at_first=True)
        story = tell(failures[0].seed)
    assert f"python -m tests.sim --replay {failures[0].seed}" in story
    assert "broken: " in story
    assert "faults:" in story
