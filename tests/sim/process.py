"""A member (a pod with its kernel, ENI and clocks) and the vipd processes that run in it, one after the other."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vipd.agent.agent import Agent
from vipd.agent.hands import Hands
from vipd.core.messages import (
    AssignEni,
    Changed,
    Effect,
    Note,
    RemoveAddresses,
)
from vipd.core.model import Address, AddressClaim, Eni, Fence, LeaseDraft, LeaseView, LinkState, Vip
from vipd.core.reasons import Phase, Reason
from vipd.core.settings import ElectionConfig
from vipd.core.state import State
from vipd.errors import AnnounceError

from .api import Wire
from .clock import MachineClock
from .ec2 import Line, SimMover
from .imds import NodeImds, SimReader
from .kernel import KernelPort, PodKernel
from .leases import SimLeases
from .loop import Life, ProcessLoop
from .schedule import Setting

if TYPE_CHECKING:
    from .world import World

INTERFACE = "net1"


class NoMetrics:
    """In the place of ``vipd.observe.metrics.Metrics``."""

    def lease_write(self, kind: str, outcome: object, seconds: float) -> None: ...
    def assigned(self, results: object, seconds: float) -> None: ...
    def announced(self, kind: str) -> None: ...
    def mapping_read(self, mapping: object) -> None: ...


class SimAnnouncer:
    """``vipd.core.ports.Announcer``: neighbours on the same segment hear it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def warm(self, vips: Sequence[Vip], links: Sequence[LinkState]) -> None:
        """Nothing to prepare."""

    def announce(self, vip: Vip, link: LinkState) -> None:
        self._process.world.announced(self._process, vip)

    def close(self) -> None:
        """Nothing to give back."""


class SimClaims:
    """``vipd.core.ports.ClaimWatch`` of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._queue: deque[AddressClaim] = deque()
        self._waiter: asyncio.Future[None] | None = None

    async def listen(self, vips: Sequence[Vip], link: LinkState) -> AsyncGenerator[AddressClaim, None]:
        self._queue.clear()
        while True:
            while self._queue:
                yield self._queue.popleft()
            self._waiter = asyncio.Future(loop=self._process.loop)  # type: ignore[arg-type]
            await self._waiter

    async def anybody(self, vip: Vip, link: LinkState) -> bool:
        if not self._process.member.kernel.link_state.up:
            raise AnnounceError("network is down")
        await asyncio.sleep(0.01)
        if self._process.world.answers_beside(self._process.member, vip.address):
            return True
        await asyncio.sleep(0.29)
        return False

    def heard(self, claim: AddressClaim) -> None:
        self._queue.append(claim)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SimAgent(Agent):
    """The production agent; it remembers why it takes an address off."""

    removing_for: Reason | None = None
    before_assign: Callable[[Sequence[Address]], None]

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, RemoveAddresses):
            self.removing_for = effect.reason
        elif isinstance(effect, AssignEni):
            self.before_assign(effect.addresses)
        super()._carry_out(effect)


class SimMonitor:
    """``vipd.agent.agent.Monitor``: what the health checks of a member find."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._changed: asyncio.Future[None] | None = None

    async def run(self, report: Callable[[bool, str], None]) -> None:
        await asyncio.sleep(0.3)
        while True:
            healthy = self._process.member.healthy
            report(healthy, "" if healthy else "it does not answer")
            while healthy is self._process.member.healthy:
                self._changed = asyncio.Future(loop=self._process.loop)  # type: ignore[arg-type]
                await self._changed

    def look(self) -> None:
        """The member's health may have changed."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class Member:
    """A pod on a node: what outlives its processes."""

    def __init__(self, world: World, index: int, setting: Setting) -> None:
        self.world = world
        self.index = index
        self.name = setting.names[index]
        rng = random.Random(f"{setting.seed}/{self.name}")
        managed = setting.fence is Fence.ENI
        # Pods on one ENI have its MAC (ipvlan) or MACs of their own (macvlan).
        self.mac = f"02:00:00:00:{index * setting.macs_differ:02x}:{setting.enis[index]:02x}"
        self.eni = Eni(f"eni-{setting.enis[index]}", self.mac) if managed else None
        self.segment = f"eni-{setting.enis[index]}" if managed else "lan"
        """Members of one segment hear each other's ARP."""
        self.rate = setting.rates[index]
        self.rng = rng
        self.kernel = PodKernel(world.timeline, rng, LinkState(INTERFACE, 2, True, self.mac), rate=self.rate)
        self.clock = MachineClock(
            world.timeline, rate=self.rate, booted_s=1000.0 * (index + 1), wall_offset_s=rng.uniform(-2.0, 2.0)
        )
        self.wire = Wire()
        self.line = Line()
        self.imds = NodeImds(world.timeline, world.vpc)
        self.process: Process | None = None
        self.runs = 0
        self.healthy = True
        self.priority = setting.priorities[index]
        self.slowest_call_s = 0.0
        """The longest that an EC2 call of this member took to be applied."""
        self.stood_still_until = -1.0
        """When this machine was last started again after its clocks had stood still."""
        self.machine_stopped_at: float | None = None
        self.clock_stopped = False

    def start(self, *, identity: str | None = None) -> Process:
        """A process starts in this pod."""
        assert self.process is None or self.process.loop.life is Life.DEAD
        self.runs += 1
        if identity is not None:
            self.name = identity
        self.process = Process(self)
        self.world.say(self.name, f"starts (run {self.runs})")
        self.process.begin()
        if self.world.timeline.now < self.world.deleted_until:
            self.world.forget(f"{self.name} starts after a deletion")
        return self.process

    def wake_machine(self) -> None:
        """A suspended or stopped machine goes on."""
        stopped_at, self.machine_stopped_at = self.machine_stopped_at, None
        if stopped_at is None:
            return
        stood_s = self.world.timeline.now - stopped_at
        self.kernel.stood_still(stood_s)
        self.stood_still_until = self.world.timeline.now
        if self.clock_stopped:
            self.clock_stopped = False
            self.clock.go_on(stood_s=stood_s * self.rate)
            if self.process is not None:
                self.process.fresh_after_stop = True

    @property
    def running(self) -> Process | None:
        """The process, unless it is dead."""
        process = self.process
        return process if process is not None and process.loop.life is not Life.DEAD else None

    @property
    def eni_id(self) -> str:
        return self.eni.id if self.eni else ""


class Process:
    """One run of vipd."""

    def __init__(self, member: Member) -> None:
        world, setting = member.world, member.world.setting
        self.member = member
        self.world = world
        self.clock = member.clock
        self.loop = ProcessLoop(world.timeline, clock=member.clock, rate=member.rate, name=member.name)
        twin = setting.names.count(setting.names[member.index]) > 1
        self.incarnation = f"{member.name}{member.index if twin else ''}-{member.runs}"
        self.config = ElectionConfig(
            identity=member.name,
            incarnation=self.incarnation,
            addresses=tuple(vip.address for vip in setting.vips(INTERFACE)),
            duration_s=setting.durations[member.index],
            interval_s=setting.intervals[member.index],
            priority=member.priority,
            fence=setting.fence,
            eni=member.eni_id,
            grace_s=setting.grace_s,
            preempt=setting.preempt,
            checks=setting.checks,
        )
        self.leases = SimLeases(
            world.network, member.wire, self.loop, self.clock, author=self, rng=random.Random(member.rng.random())
        )
        self.kernel = KernelPort(member.kernel, self.loop)
        self.claims = SimClaims(self)
        self.true_right = float("-inf")
        """When the right to act ends on this process's clock, by the rule, from what really was sent and answered."""
        self.confirmed: set[tuple[int, Address]] = set()
        """What EC2 said it maps here: (transitions of the tenure that asked, address)."""
        self.asking_ec2 = 0
        """Attempts to move an address whose outcome is waited for."""
        self.written_sent_at = float("-inf")
        """When its last write that was answered OK had been sent, on its clock."""
        self.read_sent_at = float("-inf")
        """Likewise its last read."""
        self.stolen_at: float | None = None
        """Since when it knows that the mapping was taken from it and has not acted."""
        self.stolen: frozenset[Address] = frozenset()
        """Which addresses were."""
        self.thawed_at: float | None = None
        """When it last went on after a freeze that it cannot overlook."""
        self.told_to_stop = False
        self.freezes = 0
        self.frozen_at = 0.0
        self.exit_code: int | None = None
        self.monitor = SimMonitor(self) if setting.checks else None
        self.agent = SimAgent(self.config, self._hands(setting), self, monitor=self.monitor)
        self.fresh_after_stop = False
        """Thawed after its clock stood still, and has not looked yet."""

    def _hands(self, setting: Setting) -> Hands:
        member, world = self.member, self.world
        managed = member.eni is not None
        extra: dict[str, Any] = {}
        if managed:
            assert member.eni is not None
            extra = {
                "enis": {INTERFACE: member.eni},
                "reader": SimReader(member.imds, self.loop),
                "mover": SimMover(world.vpc, self),
            }
        return Hands(
            setting.vips(INTERFACE),
            clock=self.clock,
            store=self.leases,
            kernel=self.kernel,
            announcer=SimAnnouncer(self),
            metrics=NoMetrics(),  # type: ignore[arg-type]
            claims=self.claims,
            **extra,
        )

    def begin(self) -> None:
        checks = self.world.invariants
        self.agent.before_assign = lambda addresses: checks.moving(self, addresses)
        self.kernel.before_put = lambda vip, valid_s: checks.putting(self, vip, valid_s)
        self.kernel.before_remove = lambda vip: checks.removing(self, vip)
        self.leases.sending = self._writing
        self.leases.written = partial(checks.lease_written, self)
        self.leases.was_read = lambda sent_at: setattr(self, "read_sent_at", sent_at)
        main = self.loop.create_task(self.agent.run())
        main.add_done_callback(self._ended)

    def _writing(self, base: LeaseView | None, draft: LeaseDraft) -> None:
        self.world.invariants.lease_sent(self, base, draft)
        self.world.faults.moment(self.member, "write")

    def _ended(self, main: asyncio.Task[int]) -> None:
        if self.loop.life is Life.DEAD or main.cancelled():
            return
        error = main.exception()
        if error is not None:
            self.world.violate("a process ends with an error", f"{self.member.name}: {error!r}")
            return
        self.exit_code = main.result()
        self.world.say(self.member.name, f"exits with {self.exit_code}")
        self.world.invariants.exited(self)
        # It cannot be unwound from within one of its own callbacks.
        self.world.timeline.after(0.0, self.die)

    def die(self) -> None:
        """Killed, or at its end: nothing of it happens any more, what is in its kernel stays."""
        if self.loop.life is Life.DEAD:
            return
        self.loop.die()
        jobs = self.agent._hands._kernel_jobs
        while not jobs.empty():
            jobs.get_nowait().close()
        self.leases.stream.close()
        self.kernel.detach()
        self.world.active.pop(self.incarnation, None)

    # ------------------------------------------------------------------------------------ the witness

    def changed(self, state: State, change: Changed) -> None:
        active = self.world.active
        if change.after is Phase.ACTIVE:
            active[self.incarnation] = self
        else:
            active.pop(self.incarnation, None)
        if change.reason is Reason.OTHER_HOLDER:
            self.world.invariants.lost(self)
        if self.world.telling:
            detail = f": {change.detail}" if change.detail else ""
            self.world.say(self.member.name, f"{change.before} -> {change.after} ({change.reason}{detail})")

    def noted(self, state: State, note: Note) -> None:
        if note.reason is Reason.MAPPING_STOLEN:
            self.stolen_at = self.clock.now()
            told = note.detail.rpartition(": ")[2].split(", ")
            self.stolen = frozenset(address for address in self.config.addresses if str(address) in told)
        if self.world.telling:
            self.world.say(self.member.name, f"note {note.reason}: {note.detail}")

    def stepped(self, state: State, now: float) -> None:
        self.fresh_after_stop = False
        world = self.world
        if len(world.active) > 1 or world.rival_leads:
            world.invariants.loud()
            if world.rival_leads:
                world.invariants.foreign(self)

    # ------------------------------------------------------------------------------------------ facts

    @property
    def phase(self) -> Phase:
        return self.agent.state.phase

    def is_loud(self) -> bool:
        """Whether it believes that it may write EC2, announce and repair, and runs."""
        if self.loop.life is not Life.RUNS or self.fresh_after_stop:
            return False
        return self.agent.state.loud(self.clock.now())

    def __repr__(self) -> str:
        return f"Process({self.incarnation})"
