"""One schedule: builds the world of a setting, lets its faults happen, heals it, and waits for one owner."""

from __future__ import annotations

import random
from dataclasses import dataclass

from vipd.core.model import Address, AddressClaim, Fence, Vip
from vipd.core.reasons import Phase

from .api import LeaseServer, Network
from .clock import MachineClock
from .ec2 import Vpc, simulated_aws
from .faults import Faults
from .invariants import T_LAG_S, Invariants
from .loop import Life, Timeline
from .process import Member, Process
from .rival import NAME, Rival
from .schedule import Expected, Setting

STEP_S = 0.25
STAYS_S = T_LAG_S + 1.0
"""The end is reached when nothing changed for so long: longer than any late news of IMDS."""

WRITES_AFTER_HEALING = 12
"""More EC2 writes than this after the last fault mean that two members fight over the mapping."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    at: float
    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.at:.3f} s: {self.what}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Result:
    """How a schedule ended."""

    violation: Violation | None
    seconds: float
    """Virtual time."""
    callbacks: int
    story: tuple[str, ...]


class World:
    """Everything that takes part in one schedule."""

    def __init__(self, setting: Setting, *, telling: bool = False) -> None:
        """``telling``: keep a story of what happens, for people."""
        self.setting = setting
        self.telling = telling
        self.story: list[str] = []
        self.violation: Violation | None = None
        self.timeline = Timeline()
        rng = random.Random(f"{setting.seed}/world")
        self.server = LeaseServer(self.timeline)
        self.network = Network(self.timeline, self.server, rng)
        self.network.base_s, self.network.spread_s = setting.trip_s
        self.network.set_noise(setting.noise)
        self.vpc = Vpc(self.timeline, random.Random(f"{setting.seed}/ec2"))
        self.vpc.noise = setting.ec2_noise
        self.vpc.fast_s, self.vpc.slow_s = setting.ec2_s
        self.vpc.delivery_lag_s = setting.delivery_lag_s
        self.vpc.say = self.say
        self.addresses: tuple[Address, ...] = setting.addresses
        self.members = [Member(self, index, setting) for index in range(len(setting.names))]
        self.active: dict[str, Process] = {}
        self.lossless = False
        self.forgotten_until = -1.0
        self.forgotten: set[Process] = set()
        """Those who bore the address when the Lease lost its memory: nobody can know of them."""
        self.deleted_until = -1.0
        self.longest_right_s = max(*setting.durations, setting.rival_duration_s) * 1.05
        self.requests = 0
        self.rival_name = NAME
        self.rival: Rival | None = None
        self.rivals = 0
        self.rival_clock = MachineClock(self.timeline, rate=1.0, booted_s=50.0, wall_offset_s=0.0)
        self.invariants = Invariants(self)
        self.faults = Faults(self)
        self.server.changed.append(self.invariants.lease_changed)
        if telling:
            self.server.changed.append(self._tell_lease)
        self.vpc.sent = self._ec2_sent
        self.vpc.changed = self._delivery_changed
        for member in self.members:
            member.kernel.changed = self._delivery_changed
            member.imds.lag_s = setting.imds_lags[member.index]

    # -------------------------------------------------------------------------------------- running

    def run(self) -> Result:
        """The whole schedule."""
        with simulated_aws():
            try:
                self._live()
            finally:
                self._close()
        return Result(self.violation, self.timeline.now, self.timeline.callbacks, tuple(self.story))

    def _live(self) -> None:
        rng = random.Random(f"{self.setting.seed}/start")
        for member in self.members:
            starts = self.setting.starts
            self.timeline.at(starts[member.index] if starts else rng.uniform(0.0, 0.5), member.start)
        for fault in self.setting.faults:
            self.timeline.at(fault.at, self.faults.begin, fault)
        for expected in self.setting.expected:
            self.timeline.at(expected.at, self._expect, expected)
        if self.setting.lossless:
            self._until_settled(limit_s=15.0, stays_s=0.5)
            self.lossless = True
        self.timeline.run(self.setting.length_s)
        if self.setting.lossless:
            # Planned changes take their time too; what they may not do is lose a packet.
            self.timeline.run(self.timeline.now + self.setting.grace_s)
        if self.violation is not None:
            return
        self.say("world", "heals")
        self.faults.heal()
        # A member that is told to leave and one that is started again in the same breath are no fault of ours.
        self.lossless = False
        writes = self.vpc.writes
        self._until_settled(limit_s=self._patience_s(), stays_s=STAYS_S)
        if self.violation is None and self.vpc.writes - writes > self._writes_allowed():
            self.violate("the mapping is fought over", f"{self.vpc.writes - writes} EC2 writes after the last fault")

    def _until_settled(self, *, limit_s: float, stays_s: float) -> None:
        """Wait for one owner everywhere, and see it stay."""
        timeline = self.timeline
        end = timeline.now + limit_s
        since: float | None = None
        owner = why = ""
        writes = self.vpc.writes
        while self.violation is None:
            timeline.run(timeline.now + STEP_S)
            if self.violation is not None:
                return
            found, why = self.owner()
            quiet = self.vpc.open_writes == 0 and self.vpc.writes == writes
            if found and found == owner and quiet:
                since = timeline.now if since is None else since
                if timeline.now >= since + stays_s:
                    return
            else:
                owner, since, writes = found, None, self.vpc.writes
            if timeline.now > end:
                self.violate("no owner in the end", why or f"{owner} does not stay")

    def _patience_s(self) -> float:
        """How long healing may take: T_lag, a repair, and the pauses that refusals of EC2 ask for."""
        patience = 45.0 + 4 * max(self.setting.durations)
        kinds = {(fault.kind, fault.value) for fault in self.setting.faults}
        if ("ec2-refuses", "full") in kinds or ("ec2-refuses", "denied") in kinds:
            patience += 65.0
        if ("ec2-refuses", "outside") in kinds:
            patience += 130.0
        if self.setting.ec2_noise.late:
            patience += self.setting.ec2_noise.late_s
        return patience

    def _writes_allowed(self) -> int:
        # An IPv6 address takes two calls, and each member may have one of its own under way.
        return (WRITES_AFTER_HEALING + 2 * len(self.members)) * len(self.addresses)

    def owner(self) -> tuple[str, str]:
        """The one who is everything (the incarnation), or "" and what is missing."""
        active = [p for p in self.active.values() if p.loop.life is Life.RUNS]
        if len(active) != 1:
            return "", f"active: {active}; " + ", ".join(f"{p} {p.phase}" for p in self.processes())
        (process,) = active
        stored = self.server.stored
        if stored is None or stored.view.tenure is None or stored.view.tenure.incarnation != process.incarnation:
            return "", f"{process} is active, the Lease says {stored.holder if stored else None}"
        member = process.member
        for address in self.addresses:
            if not member.kernel.bears(address):
                return "", f"{process} is active and does not bear {address}"
            if self.setting.fence is Fence.ENI and self.vpc.delivered.get(address) != member.eni_id:
                return "", f"{process} is active, {address} is delivered to {self.vpc.delivered.get(address)}"
            for other in self.members:
                if other is not member and other.kernel.bears(address):
                    return "", f"{process} is active, {other.name} still bears {address}"
        for other in self.members:
            if other is not member and (other.running is None or other.running.phase not in READY):
                return "", f"{other.name} is {other.running.phase if other.running else 'gone'}"
        return process.incarnation, ""

    def _close(self) -> None:
        for process in self.processes():
            process.die()
        if self.rival is not None:
            self.rival.die()

    # --------------------------------------------------------------------------------------- events

    def violate(self, what: str, detail: str) -> None:
        """A promise is broken: the first one ends the schedule."""
        if self.violation is None:
            self.violation = Violation(self.timeline.now, what, detail)
            self.say("BROKEN", f"{what}: {detail}")
            self.timeline.stopped = True

    def _expect(self, expected: Expected) -> None:
        member = self.members[expected.who]
        holder = self.server.stored.holder if self.server.stored is not None else ""
        where = [self.vpc.delivered.get(address) for address in self.addresses]
        served = all(eni == member.eni_id for eni in where) and all(map(self.answered, self.addresses))
        if not served or (expected.holds and holder != member.name):
            self.violate("another serves than is to", f"{member.name}: the Lease says {holder!r}, delivered to {where}")

    def say(self, who: str, what: str) -> None:
        if self.telling:
            self.story.append(f"{self.timeline.now:8.3f}  {who:8}  {what}")

    def forget(self, why: str) -> None:
        """The Lease lost its memory of a holder whose right may last."""
        self.forgotten_until = max(self.forgotten_until, self.timeline.now + self.longest_right_s)
        self.forgotten |= {p for p in self.processes() if p.agent.state.address.borne}
        self.say("world", why)

    def kill(self, member: Member) -> None:
        process = member.running
        if process is not None:
            self.say(member.name, "is killed")
            member.wake_machine()
            process.die()

    def delete_lease(self) -> None:
        """Somebody (kubectl, garbage collection) deletes it; only members that saw its last content remember it."""
        stored = self.server.stored
        if stored is None:
            return
        views = [process.agent.state.lease.view for process in self.processes()]
        if self.rival is not None or any(view is None or view.content != stored.view.content for view in views):
            self.forget("the Lease is deleted, and not everybody has seen its last content")
        self.deleted_until = self.timeline.now + self.longest_right_s
        self.server.delete()

    def start_rival(self) -> None:
        if self.rival is not None and self.rival.loop.life is not Life.DEAD and not self.rival.ended:
            return
        self.rivals += 1
        self.rival = Rival(self, duration_s=self.setting.rival_duration_s, rate=1.0)
        self.rival.begin()
        if self.timeline.now < self.deleted_until:
            self.forget("a rival starts after a deletion")

    @property
    def rival_leads(self) -> bool:
        return self.rival is not None and self.rival.leading

    def processes(self) -> list[Process]:
        return [member.running for member in self.members if member.running is not None]

    def answered(self, address: Address) -> bool:
        """Whether a packet for it finds somebody."""
        eni = self.vpc.delivered.get(address)
        return any(m.eni_id == eni and m.kernel.bears(address) and m.kernel.link_state.up for m in self.members)

    def answers_beside(self, member: Member, address: Address) -> bool:
        """Whether another pod on the same segment answers for the address."""
        return any(
            m is not member and m.segment == member.segment and m.kernel.bears(address) and m.kernel.link_state.up
            for m in self.members
        )

    def announced(self, process: Process, vip: Vip) -> None:
        """Everybody on the segment hears it; from another MAC it is a claim."""
        self.invariants.announced(process)
        sender = process.member
        for member in self.members:
            if member.segment == sender.segment and member.mac != sender.mac and member.running is not None:
                claim = AddressClaim(vip.address, vip.interface, sender.mac)
                self.timeline.after(0.001, member.running.claims.heard, claim)

    def _ec2_sent(self, process: Process, operation: str, key: object) -> None:
        if self.telling:
            self.say(process.member.name, f"sends {operation}")
        self.invariants.ec2_sent(process, operation, key)
        self.faults.moment(process.member, "call")

    def _delivery_changed(self) -> None:
        if self.lossless:
            self.invariants.delivery()

    def _tell_lease(self, before: object, after: object) -> None:
        stored = self.server.stored
        if stored is None:
            self.say("lease", "is deleted")
            return
        old = before.view if before is not None else None  # type: ignore[attr-defined]
        new = stored.view
        if old is None or (old.holder, old.transitions) != (new.holder, new.transitions):
            self.say("lease", f"v{stored.version} holder {new.holder!r}, transitions {new.transitions}")
        elif old.renew_time != new.renew_time:
            self.say("lease", f"v{stored.version} renewed by {new.holder}")
        else:
            self.say("lease", f"v{stored.version} annotated")


READY = (Phase.STANDBY, Phase.FAULT)
