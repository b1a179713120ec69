"""One watch stream: bytes as they come, lines, and what each line says.

The API sends one JSON object a line (API concepts, watch).  Chunks and lines do not coincide, and no line may
grow without bound, so the lines are cut here and not by a library.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass

import aiohttp

from vipd.core.model import CallFailed, CallFailure, LeaseAbsent, LeaseView
from vipd.kube.codec import lease_view

MAX_LINE_BYTES = 4 * 1024 * 1024

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 5, 3
"""A peer that went away without a word is found out by TCP after 25 s, though nothing is ever sent on a watch."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The Lease as it became.  ``version`` is where a new stream would go on."""

    outcome: LeaseView | LeaseAbsent
    version: str


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing became of the Lease, but the version went on; also for objects that are none of ours."""

    version: str


@dataclass(frozen=True, slots=True)
class Gone:
    """410: the version is no longer in the API server's history."""


StreamItem = Seen | Bookmark | Gone | CallFailed


class LineTooLong(Exception):
    """More than MAX_LINE_BYTES without a line end."""


class Lines:
    """The lines of a response's body."""

    def __init__(self, content: aiohttp.StreamReader, *, limit: int = MAX_LINE_BYTES) -> None:
        self._content = content
        self._limit = limit
        self._rest = bytearray()
        self._ready: list[bytes] = []

    async def next(self) -> bytes | None:
        """The next line that is not empty, None at the end.  Raises LineTooLong and aiohttp's errors.

        A beginning of a line that the end of the stream cut off is dropped.
        """
        while not self._ready:
            chunk = await self._content.readany()
            if not chunk:
                return None
            self._rest += chunk
            if b"\n" in chunk:
                *lines, self._rest = self._rest.split(b"\n")
                self._ready = [bytes(line) for line in reversed(lines) if line.strip()]
            if len(self._rest) > self._limit:
                raise LineTooLong
        return self._ready.pop()


def parse_event(line: bytes, *, name: str | None) -> StreamItem:
    """What a line of a watch on the Lease ``name`` (None: on any) says; never raises."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return CallFailed(CallFailure.INVALID, f"a line of the watch is no JSON: {line[:100]!r}")
    kind = event.get("type") if isinstance(event, dict) else None
    body = event.get("object") if isinstance(event, dict) else None
    if not isinstance(kind, str) or not isinstance(body, dict):
        return CallFailed(CallFailure.INVALID, f"a line of the watch is no event: {line[:100]!r}")
    if kind == "ERROR":
        return _error(body)
    view = lease_view(body)
    if kind not in ("ADDED", "MODIFIED", "DELETED"):
        return Bookmark(view.resource_version)
    if not view.uid or not view.resource_version:
        return CallFailed(CallFailure.INVALID, f"an event of the watch bears no Lease: {line[:100]!r}")
    if name not in (None, view.raw["metadata"].get("name")):
        return Bookmark(view.resource_version)
    return Seen(LeaseAbsent() if kind == "DELETED" else view, view.resource_version)


def _error(status: dict[str, object]) -> Gone | CallFailed:
    code, message = status.get("code"), status.get("message")
    if code == 410 or status.get("reason") in ("Expired", "Gone"):
        return Gone()
    failure = CallFailure.THROTTLED if code == 429 else CallFailure.SERVER
    return CallFailed(failure, f"the watch ended with an error: {str(message)[:300]} ({code})")


def keep_alive(response: aiohttp.ClientResponse) -> None:
    """Have the kernel probe the connection of a stream."""
    transport = response.connection.transport if response.connection is not None else None
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
