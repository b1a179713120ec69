"""The numbers of the protocol: what each must be able to bear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.core import timing
from vipd.core.model import Fence

KERNEL_LATE_S = 0.4
"""The kernel removes an expired address up to this much late."""


@given(st.integers(1, 3600), st.floats(0.98, 1.02), st.floats(0.98, 1.02))
def test_a_holder_has_stopped_before_a_candidate_takes_at_clock_rates_of_two_percent(duration, holder, candidate):
    # Both count from the same instant here; in truth the candidate counts from later, when it saw the renewal.
    right_ends = (duration - timing.margin_s(duration)) / holder
    take = (duration - timing.TAKE_LEAD_S) / candidate
    assert right_ends <= take


@given(st.integers(2, 3600), st.floats(0, 4000))
def test_under_fence_lease_the_kernel_has_removed_the_address_before_the_lease_ends(duration, elapsed):
    valid = timing.lifetime_s(Fence.LEASE, duration, elapsed)
    assert valid == 0 or elapsed + valid + KERNEL_LATE_S <= duration


def test_under_fence_eni_the_address_outlives_the_takeover_of_a_default_lease():
    refreshed_latest = timing.ENI_REFRESH_S
    assert timing.ENI_LIFETIME_S - refreshed_latest > 3 + 2 * 0.4 + 1.0


@pytest.mark.parametrize(("duration", "attempts"), [(1, 2), (2, 2), (3, 3), (10, 4)])
def test_several_renewal_attempts_fit_into_the_right_after_the_interval(duration, attempts):
    left = duration - timing.margin_s(duration) - duration / 3
    each = timing.attempt_timeout_s(duration) + timing.RETRY_S
    assert left / each >= attempts - 1


@pytest.mark.parametrize(("faults", "seconds"), [(1, 30), (2, 60), (3, 120), (5, 480), (6, 600), (60, 600)])
def test_hold_downs_double_up_to_ten_minutes(faults, seconds):
    assert timing.hold_down_s(faults) == seconds


def test_candidates_at_the_default_priority_do_not_wait_and_others_a_tenth_of_a_second_at_most():
    assert timing.spread_s(100) == timing.spread_s(255) == 0
    assert timing.spread_s(0) == pytest.approx(0.1)
    waits = [timing.spread_s(priority) for priority in range(256)]
    assert waits == sorted(waits, reverse=True)


@given(st.integers(1, 10_000), st.floats(0.1, 60), st.floats(60, 600))
def test_backoffs_grow_and_are_bounded(failures, first, most):
    pause = timing.assign_backoff_s(failures, first_s=first, most_s=most)
    assert first <= pause <= most
    assert pause <= timing.assign_backoff_s(failures + 1, first_s=first, most_s=most)
