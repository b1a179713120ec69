"""Members of one VIP group that elect their owner at a Kubernetes API over TCP: the agent as it is, in real time.

Only the node about them is made up: a kernel that keeps addresses, and one mapping for all in place of EC2.  What the
API kept of each write is known from a watch of its own (``Witness``), what each member was told from its answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from vipd.agent.agent import Agent
from vipd.agent.clock import SystemClock
from vipd.agent.hands import Hands
from vipd.core.messages import Changed, Note
from vipd.core.model import (
    Address,
    Assigned,
    AssignVerdict,
    BorneAddress,
    CallFailed,
    CallFailure,
    Eni,
    Fence,
    LeaseDraft,
    LeaseView,
    LinkState,
    Mapped,
    Vip,
    WriteOutcome,
    Written,
)
from vipd.core.ports import LinkEvent, MonitorResync
from vipd.core.settings import ElectionConfig
from vipd.core.state import State
from vipd.kube.connect import connect
from vipd.kube.leases import KubeLeases
from vipd.observe.metrics import Metrics

NAMESPACE, LEASE = "default", "vip"
VIP = Vip(ip_address("10.0.1.100"), 32, "net1")
LOOK_S = 0.005


class Kernel:
    """One interface that is up, and the addresses on it."""

    def __init__(self) -> None:
        self.there: set[Vip] = set()

    async def put(self, vip: Vip, *, valid_s: int) -> None:
        self.there.add(vip)

    async def remove(self, vip: Vip) -> bool:
        was = vip in self.there
        self.there.discard(vip)
        return was

    async def borne(self) -> Sequence[BorneAddress]:
        return [BorneAddress(vip, 5) for vip in self.there]

    async def link(self, name: str) -> LinkState | None:
        return LinkState(name, 2, True, "02:00:00:00:00:01")

    async def events(self) -> AsyncGenerator[LinkEvent, None]:
        yield MonitorResync()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to give back."""


class Silence:
    """Announces to nobody."""

    async def warm(self, vips: Sequence[Vip], links: Sequence[LinkState]) -> None:
        """Nothing to prepare."""

    def announce(self, vip: Vip, link: LinkState) -> None:
        """Nobody hears it."""

    def close(self) -> None:
        """Nothing to give back."""


@dataclass
class Mappings:
    """Which ENI each address is mapped to; EC2 and IMDS in one."""

    owners: dict[Address, str] = field(default_factory=dict)

    async def assign(
        self,
        eni: Eni,
        addresses: Sequence[Address],
        *,
        right_until: Callable[[], float],
        previous: frozenset[str] = frozenset(),
    ) -> list[Assigned]:
        await asyncio.sleep(0.02)
        self.owners.update(dict.fromkeys(addresses, eni.id))
        return [Assigned(address, AssignVerdict.OK) for address in addresses]

    async def read(self, eni: Eni, addresses: Sequence[Address], *, timeout_s: float) -> Mapping[Address, Mapped]:
        return {a: Mapped.MINE if self.owners.get(a) == eni.id else Mapped.GONE for a in addresses}

    async def close(self) -> None:
        """Nothing to give back."""


REFUSALS = frozenset({CallFailure.THROTTLED, CallFailure.UNAUTHORIZED, CallFailure.FORBIDDEN, CallFailure.INVALID})
"""Answers that say that the write was not applied."""


class Store(KubeLeases):
    """The production client; remembers what became of each write."""

    def __init__(self, client: Any, name: str) -> None:
        super().__init__(client, namespace=NAMESPACE, name=name)
        self.written: list[LeaseView] = []
        self.failures: list[CallFailed] = []
        self.cut_short = 0
        """Writes whose member died before their answer."""

    def unknown(self, refusals: frozenset[CallFailure]) -> int:
        """Writes of which nobody knows whether they were applied; ``refusals``: failures that say they were not."""
        return self.cut_short + sum(failed.failure not in refusals for failed in self.failures)

    async def create(self, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        return await self._noted(super().create(draft, timeout_s=timeout_s))

    async def replace(self, base: LeaseView, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        return await self._noted(super().replace(base, draft, timeout_s=timeout_s))

    async def annotate(
        self, base: LeaseView, annotations: Mapping[str, str | None], *, timeout_s: float
    ) -> WriteOutcome:
        return await self._noted(super().annotate(base, annotations, timeout_s=timeout_s))

    async def _noted(self, write: Awaitable[WriteOutcome]) -> WriteOutcome:
        try:
            outcome = await write
        except asyncio.CancelledError:
            # Its member dies: whether it was applied, nobody will know.
            self.cut_short += 1
            raise
        if isinstance(outcome, Written):
            self.written.append(outcome.view)
        elif isinstance(outcome, CallFailed):
            self.failures.append(outcome)
        return outcome


class Member:
    """One vipd.  ``changes``: (phase, reason) in their order."""

    def __init__(self, name: str, lease: str, mapping: Mappings, *, duration_s: int = 3) -> None:
        self.name = name
        self.lease = lease
        self.mapping = mapping
        self.kernel = Kernel()
        self.eni = Eni(f"eni-{name}", "02:00:00:00:00:01")
        self.config = ElectionConfig(
            identity=name,
            incarnation=f"process-of-{name}",
            addresses=(VIP.address,),
            duration_s=duration_s,
            interval_s=duration_s / 3,
            fence=Fence.ENI,
            eni=self.eni.id,
        )
        self.changes: list[tuple[str, str]] = []
        self.clock = SystemClock()

    async def begin(self, kubeconfig: Path) -> None:
        """Connect and take part."""
        self._client = await connect(kubeconfig=str(kubeconfig))
        self.store = Store(self._client, self.lease)
        self._hands = Hands(
            [VIP],
            clock=self.clock,
            store=self.store,
            kernel=self.kernel,
            announcer=Silence(),
            metrics=Metrics(namespace=NAMESPACE, lease=self.lease),
            enis={"net1": self.eni},
            reader=self.mapping,
            mover=self.mapping,
        )
        self.agent = Agent(self.config, self._hands, self)
        self.task = asyncio.create_task(self.agent.run())

    @property
    def loud(self) -> bool:
        """Whether it believes that it may act as the owner, and runs."""
        return not self.task.done() and self.agent.state.loud(self.clock.now())

    async def leave(self) -> int:
        """Stop as at SIGTERM; the exit code."""
        self.agent.stop()
        async with asyncio.timeout(30):
            code = await self.task
        await self._close()
        return code

    async def die(self) -> None:
        """As by SIGKILL: no farewell; what is in its kernel stays."""
        if self.task.done():
            return
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self._close()

    async def _close(self) -> None:
        await self._hands.close()
        await self._client.close()

    def changed(self, state: State, change: Changed) -> None:
        self.changes.append((change.after.value, change.reason.value))

    def noted(self, state: State, note: Note) -> None:
        """Told to nobody."""

    def stepped(self, state: State, now: float) -> None:
        """Nothing to count."""


@dataclass(frozen=True)
class Seen:
    """The Lease as it was after one write."""

    version: int
    holder: str
    transitions: int


class Witness:
    """Sees every version of the Lease, by a watch of its own from before its creation."""

    def __init__(self, store: KubeLeases) -> None:
        self._store = store
        self.seen: list[Seen] = []
        self.whole = True
        """Not where the API was away: the watch begins anew with the newest version, and those before are not known."""

    async def follow(self) -> None:
        """For ever."""
        async with contextlib.aclosing(self._store.watch()) as events:
            async for view in events:
                if isinstance(view, CallFailed):
                    self.whole = False
                elif isinstance(view, LeaseView) and int(view.resource_version) > self.newest:
                    self.seen.append(Seen(int(view.resource_version), view.holder, view.transitions))

    @property
    def newest(self) -> int:
        """The newest version that was seen, or 0."""
        return self.seen[-1].version if self.seen else 0

    @property
    def tenures(self) -> list[tuple[int, str]]:
        """(transitions, holder) of each tenure, in their order."""
        held = [(each.transitions, each.holder) for each in self.seen if each.holder]
        return [each for at, each in enumerate(held) if at == 0 or each != held[at - 1]]


class Group:
    """The members of one Lease at one API, watched over at every moment."""

    def __init__(self, kubeconfig: Path, *, lease: str = LEASE, duration_s: int = 3) -> None:
        self.kubeconfig = kubeconfig
        self.lease = lease
        self.duration_s = duration_s
        self.mapping = Mappings()
        self.members: dict[str, Member] = {}
        self.all: list[Member] = []
        self.two_at_once: list[str] = []
        self.refusals = REFUSALS

    def told(self) -> list[int]:
        """The versions that writes were answered with so far, in order."""
        return sorted(int(view.resource_version) for member in self.all for view in member.store.written)

    async def start(self, name: str, *, kubeconfig: Path | None = None) -> Member:
        """A member begins; one that died before of this name is no longer counted."""
        member = Member(name, self.lease, self.mapping, duration_s=self.duration_s)
        self.members[name] = member
        self.all.append(member)
        await member.begin(kubeconfig or self.kubeconfig)
        return member

    async def watch_over(self) -> None:
        """Look for a second owner, for ever."""
        while True:
            loud = [name for name, member in self.members.items() if member.loud]
            if len(loud) > 1:
                self.two_at_once.append(" and ".join(loud))
            await asyncio.sleep(LOOK_S)

    async def until(self, what: str, true: Callable[[], bool], *, within_s: float) -> None:
        """Wait until it is true."""
        try:
            async with asyncio.timeout(within_s):
                while not true():
                    for member in self.members.values():
                        if member.task.done() and not member.task.cancelled() and member.task.exception():
                            raise AssertionError(f"{member.name} failed") from member.task.exception()
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            changes = {member.name: member.changes[-4:] for member in self.members.values()}
            raise AssertionError(f"not within {within_s:g} s: {what}; {changes}") from None

    async def owned_by(self, name: str, *, within_s: float = 15.0) -> Member:
        """Wait until this member owns the VIP and the mapping is its."""
        member = self.members[name]
        await self.until(
            f"{name} owns the VIP",
            lambda: (
                member.loud and VIP in member.kernel.there and self.mapping.owners.get(VIP.address) == member.eni.id
            ),
            within_s=within_s,
        )
        return member


@contextlib.asynccontextmanager
async def group_at(
    kubeconfig: Path, *, witness_at: Path, lease: str = LEASE, duration_s: int = 3
) -> AsyncIterator[tuple[Group, Witness]]:
    """A group without members yet.  At the end: never two at once, and every write is where it should be."""
    group = Group(kubeconfig, lease=lease, duration_s=duration_s)
    client = await connect(kubeconfig=str(witness_at))
    witness = Witness(KubeLeases(client, namespace=NAMESPACE, name=lease))
    tasks = [asyncio.create_task(group.watch_over()), asyncio.create_task(witness.follow())]
    try:
        await asyncio.sleep(0.1)
        yield group, witness
        told = group.told()
        await _caught_up(witness, max(told, default=0))
        assert not [task for task in tasks if task.done()]
        judge(group, witness, told)
    finally:
        for member in group.members.values():
            await member.die()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()


async def _caught_up(witness: Witness, version: int) -> None:
    """Until it has seen this version too, for an answer may come before the watch's event.  Else ``judge`` tells."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while witness.newest < version:
                await asyncio.sleep(LOOK_S)


def judge(group: Group, witness: Witness, told: Sequence[int]) -> None:
    """Never two owners; no write lost, none doubled, none of a tenure that had ended.

    ``told``: the versions that members were told; what came after them is not looked at, for the members go on.
    """
    assert group.two_at_once == []
    versions = [each.version for each in witness.seen if each.version <= max(told, default=0)]
    assert len(told) == len(set(told)), "two writes were told the same version"
    lost = [version for version in told if version not in versions]
    assert not lost or not witness.whole, f"writes that were answered OK are not in the history: {lost}"
    unknown = sum(member.store.unknown(group.refusals) for member in group.all)
    extra = [version for version in versions if version not in told]
    assert len(extra) <= unknown, f"{len(extra)} versions that nobody was told of, {unknown} writes of unknown outcome"
    tenures = witness.tenures
    assert [number for number, _ in tenures] == sorted({number for number, _ in tenures}), f"a tenure twice: {tenures}"
