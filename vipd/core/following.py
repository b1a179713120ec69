"""The values of following: what is followed, how it stands with each address, what may happen and what is to be done.

Following needs no Lease: whoever bears an address wants its packets, and two bearers are a mistake of others that is
reported, not fought over.  Times named ``*_at`` are seconds on CLOCK_BOOTTIME.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vipd.core.model import Address, Assigned, Mapped

LAG_S = 10.0
"""IMDS may lag the mapping: "gone" counts only this long after one's own last EC2 write."""

ASK_FAST_S, ASK_SLOW_S = 0.5, 10.0
"""IMDS is link-local and free to ask."""

SILENT_FAILURES, SILENT_S = 3, 3.0
"""IMDS that is silent so often and so long tells nothing: what was to be checked is assigned."""

REPAIR_AFTER_S = (5.0, 30.0, 300.0)
"""Pauses before the repairs of a drift; after the last one the address is contended: two bearers must not fight."""

STEADY_S = 600.0
"""An address that was confirmed for so long has no quarrel: its repairs are counted anew."""

RELEASE_AGAIN_S = 10.0
RELEASE_TRIES = 6
"""How often a release is tried while IMDS or EC2 tell nothing."""


class Standing(enum.StrEnum):
    """How it stands with one followed address."""

    CHECKING = "checking"
    """It was there at the start; IMDS is asked whether anything is to be done."""
    ASSIGNING = "assigning"
    """Planned, or the EC2 call is under way."""
    ASSIGNED = "assigned"
    """EC2 said OK; IMDS does not show it yet."""
    CONFIRMED = "confirmed"
    """IMDS shows it on this node's ENI."""
    DRIFTED = "drifted"
    """IMDS shows that it is no longer mapped here; a repair is planned."""
    CONTENDED = "contended"
    """It drifted again after the last repair: another bears it too.  Nothing is done any more."""
    THROTTLED = "throttled"
    RETRYING = "retrying"
    """No answer, or a server error."""
    FULL = "full"
    """The ENI has no room."""
    NOT_ALLOWED = "not-allowed"
    """Credentials or policy."""
    REFUSED = "refused"
    """EC2 will never do it, or it cannot be told which ENI it is for."""
    OUTSIDE = "outside"
    """The ENI's subnet cannot have it."""


WELL = frozenset({Standing.CONFIRMED})
HOPELESS = frozenset({Standing.REFUSED, Standing.OUTSIDE, Standing.NOT_ALLOWED, Standing.CONTENDED})
"""Time alone mends none of these."""

FAILING = frozenset({Standing.THROTTLED, Standing.RETRYING, Standing.FULL, Standing.NOT_ALLOWED, Standing.REFUSED})
"""An EC2 call ended so, and will be tried again."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an address belongs."""

    interface: str
    eni: str = ""
    """The ENI's id; empty where none is known."""
    standing: Standing | None = None
    """What is known without EC2: CONFIRMED (the ENI's own primary), OUTSIDE, REFUSED, CHECKING (IMDS is silent)."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Followed:
    """One address that is borne here."""

    target: Target
    standing: Standing
    since: float
    came_at: float
    known: bool = False
    """It was there when following began: EC2 may have been told of it before."""
    due_at: float | None = None
    """When EC2 is to be called; None: nothing is planned."""
    calling: bool = False
    failures: int = 0
    repairs: int = 0
    wrote_at: float = float("-inf")
    """The end of the last EC2 call for it."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Leaving:
    """An address that is no longer borne, to be unassigned unless it is borne or mapped elsewhere by then."""

    target: Target
    due_at: float
    tries: int = 0
    mine: bool = False
    """IMDS has shown it here since it was due."""


@dataclass(frozen=True, slots=True)
class EniWork:
    """What is under way for one ENI: one call at a time, so that no call overtakes another."""

    calling: bool = False
    asking: bool = False
    ask_due_at: float | None = None
    asked_at: float = float("-inf")
    """When the last answered question was sent."""
    silent_count: int = 0
    silent_since: float | None = None


@dataclass(frozen=True, slots=True)
class FollowConfig:
    """What does not change from event to event."""

    always: bool = False
    """Assign also what IMDS already shows here: a new pod's address may just have moved, and IMDS may lag."""
    release_after_s: float | None = None
    """Unassign an address this long after it left; None: never."""
    batch_s: float = 0.005
    """Addresses that come within so much time go into one call."""
    ask_fast_s: float = ASK_FAST_S
    ask_slow_s: float = ASK_SLOW_S
    repair_after_s: tuple[float, ...] = REPAIR_AFTER_S


@dataclass(frozen=True, slots=True)
class FollowState:
    """Everything that is known."""

    config: FollowConfig
    followed: Mapping[Address, Followed] = field(default_factory=dict)
    leaving: Mapping[Address, Leaving] = field(default_factory=dict)
    enis: Mapping[str, EniWork] = field(default_factory=dict)
    wake_at: float | None = None
    """When ``Woke`` is to come."""


# ---------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Borne:
    """All that is to be followed now.  ``known``: what is new in it may have been there, and assigned, before."""

    targets: Mapping[Address, Target]
    known: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """EC2's answers to ``Assign``.  ``share``: 0 to 1, drawn at random: pauses of many pods must not coincide."""

    eni: str
    results: Sequence[Assigned]
    share: float


@dataclass(frozen=True, slots=True)
class Unassigned:
    """EC2's answers to ``Unassign``.  ``kept``: addresses that somebody bears on this ENI, so nothing was sent."""

    eni: str
    results: Sequence[Assigned]
    kept: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """What IMDS shows of an ENI."""

    eni: str
    mapping: Mapping[Address, Mapped]
    asked_at: float


@dataclass(frozen=True, slots=True)
class Woke:
    """``wake_at`` has come."""


FollowEvent = Borne | Answered | Unassigned | Seen | Woke


# --------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Assign:
    """One EC2 call for all of these."""

    eni: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Unassign:
    """Ask the link whether anybody bears them; unassign those that nobody does."""

    eni: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask IMDS where these are mapped."""

    eni: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """The standing of an address changed in a way that people should see.  ``standing`` None: it is gone."""

    address: Address
    standing: Standing | None
    detail: str
    warning: bool = False


FollowEffect = Assign | Unassign | Ask | Told
