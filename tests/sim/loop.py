"""Virtual time, and an asyncio loop for each simulated process on it.

A ``Timeline`` is a queue of what is to happen, ordered by time and, within one moment, by when it was planned: nothing
else (no file descriptor, no wall clock, no thread) can influence the order, so a seed always gives the same run.

Each process has a ``ProcessLoop`` of its own: what asyncio's tasks and futures need of a loop, no more.  Its timers
follow the process's clock rate; while it is frozen its callbacks wait, and once it is dead they are dropped.

    freeze (SIGSTOP, a stall)     callbacks wait; timers that ran out meanwhile fire at the thaw
    freeze with timers stopped    the same, and timers count on where they stood (CLOCK_MONOTONIC stops in a suspend)
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from vipd.core.ports import Clock

from .fibers import Fiber

MAX_CALLBACKS = 3_000_000
"""More in one schedule means that something spins."""


class Life(enum.IntEnum):
    """What becomes of a process's callbacks."""

    RUNS = 0
    FROZEN = 1
    DEAD = 2


_running: ProcessLoop | None = None


def running() -> ProcessLoop:
    """The process whose callback runs, also when asked from one of its fibers."""
    assert _running is not None
    return _running


def _switch(process: ProcessLoop | None) -> None:
    global _running
    _running = process
    _set_running_loop(process)  # type: ignore[arg-type]


class Handle:
    """One callback that is planned.  asyncio asks a handle for ``cancel`` and ``cancelled`` only."""

    __slots__ = ("args", "callback", "gone", "lost", "process")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], process: ProcessLoop | None) -> None:
        self.callback = callback
        self.args = args
        self.process = process
        self.lost = 0.0 if process is None else process.lost
        self.gone = False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone


class Timeline:
    """The world's time in seconds from 0, and what is planned on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stopped = False
        self.callbacks = 0
        self._ready: deque[Handle] = deque()
        self._heap: list[tuple[float, int, Handle]] = []
        self._planned = 0

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Plan something of the world's own (no process): it happens whoever is frozen or dead."""
        handle = Handle(callback, args, None)
        self.plan(when, handle)
        return handle

    def after(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Like ``at``, counted from now."""
        return self.at(self.now + delay, callback, *args)

    def plan(self, when: float, handle: Handle) -> None:
        self._planned += 1
        heapq.heappush(self._heap, (when, self._planned, handle))

    def soon(self, handle: Handle) -> None:
        self._ready.append(handle)

    def run(self, until: float) -> None:
        """Let everything happen that is planned up to ``until``, or until ``stopped`` is set."""
        heap, ready, pop = self._heap, self._ready, heapq.heappop
        current: ProcessLoop | None = None
        callbacks = 0
        try:
            while not self.stopped:
                if ready:
                    handle = ready.popleft()
                    if handle.gone:
                        continue
                    process = handle.process
                    if process is not None and process.life:
                        process.hold(handle)
                        continue
                elif heap and heap[0][0] <= until:
                    when, _, handle = pop(heap)
                    if handle.gone:
                        continue
                    self.now = when
                    process = handle.process
                    if process is not None and (process.life or process.lost != handle.lost):
                        process.timer_due(when, handle)
                        continue
                else:
                    break
                if process is not current and process is not None:
                    _switch(process)
                    current = process
                callbacks += 1
                handle.callback(*handle.args)
                if callbacks > MAX_CALLBACKS:
                    raise AssertionError(f"the world spins at {self.now:.3f} s: {handle.callback!r}")
        finally:
            _switch(None)
            self.callbacks += callbacks
        if not self.stopped:
            self.now = max(self.now, until)

    def drain(self, process: ProcessLoop) -> None:
        """Run what a dying process still has to run (its tasks end by cancellation); time stands still."""
        ready = self._ready
        others: list[Handle] = []
        before = _running
        _switch(process)
        try:
            while ready:
                handle = ready.popleft()
                if handle.process is not process:
                    others.append(handle)
                elif not handle.gone:
                    handle.callback(*handle.args)
        finally:
            _switch(before)
            ready.extend(others)


class ProcessLoop:
    """The event loop of one process, as far as asyncio's tasks, futures, queues and timeouts need one."""

    def __init__(self, timeline: Timeline, *, clock: Clock, rate: float, name: str) -> None:
        """``rate``: seconds of this process's clock in one second of the world."""
        self.timeline = timeline
        self.rate = rate
        self.name = name
        self.life = Life.RUNS
        self.lost = 0.0
        """How long (in the world's seconds) timers of this process have stood still so far."""
        self.errors: list[dict[str, Any]] = []
        self.clock = clock
        self.fibers: list[Fiber] = []
        self._timers_stopped_at: float | None = None
        self._held: list[Handle] = []
        self._held_timers: list[tuple[float, Handle]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._soon = timeline.soon

    # ---------------------------------------------------------------------------- what asyncio asks

    def time(self) -> float:
        return self.timeline.now * self.rate

    def call_soon(self, callback: Callable[..., object], *args: Any, context: object = None) -> Handle:
        handle = Handle(callback, args, self)
        self._soon(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: object = None) -> Handle:
        handle = Handle(callback, args, self)
        timeline = self.timeline
        timeline.plan(timeline.now + (delay / self.rate if delay > 0 else 0.0), handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: object = None) -> Handle:
        return self.call_later(when - self.time(), callback, *args)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def create_task(self, job: Coroutine[Any, Any, Any], *, name: str | None = None, context: object = None) -> Any:
        task = asyncio.Task(job, loop=self, name=name or "task")  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    # --------------------------------------------------------------------------------------- fate

    def freeze(self, *, timers_stop: bool) -> None:
        """From now on nothing of this process runs."""
        self.life = Life.FROZEN
        if timers_stop:
            self._timers_stopped_at = self.timeline.now

    def thaw(self) -> None:
        """What waited runs now, in its order."""
        self.life = Life.RUNS
        if self._timers_stopped_at is not None:
            self.lost += self.timeline.now - self._timers_stopped_at
            self._timers_stopped_at = None
        held, self._held = self._held, []
        timers, self._held_timers = self._held_timers, []
        for handle in held:
            self._soon(handle)
        for when, handle in timers:
            self.timer_due(when, handle)

    def die(self) -> None:
        """Nothing of this process happens any more; its tasks end without doing anything."""
        self.life = Life.DEAD
        # Wake-ups of tasks that were held back: a task that has one coming can only end through it.
        for handle in self._held:
            self._soon(handle)
        self._held.clear()
        self._held_timers.clear()
        for fiber in self.fibers:
            fiber.abandon()
        for _ in range(20):
            # Sorted by nothing: they are cancelled, and what they do then reaches nobody.
            pending = [task for task in self._tasks if not task.done()]
            if not pending:
                return
            for task in pending:
                task.cancel()
            self.timeline.drain(self)
        raise AssertionError(f"tasks of {self.name} do not end: {pending}")

    def hold(self, handle: Handle) -> None:
        if self.life is Life.FROZEN:
            self._held.append(handle)

    def timer_due(self, when: float, handle: Handle) -> None:
        """A timer of a process that is, or was, frozen."""
        if self.life is Life.FROZEN:
            self._held_timers.append((when, handle))
        elif self.life is Life.RUNS:
            late, handle.lost = self.lost - handle.lost, self.lost
            if when + late <= self.timeline.now:
                self._soon(handle)
            else:
                self.timeline.plan(when + late, handle)
