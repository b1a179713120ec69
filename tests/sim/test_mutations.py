"""The simulator finds each broken rule: if it did not, its silence about the true rules would mean nothing."""

from __future__ import annotations

import pytest

from .mutations import MUTATIONS
from .runner import run, run_seeds

WITHIN = 2000
"""Seeds in which a broken rule must show."""


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_found(name, record_property):
    mutation = MUTATIONS[name]
    if mutation.script is not None:
        assert run(mutation.script).violation is None
        with mutation.applied():
            assert run(mutation.script).violation is not None, mutation.rule
        return
    with mutation.applied():
        failures, _ = run_seeds(range(WITHIN), stop_at_first=True)
    assert failures, f"not found in {WITHIN} seeds: {mutation.rule}"
    record_property("seed", failures[0].seed)
    record_property("violation", str(failures[0].violation))
