"""Values that everything else speaks in: VIPs, ENIs, the Lease as it is read and as it is to be written.

Frozen dataclasses only.  Times named ``*_at`` are seconds on CLOCK_BOOTTIME; wall-clock times
(``acquire_time``, ``renew_time``) are for people and for the wire, and are never compared with a clock.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Vip:
    """A floating IP: its address, the prefix length it bears in the kernel, and the interface that bears it."""

    address: Address
    prefixlen: int
    interface: str

    def __str__(self) -> str:
        return f"{self.address}/{self.prefixlen}%{self.interface}"


@dataclass(frozen=True, slots=True)
class Eni:
    """An elastic network interface of this node, as IMDS (or the flags) tell it."""

    id: str
    mac: str
    """Lower case, colon separated."""
    device_number: int = 0
    subnet_cidrs: tuple[Network, ...] = ()
    """The subnet's IPv4 and IPv6 CIDR blocks; empty when not known."""
    vpc_id: str = ""
    primary: Address | None = None
    """Its primary IPv4 address, which no call moves; None where not known."""
    prefixes: tuple[Network, ...] = ()
    """The prefixes delegated to it, of both families: their addresses are mapped to it already."""


class Fence(enum.StrEnum):
    """What tells two bearers of the address apart."""

    ENI = "eni"
    """The EC2 mapping: packets reach only the ENI that it names."""
    LEASE = "lease"
    """Nothing does, so the address and the right to act end together."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """Annotation ``vipd.io/tenure``: what a vipd holder says of its own tenure in every write."""

    holder: str
    transitions: int
    incarnation: str
    """The holder's process, a UUID: a restart is another process under the same name."""
    eni: str = ""
    """The ENI ids the VIPs are to be mapped to, sorted and joined by commas; empty where none is managed."""
    fence: Fence = Fence.LEASE
    priority: int = 100
    interval_s: float = 1.0
    moved: bool = False
    """True once EC2 answered OK for this tenure (always true without an ENI)."""
    vips: tuple[str, ...] = ()
    """The addresses that the holder bears, as text; empty where it does not tell.  For people: never decided by."""
    why: str = ""
    """The ``Reason`` of the take; empty where the holder does not tell.  Likewise."""

    @property
    def enis(self) -> frozenset[str]:
        return frozenset(e for e in self.eni.split(",") if e)


@dataclass(frozen=True, slots=True)
class Offer:
    """Annotation ``vipd.io/offer``: the holder lets a ready standby take the Lease before its end."""

    holder: str
    transitions: int
    id: str
    """The request's id where it answers one; else the holder's own."""
    to: str = ""
    """The identity it is meant for; empty: any ready standby."""
    why: str = ""
    """A ``Reason``, for people and for the successor."""


@dataclass(frozen=True, slots=True)
class Request:
    """Annotation ``vipd.io/request``: an operator or a preemptor asks the holder to hand over."""

    holder: str
    """The holder that is asked, and its ``transitions``: a request dies with the tenure it was made to."""
    transitions: int
    id: str
    by: str
    """Who asks: a member's identity, or what names an operator."""
    to: str = ""
    priority: int = 0
    """A member's own, 0 to 255; OPERATOR_PRIORITY for people.  Replaced only by a higher one."""

    @property
    def by_operator(self) -> bool:
        return self.priority >= OPERATOR_PRIORITY


OPERATOR_PRIORITY = 1000
"""The priority of a request that a person made: above every member's (0 to 255)."""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """One reading of a Lease object, of any shape: fields that were absent or absurd have a neutral value."""

    uid: str
    resource_version: str
    holder: str
    """Empty: nobody holds it (released)."""
    duration_s: int
    """``leaseDurationSeconds``; 0 where absent or not positive."""
    transitions: int
    acquire_time: datetime | None
    renew_time: datetime | None
    tenure: Tenure | None
    """Only where the annotation is well formed and its holder and transitions equal the spec's."""
    offer: Offer | None = None
    """Likewise."""
    request: Request | None = None
    """Likewise."""
    shared_eni: str = ""
    """Annotation ``vipd.io/shared``: the ENI on which a candidate met this holder.  Likewise."""
    raw: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)
    """The object as the API sent it (JSON), the base of the next write: nothing foreign in it is lost."""
    former: Tenure | None = None
    """Of a released Lease the tenure that was given up: its bearer may still be answering."""

    @property
    def content(self) -> tuple[str, int, datetime | None]:
        """What a renewal changes: the sign of life.  Annotation writes do not change it."""
        return (self.holder, self.transitions, self.renew_time)

    def newer_than(self, other: LeaseView | None) -> bool:
        """Whether this reading was made of a later state than ``other``.

        resourceVersions are revisions of one store and grow, over deletions too; they are compared as integers
        (KEP-5504).  Where they are no integers, any other version or object counts as newer.
        """
        if other is None:
            return True
        mine, theirs = self.resource_version, other.resource_version
        if all(version.isascii() and version.isdecimal() for version in (mine, theirs)):
            return int(mine) > int(theirs)
        return mine != theirs or self.uid != other.uid


@dataclass(frozen=True, slots=True)
class LeaseDraft:
    """What a write is to put into the Lease; the adapter stamps ``renewTime`` with the wall clock as it sends.

    ``acquire_time`` None means "the same instant as renewTime" (a new tenure).
    """

    holder: str
    duration_s: int
    transitions: int
    acquire_time: datetime | None
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    """Annotations to set; None removes one.  All others are kept."""


class CallFailure(enum.StrEnum):
    """Why a call to the Kubernetes API gave no answer that can be used."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    THROTTLED = "throttled"
    SERVER = "server-error"
    INVALID = "invalid"
    """The server refused the object itself (400, 422), or sent something that is no Lease."""


@dataclass(frozen=True, slots=True)
class LeaseAbsent:
    """There is no such Lease (404)."""


@dataclass(frozen=True, slots=True)
class CallFailed:
    """No usable answer.  For a write: whether it was applied is unknown, unless ``failure`` says it was refused."""

    failure: CallFailure
    detail: str


@dataclass(frozen=True, slots=True)
class Written:
    """The write was applied; ``view`` is the object as the API answered."""

    view: LeaseView


@dataclass(frozen=True, slots=True)
class Conflict:
    """409: somebody wrote in between, or the object is another one; read, then decide."""

    detail: str = ""


ReadOutcome = LeaseView | LeaseAbsent | CallFailed
WriteOutcome = Written | Conflict | LeaseAbsent | CallFailed


@dataclass(frozen=True, slots=True)
class AddressClaim:
    """An ARP packet or a neighbour advertisement from another MAC that says the address is its own."""

    address: Address
    interface: str
    mac: str
    """The claimant's, lower case, colon separated."""


class Mapped(enum.StrEnum):
    """What IMDS (or DescribeNetworkInterfaces) says of one VIP and this node's ENI."""

    MINE = "mine"
    GONE = "gone"
    UNKNOWN = "unknown"


class AssignVerdict(enum.StrEnum):
    """How an attempt to map one address to an ENI ended, sorted by what to do next."""

    OK = "ok"
    RETRY = "retry"
    """5xx, timeouts, lost answers: try again while the right lasts."""
    THROTTLED = "throttled"
    """Too many calls of this account: try again, with pauses that leave the others a chance."""
    NO_ROOM = "no-room"
    """The ENI (or the subnet) is full: wait for room."""
    NEVER = "never"
    """Outside the subnet, reserved, another ENI's primary, inside a delegated prefix, no such ENI."""
    NOT_ALLOWED = "not-allowed"
    """Credentials or policy."""
    RIGHT_OVER = "right-over"
    """Not sent, or not waited for any longer: the right to act ended first.  Whether it was applied is unknown."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """The outcome for one address.  ``code`` is EC2's error code or a short word of ours; empty when OK."""

    address: Address
    verdict: AssignVerdict
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LinkState:
    """An interface as the kernel sees it.  ``up``: administratively up, with carrier."""

    name: str
    index: int
    up: bool
    mac: str
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class BorneAddress:
    """An address that bears vipd's protocol number (IFA_PROTO)."""

    vip: Vip
    valid_s: int | None
    """Remaining kernel lifetime in seconds; None: for ever."""


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of this network namespace, whoever added it."""

    address: Address
    prefixlen: int
    interface: str
    proto: int = 0
    """IFA_PROTO: who added it; vipd's own bear ``vipd.link.kernel.VIPD_PROTO``."""
    usable: bool = True
    """Not tentative and not a found duplicate: duplicate address detection is over (IPv6), so it can send."""
    duplicate: bool = False
    """Duplicate address detection found another bearer on the link (IFA_F_DADFAILED): it will never be usable."""
    temporary: bool = False
    """A privacy address (RFC 8981), which the kernel makes and ends by itself."""
    universe: bool = True
    """Of global scope (rtnetlink(7)): not of link or host scope."""
