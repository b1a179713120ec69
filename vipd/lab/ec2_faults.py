"""What can go wrong at the lab's EC2: throttling as AWS does it, and faults that a scenario switches on and off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from vipd.lab.vpc import boottime

HANG = "hang"
"""In place of an error code: accept the request and never answer."""
DROP = "drop"
"""In place of an error code: break the connection in place of an answer."""

STATUS = {
    "AuthFailure": 401,
    "UnauthorizedOperation": 403,
    "DryRunOperation": 412,
    "InternalError": 500,
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
}
"""The HTTP status of an error code; 400 where it is not here."""

MESSAGES = {
    "AuthFailure": "AWS was not able to validate the provided access credentials",
    "RequestLimitExceeded": "Request limit exceeded.",
    "Throttling": "Rate exceeded",
    "InternalError": "An internal error has occurred",
    "Unavailable": "The service is unavailable. Please try again shortly.",
    "RequestExpired": "Request has expired.",
    "ExpiredToken": "The security token included in the request is expired",
    "DryRunOperation": "Request would have succeeded, but DryRun flag is set.",
}


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``capacity`` requests at once, ``refill`` requests a second (EC2 Developer Guide, throttling)."""

    capacity: float
    refill: float
    tokens: float | None = None
    """None: full."""
    at: float = 0.0

    def take(self) -> bool:
        """Whether there was a token left for this request."""
        now = boottime()
        had = self.capacity if self.tokens is None else self.tokens + (now - self.at) * self.refill
        had = min(self.capacity, had)
        self.at = now
        self.tokens = had - 1 if had >= 1 else had
        return had >= 1


@dataclass(slots=True)
class Hold:
    """Writes that wait on their way, and are applied as soon as they are let go."""

    released: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    """How many of them there are."""


@dataclass(slots=True)
class Faults:
    """What goes wrong at present; changed while running."""

    error: str | None = None
    """What calls meet in place of being done: an error code, HANG or DROP ..."""
    calls: int | None = None
    """... this many times (None: until it is cleared) ..."""
    only: frozenset[str] = frozenset()
    """... and only these actions (empty: all)."""
    hang: bool = False
    """Accept every call and never answer, whatever ``calls`` says."""
    late_s: float | None = None
    """Never answer writes, but apply them this many seconds later ..."""
    late_calls: int | None = None
    """... this many times (None: until it is cleared)."""
    held: dict[str, Hold] = field(default_factory=dict)
    """Callers whose writes wait on their way, until somebody lets them go."""
    denied: set[str] = field(default_factory=set)
    """What the policy denies: "Action" for everybody, or "caller:Action"."""
    expired: dict[str, str] = field(default_factory=dict)
    """Access keys that are over, and the code that says so: "RequestExpired" or "ExpiredToken"."""

    def next_error(self, action: str) -> str | None:
        """What this call meets; counts it."""
        if self.hang:
            return HANG
        if self.error is None or self.calls == 0 or (self.only and action not in self.only):
            return None
        if self.calls is not None:
            self.calls -= 1
        return self.error

    def next_late(self) -> float | None:
        """After how many seconds this write is to be applied without an answer, if so; counts it."""
        if self.late_s is None or self.late_calls == 0:
            return None
        if self.late_calls is not None:
            self.late_calls -= 1
        return self.late_s

    def denies(self, caller: str, action: str) -> bool:
        """Whether the policy denies the action to the caller."""
        return action in self.denied or f"{caller}:{action}" in self.denied
