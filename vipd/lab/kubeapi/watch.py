"""Watches: a stream of JSON lines, one for each change, begun at a version or with what there is.

The stream begins as a real API server's does: without a resourceVersion with a synthetic ADDED for each object,
with one that is too old with HTTP 200 and an ERROR event of code 410.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web

from vipd.lab.kubeapi.faults import Call, Faults
from vipd.lab.kubeapi.kinds import Kind, Object
from vipd.lab.kubeapi.records import boottime
from vipd.lab.kubeapi.schema import render
from vipd.lab.kubeapi.selectors import Selector
from vipd.lab.kubeapi.status import FieldError, Refused, invalid
from vipd.lab.kubeapi.store import Change, Store, parse_version

LONGEST_S = (1800.0, 3600.0)
"""A real API server ends a watch without timeoutSeconds after a random time of this range."""

INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True)
class Options:
    """The query of a watch."""

    version: int = 0
    """0: begin with what there is."""
    timeout_s: float = 0.0
    bookmarks: bool = False
    initial_events: bool | None = None
    """``sendInitialEvents``: begin with what there is, then a marked bookmark (streaming lists)."""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Options:
        """Raises Refused (400, 422)."""
        wish = query.get("sendInitialEvents")
        if wish is not None and query.get("resourceVersionMatch") != "NotOlderThan":
            wrong = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid("ListOptions.meta.k8s.io", "", [FieldError("sendInitialEvents", wrong)])
        seconds = query.get("timeoutSeconds", "")
        return cls(
            version=parse_version(query.get("resourceVersion", "")),
            timeout_s=float(seconds) if seconds.isdecimal() and int(seconds) else random.uniform(*LONGEST_S),
            bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
            initial_events=None if wish is None else wish in ("true", "1"),
        )


class Watch:
    """One open watch.  ``frozen`` True: the connection stays open and says nothing more (half-open)."""

    def __init__(
        self, store: Store, faults: Faults, *, call: Call, kind: Kind, namespace: str, selector: Selector
    ) -> None:
        self.call = call
        self.kind = kind
        self.namespace = namespace
        self.frozen = False
        self._store = store
        self._faults = faults
        self._selector = selector
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._request: web.Request | None = None
        self._response: web.StreamResponse | None = None
        self._expired: Refused | None = None
        self._first: list[tuple[str, Object]] = []

    def begin(self, options: Options) -> int:
        """Hear of changes from now on, and fix what the stream begins with: 200, or 410 where that is not known."""
        self._queue = self._store.subscribe()
        streamed_list = options.initial_events is True
        if streamed_list or (options.version == 0 and options.initial_events is not False):
            objects = self._store.all(self.kind, self.namespace or None)
            self._first = [("ADDED", found) for found in objects if self._selector(found)]
            if streamed_list and options.bookmarks:
                self._first.append(self._bookmark(INITIAL_EVENTS_END))
            return 200
        try:
            past = self._store.since(options.version) if options.version else []
        except Refused as refused:
            self._expired = refused
            return refused.code
        self._first = [event for change in past for event in self._events(change)]
        return 200

    async def serve(self, request: web.Request, options: Options, *, bookmark_s: float) -> web.StreamResponse:
        """Stream until the time is up, the client leaves, or the watch is ended."""
        until = boottime() + options.timeout_s
        self._request = request
        response = self._response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await self._send(self._first)
            self._first = []
            if self._expired is not None:
                await self._send([("ERROR", self._expired.status)])
            else:
                await self._follow(until, bookmark_s if options.bookmarks else None)
        except ConnectionError:
            return response  # the client went away
        return response

    async def _follow(self, until: float, bookmark_s: float | None) -> None:
        while (left := until - boottime()) > 0:
            try:
                change = await asyncio.wait_for(
                    self._queue.get(), left if bookmark_s is None else min(left, bookmark_s)
                )
            except TimeoutError:
                if bookmark_s is not None:
                    await self._send([self._bookmark()])
                continue
            if change is None:
                return
            await self._send(self._events(change))

    def end(self, *, gracefully: bool) -> None:
        """End the stream in order (True), or break its connection."""
        if gracefully:
            self._queue.put_nowait(None)
        elif self._request is not None and self._request.transport is not None:
            self._request.transport.abort()

    def close(self) -> None:
        """Hear no more of changes."""
        self._store.unsubscribe(self._queue)

    def _events(self, change: Change) -> Iterable[tuple[str, Object]]:
        """What a change is to this watch: an object may come into or leave its selection by a change of labels."""
        if change.resource != self.kind.resource or self.namespace not in ("", change.namespace):
            return []
        was = change.before is not None and self._selector(change.before)
        is_now = change.type != "DELETED" and self._selector(change.object)
        if was and is_now:
            return [("MODIFIED", change.object)]
        if is_now:
            return [("ADDED", change.object)]
        if was and change.before is not None:
            # The last state that was selected, at the version at which it left.
            metadata = change.before["metadata"] | {"resourceVersion": str(change.version)}
            return [("DELETED", change.before | {"metadata": metadata})]
        return []

    def _bookmark(self, annotations: Mapping[str, str] | None = None) -> tuple[str, Object]:
        metadata: Object = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return "BOOKMARK", {"kind": self.kind.kind, "apiVersion": self.kind.api_version, "metadata": metadata}

    async def _send(self, events: Iterable[tuple[str, Object]]) -> None:
        assert self._response is not None
        for word, found in events:
            while self.frozen or self._faults.frozen(self.call):
                await self._faults.changed()
            shown = found if word in ("BOOKMARK", "ERROR") else render(self.kind, found)
            line = json.dumps({"type": word, "object": shown}, separators=(",", ":"))
            await self._response.write(line.encode() + b"\n")
