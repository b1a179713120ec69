"""Follows the addresses of a pod: netlink events in, ``vipd.core.follow``, EC2 calls out.

``vipd sidecar`` runs it for ever, beside the election if there is one; ``vipd init`` until everything is confirmed.
Nothing is polled but IMDS, which has no events.  Whatever fails is a standing of the address, tried again at its pace.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from vipd.agent.enis import Enis
from vipd.agent.follow_aws import FollowAws
from vipd.agent.surroundings import Choice, Surroundings
from vipd.core import follow
from vipd.core.following import (
    Answered,
    Ask,
    Assign,
    Borne,
    FollowConfig,
    FollowEffect,
    FollowEvent,
    FollowState,
    Seen,
    Standing,
    Target,
    Told,
    Unassign,
    Unassigned,
    Woke,
)
from vipd.core.model import Address, Assigned, AssignVerdict, LinkState, Mapped, Vip
from vipd.core.ports import AddressCame, AddressGone, ClaimWatch, Clock, LinkChanged, LinkEvent
from vipd.errors import AnnounceError, AwsError, LinkError
from vipd.link.kernel import KernelLink
from vipd.link.local import bears

log = logging.getLogger("vipd.follow")

ATTEMPT_S = 15.0
"""The longest that one attempt at EC2 may take, with all its requests."""

LATE_S = 0.5
"""A timer so late was frozen: addresses may have left, so the kernel is looked at before anything is sent."""

MAPPING_TIMEOUT_S = 1.0
ENIS_FIRST_S, ENIS_SILENT_S, ENIS_MOST_S = 0.2, 5.0, 60.0
"""Pauses between two questions for the ENIs while IMDS is silent, or does not explain an address: the first one, and
the longest ones."""

RESYNC_PAUSE_S = 0.5
WARM_EVERY_S = 60.0
"""How often temporary credentials are looked at, so that no address waits for new ones."""


class Witness(Protocol):
    """Is told of what following did; must not block."""

    def told(self, told: Told) -> None:
        """The standing of an address changed."""

    def assigned(self, results: Sequence[Assigned], seconds: float) -> None:
        """An EC2 call was answered."""

    def stepped(self, state: FollowState) -> None:
        """After each event."""


class Follower:
    """``run`` for ever; ``state`` says how it stands, ``surroundings`` what is there."""

    def __init__(
        self,
        config: FollowConfig,
        choice: Choice,
        *,
        kernel: KernelLink,
        clock: Clock,
        aws: FollowAws,
        enis: Enis,
        witness: Witness,
        claims: ClaimWatch | None = None,
    ) -> None:
        """``claims``: asks the link before an address is unassigned; needed where ``config`` releases."""
        self.state = FollowState(config)
        self.surroundings = Surroundings(choice)
        self.began = False
        """Whether the kernel has been looked at."""
        self._kernel, self._clock, self._aws, self._enis = kernel, clock, aws, enis
        self._witness = witness
        self._claims = claims
        self._known = True
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: asyncio.TaskGroup | None = None
        self._asking_enis = False
        self._unexplained: frozenset[tuple[str, Address]] = frozenset()
        self._new_question = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as jobs:
            self._jobs = jobs
            jobs.create_task(self._keep_warm())
            try:
                async with aclosing(self._kernel.events()) as events:
                    async for event in events:
                        await self._on_link_event(event)
            finally:
                if self._timer is not None:
                    self._timer.cancel()

    # -------------------------------------------------------------------------------------- the core

    def _decide(self, event: FollowEvent) -> None:
        now = self._clock.now()
        self.state, effects = follow.decide(self.state, event, now)
        for effect in effects:
            self._carry_out(effect)
        self._arm(now)
        self._witness.stepped(self.state)

    def _arm(self, now: float) -> None:
        """One timer, set anew after each event."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.state.wake_at
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._wake, at)

    def _wake(self, at: float) -> None:
        if self._clock.now() - at > LATE_S:
            self._spawn(self._look_again())
        else:
            self._decide(Woke())

    async def _look_again(self) -> None:
        await self._resync()
        self._decide(Woke())

    def _carry_out(self, effect: FollowEffect) -> None:
        match effect:
            case Assign():
                self._spawn(self._assign(effect))
            case Unassign():
                self._spawn(self._unassign(effect))
            case Ask():
                self._spawn(self._ask(effect))
            case Told():
                self._witness.told(effect)

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        if self._jobs is None:
            raise AssertionError("the follower does not run")
        self._jobs.create_task(job)

    # ------------------------------------------------------------------------------------- the kernel

    async def _on_link_event(self, event: LinkEvent) -> None:
        renamed = (
            isinstance(event, LinkChanged) and event.link is not None and event.name not in self.surroundings.links
        )
        # IPv4 bears an address once for each prefix length: one of them went.
        still_there = isinstance(event, AddressGone) and bears(event.address)
        if renamed or still_there or not isinstance(event, AddressCame | AddressGone | LinkChanged):
            # Of a link that is renamed the kernel tells no addresses.
            await self._resync()
        elif self.surroundings.take_in(event):
            self._look()

    async def _resync(self) -> None:
        """Look at the kernel anew, until it answers."""
        while True:
            try:
                links = await self._kernel.links()
                addresses = await self._kernel.addresses()
                routes = await self._kernel.default_route_interfaces()
            except LinkError as error:
                log.warning("%s; looking again", error)
                await asyncio.sleep(RESYNC_PAUSE_S)
                continue
            self.surroundings.reset(links, addresses, routes)
            self.began = True
            self._look()
            return

    def _look(self) -> None:
        """Tell the core what is borne now, where that is another than before."""
        targets = self._targets()
        before = {address: followed.target for address, followed in self.state.followed.items()}
        known, self._known = self._known, False
        if targets != before or known:
            self._decide(Borne(targets, known=known))

    def _targets(self) -> Mapping[Address, Target]:
        targets: dict[Address, Target] = {}
        unexplained: set[tuple[str, Address]] = set()
        for local in self.surroundings.usable():
            link = self.surroundings.links.get(local.interface)
            if link is None:
                continue
            named = local.interface in self.surroundings.choice.interfaces
            target = self._enis.target(link, local.address, named=named)
            if target is not None:
                targets[local.address] = target
            unknown = target is None or (not target.eni and target.standing is not Standing.OUTSIDE)
            if unknown or not self._enis.settled(link):
                unexplained.add((link.mac, local.address))
        self._explain(frozenset(unexplained))
        return targets

    # ----------------------------------------------------------------------------------------- the ENIs

    def _explain(self, unexplained: frozenset[tuple[str, Address]]) -> None:
        """Have IMDS asked for the ENIs as long as something is not explained; at once where that is new."""
        if unexplained - self._unexplained:
            self._new_question.set()
        self._unexplained = unexplained
        if unexplained and not self._asking_enis:
            self._asking_enis = True
            self._spawn(self._ask_for_enis())

    async def _ask_for_enis(self) -> None:
        pause_s, told = ENIS_FIRST_S, ""
        while self._unexplained:
            self._new_question.clear()
            await self._enis.refresh()
            problem = self._enis.problem
            if problem and problem != told:
                log.warning("%s", problem)
            told = problem
            self._look()
            try:
                async with asyncio.timeout(pause_s):
                    await self._new_question.wait()
                pause_s = ENIS_FIRST_S
            except TimeoutError:
                pause_s = min(ENIS_SILENT_S if problem else ENIS_MOST_S, pause_s * 2)
        self._asking_enis = False

    async def _keep_warm(self) -> None:
        complained = ""
        while True:
            problem = await self._aws.warm()
            if problem and problem != complained:
                log.warning("%s", problem)
            complained = problem
            await asyncio.sleep(WARM_EVERY_S)

    # -------------------------------------------------------------------------------------------- EC2

    async def _assign(self, effect: Assign) -> None:
        began = self._clock.now()
        until = began + ATTEMPT_S

        def right_until() -> float:
            # From worker threads too: what has left meanwhile is not drawn back to this node.
            return until if any(map(bears, effect.addresses)) else float("-inf")

        results = await self._tried(
            effect.addresses,
            lambda mover, eni: mover.assign(eni, effect.addresses, right_until=right_until),
            effect.eni,
        )
        self._witness.assigned(results, self._clock.now() - began)
        self._decide(Answered(effect.eni, results, random.random()))

    async def _tried(self, addresses: Sequence[Address], call: Callable[..., Any], eni_id: str) -> Sequence[Assigned]:
        """The outcomes; where EC2 cannot be used at all, that."""
        try:
            mover = await self._aws.mover()
        except AwsError as error:
            verdict = AssignVerdict.NOT_ALLOWED
            return [Assigned(address, verdict, "not-ready", str(error)) for address in addresses]
        results: Sequence[Assigned] = await call(mover, self._enis.eni(eni_id, self._link_of(eni_id)))
        return results

    def _link_of(self, eni_id: str) -> LinkState | None:
        names = [f.target.interface for f in self.state.followed.values() if f.target.eni == eni_id]
        return self.surroundings.links.get(names[0]) if names else None

    async def _unassign(self, effect: Unassign) -> None:
        until = self._clock.now() + ATTEMPT_S
        asked = await asyncio.gather(*(self._anybody(address) for address in effect.addresses))
        answers = dict(zip(effect.addresses, asked, strict=True))
        kept = frozenset(address for address, answer in answers.items() if answer)
        free = [address for address, answer in answers.items() if answer is False]
        unasked = [address for address, answer in answers.items() if answer is None]
        results = [Assigned(a, AssignVerdict.RETRY, "link", "the link cannot be asked who bears it") for a in unasked]
        if free:

            def right_until() -> float:
                return float("-inf") if any(map(bears, free)) else until

            results += await self._tried(
                free, lambda mover, eni: mover.release(eni, free, right_until=right_until), effect.eni
            )
        self._decide(Unassigned(effect.eni, results, kept))

    async def _anybody(self, address: Address) -> bool | None:
        """Whether another pod on this ENI answers for it (ipvlan children share the MAC); None: cannot be asked."""
        leaver = self.state.leaving.get(address)
        link = self.surroundings.links.get(leaver.target.interface) if leaver else None
        if self._claims is None or link is None or not link.up:
            return None
        try:
            return await self._claims.anybody(Vip(address, address.max_prefixlen, link.name), link)
        except AnnounceError as error:
            log.warning("could not ask whether anybody bears %s: %s", address, error)
            return None

    async def _ask(self, effect: Ask) -> None:
        asked_at = self._clock.now()
        mapping: Mapping[Address, Mapped]
        try:
            reader = await self._aws.reader()
            eni = self._enis.eni(effect.eni, self._link_of(effect.eni))
            mapping = await reader.read(eni, effect.addresses, timeout_s=MAPPING_TIMEOUT_S)
        except AwsError:
            mapping = dict.fromkeys(effect.addresses, Mapped.UNKNOWN)
        self._decide(Seen(effect.eni, mapping, asked_at))
