"""What one Lease comes to for people: who holds it, since when, until when, and what is going on.

Two ways to tell the expiry.  One reading knows only ``renewTime``, which the holder's wall clock wrote: what is
computed from it is an estimate, and none at all where that time lies in the future.  Who watches counts, as a
candidate does, from when a renewal was seen.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vipd.core.model import LeaseView
from vipd.kube.roster import Member

OURS = "vipd.io/"
"""What the names of vipd's annotations begin with; they outlive a tenure and its release."""

MANAGER = "vipd"
"""vipd's name in ``metadata.managedFields``: the API server takes it from the User-Agent."""

SKEW_S = 1.0
"""A renewal this far in the future cannot be: the clocks disagree."""


class LeaseState(enum.StrEnum):
    """In one word."""

    HELD = "held"
    EXPIRED = "expired"
    """Named a holder who did not renew in time: any candidate may take it."""
    FREE = "free"
    """Released, or never held."""
    HANDING_OVER = "handing-over"
    """Held, and its holder lets a standby take it."""


class CountedBy(enum.StrEnum):
    """What the expiry was told by."""

    WALL_CLOCK = "wall-clock"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """One Lease at one moment.  Times are in seconds from that moment; None: not known."""

    namespace: str
    name: str
    view: LeaseView
    state: LeaseState
    ours: bool
    """vipd wrote it, now or earlier."""
    vips: tuple[str, ...]
    last_holder: str
    """Who held it before it was released, where that was a vipd; else empty."""
    age_s: float | None
    """Of the tenure."""
    renewed_s_ago: float | None
    expires_in_s: float | None
    """Negative: since when it is expired."""
    counted_by: CountedBy
    skew_s: float
    """How far ``renewTime`` lies in the future, where that is more than ``SKEW_S``; else 0."""
    members: tuple[Member, ...] | None
    """None: they could not be listed."""


def lease_status(
    view: LeaseView, members: tuple[Member, ...] | None, *, wall: datetime, seen_s_ago: float | None = None
) -> LeaseStatus:
    """``wall``: this machine's clock (UTC).  ``seen_s_ago``: when a watch first saw the present renewal; None: none."""
    metadata = metadata_of(view)
    ahead_s = (view.renew_time - wall).total_seconds() if view.renew_time else 0.0
    skewed = seen_s_ago is None and ahead_s > SKEW_S
    renewed_s_ago = seen_s_ago
    if seen_s_ago is None and view.renew_time and not skewed:
        renewed_s_ago = max(0.0, -ahead_s)
    expires_in_s = None
    if view.holder and view.duration_s and renewed_s_ago is not None:
        expires_in_s = view.duration_s - renewed_s_ago
    last_holder, vips = _told(view)
    return LeaseStatus(
        namespace=str(metadata.get("namespace") or ""),
        name=str(metadata.get("name") or ""),
        view=view,
        state=_state(view, expires_in_s),
        ours=is_ours(view),
        vips=vips,
        last_holder=last_holder,
        age_s=_age(view, wall),
        renewed_s_ago=renewed_s_ago if view.holder else None,
        expires_in_s=expires_in_s,
        counted_by=CountedBy.WALL_CLOCK if seen_s_ago is None else CountedBy.WATCH,
        skew_s=ahead_s if skewed else 0.0,
        members=members,
    )


def is_ours(view: LeaseView) -> bool:
    """Whether vipd wrote this Lease, now or earlier."""
    metadata = metadata_of(view)
    annotations, managers = metadata.get("annotations"), metadata.get("managedFields")
    if isinstance(annotations, dict) and any(str(key).startswith(OURS) for key in annotations):
        return True
    if not isinstance(managers, list):
        return False
    return any(isinstance(entry, dict) and entry.get("manager") == MANAGER for entry in managers)


def metadata_of(view: LeaseView) -> Mapping[str, Any]:
    """The object's metadata as the API sent it."""
    metadata = view.raw.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _state(view: LeaseView, expires_in_s: float | None) -> LeaseState:
    if not view.holder:
        return LeaseState.FREE
    if expires_in_s is not None and expires_in_s <= 0:
        return LeaseState.EXPIRED
    return LeaseState.HANDING_OVER if view.offer else LeaseState.HELD


def _age(view: LeaseView, wall: datetime) -> float | None:
    if not view.holder or view.acquire_time is None:
        return None
    age_s = (wall - view.acquire_time).total_seconds()
    return None if age_s < -SKEW_S else max(0.0, age_s)


def _told(view: LeaseView) -> tuple[str, tuple[str, ...]]:
    """The last holder and the VIPs.  A released Lease still bears what its last holder told."""
    if view.holder:
        return "", view.tenure.vips if view.tenure else ()
    return (view.former.holder, view.former.vips) if view.former else ("", ())
