"""A candidate that is no vipd: client-go's leader election on the same Lease, as it is.

Modelled on tools/leaderelection/leaderelection.go and resourcelock/leaselock.go of client-go (2026): it polls with
jitter, counts from when it saw the record change on its own clock, compares records whose times have whole seconds
(``metav1.Time`` marshals so), renews optimistically on the object it wrote last, and overwrites the spec while
everything else of the object it read stays, annotations of an earlier vipd holder included.
"""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from typing import TYPE_CHECKING

from vipd.core.model import CallFailed, LeaseAbsent, LeaseDraft, LeaseView, Written

from .api import Wire
from .clock import MachineClock
from .leases import SimLeases
from .loop import Life, ProcessLoop

if TYPE_CHECKING:
    from .world import World

JITTER = 1.2
NAME = "rival"
Record = tuple[str, int, int, datetime | None, datetime | None]


class Rival:
    """One run of a client-go candidate; ``leading`` is what its application believes."""

    def __init__(self, world: World, *, duration_s: int, rate: float) -> None:
        # The proportions of client-go's defaults: 15 s, 10 s, 2 s.
        self._duration_s = duration_s
        self._deadline_s = duration_s * 10 / 15
        self._retry_s = duration_s * 2 / 15
        self._world = world
        self._rng = random.Random(f"{world.setting.seed}/rival/{world.rivals}")
        self.loop = ProcessLoop(world.timeline, clock=world.rival_clock, rate=rate, name=NAME)
        self._clock: MachineClock = world.rival_clock
        self.wire = Wire()
        self._leases = SimLeases(world.network, self.wire, self.loop, self._clock, author=self, rng=self._rng)
        self._observed: LeaseView | None = None
        self._raw: Record | None = None
        self._observed_at = float("-inf")
        self._lock: LeaseView | None = None
        self._renewed_at = float("-inf")
        self.leading = False
        self.ended = False
        self._stopping = asyncio.Event()

    def begin(self) -> None:
        self._world.say(NAME, "starts")
        self._main = self.loop.create_task(self._run())
        self._main.add_done_callback(self._ended)

    def stop(self) -> None:
        """Cancel its context: it gives the Lease back (ReleaseOnCancel)."""
        self._stopping.set()

    def die(self) -> None:
        if self.loop.life is not Life.DEAD:
            self.leading = False
            self.loop.die()

    def in_right(self) -> bool:
        """Leads, and by its own clock (2 % off at most) the Lease cannot have ended."""
        if not self.leading or self.loop.life is not Life.RUNS:
            return False
        return self._clock.now() < self._renewed_at + 0.96 * self._duration_s

    def _ended(self, main: asyncio.Task[None]) -> None:
        self.ended = True
        self.leading = False
        if self.loop.life is not Life.DEAD and not main.cancelled() and main.exception() is not None:
            self._world.violate("the rival ends with an error", repr(main.exception()))

    # --------------------------------------------------------------------------------- leaderelection

    async def _run(self) -> None:
        while not self._stopping.is_set() and not await self._try():
            # wait.JitterUntil, sliding: between one and 2.2 periods after the attempt ended.
            await self._pause(self._retry_s * (1 + JITTER * self._rng.random()))
        if self._stopping.is_set() and not self._is_leader():
            return
        self.leading = True
        self._world.say(NAME, "leads")
        while not self._stopping.is_set() and await self._renew():
            await self._pause(self._retry_s)
        self.leading = False
        self._world.say(NAME, "stops leading")
        await self._release()

    async def _renew(self) -> bool:
        until = self._clock.now() + self._deadline_s
        while True:
            left = until - self._clock.now()
            if left <= 0 or self._stopping.is_set():
                return False
            if await self._try(limit_s=left):
                return True
            await self._pause(min(self._retry_s, max(0.0, until - self._clock.now())))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _try(self, *, limit_s: float | None = None) -> bool:
        limit_s = min(self._deadline_s / 2, limit_s or self._deadline_s)
        now = self._clock.now()
        if self._is_leader() and self._valid(now) and await self._update(now, self._observed, limit_s, keep=True):
            return True
        found = await self._leases.read(timeout_s=limit_s)
        if isinstance(found, CallFailed):
            return False
        if isinstance(found, LeaseAbsent):
            draft = LeaseDraft(NAME, self._duration_s, 0, None)
            return self._took(await self._leases.create(draft, timeout_s=limit_s), now)
        self._lock = found
        if self._raw != _raw(found):
            self._observe(found)
            self._raw = _raw(found)
        if found.holder and self._valid(now) and not self._is_leader():
            return False
        return await self._update(now, found, limit_s, keep=self._is_leader())

    async def _update(self, now: float, old: LeaseView | None, limit_s: float, *, keep: bool) -> bool:
        assert old is not None
        assert self._lock is not None
        transitions = old.transitions if keep else old.transitions + 1
        draft = LeaseDraft(NAME, self._duration_s, transitions, old.acquire_time if keep else None)
        return self._took(await self._leases.replace(self._lock, draft, timeout_s=limit_s), now)

    def _took(self, outcome: object, sent_at: float) -> bool:
        if not isinstance(outcome, Written):
            return False
        self._lock = outcome.view
        self._observe(outcome.view)
        self._renewed_at = sent_at
        return True

    async def _release(self) -> None:
        until = self._clock.now() + self._deadline_s
        while (left := until - self._clock.now()) > 0:
            found = await self._leases.read(timeout_s=left)
            if not isinstance(found, LeaseView) or not self._is_leader():
                return
            # client-go asks its memory, not the record it has just read: it may clear the Lease of another.
            if found.holder != NAME:
                self._world.forget(f"{NAME} clears the Lease of {found.holder}")
            draft = LeaseDraft("", 1, found.transitions, None)
            outcome = await self._leases.replace(found, draft, timeout_s=left)
            if isinstance(outcome, Written):
                self._observe(outcome.view)
                return
            if isinstance(outcome, CallFailed | LeaseAbsent):
                return

    def _observe(self, view: LeaseView) -> None:
        self._observed, self._observed_at = view, self._clock.now()

    def _is_leader(self) -> bool:
        return self._observed is not None and self._observed.holder == NAME

    def _valid(self, now: float) -> bool:
        return self._observed is not None and self._observed_at + self._observed.duration_s > now


def _raw(view: LeaseView) -> Record:
    """The record as JSON has it: times in whole seconds."""
    return (view.holder, view.duration_s, view.transitions, _whole(view.acquire_time), _whole(view.renew_time))


def _whole(time: datetime | None) -> datetime | None:
    return time.replace(microsecond=0) if time is not None else None
