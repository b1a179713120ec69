"""One process's client of the Lease: the twin of ``vipd.kube.leases``, with a watch that may fall silent."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from vipd.core.model import (
    CallFailed,
    CallFailure,
    LeaseAbsent,
    LeaseDraft,
    LeaseView,
    ReadOutcome,
    WriteOutcome,
    Written,
)
from vipd.core.ports import Clock

from .api import Network, Op, Outcome, Request, Wire
from .loop import ProcessLoop

READ_FOR_WATCH_S = 2.0
BACKOFF_S = (0.1, 2.0)
KEEPALIVE_S = 20.0
"""A stream whose other end is gone without a word is found dead by TCP after about this long."""


class SimLeases:
    """``vipd.core.ports.LeaseStore`` for one process."""

    def __init__(
        self, network: Network, wire: Wire, loop: ProcessLoop, clock: Clock, *, author: object, rng: random.Random
    ) -> None:
        self._network = network
        self._wire = wire
        self._loop = loop
        self._clock = clock
        self._author = author
        self.stream = SimWatch(self, network, wire, loop, rng)
        self.writes = 0
        self.sending: Callable[[LeaseView | None, LeaseDraft], None] = lambda base, draft: None
        self.was_read: Callable[[float], None] = lambda sent_at: None
        self.written: Callable[[float, LeaseDraft, bool], None] = lambda sent_at, draft, created: None

    async def read(self, *, timeout_s: float) -> ReadOutcome:
        return await self._ask(Op.READ, None, None, None, timeout_s)

    async def create(self, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        return await self._ask(Op.CREATE, None, draft, None, timeout_s)

    async def replace(self, base: LeaseView, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        return await self._ask(Op.REPLACE, base, draft, None, timeout_s)

    async def annotate(
        self, base: LeaseView, annotations: Mapping[str, str | None], *, timeout_s: float
    ) -> WriteOutcome:
        return await self._ask(Op.ANNOTATE, base, None, annotations, timeout_s)

    def watch(self) -> AsyncGenerator[LeaseView | LeaseAbsent | CallFailed, None]:
        return self.stream.events()

    def rewatch(self) -> None:
        self.stream.connect_anew()

    def _ask(
        self,
        op: Op,
        base: LeaseView | None,
        draft: LeaseDraft | None,
        annotations: Mapping[str, str | None] | None,
        timeout_s: float,
    ) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.Future(loop=self._loop)  # type: ignore[arg-type]
        sent_at = self._clock.now()
        if draft is not None:
            self.sending(base, draft)

        def deliver(outcome: Outcome) -> None:
            if op is Op.READ:
                if not isinstance(outcome, CallFailed):
                    self.was_read(sent_at)
            elif isinstance(outcome, Written) and draft is not None:
                self.written(sent_at, draft, op is Op.CREATE)
            if not answer.done():
                answer.set_result(outcome)

        self.send(op, base, draft, annotations, deliver, timeout_s=timeout_s)
        return answer

    def send(self, op: Op, base: Any, draft: Any, annotations: Any, deliver: Any, *, timeout_s: float) -> None:
        if op is not Op.READ:
            self.writes += 1
        request = Request(
            op, base, draft, annotations, self._clock.wall(), self._loop, self._author, self._wire, deliver
        )
        self._network.send(request, timeout_s=timeout_s)


class SimWatch:
    """A watch: what it tells comes late, in order, and sometimes not at all."""

    def __init__(self, leases: SimLeases, network: Network, wire: Wire, loop: ProcessLoop, rng: random.Random) -> None:
        self._leases = leases
        self._network = network
        self._wire = wire
        self._loop = loop
        self._rng = rng
        self._queue: deque[LeaseView | LeaseAbsent | CallFailed] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._stream = 0
        """Counts connections: what an older one had under way is dropped."""
        self._open = False
        self._silent = False
        self._due = 0.0
        self._backlog: list[LeaseView | LeaseAbsent] = []
        self._failures = 0
        self.slow_s = 0.0
        """Added to every delivery."""

    async def events(self) -> AsyncGenerator[LeaseView | LeaseAbsent | CallFailed, None]:
        self._network.server.watchers.append(self)
        try:
            self.connect_anew()
            while True:
                while self._queue:
                    yield self._queue.popleft()
                self._waiter = asyncio.Future(loop=self._loop)  # type: ignore[arg-type]
                await self._waiter
        finally:
            self.close()

    def close(self) -> None:
        self._stream += 1
        self._open = False
        if self in self._network.server.watchers:
            self._network.server.watchers.remove(self)

    # ------------------------------------------------------------------------------------ what breaks

    def fall_silent(self) -> None:
        """Half-open: the other end is gone and nobody says so."""
        if self._open and not self._silent:
            self._silent = True
            self._loop.call_later(KEEPALIVE_S, self._found_dead, self._stream)

    def _found_dead(self, stream: int) -> None:
        if stream == self._stream and self._silent:
            self.break_off()

    def break_off(self) -> None:
        """The stream ends with an error; the adapter backs off, reads and opens anew."""
        if self._open:
            self._open = False
            self._stream += 1
            self._backlog.clear()
            self._failed(CallFailed(CallFailure.UNREACHABLE, "the watch broke"))

    def wire_came_back(self) -> None:
        """What waited in TCP buffers comes now, or the connection turns out to be dead."""
        if not self._open or not self._backlog:
            return
        if self._rng.random() < 0.5:
            self.break_off()
            return
        backlog, self._backlog = self._backlog, []
        self._due = max(self._due, self._network._timeline.now + self._rng.uniform(0.01, 1.0))
        for outcome in backlog:
            self._later(outcome)

    def connect_anew(self) -> None:
        """Drop the present stream, read, follow from there."""
        self._stream += 1
        self._open = self._silent = False
        self._failures = 0
        self._backlog.clear()
        self._relist(self._stream)

    # ------------------------------------------------------------------------------------- what comes

    def saw(self, outcome: LeaseView | LeaseAbsent) -> None:
        if self._open and not self._silent:
            self._later(outcome)

    def _later(self, outcome: LeaseView | LeaseAbsent) -> None:
        timeline = self._network._timeline
        due = timeline.now + self._network.trip() + self.slow_s
        if due < self._due:
            due = self._due
        self._due = due
        timeline.at(due, self._arrived, outcome, self._stream)

    def _arrived(self, outcome: LeaseView | LeaseAbsent, stream: int) -> None:
        if stream != self._stream or self._silent:
            return
        if self._network.away or not self._wire.up:
            self._backlog.append(outcome)
        else:
            self._tell(outcome)

    def _tell(self, outcome: LeaseView | LeaseAbsent | CallFailed) -> None:
        self._queue.append(outcome)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ------------------------------------------------------------------------------------- connecting

    def _relist(self, stream: int) -> None:
        if stream == self._stream:
            self._leases.send(
                Op.READ, None, None, None, lambda found: self._listed(found, stream), timeout_s=READ_FOR_WATCH_S
            )

    def _listed(self, found: Any, stream: int) -> None:
        if stream != self._stream:
            return
        if isinstance(found, CallFailed):
            self._failed(found)
            return
        self._failures = 0
        self._open, self._silent = True, False
        self._tell(found)
        now = self._network.server.view
        if now is not found:
            # The stream begins at the version that was read: what came since is in it.
            self._later(now)

    def _failed(self, failure: CallFailed) -> None:
        self._tell(failure)
        first, longest = BACKOFF_S
        pause = min(longest, first * 2 ** min(self._failures, 10)) * self._rng.uniform(0.5, 1.0)
        self._failures += 1
        self._loop.call_later(pause, self._relist, self._stream)
