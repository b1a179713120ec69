"""What one election is about: the facts of this member that do not change from event to event."""

from __future__ import annotations

from dataclasses import dataclass

from vipd.core import timing
from vipd.core.model import Address, Fence


@dataclass(frozen=True, slots=True)
class ElectionConfig:
    """One member of one VIP group."""

    identity: str
    incarnation: str
    """UUID of this process."""
    addresses: tuple[Address, ...]
    """The VIPs of the Lease; they move together."""
    duration_s: int = 3
    interval_s: float = 1.0
    priority: int = 100
    fence: Fence = Fence.LEASE
    eni: str = ""
    """The ENI ids of this node that the VIPs go to, sorted and joined by commas; empty: no ENI is managed."""
    grace_s: float = 30.0
    preempt: bool = False
    """Ask a holder of lower priority to hand over once this member has been ready for a while."""
    checks: bool = False
    """Whether there are health checks: until the first answer this member does not take."""
    ask_fast_s: float = timing.MAPPING_FAST_S
    """How often the mapping is asked for after a take or an EC2 write, until it is confirmed."""
    ask_slow_s: float = timing.MAPPING_SLOW_S
    """How often it is asked for otherwise."""

    @property
    def managed(self) -> bool:
        """Whether an ENI mapping is to be moved."""
        return bool(self.eni)

    @property
    def enis(self) -> frozenset[str]:
        return frozenset(e for e in self.eni.split(",") if e)
