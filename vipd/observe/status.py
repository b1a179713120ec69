"""The status document of one member: what ``/status`` answers, and what SIGUSR1 logs.

Others script against it: keys are only ever added.  Times are seconds from now; null where not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from vipd import __version__
from vipd.core.model import Mapped, Vip
from vipd.core.reasons import Phase
from vipd.core.state import NEVER, State

API_SILENCE_FACTOR = 2
"""A member that heard nothing of a held Lease for this many durations is not ready."""


def status_document(state: State, vips: Sequence[Vip], *, namespace: str, name: str, now: float) -> dict[str, Any]:
    """The whole state of this member, for people and scripts."""
    config = state.config
    return {
        "version": __version__,
        "identity": config.identity,
        "incarnation": config.incarnation,
        "state": state.phase.value,
        "reason": state.reason.value,
        "since_s": _since(state.since, now),
        "leaving": state.leaving,
        "priority": config.priority,
        "fence": state.fence.value,
        "eni": config.eni or None,
        "right_ends_in_s": _until(state.holder.right_until, now),
        "hold_down_ends_in_s": _until(state.holder.hold_down_until, now),
        "link": {"up": state.link_up, "detail": state.link_detail},
        "checks": _checks(state),
        "handover": _handover(state, now),
        "lease": _lease(state, namespace, name, now),
        "vips": [_vip(state, vip) for vip in vips],
        "mapping": _mapping(state, now),
    }


def ready(state: State, now: float) -> tuple[bool, str]:
    """Whether this member does its part: serves as the owner, or could take over.

    The sentence tells what is missing.
    """
    phase = state.phase
    if phase is Phase.ACTIVE:
        if frozenset(state.config.addresses) - state.address.borne:
            return False, "active, but not every VIP is on its interface"
        if state.mapping.failing is not None:
            return False, f"active, but EC2 does not map the VIP here: {state.mapping.failing_detail}"
        if not state.mapping.moved:
            return False, "active, EC2 has not yet answered"
        return True, "active"
    if phase is Phase.HOLDING:
        return True, "holding: the Kubernetes API is away, and the VPC delivers here"
    if phase is Phase.STANDBY:
        if state.healthy is None:
            return False, "the checks have not run yet"
        if not state.lease.known:
            return False, "the Lease could not be read yet"
        silent_s = now - max(state.lease.seen_at, state.lease.read_ok_sent_at, state.started_at)
        held = state.lease.view is not None and bool(state.lease.view.holder)
        if held and silent_s > API_SILENCE_FACTOR * state.config.duration_s:
            return False, f"nothing was heard of the Lease for {silent_s:.0f} s"
        return True, "standby"
    why = state.link_detail or ("" if state.healthy else state.health_detail)
    return False, f"{phase.value}: {state.reason.value} {why}".rstrip()


def _checks(state: State) -> dict[str, Any] | None:
    """Null where there are none; ``healthy`` null until they have run."""
    if not state.config.checks:
        return None
    return {"healthy": state.healthy, "detail": state.health_detail}


def _handover(state: State, now: float) -> dict[str, Any] | None:
    """The offer that this holder has made; null where it has not."""
    handover = state.handover
    if handover.reason is None:
        return None
    return {
        "id": handover.id,
        "to": handover.to or None,
        "reason": handover.reason.value,
        "detail": handover.detail,
        "stands_s": None if handover.stands_since is None else _since(handover.stands_since, now),
    }


def _lease(state: State, namespace: str, name: str, now: float) -> dict[str, Any]:
    view = state.lease.view
    document: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "known": state.lease.known,
        "failing": state.lease.failing or None,
    }
    if view is None:
        return {**document, "absent": state.lease.absent, "holder": None}
    return {
        **document,
        "absent": state.lease.absent,
        "holder": view.holder or None,
        "duration_s": view.duration_s,
        "transitions": view.transitions,
        "acquire_time": _iso(view.acquire_time),
        "renew_time": _iso(view.renew_time),
        "expires_in_s": _until(state.lease.expiry_at, now),
        "holder_eni": view.tenure.eni if view.tenure else None,
        "holder_moved": view.tenure.moved if view.tenure else None,
    }


def _vip(state: State, vip: Vip) -> dict[str, Any]:
    seen = state.mapping.seen.get(vip.address, Mapped.UNKNOWN)
    return {
        "address": str(vip.address),
        "prefix": vip.prefixlen,
        "interface": vip.interface,
        "borne": vip.address in state.address.borne,
        "mapped": seen.value if state.config.managed else None,
    }


def _mapping(state: State, now: float) -> dict[str, Any] | None:
    if not state.config.managed:
        return None
    m = state.mapping
    return {
        "moved": m.moved,
        "confirmed": m.confirmed,
        "calling": m.assigning,
        "failing": m.failing.value if m.failing else None,
        "detail": m.failing_detail,
        "attempts_failed": m.failures,
        "next_attempt_in_s": _until(m.assign_due_at, now) if m.todo else None,
        "asked_s_ago": _since(m.seen_at, now),
    }


def _since(at: float, now: float) -> float | None:
    return None if at == NEVER else round(now - at, 3)


def _until(at: float | None, now: float) -> float | None:
    return None if at is None or at <= now else round(at - now, 3)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="microseconds") if at else None
