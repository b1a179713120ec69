"""The EC2 mapping in the hands of the holder: move it, confirm it, repair it.

Only the holder writes EC2, within its right, and answers belong to the tenure that asked.  IMDS may lag: "gone"
counts only some time after one's own last write, and a repair needs a renewal that was sent after the
contrary answer and succeeded.  A tenure always makes one unconditional call, because a stale IMDS may say "mine".
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.messages import AssignEni, EniAnswered, MappingSeen, ReadMapping
from vipd.core.model import Address, Assigned, AssignVerdict, Mapped
from vipd.core.reasons import Phase, Reason
from vipd.core.state import State
from vipd.core.turn import Turn

_PATIENCE: dict[AssignVerdict, tuple[Reason, float, float]] = {
    # verdict: (reason, first pause, longest pause), in seconds
    AssignVerdict.RETRY: (Reason.ENI_RETRY, 0.2, 3.0),
    AssignVerdict.THROTTLED: (Reason.ENI_RETRY, 0.2, 3.0),
    AssignVerdict.RIGHT_OVER: (Reason.ENI_RETRY, 0.2, 3.0),
    AssignVerdict.NO_ROOM: (Reason.ENI_FULL, 5.0, 60.0),
    AssignVerdict.NOT_ALLOWED: (Reason.ENI_NOT_ALLOWED, 5.0, 60.0),
    AssignVerdict.NEVER: (Reason.ENI_REFUSED, 30.0, 600.0),
}


def new_tenure(t: Turn) -> None:
    """Everything is to be mapped anew, whatever IMDS says."""
    managed = t.state.config.managed
    t.mapping(
        todo=frozenset(t.state.config.addresses) if managed else frozenset(),
        moved=not managed,
        trying_since=t.now if managed else None,
        assign_due_at=t.now if managed else None,
        failures=0,
        failing=None,
        failing_detail="",
        refused=frozenset(),
        contrary=frozenset(),
        confirmed=False,
    )


def gone_counts_from(s: State) -> float:
    """The moment from which "gone" in IMDS can be believed."""
    return max(s.started_at, s.mapping.last_write_at) + timing.MAPPING_LAG_S


def mapping_rules(t: Turn) -> None:
    """What a loud holder does about the mapping by itself."""
    s = t.state
    if not s.config.managed:
        return
    m = s.mapping
    if m.contrary and s.holder.renewed_at > m.contrary_at:
        trying_since = t.now if m.trying_since is None else m.trying_since
        t.mapping(todo=m.todo | m.contrary, contrary=frozenset(), trying_since=trying_since, assign_due_at=t.now)
    ask_rules(t)
    m = t.state.mapping
    due = m.assign_due_at is not None and t.now >= m.assign_due_at
    plumbed = m.todo <= s.address.borne
    if m.todo and due and plumbed and not m.assigning and s.loud(t.now) and s.holder.key is not None:
        t.mapping(assigning=True, assign_due_at=None, last_write_at=t.now)
        addresses = tuple(a for a in s.config.addresses if a in m.todo)
        t.emit(AssignEni(key=s.holder.key, addresses=addresses, previous=s.holder.previous))


def ask_rules(t: Turn) -> None:
    """Ask IMDS when it is time, one question at a time."""
    m = t.state.mapping
    if m.ask_due_at is not None and t.now >= m.ask_due_at and not m.asking:
        t.mapping(asking=True, ask_due_at=None)
        t.emit(ReadMapping())


def on_eni_answered(t: Turn, event: EniAnswered) -> bool:
    """EC2's answer.  True when the last address of this tenure has just been mapped."""
    t.mapping(assigning=False, last_write_at=t.now)
    s = t.state
    if s.phase is not Phase.ACTIVE or event.key != s.holder.key:
        # An answer to an old tenure says nothing about this one; what is still to do goes on.
        if s.mapping.todo:
            t.mapping(assign_due_at=t.now)
        return False
    done = frozenset(r.address for r in event.results if r.verdict is AssignVerdict.OK)
    todo = s.mapping.todo - done
    if done:
        t.mapping(trying_since=t.now)
    t.mapping(todo=todo, ask_due_at=t.now + s.config.ask_fast_s, refused=s.mapping.refused - done)
    failed = [r for r in event.results if r.verdict is not AssignVerdict.OK]
    if failed:
        _assign_failed(t, failed)
        return False
    if todo:
        t.mapping(assign_due_at=t.now)
        return False
    t.mapping(moved=True, trying_since=None, failures=0, failing=None, failing_detail="", assign_due_at=None)
    t.note(Reason.ENI_MOVED, f"EC2 maps {', '.join(map(str, sorted(map(str, done))))} to {s.config.eni}")
    return True


def _assign_failed(t: Turn, failed: list[Assigned]) -> None:
    """Plan the next attempt by the least patient of the verdicts; remember what is refused for good."""
    m = t.state.mapping
    reason, first_s, most_s = min((_PATIENCE[r.verdict] for r in failed), key=lambda p: p[1])
    worst = max(failed, key=lambda r: _PATIENCE[r.verdict][1])
    detail = "; ".join(f"{r.address}: {r.code} {r.detail}".rstrip() for r in failed)
    never = frozenset(r.address for r in failed if r.verdict is AssignVerdict.NEVER)
    # Pauses grow while it fails in one way: what is refused for good after a throttling is refused for the first time.
    failures = m.failures + 1 if m.failing in (None, _PATIENCE[worst.verdict][0]) else 1
    pause = timing.assign_backoff_s(failures, first_s=first_s, most_s=most_s)
    t.mapping(
        failures=failures,
        failing=_PATIENCE[worst.verdict][0],
        failing_detail=detail,
        assign_due_at=t.now + pause,
        refused=m.refused | never,
        refused_at=t.now if never else m.refused_at,
    )
    if never:
        t.mapping(ask_due_at=t.now)
    if m.failing_detail != detail:
        t.note(_PATIENCE[worst.verdict][0], detail, warning=True)
    else:
        t.note(reason, f"attempt {failures} failed: {detail}")


def on_mapping_seen(t: Turn, event: MappingSeen) -> None:
    """A reading of IMDS: count silence, then let the phase judge it."""
    s = t.state
    t.mapping(asking=False, seen=event.mapping, seen_at=t.now)
    if any(event.mapping.get(a) is Mapped.MINE for a in s.config.addresses):
        t.mapping(mine_at=t.now, mine_asked_at=event.asked_at)
    silent = any(event.mapping.get(a, Mapped.UNKNOWN) is Mapped.UNKNOWN for a in s.config.addresses)
    if silent:
        since = s.mapping.silent_since if s.mapping.silent_since is not None else event.asked_at
        t.mapping(silent_count=s.mapping.silent_count + 1, silent_since=since)
    else:
        t.mapping(silent_count=0, silent_since=None)
    if s.phase is Phase.ACTIVE:
        _plan_question(t)
        _judge_as_holder(t, event, silent=silent)


def _plan_question(t: Turn) -> None:
    s = t.state
    lately = max(s.holder.took_at, s.mapping.last_write_at) + timing.MAPPING_LAG_S
    pause = s.config.ask_fast_s if t.now < lately else s.config.ask_slow_s
    t.mapping(ask_due_at=t.now + pause)


def _judge_as_holder(t: Turn, event: MappingSeen, *, silent: bool) -> None:
    s = t.state
    m = s.mapping
    gone = frozenset(a for a in s.config.addresses if event.mapping.get(a) is Mapped.GONE)
    if not gone and not silent:
        if event.asked_at > m.last_write_at and not m.assigning and not m.confirmed:
            t.mapping(confirmed=True)
            t.note(Reason.MAPPING_CONFIRMED, "IMDS shows every VIP on this node's ENI")
        t.mapping(contrary=frozenset())
        return
    # IMDS that showed the address here since my last write, and now does not, does not lag: something moved it.
    if not gone or m.assigning or (event.asked_at < gone_counts_from(s) and not m.confirmed):
        return
    stolen = gone - m.todo
    if stolen and not m.contrary:
        t.mapping(contrary=stolen, contrary_at=t.now, confirmed=False, ask_due_at=t.now + s.config.ask_fast_s)
        # Only a renewal sent from now on proves that repairing is still my business.
        t.lease(write_due_at=t.now)
        t.note(Reason.MAPPING_STOLEN, f"no longer mapped to {s.config.eni}: {_words(stolen)}", warning=True)


def cannot_move(s: State, now: float) -> bool:
    """Whether somebody else should try: no OK of EC2 for two durations, or all refused for good; and IMDS says gone.

    A refusal never counts while the mapping is mine.  One VIP that EC2 refuses for ever, beside others that it maps,
    would be refused to every member.
    """
    m = s.mapping
    if not s.config.managed or m.trying_since is None:
        return False
    everything = frozenset(s.config.addresses)
    if m.refused == everything:
        return m.seen_at >= m.refused_at and all(m.seen.get(a) is Mapped.GONE for a in everything)
    stuck = m.todo - m.refused
    if not stuck or now < stuck_from(s):
        return False
    return any(m.seen.get(a) is not Mapped.MINE for a in stuck)


def stuck_from(s: State) -> float:
    """When trying has lasted long enough."""
    since = s.mapping.trying_since
    return float("inf") if since is None else since + timing.CANNOT_MOVE_DURATIONS * s.config.duration_s


def _words(addresses: frozenset[Address]) -> str:
    return ", ".join(sorted(map(str, addresses)))
