"""How EC2 misbehaves for everybody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Ec2Noise:
    """Probabilities for each call."""

    lost: float = 0.0
    """Never applied, never answered."""
    unanswered: float = 0.0
    """Applied, never answered."""
    throttled: float = 0.0
    late: float = 0.0
    """Applied up to ``late_s`` after it was sent; its client has given up long before."""
    late_s: float = 9.0
