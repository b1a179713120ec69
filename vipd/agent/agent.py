"""The loop: events in, ``decide``, effects out.  One asyncio loop, nothing in it blocks.

The same class runs in production, in the lab (real kernel and sockets) and under test on other adapters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from vipd.agent.clock import JumpDetector
from vipd.agent.hands import Hands
from vipd.core import election
from vipd.core.messages import (
    AddressLost,
    AnnotateLease,
    Announce,
    AssignEni,
    Begin,
    Changed,
    ClaimSeen,
    ClockJumped,
    Effect,
    Event,
    Exit,
    HealthSeen,
    LeaseWatched,
    Note,
    ProbeAddresses,
    PutAddresses,
    ReadLease,
    ReadMapping,
    Reconfigured,
    RemoveAddresses,
    Rewatch,
    StopAsked,
    Woke,
    WriteLease,
)
from vipd.core.model import CallFailed, LinkState
from vipd.core.ports import AddressGone, LinkChanged, LinkEvent, MonitorResync
from vipd.core.settings import ElectionConfig
from vipd.core.state import State
from vipd.errors import AnnounceError, LinkError

log = logging.getLogger("vipd.agent")

RESYNC_PAUSE_S = 0.5
LISTEN_AGAIN_S = 1.0
"""Between two attempts to listen; one that lasted longer had worked, and its end is told anew."""


class Witness(Protocol):
    """Is told of what the election did; must not block."""

    def changed(self, state: State, change: Changed) -> None:
        """A state was left for another."""

    def noted(self, state: State, note: Note) -> None:
        """Something people should see."""

    def stepped(self, state: State, now: float) -> None:
        """After each event."""


class Monitor(Protocol):
    """Watches over the health of what the VIPs are for."""

    async def run(self, report: Callable[[bool, str], None]) -> None:
        """Until cancelled: report whether all is well, and what is not, first and at each change."""


class Agent:
    """One member of one VIP group."""

    def __init__(
        self, config: ElectionConfig, hands: Hands, witness: Witness, *, monitor: Monitor | None = None
    ) -> None:
        """``monitor``: where ``config.checks`` says that there are health checks."""
        self._monitor = monitor
        self.state = election.initial(config)
        self._hands = hands
        self._witness = witness
        self._events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self._jumps = JumpDetector()
        self._exit_code: int | None = None

    # --------------------------------------------------------------------------------------- orders

    def stop(self) -> None:
        """Leave: hand over what is held, then end ``run``."""
        self._events.put_nowait(StopAsked())

    def reconfigure(self, config: ElectionConfig) -> None:
        """Take over a new priority, preemption, duration, interval or grace period."""
        self._events.put_nowait(Reconfigured(config=config))

    # ----------------------------------------------------------------------------------------- loop

    async def run(self) -> int:
        """Take part until told to stop; returns the exit code."""
        hands = self._hands
        hands.start(self._events.put_nowait, lambda: self.state.holder.right_until, self._events.put_nowait)
        await self._look_at_links()
        wanted = {(vip.address, vip.interface) for vip in hands.vips}
        borne = await hands.kernel.borne()
        found = [b for b in borne if (b.vip.address, b.vip.interface) in wanted]
        left_over = frozenset(b.vip.address for b in found)
        lease_s = self.state.config.duration_s
        outlives = bool(found) and all(b.valid_s is None or b.valid_s > lease_s for b in found)
        seen = hands.link_seen()
        self._step(Begin(left_over=left_over, link_up=seen.up, outlives_lease=outlives))
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            links = group.create_task(self._follow_links())
            health = group.create_task(self._monitor.run(self._health_seen)) if self._monitor else None
            names = {vip.interface for vip in hands.vips}
            listening = [group.create_task(self._follow_claims(name)) for name in sorted(names)]
            while self._exit_code is None:
                event = await self._events.get()
                if isinstance(event, BaseException):
                    raise event
                self._step(event)
            watch.cancel()
            links.cancel()
            if health is not None:
                health.cancel()
            for task in listening:
                task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        await hands.close()
        return self._exit_code

    def _step(self, event: Event) -> None:
        jumped = self._jumps.jumped(self._hands.clock)
        now = self._hands.clock.now()
        if jumped:
            self._apply(ClockJumped(), now)
        self._apply(event, now)
        self._arm(now)
        self._witness.stepped(self.state, now)

    def _apply(self, event: Event, now: float) -> None:
        self.state, effects = election.decide(self.state, event, now)
        if effects and log.isEnabledFor(logging.DEBUG):
            log.debug("%s -> %s", event, effects)
        for effect in effects:
            self._carry_out(effect)

    def _arm(self, now: float) -> None:
        """One timer, set anew after each event."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state.wake_at is not None:
            delay = max(0.0, self.state.wake_at - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._events.put_nowait, Woke())

    def _carry_out(self, effect: Effect) -> None:
        hands = self._hands
        match effect:
            case ReadLease():
                hands.read_lease(effect)
            case WriteLease():
                hands.write_lease(effect)
            case AnnotateLease():
                hands.annotate_lease(effect)
            case Rewatch():
                hands.store.rewatch()
            case PutAddresses():
                hands.put_addresses(effect)
            case ProbeAddresses():
                hands.probe_addresses()
            case RemoveAddresses():
                hands.remove_addresses(effect)
            case Announce():
                hands.announce()
            case AssignEni():
                hands.assign_eni(effect)
            case ReadMapping():
                hands.read_mapping()
            case Changed():
                self._witness.changed(self.state, effect)
            case Note():
                self._witness.noted(self.state, effect)
            case Exit():
                self._exit_code = effect.code

    # ---------------------------------------------------------------------------------- what arrives

    async def _watch(self) -> None:
        failing = False
        async with aclosing(self._hands.store.watch()) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, CallFailed):
                    if not failing:
                        log.warning("the watch of the Lease fails, trying again: %s", outcome.detail)
                    failing = True
                elif failing:
                    log.info("the watch of the Lease works again")
                    failing = False
                self._events.put_nowait(LeaseWatched(outcome=outcome))

    async def _follow_claims(self, name: str) -> None:
        """Who else speaks for a VIP on this interface; it may go and come back, also with another MAC."""
        claims, complained = self._hands.claims, False
        vips = [vip for vip in self._hands.vips if vip.interface == name]
        while claims is not None:
            link, began = self._hands.links.get(name), self._hands.clock.now()
            try:
                if link is not None and link.up:
                    async with aclosing(claims.listen(vips, link)) as heard:
                        async for claim in heard:
                            if not self._same_link(link):
                                break  # what comes from its new MAC would be taken for another's
                            self._events.put_nowait(ClaimSeen(claim=claim))
            except AnnounceError as error:
                if not complained or self._hands.clock.now() - began > LISTEN_AGAIN_S:
                    log.warning("claims of the VIPs by others go unnoticed for now: %s", error)
                complained = True
            await asyncio.sleep(LISTEN_AGAIN_S)

    def _same_link(self, link: LinkState) -> bool:
        now = self._hands.links.get(link.name)
        return now is not None and (now.index, now.mac) == (link.index, link.mac)

    async def _follow_links(self) -> None:
        async with aclosing(self._hands.kernel.events()) as events:
            async for event in events:
                while not await self._took_in(event):
                    await asyncio.sleep(RESYNC_PAUSE_S)
                    event = MonitorResync()

    async def _took_in(self, event: LinkEvent) -> bool:
        """False where the kernel did not answer: then everything is to be looked at again."""
        try:
            await self._on_link_event(event)
        except LinkError as error:
            log.warning("%s; looking again", error)
            return False
        return True

    async def _on_link_event(self, event: LinkEvent) -> None:
        hands = self._hands
        if isinstance(event, AddressGone):
            if any(vip.address == event.address and vip.interface == event.interface for vip in hands.vips):
                self._events.put_nowait(AddressLost(address=event.address))
        elif isinstance(event, LinkChanged):
            if any(vip.interface == event.name for vip in hands.vips):
                hands.link_changed(event.name, event.link)
                self._events.put_nowait(hands.link_seen())
        elif isinstance(event, MonitorResync):
            await self._look_at_links()
            self._events.put_nowait(hands.link_seen())
            there = {(b.vip.address, b.vip.interface) for b in await hands.kernel.borne()}
            for vip in hands.vips:
                if (vip.address, vip.interface) not in there:
                    self._events.put_nowait(AddressLost(address=vip.address))

    async def _look_at_links(self) -> None:
        for name in {vip.interface for vip in self._hands.vips}:
            self._hands.link_changed(name, await self._hands.kernel.link(name))

    def _health_seen(self, healthy: bool, detail: str) -> None:
        self._events.put_nowait(HealthSeen(healthy=healthy, detail=detail))
