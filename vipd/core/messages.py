"""What the core hears (events) and what it asks for (effects).

The shell turns calls into effects and answers into events; the core sees neither sockets nor threads.
``sent_at`` and ``asked_at`` are the moments (CLOCK_BOOTTIME) just before the request left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vipd.core.model import (
    Address,
    AddressClaim,
    Assigned,
    CallFailed,
    LeaseAbsent,
    LeaseDraft,
    LeaseView,
    Mapped,
    ReadOutcome,
    WriteOutcome,
)
from vipd.core.reasons import Phase, Reason, WriteKind
from vipd.core.settings import ElectionConfig

TenureKey = tuple[str, int]
"""(Lease uid, leaseTransitions): answers of EC2 belong to one of these."""

# ---------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Begin:
    """The first event.  ``left_over``: VIPs of an earlier run that the kernel still bears."""

    left_over: frozenset[Address]
    link_up: bool
    outlives_lease: bool = False
    """Whether what is left over lives on for longer than a Lease lasts: then it was fenced by the mapping."""


@dataclass(frozen=True, slots=True)
class LeaseRead:
    outcome: ReadOutcome
    sent_at: float


@dataclass(frozen=True, slots=True)
class LeaseWatched:
    outcome: LeaseView | LeaseAbsent | CallFailed


@dataclass(frozen=True, slots=True)
class LeaseWrote:
    kind: WriteKind
    outcome: WriteOutcome
    sent_at: float


@dataclass(frozen=True, slots=True)
class AddressesPut:
    """The kernel's answer to PutAddresses: which VIPs are there now, and what was said of the others."""

    borne: frozenset[Address]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class AddressesRemoved:
    """The kernel's answer to RemoveAddresses."""

    failure: str = ""


@dataclass(frozen=True, slots=True)
class AddressLost:
    """A VIP left its interface without our asking."""

    address: Address


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """Whether every interface of the VIPs is up; ``detail`` names the first that is not."""

    up: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """Whether every ``--check`` passes (rise and fall counted); ``detail`` names the first that does not."""

    healthy: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """Another MAC claims a VIP on its interface."""

    claim: AddressClaim


@dataclass(frozen=True, slots=True)
class Probed:
    """The answer to ProbeAddresses: whether anybody answered for one of the VIPs."""

    answered: bool
    asked: bool = True
    """Whether the link could be asked for all of them; where it could not, somebody may bear one unheard."""


@dataclass(frozen=True, slots=True)
class EniAnswered:
    key: TenureKey
    results: tuple[Assigned, ...]
    sent_at: float


@dataclass(frozen=True, slots=True)
class MappingSeen:
    mapping: Mapping[Address, Mapped]
    asked_at: float


@dataclass(frozen=True, slots=True)
class ClockJumped:
    """The wall clock and CLOCK_BOOTTIME disagree about how much time went by."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM or SIGINT."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """SIGHUP: new priority, duration, interval, grace period or wish to preempt; the rest is as before."""

    config: ElectionConfig


@dataclass(frozen=True, slots=True)
class Woke:
    """The time given by ``State.wake_at`` has come."""


Event = (
    Begin
    | LeaseRead
    | LeaseWatched
    | LeaseWrote
    | AddressesPut
    | AddressesRemoved
    | AddressLost
    | LinkSeen
    | HealthSeen
    | ClaimSeen
    | Probed
    | EniAnswered
    | MappingSeen
    | ClockJumped
    | StopAsked
    | Reconfigured
    | Woke
)

# --------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class ReadLease:
    timeout_s: float


@dataclass(frozen=True, slots=True)
class WriteLease:
    """``base`` None: create it."""

    kind: WriteKind
    base: LeaseView | None
    draft: LeaseDraft
    timeout_s: float


@dataclass(frozen=True, slots=True)
class AnnotateLease:
    """Set annotations on the Lease of another holder; the answer is a LeaseWrote of this kind."""

    kind: WriteKind
    base: LeaseView
    annotations: Mapping[str, str | None]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ProbeAddresses:
    """Ask the link whether anybody answers for the VIPs (a successor on the same ENI that is not told apart)."""


@dataclass(frozen=True, slots=True)
class Rewatch:
    """The watch was found half-open."""


@dataclass(frozen=True, slots=True)
class PutAddresses:
    """Add or refresh all VIPs.  Past ``not_after`` the shell undoes it: `replace` re-adds an expired address.

    ``in_time``: carried out later than this the lifetime would end too late; then the shell makes it a second shorter.
    """

    valid_s: int
    not_after: float | None
    in_time: float | None = None


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    reason: Reason


@dataclass(frozen=True, slots=True)
class Announce:
    """Send one round of GARP/NA for all VIPs."""


@dataclass(frozen=True, slots=True)
class AssignEni:
    key: TenureKey
    addresses: tuple[Address, ...]
    previous: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReadMapping:
    pass


@dataclass(frozen=True, slots=True)
class Changed:
    """A state was left for another."""

    before: Phase
    after: Phase
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something people should see: logged, counted, and (``warning``) written as a Warning Event."""

    reason: Reason
    detail: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    code: int


Effect = (
    ReadLease
    | WriteLease
    | AnnotateLease
    | ProbeAddresses
    | Rewatch
    | PutAddresses
    | RemoveAddresses
    | Announce
    | AssignEni
    | ReadMapping
    | Changed
    | Note
    | Exit
)
