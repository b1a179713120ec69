"""The Lease annotations of vipd: their names, and their values as JSON text.

All are void unless their holder ``h`` and transitions ``n`` equal the spec's; no time stands in any of them.
Reading them is the Lease codec's business: other holders may leave anything there.
"""

from __future__ import annotations

import json

from vipd.core.model import Offer, Request, Tenure

TENURE = "vipd.io/tenure"
OFFER = "vipd.io/offer"
REQUEST = "vipd.io/request"
SHARED = "vipd.io/shared"


def render_tenure(tenure: Tenure) -> str:
    """The annotation's value; keys are short because they are written with every renewal."""
    return _compact(
        {
            "h": tenure.holder,
            "n": tenure.transitions,
            "inc": tenure.incarnation,
            "eni": tenure.eni,
            "fence": tenure.fence.value,
            "prio": tenure.priority,
            "interval": tenure.interval_s,
            "moved": tenure.moved,
            "vips": ",".join(tenure.vips),
            "why": tenure.why,
        }
    )


def render_offer(offer: Offer) -> str:
    """The annotation's value."""
    return _compact({"h": offer.holder, "n": offer.transitions, "id": offer.id, "to": offer.to, "why": offer.why})


def render_request(request: Request) -> str:
    """The annotation's value."""
    return _compact(
        {
            "h": request.holder,
            "n": request.transitions,
            "id": request.id,
            "by": request.by,
            "to": request.to,
            "prio": request.priority,
        }
    )


def render_shared(holder: str, transitions: int, eni: str) -> str:
    """The annotation's value: a candidate has met this holder on the same ENI."""
    return _compact({"h": holder, "n": transitions, "eni": eni})


def _compact(value: dict[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))
