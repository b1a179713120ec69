"""``vipd status`` for programs: the keys are stable, more may be added, none is ever left out.

Times are in seconds from the moment of the reading, rounded to milliseconds; null where not known or not to be told.
"""

from __future__ import annotations

from typing import Any

from vipd.kube.codec import format_micro_time
from vipd.kube.roster import Member
from vipd.observe.jsonable import plain
from vipd.operate.lease_status import LeaseStatus

MOVING_KEYS = frozenset({"age_s", "renewed_s_ago", "expires_in_s", "renew_time", "skew_s", "resource_version"})
"""What time and each renewal change: no news by itself."""


def document(status: LeaseStatus) -> dict[str, Any]:
    """One Lease."""
    view, tenure, offer, request = status.view, status.view.tenure, status.view.offer, status.view.request
    found: dict[str, Any] = {
        "namespace": status.namespace,
        "name": status.name,
        "vipd": status.ours,
        "vips": status.vips,
        "state": status.state,
        "holder": view.holder or None,
        "last_holder": status.last_holder or None,
        "transitions": view.transitions,
        "reason": (tenure.why or None) if tenure else None,
        "age_s": _rounded(status.age_s),
        "renewed_s_ago": _rounded(status.renewed_s_ago),
        "expires_in_s": _rounded(status.expires_in_s),
        "counted_by": status.counted_by,
        "skew_s": _rounded(status.skew_s),
        "acquire_time": format_micro_time(view.acquire_time) if view.acquire_time else None,
        "renew_time": format_micro_time(view.renew_time) if view.renew_time else None,
        "duration_s": view.duration_s or None,
        "interval_s": tenure.interval_s if tenure else None,
        "enis": sorted(tenure.enis) if tenure else [],
        "moved": tenure.moved if tenure else None,
        "fence": tenure.fence if tenure else None,
        "priority": tenure.priority if tenure else None,
        "incarnation": tenure.incarnation if tenure else None,
        "shared_eni": view.shared_eni or None,
        "offer": {"id": offer.id, "to": offer.to or None, "why": offer.why or None} if offer else None,
        "request": None,
        "members": None if status.members is None else [_member(member) for member in status.members],
        "uid": view.uid,
        "resource_version": view.resource_version,
    }
    if request:
        asked = {"id": request.id, "by": request.by, "to": request.to or None, "priority": request.priority}
        found["request"] = asked
    cleaned: dict[str, Any] = plain(found)
    return cleaned


def news(found: dict[str, Any]) -> dict[str, Any]:
    """A document without what time and each renewal change."""
    return {key: value for key, value in found.items() if key not in MOVING_KEYS}


def _member(member: Member) -> dict[str, Any]:
    return {
        "kind": member.kind,
        "namespace": member.namespace or None,
        "name": member.name,
        "node": member.node or None,
        "identity": member.identity,
        "role": member.role or None,
        "leaving": member.leaving,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
