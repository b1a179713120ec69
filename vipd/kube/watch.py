"""Seeing what becomes of one Lease, without sending anything while nothing changes.

    read ──▶ open from its version ──▶ events ──┬─ end of time ──▶ open from the last version
      ▲                                         ├─ 410 ──────────▶ open at the most recent state, then read
      └──── back off ◀── failure reported ◀─────┘

Opening *without* a version comes before its read: what changes after the opening is in the stream, what changed
before it is in the read, and no deletion falls between the two.  That way serves after a 410 and while there is no
Lease.  (Reading first and opening from the object's version would not: a Lease untouched for minutes has a version
that a busy API server has already dropped from its history, and the 410s would never end.)
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import aiohttp

from vipd.core.model import CallFailed, CallFailure, LeaseAbsent, LeaseView, ReadOutcome
from vipd.kube.api import Api, reply_from
from vipd.kube.stream import Bookmark, Gone, Lines, LineTooLong, Seen, StreamItem, keep_alive, parse_event

T = TypeVar("T")

STREAM_S = (300.0, 600.0)
"""How long a stream is asked to last: spread, so that the members of many groups do not come back together."""

OPEN_S = 5.0
"""Time limit of opening a stream, in seconds."""

OVERTIME_S = 30.0
"""A stream that outlives its time by this much is held for dead."""

BACKOFF_S = (0.1, 2.0)
"""First and longest pause after a failure, each shortened by up to a half at random."""

SHORT_S = 2.0
"""Nobody ends a healthy stream that soon: pause before the next one, not to spin with one who does."""

STEADY_S = 5.0
"""A stream that lasted this long was a good one: the next failure starts at the first pause again."""


class _Next(enum.Enum):
    """How to go on."""

    READ = enum.auto()
    RESUME = enum.auto()
    MOST_RECENT = enum.auto()


class _Dropped(Exception):
    """``drop`` was called."""


class LeaseWatch:
    """One consumer's watch; ``events`` may be run once."""

    def __init__(self, api: Api, *, collection: str, name: str, read: Callable[[], Awaitable[ReadOutcome]]) -> None:
        self._api = api
        self._collection = collection
        self._name = name
        self._read = read
        self._ask_s = STREAM_S[0]
        self._version = ""
        """Where the next stream goes on; empty: at the most recent state."""
        self._last: ReadOutcome | None = None
        self._last_version = ""
        self._failures = 0
        self._dropped = False
        self._scope: asyncio.Timeout | None = None

    def drop(self) -> None:
        """Give up the present stream, read or pause at once and begin anew with a read."""
        if self._scope is not None and not self._dropped and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
        self._dropped = True

    async def events(self) -> AsyncGenerator[ReadOutcome, None]:
        """The Lease as it is, then each change, for ever; CallFailed for each failure to see it."""
        step = _Next.READ
        while True:
            try:
                failed = False
                async with aclosing(self._run(step)) as run:
                    step = _Next.READ
                    async for item in run:
                        if isinstance(item, _Next):
                            step = item
                        else:
                            failed = isinstance(item, CallFailed)
                            yield item
                if failed:
                    await self._pause()
            except _Dropped:
                self._dropped = False
                self._failures = 0

    async def _run(self, step: _Next) -> AsyncGenerator[ReadOutcome | _Next, None]:
        """From one (re)start to what ends it: its last item is a CallFailed, or how to go on."""
        if step is _Next.READ:
            outcome = await self._within(self._read, None)
            yield self._told(outcome)
            if isinstance(outcome, CallFailed):
                return
            self._version = outcome.resource_version if isinstance(outcome, LeaseView) else ""
        elif step is _Next.MOST_RECENT:
            self._version = ""
        stream = await self._open()
        if not isinstance(stream, aiohttp.ClientResponse):
            yield stream
            return
        try:
            if not self._version:
                outcome = await self._within(self._read, None)
                if not self._is_known(outcome):
                    yield self._told(outcome)
                if isinstance(outcome, CallFailed):
                    return
            async with aclosing(self._follow(stream)) as items:
                async for item in items:
                    yield item
        finally:
            stream.close()

    async def _open(self) -> aiohttp.ClientResponse | CallFailed | _Next:
        self._ask_s = random.uniform(*STREAM_S)
        query = [
            ("watch", "true"),
            ("fieldSelector", f"metadata.name={self._name}"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(round(self._ask_s))),
        ]
        if self._version:
            query.append(("resourceVersion", self._version))
        try:
            response = await self._within(lambda: self._api.open(self._collection, query=query), OPEN_S)
            if response.status == 200:
                keep_alive(response)
                return response
            try:
                body = await self._within(lambda: response.content.read(65536), OPEN_S)
            finally:
                response.close()
        except TimeoutError:
            return CallFailed(CallFailure.TIMEOUT, f"no watch on {self._name} at {self._api.host} within {OPEN_S} s")
        except (aiohttp.ClientError, OSError) as error:
            return self._api.lost(f"watch on {self._name}", error)
        reply = reply_from(response.status, body, response.headers)
        return self._gone(self._version, reply.detail) if reply.status == 410 else reply.failed()

    async def _follow(self, response: aiohttp.ClientResponse) -> AsyncGenerator[ReadOutcome | _Next, None]:
        """What the stream tells, and at its end how to go on."""
        lines, asked_for = Lines(response.content), self._version
        now = asyncio.get_running_loop().time
        opened_at = now()
        while True:
            item = await self._item(lines, until=opened_at + self._ask_s + OVERTIME_S)
            if isinstance(item, Seen | Bookmark) or now() - opened_at >= STEADY_S:
                self._failures = 0
            if item is None:
                if now() - opened_at < SHORT_S:
                    await self._pause()
                yield _Next.RESUME
                return
            if isinstance(item, Gone):
                yield self._gone(asked_for, "in the stream")
                return
            if isinstance(item, CallFailed):
                yield item
                return
            self._version = item.version or self._version
            if isinstance(item, Seen) and not self._is_old(item):
                yield self._told(item.outcome, version=item.version)

    async def _item(self, lines: Lines, *, until: float) -> StreamItem | None:
        """The next thing that the stream says; None where it ended in order."""
        try:
            line = await self._within(lines.next, until - asyncio.get_running_loop().time())
        except TimeoutError:
            return CallFailed(CallFailure.TIMEOUT, f"the watch on {self._name} outlived its time: it is dead")
        except LineTooLong:
            return CallFailed(CallFailure.INVALID, f"a line of the watch on {self._name} has no end")
        except (aiohttp.ClientError, OSError) as error:
            return self._api.lost(f"watch on {self._name}", error)
        return None if line is None else parse_event(line, name=self._name)

    def _gone(self, asked_for: str, detail: str) -> _Next | CallFailed:
        """After a 410.  Only a version can be gone: a server that says so of none is not to be asked at once again."""
        if asked_for:
            return _Next.MOST_RECENT
        return CallFailed(CallFailure.SERVER, f"410 to a watch on {self._name} without a version: {detail}")

    def _told(self, outcome: ReadOutcome, *, version: str = "") -> ReadOutcome:
        """Remember what the consumer is told, and at which version."""
        self._last = outcome
        if not isinstance(outcome, CallFailed):
            # A read of nothing bears no version; and a server that was set up anew counts from 1 again.
            self._last_version = outcome.resource_version if isinstance(outcome, LeaseView) else version
        return outcome

    def _is_known(self, outcome: ReadOutcome) -> bool:
        """Whether a read found what was told last."""
        last = self._last
        if isinstance(outcome, LeaseView) and isinstance(last, LeaseView):
            return (outcome.uid, outcome.resource_version) == (last.uid, last.resource_version)
        return isinstance(outcome, LeaseAbsent) and isinstance(last, LeaseAbsent)

    def _is_old(self, item: Seen) -> bool:
        """Whether the stream tells what a read has overtaken: one without a version begins before its read."""
        seen, told = item.version, self._last_version
        return int(seen) <= int(told) if seen.isdecimal() and told.isdecimal() else seen == told

    async def _pause(self) -> None:
        first, longest = BACKOFF_S
        pause = min(longest, first * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        self._failures += 1
        await self._within(lambda: asyncio.sleep(pause), None)

    async def _within(self, begin: Callable[[], Awaitable[T]], limit_s: float | None) -> T:
        """Await something that ``drop`` may end.  Raises TimeoutError after ``limit_s``, _Dropped when dropped.

        The scope never spans a yield: its cancellation would strike the consumer's code.
        """
        if self._dropped:
            raise _Dropped
        try:
            async with asyncio.timeout(limit_s) as self._scope:
                return await begin()
        except TimeoutError:
            if self._dropped:
                raise _Dropped from None
            raise
        finally:
            self._scope = None
