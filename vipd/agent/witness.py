"""Tells people what the election did: log lines, metrics, the Pod's labels, Kubernetes Events.

None of it may hold the loop up: labels and Events are sent beside it, the latest role wins, and a failure to tell
is logged and no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from vipd.core.messages import Changed, Note
from vipd.core.model import CallFailed
from vipd.core.reasons import Phase, Reason
from vipd.core.state import State
from vipd.kube.events import EventType, EventWriter
from vipd.kube.members import MemberLabels, Role
from vipd.observe.logs import fields
from vipd.observe.metrics import Metrics

log = logging.getLogger("vipd")

LABEL_RETRY_S = 5.0

TELL_AFTER_S = 0.1
"""Labels and Events wait so long: in a takeover the loop has an address to add and announce within milliseconds."""


UNFIT = frozenset({Reason.LINK_DOWN, Reason.CHECK_FAILED, Reason.CANNOT_PLUMB, Reason.CANNOT_MOVE})
"""Reasons of giving the Lease away after which this member is not to take it back for a while."""


def role_of(phase: Phase, reason: Reason) -> Role | None:
    """The label ``vipd.io/role`` of a state; None once stopped."""
    if phase in (Phase.ACTIVE, Phase.HOLDING):
        return Role.ACTIVE
    if phase is Phase.FAULT or reason in UNFIT:
        return Role.FAULT
    return None if phase is Phase.STOPPED else Role.STANDBY


class Teller:
    """The witness in production."""

    def __init__(self, *, metrics: Metrics, labels: MemberLabels | None, events: EventWriter | None) -> None:
        self._metrics = metrics
        self._labels = labels
        self._events = events
        self._role: Role | None = Role.STANDBY
        self._role_changed = asyncio.Event()
        self._part_of_it = False
        self._tasks: set[asyncio.Task[None]] = set()
        if labels is not None:
            self._spawn(self._keep_label(labels))

    def changed(self, state: State, change: Changed) -> None:
        """A state was left for another."""
        why = change.reason.value + (f": {change.detail}" if change.detail else "")
        extra = fields(before=change.before.value, after=change.after.value, reason=change.reason.value)
        log.info("%s -> %s (%s)", change.before.value, change.after.value, why, extra=extra)
        self._metrics.transition(change.before.value, change.after.value, change.reason.value)
        self._role = role_of(change.after, change.reason)
        self._role_changed.set()
        if Phase.ACTIVE in (change.before, change.after) or change.after in (Phase.FAULT, Phase.HOLDING):
            kind = EventType.WARNING if change.after in (Phase.FAULT, Phase.HOLDING) else EventType.NORMAL
            vips = ", ".join(map(str, state.config.addresses))
            self._event(_camel(change.reason.value), f"{vips}: {change.before} -> {change.after} ({why})", kind)

    def noted(self, state: State, note: Note) -> None:
        """Something people should see."""
        self._metrics.noted(note.reason.value)
        level = logging.WARNING if note.warning else logging.INFO
        log.log(level, "%s", note.detail, extra=fields(reason=note.reason.value, state=state.phase.value))
        if note.warning:
            self._event(_camel(note.reason.value), note.detail, EventType.WARNING)

    def warned(self, reason: str, message: str) -> None:
        """Something beside the election that people should see; ``reason`` in UpperCamelCase."""
        log.warning("%s", message, extra=fields(reason=reason))
        self._event(reason, message, EventType.WARNING)

    def stepped(self, state: State, now: float) -> None:
        """After each event: gauges; and the first label, once the Lease is known and this member can take it."""
        self._metrics.observe(state, now)
        if state.lease.known and not self._part_of_it:
            self._part_of_it = True
            self._role_changed.set()

    async def close(self) -> None:
        """Send what is under way (at most a second), then stop."""
        if self._tasks:
            done, late = await asyncio.wait(self._tasks, timeout=1.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*done, *late, return_exceptions=True)

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_label(self, labels: MemberLabels) -> None:
        complained = False
        while True:
            await self._role_changed.wait()
            await asyncio.sleep(TELL_AFTER_S)
            self._role_changed.clear()
            role = self._role
            outcome = await labels.show(role)
            if isinstance(outcome, CallFailed):
                if not complained:
                    log.warning("could not label this member as %s: %s", role, outcome.detail)
                complained = True
                await asyncio.sleep(LABEL_RETRY_S)
                self._role_changed.set()
            else:
                complained = False
                if role is None:
                    return

    def _event(self, reason: str, message: str, kind: EventType) -> None:
        if self._events is not None:
            self._spawn(self._write_event(self._events, reason, message, kind))

    async def _write_event(self, events: EventWriter, reason: str, message: str, kind: EventType) -> None:
        await asyncio.sleep(TELL_AFTER_S)
        outcome = await events.write(reason, message, type_=kind)
        if isinstance(outcome, CallFailed):
            log.debug("could not write the Event %s: %s", reason, outcome.detail)


def _camel(reason: str) -> str:
    return "".join(word.capitalize() for word in reason.split("-"))
