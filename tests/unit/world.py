"""A small world on a virtual clock for tests of the core: one Lease, one mapping, kernels, and seeded delays.

It carries out the core's effects as the shell does, with the delays and faults that a test asks for.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from vipd.core import messages as m
from vipd.core.annotations import OFFER, REQUEST, SHARED, TENURE
from vipd.core.election import decide, initial
from vipd.core.model import (
    Assigned,
    AssignVerdict,
    CallFailed,
    CallFailure,
    Conflict,
    Fence,
    LeaseAbsent,
    LeaseDraft,
    LeaseView,
    Mapped,
    Written,
)
from vipd.core.reasons import Phase
from vipd.core.settings import ElectionConfig
from vipd.core.state import State
from vipd.kube.codec import parse_former, parse_offer, parse_request, parse_shared, parse_tenure

VIP = ip_address("10.0.1.100")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def _parsed(notes: dict, holder: str, transitions: int) -> dict:
    """The annotations as the client reads them."""
    former = None if holder else parse_former(notes.get(TENURE), transitions)
    return {
        "tenure": parse_tenure(notes.get(TENURE), holder, transitions),
        "offer": parse_offer(notes.get(OFFER), holder, transitions),
        "request": parse_request(notes.get(REQUEST), holder, transitions),
        "shared_eni": parse_shared(notes.get(SHARED), former.holder if former else holder, transitions),
        "former": former,
    }


@dataclass
class LeaseServer:
    """The Lease as the API keeps it: compare-and-swap on resourceVersion and uid."""

    view: LeaseView | None = None
    version: int = 100
    history: list[tuple[float, LeaseView | None]] = field(default_factory=list)

    def _store(self, now: float, draft: LeaseDraft, uid: str, old: LeaseView | None) -> LeaseView:
        self.version += 1
        renew = EPOCH + timedelta(microseconds=round(now * 1e6) + self.version)
        notes = dict(old.raw) if old else {}
        for key, value in draft.annotations.items():
            if value is None:
                notes.pop(key, None)
            else:
                notes[key] = value
        self.view = LeaseView(
            uid=uid,
            resource_version=str(self.version),
            holder=draft.holder,
            duration_s=draft.duration_s,
            transitions=draft.transitions,
            acquire_time=draft.acquire_time or renew,
            renew_time=renew,
            **_parsed(notes, draft.holder, draft.transitions),
            raw=notes,
        )
        self.history.append((now, self.view))
        return self.view

    def create(self, now: float, draft: LeaseDraft) -> Written | Conflict:
        if self.view is not None:
            return Conflict("exists")
        return Written(self._store(now, draft, f"uid-{self.version}", None))

    def replace(self, now: float, base: LeaseView, draft: LeaseDraft) -> Written | Conflict | LeaseAbsent:
        if self.view is None:
            return LeaseAbsent()
        if (self.view.uid, self.view.resource_version) != (base.uid, base.resource_version):
            return Conflict("modified")
        return Written(self._store(now, draft, self.view.uid, self.view))

    def annotate(self, now: float, base: LeaseView, annotations: dict) -> Written | Conflict | LeaseAbsent:
        if self.view is None:
            return LeaseAbsent()
        if (self.view.uid, self.view.resource_version) != (base.uid, base.resource_version):
            return Conflict("modified")
        self.version += 1
        notes = {k: v for k, v in {**self.view.raw, **annotations}.items() if v is not None}
        parsed = _parsed(notes, self.view.holder, self.view.transitions)
        self.view = replace(self.view, resource_version=str(self.version), raw=notes, **parsed)
        self.history.append((now, self.view))
        return Written(self.view)

    def put(self, now: float, view: LeaseView) -> None:
        """Somebody else's write (a foreign candidate, a human)."""
        self.version += 1
        self.view = replace(view, resource_version=str(self.version))
        self.history.append((now, self.view))

    def delete(self, now: float) -> None:
        self.version += 1
        self.view = None
        self.history.append((now, None))


@dataclass
class Member:
    name: str
    eni: str
    state: State
    alive: bool = True
    frozen: bool = False
    api: bool = True
    imds: bool = True
    hears: bool = True
    removal_fails: bool = False
    ec2: AssignVerdict = AssignVerdict.OK
    exit_code: int | None = None
    address_until: float = float("-inf")
    held: list[m.Event] = field(default_factory=list)
    changes: list[m.Changed] = field(default_factory=list)
    notes: list[m.Note] = field(default_factory=list)
    announced: list[float] = field(default_factory=list)
    requests: int = 0
    wake_id: int = 0


class World:
    """Members, their Lease and their mapping on one virtual clock."""

    def __init__(self, *names: str, seed: int = 0, fence: Fence = Fence.ENI, **config: object) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.lease = LeaseServer()
        self.mapping: str | None = None
        self.mapping_history: list[tuple[float, str | None]] = []
        self.writers: list[tuple[float, str]] = []
        self.ec2_s = 0.4
        self.lost_replies = 0.0
        self.members: dict[str, Member] = {}
        self.fence = fence
        self.config = config
        self.on_step: list[Callable[[], None]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count()
        for name in names:
            self.join(name)

    # -------------------------------------------------------------------------------------- building

    def join(self, name: str, *, eni: str | None = None, left_over: bool = False, **config: object) -> Member:
        """A process starts (or starts again) under this name."""
        managed = self.fence is Fence.ENI
        eni = eni if eni is not None else (f"eni-{name}" if managed else "")
        settings: dict[str, object] = {"fence": self.fence, **self.config, **config}
        cfg = ElectionConfig(
            identity=name,
            incarnation=f"{name}-{next(self._ids)}",
            addresses=(VIP,),
            eni=eni,
            **settings,  # type: ignore[arg-type]
        )
        old = self.members.get(name)
        member = Member(name=name, eni=eni, state=initial(cfg))
        if left_over and old is not None:
            member.address_until = old.address_until
        self.members[name] = member
        borne = frozenset({VIP}) if self.bears(member) else frozenset()
        self.tell(
            member, m.Begin(left_over=borne, link_up=True, outlives_lease=bool(borne) and self.fence is Fence.ENI)
        )
        self.after(0.005, lambda: self.tell(member, m.LeaseWatched(self.lease.view or LeaseAbsent())))
        return member

    def bears(self, member: Member) -> bool:
        return member.address_until > self.now

    # ------------------------------------------------------------------------------------- the clock

    def after(self, delay: float, job: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._ids), job))

    def run(self, seconds: float) -> World:
        end = self.now + seconds
        steps = 0
        while self._heap and self._heap[0][0] <= end:
            at, _, job = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            job()
            for check in self.on_step:
                check()
            steps += 1
            assert steps < 200_000, "the world spins"
        self.now = end
        return self

    def tell(self, member: Member, event: m.Event) -> None:
        if not member.alive or self.members[member.name] is not member:
            return
        if member.frozen:
            member.held.append(event)
            return
        member.state, effects = decide(member.state, event, self.now)
        for effect in effects:
            self._carry_out(member, effect)
        member.wake_id += 1
        if member.state.wake_at is not None:
            wake_id = member.wake_id
            self.after(max(0.0, member.state.wake_at - self.now), lambda: self._wake(member, wake_id))

    def _wake(self, member: Member, wake_id: int) -> None:
        if member.wake_id == wake_id:
            self.tell(member, m.Woke())

    # ---------------------------------------------------------------------------------------- faults

    def kill(self, name: str) -> None:
        self.members[name].alive = False

    def freeze(self, name: str) -> None:
        self.members[name].frozen = True

    def thaw(self, name: str) -> None:
        member = self.members[name]
        member.frozen = False
        held, member.held = member.held, []
        for event in held:
            self.tell(member, event)

    # --------------------------------------------------------------------------------------- effects

    def _trip(self) -> float:
        return self.rng.uniform(0.001, 0.006)

    def _watchers(self) -> None:
        view = self.lease.view
        for member in list(self.members.values()):
            if member.api:
                self.after(self._trip(), lambda mm=member: self._watched(mm, view))

    def _watched(self, member: Member, view: LeaseView | None) -> None:
        if member.api:
            self.tell(member, m.LeaseWatched(view or LeaseAbsent()))

    def _carry_out(self, member: Member, effect: m.Effect) -> None:
        match effect:
            case m.ReadLease():
                self._request(member, effect.timeout_s, self._read)
            case m.WriteLease():
                self._request(member, effect.timeout_s, lambda mm, sent: self._write(mm, effect, sent))
            case m.AnnotateLease():
                self._request(member, effect.timeout_s, lambda mm, sent: self._annotate(mm, effect, sent))
            case m.ProbeAddresses():
                others = [o for o in self.members.values() if o is not member and o.eni == member.eni]
                self.after(
                    0.3,
                    lambda: self.tell(
                        member, m.Probed(member.hears and any(map(self.bears, others)), asked=member.hears)
                    ),
                )
            case m.PutAddresses():
                member.address_until = self.now + effect.valid_s
                self.after(0.0005, lambda: self.tell(member, m.AddressesPut(frozenset({VIP}))))
            case m.RemoveAddresses() if member.removal_fails:
                self.after(0.0005, lambda: self.tell(member, m.AddressesRemoved(failure="no answer")))
            case m.RemoveAddresses():
                member.address_until = float("-inf")
                self.after(0.0005, lambda: self.tell(member, m.AddressesRemoved()))
            case m.Announce():
                member.announced.append(self.now)
            case m.AssignEni():
                self.writers.append((self.now, member.name))
                self.after(self.ec2_s, lambda: self._assign(member, effect, self.now - self.ec2_s))
            case m.ReadMapping():
                asked = self.now
                self.after(0.002, lambda: self._imds(member, asked))
            case m.Changed():
                member.changes.append(effect)
            case m.Note():
                member.notes.append(effect)
            case m.Exit():
                member.exit_code = effect.code
                member.alive = False

    def _request(self, member: Member, timeout_s: float, job: Callable[[Member, float], None]) -> None:
        member.requests += 1
        sent = self.now
        if not member.api:
            failed = CallFailed(CallFailure.TIMEOUT, "lab")
            self.after(timeout_s, lambda: self._failed(member, job, failed, sent))
        else:
            self.after(self._trip(), lambda: job(member, sent))

    def _failed(self, member: Member, job: object, failed: CallFailed, sent: float) -> None:
        writing = member.state.lease.writing
        if job == self._read:
            self.tell(member, m.LeaseRead(failed, sent))
        elif writing is not None:
            self.tell(member, m.LeaseWrote(writing, failed, sent))

    def _read(self, member: Member, sent: float) -> None:
        view = self.lease.view or LeaseAbsent()
        self.after(self._trip(), lambda: self.tell(member, m.LeaseRead(view, sent)))

    def _write(self, member: Member, effect: m.WriteLease, sent: float) -> None:
        if effect.base is None:
            outcome = self.lease.create(self.now, effect.draft)
        else:
            outcome = self.lease.replace(self.now, effect.base, effect.draft)
        if isinstance(outcome, Written):
            self._watchers()
        if self.rng.random() < self.lost_replies:
            lost = CallFailed(CallFailure.TIMEOUT, "applied, unanswered")
            self.after(effect.timeout_s, lambda: self.tell(member, m.LeaseWrote(effect.kind, lost, sent)))
        else:
            self.after(self._trip(), lambda: self.tell(member, m.LeaseWrote(effect.kind, outcome, sent)))

    def _annotate(self, member: Member, effect: m.AnnotateLease, sent: float) -> None:
        outcome = self.lease.annotate(self.now, effect.base, dict(effect.annotations))
        if isinstance(outcome, Written):
            self._watchers()
        self.after(self._trip(), lambda: self.tell(member, m.LeaseWrote(effect.kind, outcome, sent)))

    def map_to(self, eni: str | None) -> None:
        self.mapping = eni
        self.mapping_history.append((self.now, eni))

    def _assign(self, member: Member, effect: m.AssignEni, sent: float) -> None:
        verdict = member.ec2
        if verdict is AssignVerdict.OK:
            self.map_to(member.eni)
        results = tuple(Assigned(a, verdict) for a in effect.addresses)
        self.tell(member, m.EniAnswered(effect.key, results, sent))

    def _imds(self, member: Member, asked: float) -> None:
        seen = Mapped.MINE if self.mapping == member.eni else Mapped.GONE
        self.tell(member, m.MappingSeen({VIP: seen if member.imds else Mapped.UNKNOWN}, asked))

    # ------------------------------------------------------------------------------------- questions

    def active(self) -> list[str]:
        return [n for n, mm in self.members.items() if mm.alive and mm.state.phase is Phase.ACTIVE]

    def loud(self) -> list[str]:
        return [n for n, mm in self.members.items() if mm.alive and not mm.frozen and mm.state.loud(self.now)]

    def delivered(self) -> bool:
        """Whether a packet for the VIP would be answered now."""
        if self.fence is Fence.LEASE:
            return any(self.bears(mm) for mm in self.members.values())
        return any(self.bears(mm) and mm.eni == self.mapping for mm in self.members.values())


def settled(*names: str, seconds: float = 15.0, **kwargs: object) -> World:
    """A world in which somebody has held the VIP for a while."""
    return World(*(names or ("a", "b")), **kwargs).run(seconds)


def pair(world: World) -> tuple[Member, Member]:
    """The active member, and the other one."""
    (active,) = world.active()
    (other,) = [n for n in world.members if n != active]
    return world.members[active], world.members[other]


def undelivered(world: World, seconds: float) -> list[float]:
    """Moments of the next ``seconds`` at which a packet would not be answered."""
    missing: list[float] = []
    world.on_step.append(lambda: missing.append(world.now) if not world.delivered() else None)
    world.run(seconds)
    world.on_step.pop()
    return missing


def reasons(member: Member) -> list[tuple[str, str]]:
    """The states it entered, each with its reason."""
    return [(c.after.value, c.reason.value) for c in member.changes]
