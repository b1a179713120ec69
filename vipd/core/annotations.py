"""The Lease annotations of vipd: their names, and the tenure as JSON text and back.

Other holders may leave anything here, so reading is strict about types and never raises.
"""

from __future__ import annotations

import json

from vipd.core.model import Tenure

TENURE = "vipd.io/tenure"
OFFER = "vipd.io/offer"
REQUEST = "vipd.io/request"
SHARED = "vipd.io/shared"


def render_tenure(tenure: Tenure) -> str:
    """The annotation's value; keys are short because they are written with every renewal."""
    return json.dumps(
        {
            "h": tenure.holder,
            "n": tenure.transitions,
            "inc": tenure.incarnation,
            "eni": tenure.eni,
            "fence": tenure.fence.value,
            "prio": tenure.priority,
            "interval": tenure.interval_s,
            "moved": tenure.moved,
        },
        separators=(",", ":"),
    )
