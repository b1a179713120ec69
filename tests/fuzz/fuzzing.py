"""How much is tried: the same examples in every run, or with VIPD_FUZZ_EXAMPLES=N new ones each time, and more.

VIPD_FUZZ_EXAMPLES=20000 make test ARGS=tests/fuzz
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

USUAL = 200
"""Examples of a test that costs next to nothing; N stands for this number, and others get their share of it."""


def fuzz(examples: int = USUAL) -> settings:
    """Settings for a test that takes so many examples in an ordinary run."""
    wanted = os.environ.get("VIPD_FUZZ_EXAMPLES")
    return settings(
        max_examples=max(1, int(wanted) * examples // USUAL) if wanted else examples,
        derandomize=not wanted,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
