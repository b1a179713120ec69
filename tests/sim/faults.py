"""What each kind of fault does to the world, and how it ends."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from vipd.core.annotations import REQUEST, render_request
from vipd.core.model import OPERATOR_PRIORITY, CallFailure, Request
from vipd.core.reasons import Phase

from .ec2 import REFUSALS
from .loop import Life
from .schedule import MOMENTS, Fault

if TYPE_CHECKING:
    from .process import Member, Process
    from .world import World


MOMENT_S = {"write": 0.0005, "call": 0.05}
"""How long after it was sent: it is on its way, and not answered yet."""

UNMISTAKABLE_S = 2.0
"""A freeze that no holder can overlook: longer than its heartbeat and what counts as late."""


class Faults:
    """Begins and ends faults; ``heal`` ends all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"{world.setting.seed}/faults")
        self._waiting: list[Fault] = []
        """Faults that wait for a moment."""
        self._over = False

    def begin(self, fault: Fault) -> None:
        if self._over:
            return
        if fault.value in MOMENTS:
            self._waiting.append(fault)
        else:
            self._happen(fault)

    def moment(self, member: Member, what: str) -> None:
        """A member has just sent a Lease write, or an EC2 call: what waits for that happens now."""
        if not self._waiting or self._over:
            return
        for fault in self._waiting:
            if fault.who == member.index and fault.value == what:
                self._waiting.remove(fault)
                self._world.timeline.after(MOMENT_S[what], self._happen, fault)
                return

    def _happen(self, fault: Fault) -> None:
        if self._over:
            return
        world = self._world
        member = world.members[fault.who]
        world.say("fault", f"{fault.kind} {member.name} {fault.value or ''} {fault.lasts_s or ''}".rstrip())
        getattr(self, "_" + fault.kind.replace("-", "_"))(member, fault)

    def _later(self, fault: Fault, undo: object, *args: object) -> None:
        self._world.timeline.after(fault.lasts_s, self._end, undo, *args)

    def _end(self, undo: object, *args: object) -> None:
        if not self._over:
            undo(*args)  # type: ignore[operator]

    def heal(self) -> None:
        """Everything works from now on, and every member runs."""
        world = self._world
        self._over = True
        world.network.away = False
        world.network.offers = ""
        world.network.set_noise(type(world.network.noise)())
        world.vpc.noise = type(world.vpc.noise)()
        if world.rival is not None:
            if world.rival.loop.life is Life.FROZEN:
                world.rival.loop.thaw()
            world.rival.stop()
        for member in world.members:
            member.wire.up, member.wire.refusing = True, None
            member.line.up, member.line.refusal, member.line.slowness = True, None, 1.0
            member.line.no_room = False
            member.imds.silent = False
            member.imds.lag_s = min(member.imds.lag_s, 2.0)
            member.kernel.refusing, member.kernel.slow_s = False, 0.0
            member.kernel.set_link(up=True)
            if not member.healthy:
                self._set_health(member, True)
            process = member.running
            if process is not None:
                process.leases.stream.slow_s = 0.0
                if process.loop.life is Life.FROZEN:
                    self._thaw(member, process)
                process.leases.stream.wire_came_back()
            if process is None or process.told_to_stop:
                world.kill(member)
                member.start()

    # ---------------------------------------------------------------------------------- the process

    def _crash(self, member: Member, fault: Fault) -> None:
        # Nothing is killed on a machine that stands still.
        if member.running is not None and member.machine_stopped_at is None:
            world = self._world
            world.kill(member)
            # A pod that is replaced comes back under another name, one whose container restarts under its own.
            identity = f"{member.name}x" if fault.value == "other-name" else None
            self._later(fault, self._restart, member, identity)

    def _restart(self, member: Member, identity: str | None) -> None:
        if member.running is None:
            member.start(identity=identity)

    def _stop(self, member: Member, fault: Fault) -> None:
        process = member.running
        if process is None or process.told_to_stop:
            return
        if self._world.lossless and not self._somebody_else_ready(member):
            return
        process.told_to_stop = True
        process.agent.stop()
        self._world.invariants.stop_asked(process)
        self._world.timeline.after(fault.lasts_s + process.config.grace_s, self._come_back, member)

    def _come_back(self, member: Member) -> None:
        process = member.running
        if self._over or (process is not None and not process.told_to_stop):
            return
        self._world.kill(member)
        member.start()

    def _somebody_else_ready(self, member: Member) -> bool:
        for other in self._world.members:
            process = other.running
            if other is member or process is None:
                continue
            state = process.agent.state
            if process.told_to_stop or not state.lease.known or state.phase not in (Phase.STANDBY, Phase.ACTIVE):
                continue
            return True
        return False

    def _restart_standby(self, member: Member, fault: Fault) -> None:
        process = member.running
        if process is not None and process.phase is Phase.STANDBY:
            self._world.kill(member)
            self._later(fault, self._restart, member, None)

    def _reload(self, member: Member, fault: Fault) -> None:
        process = member.running
        if process is not None:
            config = process.config
            process.config = replace(config, priority=(config.priority + 50) % 150)
            process.agent.reconfigure(process.config)

    def _handover(self, member: Member, fault: Fault) -> None:
        """An operator asks the holder to hand over (to this member, or to anybody)."""
        world = self._world
        stored = world.server.stored
        if stored is None or not stored.holder or stored.view.tenure is None:
            return
        world.requests += 1
        to = member.name if fault.value == "somebody" and member.name != stored.holder else ""
        request = Request(
            stored.holder, stored.transitions, f"request-{world.requests}", "operator", to, OPERATOR_PRIORITY
        )
        world.server.annotate(stored.view, {REQUEST: render_request(request)}, author=None)
        then = {"then-cut": "api-cut", "then-crash": "crash"}.get(str(fault.value))
        holders = [m.index for m in world.members if m.name == stored.holder]
        if then is not None and holders:
            # While the offer stands, is being taken, or is being cancelled.
            after_s = self._rng.choice((0.03, 0.2, 1.0, 2.05))
            world.timeline.after(after_s, self._happen, Fault(0.0, then, holders[0], fault.lasts_s))

    def _offers_spoilt(self, _: Member, fault: Fault) -> None:
        network = self._world.network
        network.offers = str(fault.value)
        self._later(fault, setattr, network, "offers", "")

    def _check_fails(self, member: Member, fault: Fault) -> None:
        self._set_health(member, False)
        self._later(fault, self._set_health, member, True)

    def _set_health(self, member: Member, healthy: bool) -> None:
        member.healthy = healthy
        if member.running is not None and member.running.monitor is not None:
            member.running.monitor.look()

    # ----------------------------------------------------------------------------------------- pauses

    def _sigstop(self, member: Member, fault: Fault) -> None:
        self._freeze(member, fault, timers_stop=False)

    def _suspend(self, member: Member, fault: Fault) -> None:
        self._freeze(member, fault, timers_stop=True)

    def _standstill(self, member: Member, fault: Fault) -> None:
        process = member.running
        if process is not None and process.loop.life is Life.RUNS:
            member.clock.stop()
            self._freeze(member, fault, timers_stop=True, clock=True)

    def _freeze(self, member: Member, fault: Fault, *, timers_stop: bool, clock: bool = False) -> None:
        process = member.running
        if process is None or process.loop.life is not Life.RUNS:
            return
        process.loop.freeze(timers_stop=timers_stop)
        process.freezes += 1
        process.frozen_at = self._world.timeline.now
        member.machine_stopped_at = self._world.timeline.now if timers_stop else None
        member.clock_stopped = clock
        self._later(fault, self._thaw, member, process)

    def _thaw(self, member: Member, process: Process) -> None:
        if process.loop.life is not Life.FROZEN:
            return
        self._world.say(member.name, "runs again")
        member.wake_machine()
        stood_s = self._world.timeline.now - process.frozen_at
        if stood_s > UNMISTAKABLE_S and process.phase is Phase.ACTIVE:
            process.thawed_at = process.clock.now()
        process.loop.thaw()

    # -------------------------------------------------------------------------------------------- API

    def _api_cut(self, member: Member, fault: Fault) -> None:
        member.wire.up = False
        member.wire.refuses_connections = fault.value == "refused"
        self._later(fault, self._api_back, member)

    def _api_back(self, member: Member) -> None:
        member.wire.up = True
        self._world.say("fault", f"{member.name} reaches the API again")
        if member.running is not None:
            member.running.leases.stream.wire_came_back()

    def _api_away(self, member: Member, fault: Fault) -> None:
        world = self._world
        world.network.away = True
        for process in world.processes():
            process.leases.stream.break_off()
        self._later(fault, self._api_there)

    def _api_there(self) -> None:
        self._world.network.away = False
        self._world.say("fault", "the API is there again")

    def _api_refuses(self, member: Member, fault: Fault) -> None:
        member.wire.refusing = CallFailure(str(fault.value))
        self._later(fault, setattr, member.wire, "refusing", None)

    def _watch_silent(self, member: Member, fault: Fault) -> None:
        if member.running is not None:
            member.running.leases.stream.fall_silent()

    def _watch_breaks(self, member: Member, fault: Fault) -> None:
        if member.running is not None:
            member.running.leases.stream.break_off()

    def _watch_slow(self, member: Member, fault: Fault) -> None:
        if member.running is not None:
            stream = member.running.leases.stream
            stream.slow_s = float(fault.value)
            self._later(fault, setattr, stream, "slow_s", 0.0)

    def _delete_lease(self, member: Member, fault: Fault) -> None:
        self._world.delete_lease()

    # -------------------------------------------------------------------------------------------- AWS

    def _imds_lags(self, member: Member, fault: Fault) -> None:
        before, member.imds.lag_s = member.imds.lag_s, float(fault.value)
        self._later(fault, setattr, member.imds, "lag_s", before)

    def _imds_silent(self, member: Member, fault: Fault) -> None:
        member.imds.silent = True
        self._later(fault, setattr, member.imds, "silent", False)

    def _ec2_cut(self, member: Member, fault: Fault) -> None:
        member.line.up = False
        self._later(fault, setattr, member.line, "up", True)

    def _ec2_refuses(self, member: Member, fault: Fault) -> None:
        member.line.refusal = REFUSALS[str(fault.value)]
        self._later(fault, setattr, member.line, "refusal", None)

    def _ec2_full(self, member: Member, fault: Fault) -> None:
        member.line.no_room = True
        self._later(fault, setattr, member.line, "no_room", False)

    def _ec2_slow(self, member: Member, fault: Fault) -> None:
        member.line.slowness = float(fault.value)
        self._later(fault, setattr, member.line, "slowness", 1.0)

    def _steal(self, member: Member, fault: Fault) -> None:
        eni = None if fault.value == "nobody" else str(fault.value)
        for address in self._world.addresses:
            self._world.vpc.map(address, eni)

    # ----------------------------------------------------------------------------------------- kernel

    def _address_deleted(self, member: Member, fault: Fault) -> None:
        for address in self._world.addresses:
            member.kernel.remove(address)

    def _kernel_refuses(self, member: Member, fault: Fault) -> None:
        member.kernel.refusing = True
        self._later(fault, setattr, member.kernel, "refusing", False)

    def _kernel_slow(self, member: Member, fault: Fault) -> None:
        member.kernel.slow_s = float(fault.value)
        self._later(fault, setattr, member.kernel, "slow_s", 0.0)

    def _link_down(self, member: Member, fault: Fault) -> None:
        member.kernel.set_link(up=False)
        self._later(fault, self._link_up, member)

    def _link_up(self, member: Member) -> None:
        member.kernel.set_link(up=True)

    def _monitor_lost(self, member: Member, fault: Fault) -> None:
        member.kernel.lose_events()

    def _wall_step(self, member: Member, fault: Fault) -> None:
        member.clock.step_wall(float(fault.value))

    # ------------------------------------------------------------------------------------------ rival

    def _rival_starts(self, member: Member, fault: Fault) -> None:
        self._world.start_rival()

    def _rival_stops(self, member: Member, fault: Fault) -> None:
        if self._world.rival is not None:
            self._world.rival.stop()

    def _rival_dies(self, member: Member, fault: Fault) -> None:
        if self._world.rival is not None:
            self._world.rival.die()

    def _rival_pauses(self, member: Member, fault: Fault) -> None:
        rival = self._world.rival
        if rival is not None and rival.loop.life is Life.RUNS:
            rival.loop.freeze(timers_stop=False)
            self._later(fault, self._rival_goes_on, rival.loop)

    def _rival_goes_on(self, loop: object) -> None:
        if loop.life is Life.FROZEN:  # type: ignore[attr-defined]
            loop.thaw()  # type: ignore[attr-defined]
