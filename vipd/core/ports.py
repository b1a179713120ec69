"""The edges of the core: one small protocol for each adapter.

The agent knows adapters by these alone.  The real ones live in ``vipd.kube``, ``vipd.link``, ``vipd.announce``
and ``vipd.aws``.  Every call ends within the time it was given; none raises for an answer that
the other side may give (outcomes are values), only for misuse.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from vipd.core.model import (
    Address,
    AddressClaim,
    Assigned,
    BorneAddress,
    CallFailed,
    Eni,
    LeaseAbsent,
    LeaseDraft,
    LeaseView,
    LinkState,
    LocalAddress,
    Mapped,
    ReadOutcome,
    Vip,
    WriteOutcome,
)


class Clock(Protocol):
    """Time as the election knows it."""

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME, which goes on while the guest is suspended."""

    def wall(self) -> datetime:
        """The wall clock in UTC: for the wire and for people, never compared."""


class LeaseStore(Protocol):
    """One Lease in the Kubernetes API."""

    async def read(self, *, timeout_s: float) -> ReadOutcome:
        """A quorum read (no resourceVersion=0)."""

    async def create(self, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        """Create it; Conflict where it exists by now."""

    async def replace(self, base: LeaseView, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        """Compare-and-swap on ``base``: the write bears its resourceVersion *and* its uid."""

    async def annotate(
        self, base: LeaseView, annotations: Mapping[str, str | None], *, timeout_s: float
    ) -> WriteOutcome:
        """Set annotations (None removes one) by compare-and-swap on ``base``; the spec is not touched."""

    def watch(self) -> AsyncGenerator[LeaseView | LeaseAbsent | CallFailed, None]:
        """What becomes of the Lease, for ever: first as it is (a read), then each change.

        Broken streams are taken up again by the adapter (with backoff, with a new read where the version is
        gone); each failure to do so is reported as CallFailed.  Closing the iterator ends it.
        """

    def rewatch(self) -> None:
        """Drop the present stream and connect anew: it was found half-open."""


@dataclass(frozen=True, slots=True)
class AddressGone:
    """An address left an interface, by anybody's hand or at the end of its lifetime."""

    address: Address
    interface: str


@dataclass(frozen=True, slots=True)
class AddressCame:
    """An address is on an interface: it was added, or something of it changed (its lifetime, its end of DAD)."""

    local: LocalAddress


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """An interface changed its state; ``link`` is None when it is gone."""

    name: str
    link: LinkState | None


@dataclass(frozen=True, slots=True)
class MonitorResync:
    """Events were lost (ENOBUFS) or the monitor started anew: look at the kernel again."""


LinkEvent = AddressCame | AddressGone | LinkChanged | MonitorResync


class Kernel(Protocol):
    """Addresses and links of this network namespace."""

    async def put(self, vip: Vip, *, valid_s: int) -> None:
        """Add the address or refresh its lifetime (``valid_s`` >= 1 whole seconds).  Raises LinkError."""

    async def remove(self, vip: Vip) -> bool:
        """Remove the address from its interface; False where it was not there.  Raises LinkError."""

    async def borne(self) -> Sequence[BorneAddress]:
        """Every address of this namespace that bears vipd's protocol number."""

    async def link(self, name: str) -> LinkState | None:
        """The interface's state; None where there is none of that name."""

    def events(self) -> AsyncGenerator[LinkEvent, None]:
        """Changes as the kernel tells them (netlink, no polling), for ever; the first one is MonitorResync."""

    async def close(self) -> None:
        """Give back the sockets."""


class Announcer(Protocol):
    """Gratuitous ARP and unsolicited NA."""

    async def warm(self, vips: Sequence[Vip], links: Sequence[LinkState]) -> None:
        """Prepare what ``announce`` would otherwise pay for at the worst moment; again when a MAC has changed."""

    def announce(self, vip: Vip, link: LinkState) -> None:
        """Send one round at once: for IPv4 a GARP request and a reply, for IPv6 an NA.  Raises AnnounceError."""

    def close(self) -> None:
        """Give back the sockets."""


class ClaimWatch(Protocol):
    """Listens for others that claim a VIP: ARP packets and neighbour advertisements from another MAC."""

    def listen(self, vips: Sequence[Vip], link: LinkState) -> AsyncGenerator[AddressClaim, None]:
        """Claims seen on this link from now on, for ever.  Frames from the link's own MAC are no claims.

        ``vips``: those of this interface.  Raises AnnounceError where it cannot listen (no right, no such link).
        """

    async def anybody(self, vip: Vip, link: LinkState) -> bool:
        """Whether anybody answers for the VIP: three ARP requests or neighbour solicitations, 100 ms apart.

        Only answers that bear the link's own MAC count: ipvlan children of one ENI share it, and a VPC answers for
        every mapped address itself, with another.  Raises AnnounceError.
        """


class HealthCheck(Protocol):
    """One ``--check``: something that must work where the VIP is."""

    async def run(self) -> str | None:
        """One attempt; None: healthy, else one line that says what was wrong.  Ends within its own time limit."""

    def __str__(self) -> str:
        """As it was given."""


class MappingReader(Protocol):
    """Where the VPC maps addresses, as this node can see it."""

    async def read(self, eni: Eni, addresses: Sequence[Address], *, timeout_s: float) -> Mapping[Address, Mapped]:
        """One reading for each address; UNKNOWN for all where the source is silent."""


class Mover(Protocol):
    """Maps addresses to an ENI of this node."""

    async def assign(
        self,
        eni: Eni,
        addresses: Sequence[Address],
        *,
        right_until: Callable[[], float],
        previous: frozenset[str] = frozenset(),
    ) -> Sequence[Assigned]:
        """One unconditional attempt for all addresses; one outcome each.

        ``right_until`` gives the moment (CLOCK_BOOTTIME) at which the right to act ends; it may move on while the
        call is under way.  No request is sent after it, none is waited for beyond it.  ``previous``: ENIs of the
        previous tenure, where an IPv6 address is looked for first and given back to when this ENI is refused.
        """

    async def close(self) -> None:
        """Let the worker threads go; does not wait for requests under way."""


class Releaser(Protocol):
    """Takes addresses from an ENI of this node, so that their slots are free."""

    async def release(
        self, eni: Eni, addresses: Sequence[Address], *, right_until: Callable[[], float]
    ) -> Sequence[Assigned]:
        """One attempt for all addresses; one outcome each: OK where it is no longer on this ENI, by whosever hand.

        ``right_until`` as in ``Mover.assign``.
        """
