"""What goes wrong in the API on purpose.

Faults are added and taken back while the server runs; each says which requests it hits.  A request that several hit
suffers them all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

ANY: frozenset[str] = frozenset()
WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fault:
    """One thing that goes wrong.  Empty sets match everything; times are in seconds."""

    verbs: frozenset[str] = ANY
    """get, list, watch, create, update, patch, delete."""
    resources: frozenset[str] = ANY
    users: frozenset[str] = ANY
    names: frozenset[str] = ANY
    chance: float = 1.0
    """0..1: how probable it is that a matching request is hit."""
    times: int | None = None
    """How many requests it hits before it is over; None: until it is removed."""

    hang: bool = False
    """No answer until the fault is removed; a request whose client left meanwhile is not carried out."""
    before_s: float = 0.0
    """Wait, then carry it out - even when the client has left: a write that is applied late."""
    status: int | None = None
    """Refuse with this HTTP status."""
    retry_after_s: int | None = None
    """With ``status``: the Retry-After header, whole seconds."""
    message: str = "the lab makes it so"
    after_s: float = 0.0
    """Carry it out at once, answer late."""
    drop: bool = False
    """Carry it out, then break the connection instead of answering."""
    freeze: bool = False
    """Matching watches say nothing while the fault lasts, and catch up afterwards."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a fault looks at."""

    user: str
    verb: str
    resource: str
    name: str


class Faults:
    """Those that are active."""

    def __init__(self) -> None:
        self._active: dict[Fault, int] = {}
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._active))

    def add(self, fault: Fault | None = None, **fields: Any) -> Fault:
        """Begin a fault: a ready one, or one made of these fields (strings and lists do for the sets)."""
        begun = fault or Fault(**{key: _as_set(key, value) for key, value in fields.items()})
        self._active[begun] = 0
        self.wake()
        return begun

    def remove(self, fault: Fault) -> None:
        """End it; what hangs in it goes on.  One that is over is no error."""
        if self._active.pop(fault, None) is not None:
            self.wake()

    def clear(self) -> None:
        """End all."""
        self._active.clear()
        self.wake()

    @contextmanager
    def during(self, **fields: Any) -> Iterator[Fault]:
        """A fault that lasts as long as the block."""
        fault = self.add(**fields)
        try:
            yield fault
        finally:
            self.remove(fault)

    def hits(self, call: Call) -> list[Fault]:
        """The faults that this request suffers; counts them."""
        hit = []
        for fault in self:
            counted = self._active[fault]
            over = fault.times is not None and counted >= fault.times
            if over or fault.freeze or not _matches(fault, call) or random.random() >= fault.chance:
                continue
            self._active[fault] = counted + 1
            hit.append(fault)
        return hit

    def frozen(self, call: Call) -> bool:
        """Whether a watch is to be silent now."""
        return any(fault.freeze and _matches(fault, call) for fault in self._active)

    async def over(self, fault: Fault) -> None:
        """Until the fault is removed."""
        while fault in self._active:
            await self._changed.wait()

    async def changed(self) -> None:
        """Until a fault begins or ends."""
        await self._changed.wait()

    def wake(self) -> None:
        """Have everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()


def _matches(fault: Fault, call: Call) -> bool:
    pairs = (
        (fault.verbs, call.verb),
        (fault.resources, call.resource),
        (fault.users, call.user),
        (fault.names, call.name),
    )
    return all(not wanted or found in wanted for wanted, found in pairs)


def _as_set(key: str, value: Any) -> Any:
    if key not in ("verbs", "resources", "users", "names"):
        return value
    return frozenset({value}) if isinstance(value, str) else frozenset(value)
