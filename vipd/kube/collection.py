"""Seeing what becomes of many Leases: a list, then what changes, for people who look on.

    list ──▶ stream from its version ──┬─ a Lease changed ──▶ told
      ▲                                ├─ end of time ──────▶ stream from the last version
      └────────────── pause ◀──────────┴─ it broke, its version is gone, a Lease was deleted

Simpler than the watch that an election lives on: a list costs little when nobody's right depends on its moment.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import aiohttp

from vipd.core.model import CallFailed, LeaseView
from vipd.kube.api import Api, reply_from
from vipd.kube.leases import LeaseList, leases_path, list_leases
from vipd.kube.stream import Gone, Lines, LineTooLong, Seen, keep_alive, parse_event

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

CALL_S = 5.0
"""Time limit of a list and of opening a stream, in seconds."""

STREAM_S = 60
"""How long a stream is asked to last; a half-open one is found out ``OVERTIME_S`` later at the latest."""

OVERTIME_S = 10.0
PAUSE_S = 0.5
"""Between a failure, or a stream that ended at once, and the next attempt."""

log = logging.getLogger(__name__)

LeasesEvent = LeaseList | LeaseView | CallFailed


class _End(enum.Enum):
    """How a stream ended that did not fail."""

    IN_TIME = enum.auto()
    LIST_ANEW = enum.auto()


class LeasesWatch:
    """The Leases of one namespace (None: of all) that the field selector ``fields`` lets through."""

    def __init__(self, client: ApiClient, *, namespace: str | None, fields: str = "") -> None:
        self._client = client
        self._api = Api(client)
        self._namespace = namespace
        self._fields = fields
        self._version = ""

    async def events(self) -> AsyncGenerator[LeasesEvent, None]:
        """All Leases as they are, then each that changed, and all of them anew where one was deleted; for ever.

        CallFailed for each list that failed, and each watch that was refused.
        """
        while True:
            listed = await list_leases(self._client, namespace=self._namespace, timeout_s=CALL_S, fields=self._fields)
            yield listed
            if isinstance(listed, LeaseList):
                self._version = listed.version
                async with aclosing(self._streams()) as events:
                    async for event in events:
                        yield event
            await asyncio.sleep(PAUSE_S)

    async def _streams(self) -> AsyncGenerator[LeaseView | CallFailed, None]:
        """One stream after the other, until a list is due."""
        now = asyncio.get_running_loop().time
        while True:
            began, end = now(), _End.LIST_ANEW
            async with aclosing(self._stream()) as events:
                async for event in events:
                    if isinstance(event, _End):
                        end = event
                    else:
                        yield event
            if end is _End.LIST_ANEW:
                return
            if now() - began < PAUSE_S:
                await asyncio.sleep(PAUSE_S)

    async def _stream(self) -> AsyncGenerator[LeaseView | CallFailed | _End, None]:
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(CALL_S):
                response = await self._api.open(leases_path(self._namespace), query=self._query())
                body = None if response.status == 200 else await response.content.read(65536)
            if body is not None:
                reply = reply_from(response.status, body, response.headers)
                if reply.status != 410:
                    yield reply.failed()
                return
            keep_alive(response)
            async with aclosing(self._items(Lines(response.content))) as items:
                async for item in items:
                    yield item
        except (TimeoutError, LineTooLong, aiohttp.ClientError, OSError) as error:
            # Streams break, by idle proxies for one; the list that follows tells whether the API is away.
            log.debug("%s", self._api.lost("watch on Leases", error).detail)
        finally:
            if response is not None:
                response.close()

    async def _items(self, lines: Lines) -> AsyncGenerator[LeaseView | _End, None]:
        dead_at = asyncio.get_running_loop().time() + STREAM_S + OVERTIME_S
        while True:
            async with asyncio.timeout_at(dead_at):
                line = await lines.next()
            if line is None:
                yield _End.IN_TIME
                return
            item = parse_event(line, name=None)
            if isinstance(item, CallFailed | Gone):
                return
            self._version = item.version or self._version
            if isinstance(item, Seen):
                if not isinstance(item.outcome, LeaseView):
                    return
                yield item.outcome

    def _query(self) -> list[tuple[str, str]]:
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(STREAM_S)),
            ("resourceVersion", self._version),
        ]
        return [*query, ("fieldSelector", self._fields)] if self._fields else query
