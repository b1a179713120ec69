"""Through an outage of the Kubernetes API: the last known holder keeps answering while the VPC delivers to it.

HOLDING is a condition, not an event: the newest reading names me, the API answers nothing, and IMDS, which is
link-local, shows a VIP on my ENI.  It never writes EC2 and announces nothing: whoever may have taken the
Lease meanwhile moves the mapping, and IMDS tells.  Only where the mapping fences.
"""

from __future__ import annotations

from vipd.core import timing
from vipd.core.model import Fence, Mapped
from vipd.core.state import State
from vipd.core.turn import is_mine


def may_hold(s: State) -> bool:
    """Whether the conditions of HOLDING are met."""
    return s.lease.away_since is not None and may_stay(s)


def may_stay(s: State) -> bool:
    """As ``may_hold``, but the API may be back: then the renewal on its way decides."""
    return (
        s.fence is Fence.ENI
        and s.letting_go is None
        and _last_known_is_mine(s)
        and _mapped_here(s)
        and bool(s.address.borne or s.address.putting)
    )


def _last_known_is_mine(s: State) -> bool:
    """The newest reading names me; or, just started, nothing was read yet and an earlier run left its address."""
    if not s.lease.known:
        return True
    view = s.lease.view
    return view is not None and is_mine(s, view)


def _mapped_here(s: State) -> bool:
    m = s.mapping
    if silent(s) or m.gone_at is not None:
        return False
    return any(m.seen.get(a) is Mapped.MINE for a in s.config.addresses)


def silent(s: State) -> bool:
    """Whether IMDS has answered nothing for long enough to be taken for away."""
    m = s.mapping
    if m.silent_since is None or m.silent_count < timing.MAPPING_SILENT_FAILURES:
        return False
    return m.seen_at - m.silent_since >= timing.MAPPING_SILENT_S
