"""The stage on which a scenario plays: the lab with two members on it, and waits that say what they wait for.

A scenario speaks of the active and the standby node; everything that happens is read off the lab itself (kernel,
mapping, Lease, packets), never off vipd's own word.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import ip_address

from vipd.core.model import Address
from vipd.errors import VipdError

VIP4 = ip_address("10.0.1.100")
VIP6 = ip_address("fd00:10:0:1::100")
NAMESPACE = "lab"
LEASE = "vip"
THIEF = "eni-0000000000000cccc"
"""The ENI of the client plays the third party that takes an address."""

POLL_S = 0.01


class SceneFailed(VipdError):
    """Something a scenario waits for did not come about; a broken promise."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is built before the curtain rises."""

    fabric: str = "vpc"
    """"vpc": delivery follows the EC2 mapping; "bridge": a plain L2 segment, no ENI, neighbours' caches decide."""
    families: tuple[int, ...] = (4,)
    nodes: tuple[str, ...] = ("a", "b")

    @property
    def vips(self) -> tuple[Address, ...]:
        return tuple(VIP4 if family == 4 else VIP6 for family in self.families)


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
