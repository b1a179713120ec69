"""Tells people what following did: log lines, metrics, Events; none of it may hold the loop up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from vipd.core.following import FollowState, Told
from vipd.core.model import Assigned, CallFailed
from vipd.observe.logs import fields

if TYPE_CHECKING:
    # vipd init tells its log alone, and is to start at once.
    from vipd.kube.events import EventWriter
    from vipd.observe.following import FollowMetrics

log = logging.getLogger("vipd.follow")

Writer = Callable[[], Awaitable["EventWriter | None"]]


class FollowTeller:
    """The follower's witness in production."""

    def __init__(self, metrics: FollowMetrics | None = None, *, events: Writer | None = None) -> None:
        """``events``: makes the writer of Events when there is something to write (it may load a whole library)."""
        self._metrics = metrics
        self._events = events
        self._tasks: set[asyncio.Task[None]] = set()

    def told(self, told: Told) -> None:
        """The standing of an address changed."""
        state = told.standing.value if told.standing else "gone"
        if self._metrics is not None:
            self._metrics.changed(told.standing)
        level = logging.WARNING if told.warning else logging.INFO
        text = f"{told.address}: {state}" + (f": {told.detail}" if told.detail else "")
        log.log(level, "%s", text, extra=fields(address=str(told.address), state=state))
        if told.warning and self._events is not None:
            self._spawn(self._write(self._events, f"Address{_camel(state)}", text))

    def assigned(self, results: Sequence[Assigned], seconds: float) -> None:
        """An EC2 call was answered."""
        if self._metrics is not None:
            self._metrics.assigned(results, seconds)

    def stepped(self, state: FollowState) -> None:
        """After each event."""
        if self._metrics is not None:
            self._metrics.state = state

    async def close(self) -> None:
        """Send what is under way (at most a second)."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=1.0)
            for task in late:
                task.cancel()

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, writer: Writer, reason: str, text: str) -> None:
        events = await writer()
        if events is None:
            return
        from vipd.kube.events import EventType

        outcome = await events.write(reason, text, type_=EventType.WARNING)
        if isinstance(outcome, CallFailed):
            log.debug("could not write the Event %s: %s", reason, outcome.detail)


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("-"))
