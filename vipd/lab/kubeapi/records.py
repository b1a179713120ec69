"""What the API remembers of what was asked of it: the lab reads off these what happened, and when."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vipd.core.annotations import OFFER
from vipd.kube.codec import parse_offer
from vipd.lab.kubeapi.kinds import Object

UNANSWERED = 0


def boottime() -> float:
    """Seconds on CLOCK_BOOTTIME, as all records of the lab."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the API saw it.  A watch is recorded when it begins, all others when they end."""

    at: float
    """When it came in (BOOTTIME)."""
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    """For lists and watches: the one name selected, or empty."""
    status: int
    """HTTP status; UNANSWERED (0) where it got none.  A watch whose version is gone has 410, though HTTP says 200."""
    took_s: float


@dataclass(frozen=True, slots=True)
class LeaseWrite:
    """One change of a Lease, at the moment it was applied (BOOTTIME); ``began_at``: when the request came in."""

    at: float
    began_at: float
    user: str
    """Empty where the lab itself wrote."""
    verb: str
    """create, update, patch or delete; empty where the lab itself wrote."""
    object: Object
    """The Lease as it is after the write; for a deletion, as it was."""

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def spec(self) -> Mapping[str, Any]:
        return dict(self.object["spec"])

    @property
    def annotations(self) -> Mapping[str, str]:
        return dict(self.object["metadata"].get("annotations", {}))

    @property
    def holder(self) -> str:
        return str(self.object["spec"].get("holderIdentity") or "")

    @property
    def offers(self) -> bool:
        """Whether an offer stands in it that binds the holder: one of this very tenure."""
        offer = parse_offer(self.annotations.get(OFFER), self.holder, self.transitions)
        return offer is not None

    @property
    def transitions(self) -> int:
        return int(self.object["spec"].get("leaseTransitions") or 0)
