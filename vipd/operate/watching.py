"""``vipd status --watch``: the same again whenever something changes, and on a terminal as time goes by.

The expiry is counted from when a renewal was seen, on this machine's clock.  While the API is away nobody can tell
whether a holder renews: what was seen last is shown as it was, and once the API is back the count begins anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from vipd.core.model import CallFailed, CallFailure, LeaseView
from vipd.errors import KubeError
from vipd.kube.collection import LeasesEvent, LeasesWatch
from vipd.kube.leases import LeaseList
from vipd.kube.roster import Roster, read_roster
from vipd.operate.document import document, news
from vipd.operate.lease_status import LeaseStatus, lease_status, metadata_of
from vipd.operate.status import CALL_S, Output, Wanted, members_of, rendered, unreadable, unseen_members

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

TICK_S = 0.5
"""How often what time alone changes is looked at."""

ROSTER_S = 2.0
"""How often members are listed."""

HOME, CLEAR_LINE, CLEAR_BELOW, CLEAR_ALL = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"
"""ECMA-48: drawn over what was there, a screen does not flicker."""

Key = tuple[str, str]


class Book:
    """The Leases as they were seen, and since when each shows its present renewal.  ``now``: monotonic seconds."""

    def __init__(self) -> None:
        self.away = ""
        """Why the API gives no answer; empty where it does."""
        self._views: dict[Key, LeaseView] = {}
        self._seen_at: dict[Key, float] = {}

    def hear(self, event: LeasesEvent, now: float) -> None:
        """Take in what a LeasesWatch told."""
        if isinstance(event, CallFailed):
            self.away = event.detail
            return
        if self.away:
            self.away = ""
            self._seen_at.clear()
        if isinstance(event, LeaseView):
            self._put(event, now)
            return
        before, self._views = self._views, {}
        for view in event.leases:
            self._put(view, now, before.get(_key(view)))

    def statuses(self, roster: Roster, wanted: Wanted, *, wall: datetime, now: float) -> tuple[LeaseStatus, ...]:
        """All that are wanted, in the order of their names."""
        return tuple(
            lease_status(view, members_of(roster, view), wall=wall, seen_s_ago=now - self._seen_at[key])
            for key, view in sorted(self._views.items())
            if wanted.picks(view)
        )

    def _put(self, view: LeaseView, now: float, before: LeaseView | None = None) -> None:
        key = _key(view)
        before = before or self._views.get(key)
        same = before is not None and (before.uid, before.content) == (view.uid, view.content)
        self._views[key] = view
        if not same or key not in self._seen_at:
            self._seen_at[key] = now


class Show:
    """Where it is printed: over and over on a terminal, once for each change elsewhere."""

    def __init__(self, wanted: Wanted, out: TextIO, err: TextIO) -> None:
        self._wanted = wanted
        self._out, self._err = out, err
        self._screen = wanted.output is Output.TABLE and out.isatty()
        self._drawn = False
        self._last: list[dict[str, Any]] | None = None
        self._away = False
        self._told: set[str] = set()

    def show(self, statuses: Sequence[LeaseStatus], *, away: str, notes: Sequence[str]) -> None:
        """``away``: why the API gives no answer, or empty; ``notes``: what else people should know."""
        gone = f"the Kubernetes API is away, this is what was seen last: {away}"
        if self._screen:
            text = rendered(statuses, self._wanted) or f"{self._wanted.nothing()}\n"
            self._draw(text, [gone, *notes] if away else notes)
            return
        if bool(away) != self._away:
            self._complain(gone if away else "the Kubernetes API answers again")
            self._away = bool(away)
        for note in notes:
            if note not in self._told:
                self._complain(note)
        self._told = set(notes)
        found = [news(document(status)) for status in statuses]
        if found == self._last:
            return
        self._last = found
        if self._wanted.output is Output.TABLE:
            print(rendered(statuses, self._wanted) or f"{self._wanted.nothing()}\n", file=self._out, flush=True)
        else:
            print(rendered(statuses, self._wanted, stream=True), end="", file=self._out, flush=True)

    def _complain(self, text: str) -> None:
        print(f"vipd: {text}", file=self._err, flush=True)

    def _draw(self, text: str, notes: Sequence[str]) -> None:
        lines = [*text.splitlines(), "", *notes]
        begin = HOME if self._drawn else CLEAR_ALL + HOME
        self._drawn = True
        self._out.write(begin + "".join(f"{line}{CLEAR_LINE}\n" for line in lines) + CLEAR_BELOW)
        self._out.flush()


class Members:
    """The roster, listed over and over."""

    def __init__(self, client: ApiClient, wanted: Wanted) -> None:
        self._client = client
        self._wanted = wanted
        self.roster = Roster((), ())

    async def read(self) -> None:
        """List them.  A passing failure leaves what was known; a refusal does not."""
        wanted = self._wanted
        found = await read_roster(
            self._client, namespace=wanted.namespace, lease=wanted.lease or None, timeout_s=CALL_S
        )
        self.roster = Roster(
            pods=self.roster.pods if _passing(found.pods) else found.pods,
            nodes=self.roster.nodes if _passing(found.nodes) else found.nodes,
        )

    async def keep(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(ROSTER_S)
            await self.read()


async def watch(client: ApiClient, wanted: Wanted, out: TextIO, err: TextIO) -> None:
    """Show until cancelled.  Raises KubeError where the very first look fails, or finds no Lease of the given name."""
    events: asyncio.Queue[LeasesEvent] = asyncio.Queue()
    members = Members(client, wanted)
    await members.read()
    tasks = [asyncio.create_task(_pump(client, wanted, events)), asyncio.create_task(members.keep())]
    try:
        await _follow(client, wanted, events, tasks, members, Show(wanted, out, err))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(client: ApiClient, wanted: Wanted, events: asyncio.Queue[LeasesEvent]) -> None:
    watch = LeasesWatch(client, namespace=wanted.namespace, fields=wanted.fields)
    async with aclosing(watch.events()) as heard:
        async for event in heard:
            events.put_nowait(event)


async def _follow(
    client: ApiClient,
    wanted: Wanted,
    events: asyncio.Queue[LeasesEvent],
    tasks: Sequence[asyncio.Task[None]],
    members: Members,
    show: Show,
) -> None:
    book, statuses = Book(), tuple[LeaseStatus, ...]()
    event: LeasesEvent | None = await events.get()
    if isinstance(event, CallFailed):
        raise unreadable(client, event)
    if isinstance(event, LeaseList) and wanted.lease and not event.leases:
        raise KubeError(wanted.nothing())
    while True:
        now = time.monotonic()
        while event is not None:
            if isinstance(event, CallFailed) and event.failure is CallFailure.FORBIDDEN:
                raise unreadable(client, event)
            book.hear(event, now)
            event = None if events.empty() else events.get_nowait()
        if not book.away:
            statuses = book.statuses(members.roster, wanted, wall=datetime.now(UTC), now=now)
        show.show(statuses, away=book.away, notes=unseen_members(members.roster, statuses))
        try:
            async with asyncio.timeout(TICK_S):
                event = await events.get()
        except TimeoutError:
            for task in tasks:
                if task.done():
                    task.result()


def _passing(found: object) -> bool:
    return isinstance(found, CallFailed) and found.failure is not CallFailure.FORBIDDEN


def _key(view: LeaseView) -> Key:
    metadata = metadata_of(view)
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
