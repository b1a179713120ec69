"""One vipd that follows in one network namespace."""

from __future__ import annotations

from collections.abc import Sequence

from vipd.link.lock import InstanceLock


def following_lock(interfaces: Sequence[str]) -> InstanceLock:
    """Two that follow the same interfaces of one network namespace would both call EC2 for everything."""
    return InstanceLock(
        f"follow/{','.join(sorted(interfaces)) or 'all'}",
        what="follows the addresses",
        advice="start this one with --no-follow",
    )
