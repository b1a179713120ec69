"""The states of the election and the reasons for every decision.

A reason is logged, counted in metrics, written into Events and asserted in tests: what happened can be
told from it without reading code.
"""

from __future__ import annotations

import enum


class Phase(enum.StrEnum):
    """The states drawn in ``vipd.core.election``."""

    STANDBY = "standby"
    ACTIVE = "active"
    HOLDING = "holding"
    YIELDING = "yielding"
    FAULT = "fault"
    STOPPED = "stopped"


class Reason(enum.StrEnum):
    """Why a state was entered, a write sent, or something is worth a note."""

    STARTED = "started"
    # taking
    LEASE_ABSENT = "lease-absent"
    LEASE_FREE = "lease-free"
    LEASE_EXPIRED = "lease-expired"
    OWN_EARLIER_RUN = "own-earlier-run"
    RENEWED_AGAIN = "renewed-again"
    OFFERED = "offered"
    # losing
    OTHER_HOLDER = "other-holder"
    FOREIGN_HOLDER = "foreign-holder"
    SAME_ENI_HOLDER = "same-eni-holder"
    DUPLICATE_IDENTITY = "duplicate-identity"
    LEASE_CLEARED = "lease-cleared"
    RIGHT_ENDED = "right-ended"
    LEFT_OVER = "left-over"
    # letting go
    STOPPING = "stopping"
    LINK_DOWN = "link-down"
    CANNOT_PLUMB = "cannot-plumb"
    CHECK_FAILED = "check-failed"
    CANNOT_MOVE = "cannot-move"
    REQUESTED = "requested"
    PREEMPTED = "preempted"
    # handing over, holding, sharing
    API_AWAY = "api-away"
    API_BACK = "api-back"
    IMDS_SILENT = "imds-silent"
    OFFER_NOT_TAKEN = "offer-not-taken"
    SHARED_ENI = "shared-eni"
    CONFLICT = "conflict"
    # leaving YIELDING
    MAPPING_GONE = "mapping-gone"
    SUCCESSOR_MOVED = "successor-moved"
    STILL_FREE = "still-free"
    GRACE_OVER = "grace-over"
    ADDRESS_EXPIRED = "address-expired"
    NOTHING_BORNE = "nothing-borne"
    # ready again
    GATES_OPEN = "gates-open"
    # notes
    CLOCK_LATE = "clock-late"
    CLOCK_JUMPED = "clock-jumped"
    LEASE_WRITE_FAILED = "lease-write-failed"
    HALF_OPEN_WATCH = "half-open-watch"
    LEASE_RECREATED = "lease-recreated"
    ADDRESS_RESTORED = "address-restored"
    MAPPING_CONFIRMED = "mapping-confirmed"
    MAPPING_STOLEN = "mapping-stolen"
    ENI_MOVED = "eni-moved"
    ENI_RETRY = "eni-retry"
    ENI_REFUSED = "eni-refused"
    ENI_FULL = "eni-full"
    ENI_NOT_ALLOWED = "eni-not-allowed"


class WriteKind(enum.StrEnum):
    """What a write to the Lease is for."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    RECREATE = "recreate"
    RELEASE = "release"
    OFFER = "offer"
    CANCEL = "cancel"
    """Withdraws an offer that nobody took."""
    REQUEST = "request"
    """A preemptor's annotation on the holder's Lease."""
    SHARED = "shared"
    """A candidate tells the holder that they share an ENI."""
