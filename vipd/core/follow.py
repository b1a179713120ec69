"""Following: which EC2 call is due for which address.  Pure: events in, state and effects out.

                       ┌──────────── IMDS: gone, or silent ───────────────┐
    (there at start) CHECKING ── IMDS: mine ──▶ CONFIRMED                  │
                                                 ▲  │ IMDS: gone           │
    (comes) ──▶ ASSIGNING ── OK ─▶ ASSIGNED ─────┘  ▼                      │
                 ▲   ▲  │            │ gone 10 s   DRIFTED ── 3 repairs ──▶ CONTENDED
                 │   │  │ refused    └──────────────▶│  were not enough        │
                 │   └──▼── pause                     │ 5, 30, 300 s           │ IMDS: mine
                 │  THROTTLED RETRYING FULL           │ and still gone         ▼
                 │  NOT_ALLOWED REFUSED               │                    CONFIRMED
                 └────────────────────────────────────┘◀─────────────────────────

- What comes is assigned once, whatever IMDS says: right after a move IMDS may still show the past.
- Per ENI there is one call at a time, for everything that is due: no call overtakes another.
- What leaves is forgotten, so that it is assigned anew when it is back.
- IMDS shows drift; a repair waits, asks once more, and there are few of them, because whoever took the
  address may bear it rightly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from vipd.core.following import (
    FAILING,
    LAG_S,
    RELEASE_AGAIN_S,
    RELEASE_TRIES,
    SILENT_FAILURES,
    SILENT_S,
    STEADY_S,
    Answered,
    Ask,
    Assign,
    Borne,
    EniWork,
    Followed,
    FollowEffect,
    FollowEvent,
    FollowState,
    Leaving,
    Seen,
    Standing,
    Target,
    Told,
    Unassign,
    Unassigned,
    Woke,
)
from vipd.core.model import Address, Assigned, AssignVerdict, Mapped

_FAILED: dict[AssignVerdict, tuple[Standing, float, float, float]] = {
    # verdict: (standing, first pause, factor, longest pause), in seconds
    AssignVerdict.RETRY: (Standing.RETRYING, 0.3, 2.0, 10.0),
    AssignVerdict.RIGHT_OVER: (Standing.RETRYING, 0.3, 2.0, 10.0),
    # A burst of pods empties the account's bucket, which refills slowly: pauses that are too short multiply the calls.
    AssignVerdict.THROTTLED: (Standing.THROTTLED, 3.0, 1.6, 20.0),
    AssignVerdict.NO_ROOM: (Standing.FULL, 5.0, 2.0, 60.0),
    AssignVerdict.NOT_ALLOWED: (Standing.NOT_ALLOWED, 5.0, 2.0, 60.0),
    AssignVerdict.NEVER: (Standing.REFUSED, 30.0, 2.0, 600.0),
}


def decide(state: FollowState, event: FollowEvent, now: float) -> tuple[FollowState, list[FollowEffect]]:
    """What follows from an event."""
    t = _Turn(state, now)
    match event:
        case Borne():
            _on_borne(t, event)
        case Answered():
            _on_answered(t, event)
        case Unassigned():
            _on_unassigned(t, event)
        case Seen():
            _on_seen(t, event)
        case Woke():
            pass
    _rules(t)
    return t.result(), t.effects


@dataclass(slots=True)
class _Turn:
    """The state while one event is worked on."""

    before: FollowState
    now: float
    followed: dict[Address, Followed] = field(init=False)
    leaving: dict[Address, Leaving] = field(init=False)
    enis: dict[str, EniWork] = field(init=False)
    effects: list[FollowEffect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.followed = dict(self.before.followed)
        self.leaving = dict(self.before.leaving)
        self.enis = dict(self.before.enis)

    def change(self, address: Address, standing: Standing, *, warning: bool = False, **fields: Any) -> None:
        """The address stands otherwise from now on; told where that is new."""
        old = self.followed[address]
        detail = fields.setdefault("detail", "")
        since = old.since if old.standing is standing else self.now
        self.followed[address] = replace(old, standing=standing, since=since, **fields)
        if (old.standing, old.detail) != (standing, detail):
            self.effects.append(Told(address, standing, detail, warning))

    def work(self, eni: str, **fields: Any) -> None:
        self.enis[eni] = replace(self.enis.get(eni, EniWork()), **fields)

    def ask_at(self, eni: str, at: float) -> None:
        """Ask IMDS about this ENI no later than then."""
        due = self.enis.get(eni, EniWork()).ask_due_at
        self.work(eni, ask_due_at=at if due is None else min(at, due))

    def of(self, eni: str) -> dict[Address, Followed]:
        return {a: f for a, f in self.followed.items() if f.target.eni == eni and f.target.standing is None}

    def result(self) -> FollowState:
        times = [f.due_at for f in self.followed.values() if f.due_at is not None and not self._calling(f.target.eni)]
        for eni, work in self.enis.items():
            if work.ask_due_at is not None and not work.asking:
                times.append(work.ask_due_at)
            if not work.calling:
                times += [leaver.due_at for leaver in self.leaving.values() if leaver.target.eni == eni]
        # What is due but waits for an answer is looked at when that comes.
        later = [at for at in times if at > self.now]
        return replace(
            self.before,
            followed=self.followed,
            leaving=self.leaving,
            enis=self.enis,
            wake_at=min(later, default=None),
        )

    def _calling(self, eni: str) -> bool:
        return self.enis.get(eni, EniWork()).calling


# ------------------------------------------------------------------------------------- what is borne


def _on_borne(t: _Turn, event: Borne) -> None:
    for address in [a for a in t.followed if a not in event.targets]:
        _left(t, address)
    for address, target in event.targets.items():
        present = t.followed.get(address)
        if present is None or present.target != target:
            _came(t, address, target, present, known=event.known)


def _came(t: _Turn, address: Address, target: Target, before: Followed | None, *, known: bool) -> None:
    came_at = t.now if before is None else before.came_at
    t.leaving.pop(address, None)
    standing = target.standing or Standing.ASSIGNING
    if before is not None:
        # Still the same where only its ENI was not known so far; moved to another ENI, it is new there.
        known = before.known and before.target.standing is Standing.CHECKING
    checked = target.standing is None and known and not t.before.config.always
    standing = Standing.CHECKING if checked else standing
    fresh = Followed(target, standing, t.now, came_at, known, detail=target.detail)
    if target.standing is None and not checked:
        fresh = replace(fresh, due_at=t.now + t.before.config.batch_s)
    t.followed[address] = fresh
    if target.standing is None:
        t.ask_at(target.eni, t.now if checked else t.now + t.before.config.ask_slow_s)
    bad = target.standing in (Standing.OUTSIDE, Standing.REFUSED)
    if before is None or before.standing is not fresh.standing or target.detail:
        t.effects.append(Told(address, fresh.standing, target.detail, bad))


def _left(t: _Turn, address: Address) -> None:
    gone = t.followed.pop(address)
    t.effects.append(Told(address, None, f"left {gone.target.interface}"))
    after_s = t.before.config.release_after_s
    ours = gone.standing in (Standing.ASSIGNED, Standing.CONFIRMED, Standing.CHECKING) or gone.calling
    if after_s is not None and ours and gone.target.standing is None:
        t.leaving[address] = Leaving(gone.target, t.now + after_s)


# ---------------------------------------------------------------------------------------- EC2 answers


def _on_answered(t: _Turn, event: Answered) -> None:
    t.work(event.eni, calling=False)
    for result in event.results:
        followed = t.followed.get(result.address)
        if followed is None or not followed.calling or followed.target.eni != event.eni:
            continue  # it left meanwhile, or is back: then it waits for a call of its own
        if result.verdict is AssignVerdict.OK:
            t.change(result.address, Standing.ASSIGNED, calling=False, due_at=None, failures=0, wrote_at=t.now)
            t.ask_at(event.eni, t.now)
        else:
            _failed(t, followed, result, event.share)


def _failed(t: _Turn, followed: Followed, result: Assigned, share: float) -> None:
    standing, first_s, factor, most_s = _FAILED[result.verdict]
    failures = followed.failures + 1 if _same_way(followed, standing) else 1
    pause = min(most_s, first_s * factor ** min(16, failures - 1)) * (0.5 + share)
    t.change(
        result.address,
        standing,
        warning=True,
        calling=False,
        due_at=t.now + pause,
        failures=failures,
        wrote_at=t.now,
        detail=f"{result.code}: {result.detail}".strip(": "),
    )


def _same_way(followed: Followed, standing: Standing) -> bool:
    """While a call is under way the standing is the one before it."""
    return followed.failures == 0 or followed.standing is standing


def _on_unassigned(t: _Turn, event: Unassigned) -> None:
    t.work(event.eni, calling=False)
    for address in event.kept:
        if t.leaving.pop(address, None) is not None:
            t.effects.append(Told(address, None, "kept: another pod on this ENI bears it"))
    for result in event.results:
        leaver = t.leaving.get(result.address)
        if leaver is None:
            continue
        if result.verdict is AssignVerdict.OK:
            del t.leaving[result.address]
            t.effects.append(Told(result.address, None, f"unassigned from {event.eni}"))
        else:
            _leave_later(t, result.address, leaver, f"{result.code}: {result.detail}")


def _leave_later(t: _Turn, address: Address, leaver: Leaving, why: str) -> None:
    if leaver.tries + 1 >= RELEASE_TRIES:
        del t.leaving[address]
        t.effects.append(Told(address, None, f"not unassigned from {leaver.target.eni}: {why}", warning=True))
    else:
        t.leaving[address] = replace(leaver, tries=leaver.tries + 1, due_at=t.now + RELEASE_AGAIN_S, mine=False)


# -------------------------------------------------------------------------------------- what IMDS shows


def _on_seen(t: _Turn, event: Seen) -> None:
    work = t.enis.get(event.eni, EniWork())
    silent = Mapped.UNKNOWN in event.mapping.values()
    since = work.silent_since if work.silent_since is not None else event.asked_at
    t.work(
        event.eni,
        asking=False,
        ask_due_at=None,
        asked_at=work.asked_at if silent else event.asked_at,
        silent_count=work.silent_count + 1 if silent else 0,
        silent_since=since if silent else None,
    )
    for address, followed in t.of(event.eni).items():
        reading = event.mapping.get(address)
        if reading is not None and not followed.calling:
            _judge(t, address, followed, reading, event.asked_at)
    for address, leaver in list(t.leaving.items()):
        if leaver.target.eni == event.eni and address in event.mapping and event.asked_at >= leaver.due_at:
            _judge_leaver(t, address, leaver, event.mapping[address])
    t.ask_at(event.eni, t.now + _pause_s(t, event.eni))


def _judge(t: _Turn, address: Address, followed: Followed, reading: Mapped, asked_at: float) -> None:
    if reading is Mapped.UNKNOWN:
        work = t.enis[followed.target.eni]
        lasting = work.silent_count >= SILENT_FAILURES and t.now - (work.silent_since or t.now) >= SILENT_S
        if followed.standing is Standing.CHECKING and lasting:
            t.change(address, Standing.ASSIGNING, due_at=t.now, detail="IMDS does not tell where it is mapped")
    elif reading is Mapped.MINE:
        _mine(t, address, followed, asked_at)
    elif followed.standing is Standing.CHECKING:
        t.change(address, Standing.ASSIGNING, due_at=t.now)
    elif followed.standing is Standing.CONFIRMED or (
        followed.standing is Standing.ASSIGNED and asked_at >= followed.wrote_at + LAG_S
    ):
        _drifted(t, address, followed)


def _mine(t: _Turn, address: Address, followed: Followed, asked_at: float) -> None:
    standing = followed.standing
    lately = asked_at < followed.came_at + LAG_S
    if standing in FAILING | {Standing.ASSIGNING} and lately:
        return  # perhaps the past
    if standing is Standing.ASSIGNED and asked_at <= followed.wrote_at:
        return
    if standing is not Standing.CONFIRMED:
        t.change(address, Standing.CONFIRMED, due_at=None, failures=0)


def _drifted(t: _Turn, address: Address, followed: Followed) -> None:
    steady = followed.standing is Standing.CONFIRMED and t.now - followed.since >= STEADY_S
    repairs, pauses = 0 if steady else followed.repairs, t.before.config.repair_after_s
    told = f"IMDS no longer shows it on {followed.target.eni}"
    if repairs >= len(pauses):
        detail = f"{told}, after {repairs} repairs: another ENI's pod bears it too; nothing more is done"
        t.change(address, Standing.CONTENDED, warning=True, repairs=repairs, due_at=None, detail=detail)
    else:
        t.change(
            address,
            Standing.DRIFTED,
            warning=True,
            repairs=repairs + 1,
            due_at=t.now + pauses[repairs],
            detail=f"{told}; repair {repairs + 1} of {len(pauses)} in {pauses[repairs]:g} s",
        )


def _judge_leaver(t: _Turn, address: Address, leaver: Leaving, reading: Mapped) -> None:
    if reading is Mapped.GONE:
        del t.leaving[address]
        t.effects.append(Told(address, None, f"mapped elsewhere by now, not to {leaver.target.eni}"))
    elif reading is Mapped.MINE:
        t.leaving[address] = replace(leaver, mine=True)
    else:
        _leave_later(t, address, leaver, "IMDS does not tell where it is mapped")


def _pause_s(t: _Turn, eni: str) -> float:
    config = t.before.config
    fresh = any(
        f.standing is Standing.CHECKING or (f.standing is Standing.ASSIGNED and t.now < f.wrote_at + LAG_S + 1)
        for f in t.of(eni).values()
    )
    return config.ask_fast_s if fresh else config.ask_slow_s


# ---------------------------------------------------------------------------------------------- rules


def _rules(t: _Turn) -> None:
    """What is due now."""
    for eni in sorted(
        {f.target.eni for f in t.followed.values()} | {leaver.target.eni for leaver in t.leaving.values()}
    ):
        if eni:
            _questions(t, eni)
            _calls(t, eni)
    for eni in [e for e, work in t.enis.items() if not (work.calling or work.asking) and not _any(t, e)]:
        del t.enis[eni]


def _any(t: _Turn, eni: str) -> bool:
    return bool(t.of(eni)) or any(leaver.target.eni == eni for leaver in t.leaving.values())


def _questions(t: _Turn, eni: str) -> None:
    stale = [f for f in t.of(eni).values() if f.standing is Standing.DRIFTED and _due(t, f.due_at)]
    work = t.enis.get(eni, EniWork())
    unseen = any(work.asked_at < (f.due_at or 0.0) for f in stale) or _unseen_leavers(t, eni)
    if unseen and not work.silent_count:
        # A silent IMDS is asked again at its own pace.
        t.ask_at(eni, t.now)
        work = t.enis[eni]
    if not work.asking and _due(t, work.ask_due_at):
        due = [a for a, leaver in t.leaving.items() if leaver.target.eni == eni and _due(t, leaver.due_at)]
        addresses = (*t.of(eni), *due)
        t.work(eni, asking=bool(addresses), ask_due_at=None)
        if addresses:
            t.effects.append(Ask(eni, addresses))


def _unseen_leavers(t: _Turn, eni: str) -> bool:
    leavers = [leaver for leaver in t.leaving.values() if leaver.target.eni == eni]
    return any(_due(t, leaver.due_at) and not leaver.mine for leaver in leavers)


def _calls(t: _Turn, eni: str) -> None:
    if t.enis.get(eni, EniWork()).calling:
        return
    asked_at = t.enis.get(eni, EniWork()).asked_at
    due = [
        address
        for address, f in t.of(eni).items()
        # A repair follows a question that was asked when it was due.
        if _due(t, f.due_at) and (f.standing is not Standing.DRIFTED or asked_at >= (f.due_at or 0.0))
    ]
    if due:
        for address in due:
            t.followed[address] = replace(t.followed[address], calling=True, due_at=None)
        t.work(eni, calling=True)
        t.effects.append(Assign(eni, _sorted(due)))
        return
    free = [a for a, leaver in t.leaving.items() if leaver.target.eni == eni and leaver.mine and _due(t, leaver.due_at)]
    if free:
        t.work(eni, calling=True)
        t.effects.append(Unassign(eni, _sorted(free)))


def _due(t: _Turn, at: float | None) -> bool:
    return at is not None and at <= t.now


def _sorted(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(sorted(addresses, key=lambda a: (a.version, int(a))))
