"""IMDS as one node sees it: the mapping as it was a while ago (at most T_lag), never going back, or silence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from vipd.core.model import Address, Eni, Mapped

from .ec2 import Vpc
from .loop import ProcessLoop, Timeline

SILENCE_S = 0.5
"""How long a reader waits before it calls the source silent (``vipd.aws.imds.TOTAL_S``)."""


class NodeImds:
    """What IMDS of one node shows; shared by the processes of that node."""

    def __init__(self, timeline: Timeline, vpc: Vpc) -> None:
        self._timeline = timeline
        self._vpc = vpc
        self.lag_s = 0.0
        self.worst_lag_s = 0.0
        self.silent = False
        self._shown_at = 0.0

    def shows(self, address: Address) -> str | None:
        """The ENI that IMDS shows the address on; only this node's own can be told."""
        self.worst_lag_s = max(self.worst_lag_s, self.lag_s)
        self._shown_at = max(self._shown_at, self._timeline.now - self.lag_s)
        return self._vpc.owner_at(address, self._shown_at)


class SimReader:
    """``vipd.core.ports.MappingReader`` for one process."""

    def __init__(self, imds: NodeImds, loop: ProcessLoop) -> None:
        self._imds = imds
        self._loop = loop

    async def read(self, eni: Eni, addresses: Sequence[Address], *, timeout_s: float) -> Mapping[Address, Mapped]:
        imds = self._imds
        if imds.silent:
            await asyncio.sleep(min(timeout_s, SILENCE_S))
            return dict.fromkeys(addresses, Mapped.UNKNOWN)
        found = {a: Mapped.MINE if imds.shows(a) == eni.id else Mapped.GONE for a in addresses}
        await asyncio.sleep(0.002)
        return found
