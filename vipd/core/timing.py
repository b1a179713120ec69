"""Every number of the protocol, with its reason: durations in seconds, pure functions of the Lease duration.

Two clocks may run at different rates.  A holder therefore ends its right early (``margin_s``) and a candidate
never counts from earlier than when it saw the renewal.  A vipd candidate may use a small part of the
vipd holder's margin (``TAKE_LEAD_S``): it pays for the round trips of the takeover, so that the VIP answers
again one Lease duration after the last renewal, not one duration and some.
"""

from __future__ import annotations

import math

from vipd.core.model import Fence

TAKE_LEAD_S = 0.1
"""How long before the expiry a candidate sends its take, when the holder is a vipd with fence eni."""

RATE_TOLERANCE = 0.05
"""Share of the duration left for clock rates: two clocks, each off by 2 %, differ by (1.02/0.98 - 1) = 4.1 %."""

RETRY_S = 0.2
"""Pause after a failed renewal attempt."""

PREREAD_S = 0.15
"""A candidate's last read before its take is sent at most this long before it."""

FENCE_LEASE_GUARD_S = 0.5
"""Fence lease: the address ends this long before the Lease; the kernel removes addresses up to 0.4 s late."""

PUT_STALL_S = 0.05
"""How late the kernel may take in an addition under fence lease; a later one is undone and made anew."""

LATE_S = 0.5
"""A timer that fires later than this was frozen or stalled: be quiet and read the Lease first."""

OVERDUE_INTERVALS = 1.5
OVERDUE_READ_S = 0.5
MAX_COUNT_RESTARTS = 3
"""A failed read restarts a candidate's count: an API that is away for all is no sign of a dead holder."""

MAPPING_LAG_S = 10.0
"""IMDS may lag the mapping: "gone" counts only this long after one's own last EC2 write and one's start."""

MAPPING_FAST_S = 0.5
MAPPING_SLOW_S = 5.0
"""IMDS is link-local and free to ask."""

DESCRIBE_FAST_S = 2.0
DESCRIBE_SLOW_S = 15.0
"""Describe calls share a token bucket with the whole account."""

MAPPING_SILENT_FAILURES = 3
MAPPING_SILENT_S = 3.0

DRAIN_S = 2.0
"""The old owner keeps answering this long after the mapping left it: packets and views under way."""

SUCCESSOR_MOVED_OLD_WRITER_S = 10.0
QUIET_WRITER_S = 30.0

LEAVE_WHEN_FREE_S = 3.0
LEAVE_BEFORE_GRACE_S = 2.0

ENI_LIFETIME_S = 10
ENI_REFRESH_S = 3.0

PLUMB_RETRY_S = 0.3
PLUMB_ATTEMPTS = 3

OFFER_PATIENCE_S = 2.0
"""How long an offer stands: a ready standby takes it within a few round trips."""
OFFER_AGAIN_S = 10.0
"""A holder that EC2 does not serve offers as often: somebody who can serve may have come."""
OFFER_PATIENCE_UNBORNE_S = 0.5
"""Fence lease: the address is off while the offer stands, so it stands shorter."""
CALL_WAIT_S = 2.0
"""How long a member that is to let go waits for the answer to its EC2 call, so that it can offer."""
CANNOT_MOVE_DURATIONS = 2
"""So many Lease durations without an OK of EC2, and somebody else may try."""

PREEMPT_AFTER_S = 30.0
PREEMPT_AGAIN_S = 60.0
OPERATOR_BAR_S = 600.0
"""An operator's handover bars the member it took the VIP from, from preempting."""

ANNOTATE_AGAIN_S = 5.0
"""A word to the holder that failed (no permission to patch, an outage) is said again after this pause."""

PROBE_AGAIN_S = 1.0
CLEAR_FOR_S = 1.0
"""An unanswered probe says that nobody bears the address now, not for how long."""

DEFEND_S = 1.0
"""At most one answer (a read of the Lease, an announcement) per second to claims of the VIP by others, and one
announcement more that much later."""
CLAIM_NOTE_S = 60.0

HOLD_DOWN_FIRST_S = 30.0
HOLD_DOWN_MAX_S = 600.0

ANNOUNCE_BURST_S = (0.1, 0.3, 0.7, 1.5, 3.0)
"""Repeats after the first announcement, counted from it: neighbours may miss one frame."""
ANNOUNCE_REFRESH_S = 45.0

HEARTBEAT_S = 1.0
"""The longest sleep of a member that bears the address: a late one shows that it was frozen."""

PREFERRED_PRIORITY = 100
SPREAD_S = 0.1


def margin_s(duration_s: int) -> float:
    """How long before the end of its Lease a holder stops acting."""
    return TAKE_LEAD_S + RATE_TOLERANCE * duration_s


def attempt_timeout_s(duration_s: int) -> float:
    """The hard limit of one Lease request: short enough for a second attempt within the right."""
    return min(0.5, duration_s / 4)


def spread_s(priority: int) -> float:
    """How long after the expiry a candidate of this priority tries: 0 at 100 and above, up to 0.1 s at 0.

    Candidates of one priority try at once: the compare-and-swap lets one win, and the losers cost one
    refused write each.
    """
    return SPREAD_S * max(0.0, 1 - priority / PREFERRED_PRIORITY)


def hold_down_s(faults: int) -> float:
    """The hold-down after the ``faults``-th fault in a row (1, 2, ...): 30 s doubling to 10 min."""
    return min(HOLD_DOWN_MAX_S, HOLD_DOWN_FIRST_S * 2.0 ** (faults - 1))


def lifetime_s(fence: Fence, duration_s: int, elapsed_s: float) -> int:
    """The whole seconds of kernel lifetime that an address may have ``elapsed_s`` after the last renewal was sent.

    0 means that it must not be added any more.
    """
    if fence is Fence.ENI:
        return ENI_LIFETIME_S
    return max(0, math.floor(duration_s - FENCE_LEASE_GUARD_S - elapsed_s))


def address_ends_at(renewed_at: float, duration_s: int) -> float:
    """Fence lease: when the kernel is to have removed the address, by the renewal that was sent at ``renewed_at``."""
    return renewed_at + duration_s - FENCE_LEASE_GUARD_S


def assign_backoff_s(failures: int, *, first_s: float, most_s: float) -> float:
    """The pause after the ``failures``-th failed EC2 attempt in a row."""
    return min(most_s, first_s * 2.0 ** min(16, failures - 1))
