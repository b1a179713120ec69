"""The Kubernetes API as far as one Lease needs it, and the way from a member to it and back.

The server is linearizable: a request takes effect at one moment, by compare-and-swap on resourceVersion and uid.
Everything that goes wrong goes wrong on the way: requests and replies are lost, late (also after the client gave up)
or doubled, a member is cut off, the server is away or refuses.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE
from vipd.core.model import (
    CallFailed,
    CallFailure,
    Conflict,
    LeaseAbsent,
    LeaseDraft,
    LeaseView,
    ReadOutcome,
    WriteOutcome,
    Written,
)
from vipd.kube import codec

from .loop import ProcessLoop, Timeline

Outcome = ReadOutcome | WriteOutcome
_NOTHING: Mapping[str, Any] = {}
_MAX_CACHE = 2048


class Op(enum.Enum):
    """What a request asks for."""

    READ = "read"
    CREATE = "create"
    REPLACE = "replace"
    ANNOTATE = "annotate"


@dataclass(slots=True)
class Stored:
    """The Lease object at one resourceVersion."""

    uid: str
    version: int
    holder: str
    duration_s: int
    transitions: int
    acquire_time: datetime | None
    renew_time: datetime | None
    annotations: Mapping[str, str]
    author: object = None
    """Who wrote this version (a Process, a rival, or None for people)."""
    view: LeaseView = field(init=False)

    def __post_init__(self) -> None:
        notes, holder, n = self.annotations, self.holder, self.transitions
        former = None if holder else parsed(_former, notes.get(TENURE), "", n)
        self.view = LeaseView(
            self.uid,
            str(self.version),
            holder,
            self.duration_s,
            n,
            self.acquire_time,
            self.renew_time,
            parsed(codec.parse_tenure, notes.get(TENURE), holder, n),
            parsed(codec.parse_offer, notes.get(OFFER), holder, n),
            parsed(codec.parse_request, notes.get(REQUEST), holder, n),
            parsed(codec.parse_shared, notes.get(SHARED), former.holder if former else holder, n) or "",
            _NOTHING,
            former,
        )


_cache: dict[tuple[object, ...], Any] = {}


def _former(text: object, _holder: str, transitions: int) -> Any:
    return codec.parse_former(text, transitions)


def forget_parsed() -> None:
    """The codec was changed (a test does that): what it made of a text counts no more."""
    _cache.clear()


def parsed(parse: Callable[[object, str, int], Any], text: str | None, holder: str, transitions: int) -> Any:
    """What the production codec makes of an annotation; the same text means the same."""
    if text is None:
        return None
    key = (parse, text, holder, transitions)
    try:
        return _cache[key]
    except KeyError:
        if len(_cache) > _MAX_CACHE:
            _cache.clear()
        found = _cache[key] = parse(text, holder, transitions)
        return found


class Watcher(Protocol):
    """Is told of each new version, at once; what delays it is its own business."""

    def saw(self, outcome: LeaseView | LeaseAbsent) -> None: ...


class LeaseServer:
    """The one Lease in etcd."""

    check_version = True
    """Whether compare-and-swap is one (off only to show that the simulator notices)."""
    check_uid = True

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.stored: Stored | None = None
        self.version = 1000
        self.created_by_put = False
        self.watchers: list[Watcher] = []
        self.changed: list[Callable[[Stored | None, Stored | None], None]] = []
        """Called with (before, after) at each change."""

    @property
    def view(self) -> LeaseView | LeaseAbsent:
        return self.stored.view if self.stored is not None else LeaseAbsent()

    def create(self, draft: LeaseDraft, *, stamp: datetime, author: object) -> Written | Conflict:
        if self.stored is not None:
            return Conflict("exists")
        notes = {key: text for key, text in draft.annotations.items() if text is not None}
        return self._put(f"uid-{self.version}", draft, notes, stamp, author)

    def replace(self, base: LeaseView, draft: LeaseDraft, *, stamp: datetime, author: object) -> Written | Conflict:
        if self.stored is None and not self.check_uid:
            # A PUT may create a Lease; only the uid in it prevents that.
            self.created_by_put = True
            return self.create(draft, stamp=stamp, author=author)
        if not self._same(base):
            return Conflict("modified")
        assert self.stored is not None
        notes = _merged(self.stored.annotations, draft.annotations)
        return self._put(self.stored.uid, draft, notes, stamp, author)

    def annotate(
        self, base: LeaseView, annotations: Mapping[str, str | None], *, author: object
    ) -> Written | Conflict | LeaseAbsent:
        if not self._same(base):
            return Conflict("modified") if self.stored is not None else LeaseAbsent()
        old = self.stored
        assert old is not None
        self.version += 1
        new = Stored(
            old.uid,
            self.version,
            old.holder,
            old.duration_s,
            old.transitions,
            old.acquire_time,
            old.renew_time,
            _merged(old.annotations, annotations),
            author,
        )
        self._store(new)
        return Written(new.view)

    def delete(self) -> None:
        self.version += 1
        self._store(None)

    def _same(self, base: LeaseView) -> bool:
        now = self.stored
        if now is None:
            return False
        if self.check_uid and base.uid != now.uid:
            return False
        return not self.check_version or base.resource_version == str(now.version)

    def _put(self, uid: str, draft: LeaseDraft, notes: Mapping[str, str], stamp: datetime, author: object) -> Written:
        self.version += 1
        new = Stored(
            uid,
            self.version,
            draft.holder,
            draft.duration_s,
            draft.transitions,
            draft.acquire_time or stamp,
            stamp,
            notes,
            author,
        )
        self._store(new)
        return Written(new.view)

    def _store(self, new: Stored | None) -> None:
        before, self.stored = self.stored, new
        for tell in self.changed:
            tell(before, new)
        view = self.view
        for watcher in self.watchers:
            watcher.saw(view)


def _merged(notes: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**notes, **changes}
    return {key: text for key, text in merged.items() if text is not None}


@dataclass(slots=True)
class Noise:
    """How the way to the API misbehaves for everybody, as probabilities for each request."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    """A trip takes up to a second."""
    late: float = 0.0
    """The request is applied 0.5 to 4 s after it was sent, when nobody waits for it any longer."""
    refused: float = 0.0
    """500 (applied or not), 429 or 503."""

    @property
    def calm(self) -> bool:
        return not (self.lost_request or self.lost_reply or self.doubled or self.slow or self.late or self.refused)


@dataclass(slots=True)
class Wire:
    """One client's way to the API."""

    up: bool = True
    refusing: CallFailure | None = None
    """Every request is answered with this (and not applied)."""
    refuses_connections: bool = False
    """Where ``up`` is False: connections are refused at once, instead of nothing being answered."""


@dataclass(slots=True)
class Request:
    """One request under way."""

    op: Op
    base: LeaseView | None
    draft: LeaseDraft | None
    annotations: Mapping[str, str | None] | None
    stamp: datetime
    process: ProcessLoop
    author: object
    wire: Wire
    deliver: Callable[[Outcome], None]
    deadline: float = 0.0
    """When the client gives up, in the world's time."""
    doubled: bool = False
    answered: bool = False


class Network:
    """Carries requests to the server and answers back."""

    def __init__(self, timeline: Timeline, server: LeaseServer, rng: random.Random) -> None:
        self._timeline = timeline
        self._rng = rng
        self.server = server
        self.noise = Noise()
        self.calm = True
        self.away = False
        """The API is away for everybody (the control plane is being replaced)."""
        self.offers = ""
        """What becomes of writes with an offer in them: a failure's value, "stripped", or nothing (empty)."""
        self.base_s = 0.001
        self.spread_s = 0.004
        self.requests = 0

    def set_noise(self, noise: Noise) -> None:
        self.noise, self.calm = noise, noise.calm

    def trip(self) -> float:
        """One way, in seconds."""
        noise = self.noise
        if noise.slow and self._rng.random() < noise.slow:
            return self._rng.uniform(0.02, 1.0)
        return self.base_s + self.spread_s * self._rng.random()

    def send(self, request: Request, *, timeout_s: float) -> None:
        timeline, wire = self._timeline, request.wire
        self.requests += 1
        request.deadline = timeline.now + timeout_s / request.process.rate
        if not wire.up or self.away:
            if wire.refuses_connections and not self.away:
                refused = CallFailed(CallFailure.UNREACHABLE, "connection refused")
                timeline.after(0.002, self._reply, request, refused, True)
            else:
                self._time_out(request)
            return
        delay = self.trip()
        if not self.calm:
            noise, draw = self.noise, self._rng.random
            if draw() < noise.lost_request:
                self._time_out(request)
                return
            if draw() < noise.late:
                delay = self._rng.uniform(0.5, 4.0)
            elif draw() < noise.doubled:
                request.doubled = True
        if timeline.now + delay >= request.deadline:
            self._time_out(request)
        timeline.after(delay, self._arrive, request)

    def _arrive(self, request: Request) -> None:
        if self.away or not request.wire.up:
            self._time_out(request)
            return
        if request.wire.refusing is not None:
            self._answer(request, CallFailed(request.wire.refusing, "refused"))
            return
        if not self.calm and self.noise.refused and self._rng.random() < self.noise.refused:
            self._refuse(request)
            return
        outcome = self._apply(request)
        if request.doubled:
            # The client's library (or a proxy) sends it again on a new connection: its answer is the second one's.
            request.doubled = False
            self._timeline.after(self.trip(), self._arrive, request)
            return
        self._answer(request, outcome)

    def _apply(self, request: Request) -> Outcome:
        server = self.server
        match request.op:
            case Op.READ:
                return server.view
            case Op.REPLACE:
                assert request.base is not None
                assert request.draft is not None
                draft = request.draft
                if self.offers and draft.annotations.get(OFFER):
                    if self.offers != "stripped":
                        return CallFailed(CallFailure(self.offers), "no offers here")
                    kept = {key: text for key, text in draft.annotations.items() if key != OFFER}
                    draft = replace(draft, annotations=kept)
                return server.replace(request.base, draft, stamp=request.stamp, author=request.author)
            case Op.CREATE:
                assert request.draft is not None
                return server.create(request.draft, stamp=request.stamp, author=request.author)
            case Op.ANNOTATE:
                assert request.base is not None
                assert request.annotations is not None
                return server.annotate(request.base, request.annotations, author=request.author)

    def _refuse(self, request: Request) -> None:
        if self._rng.random() < 0.3:
            # etcd had done it before the API server's own time was up.
            self._apply(request)
            self._answer(request, CallFailed(CallFailure.SERVER, "500"))
            return
        failure = self._rng.choice((CallFailure.SERVER, CallFailure.THROTTLED, CallFailure.SERVER))
        self._answer(request, CallFailed(failure, failure.value))

    def _answer(self, request: Request, outcome: Outcome) -> None:
        delay = self.trip()
        lost = not self.calm and self._rng.random() < self.noise.lost_reply
        if lost or self._timeline.now + delay >= request.deadline:
            self._time_out(request)
        else:
            self._timeline.after(delay, self._reply, request, outcome, False)

    def _reply(self, request: Request, outcome: Outcome, local: bool) -> None:
        if not local and (self.away or not request.wire.up):
            self._time_out(request)
        elif not request.answered:
            request.answered = True
            request.deliver(outcome)

    def _time_out(self, request: Request) -> None:
        """The client's own timer ends it; a reply that comes nevertheless is not read."""
        left = max(0.0, request.deadline - self._timeline.now)
        request.process.call_later(left * request.process.rate, self._give_up, request)

    def _give_up(self, request: Request) -> None:
        if not request.answered:
            request.answered = True
            request.deliver(CallFailed(CallFailure.TIMEOUT, "no answer"))
