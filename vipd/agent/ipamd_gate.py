"""Watches over what the VPC CNI does with the VIPs of a host, on an ENI that it manages.

Nobody hears of it by itself: ipamd is asked every 15 s.  A VIP that it has given to a pod is two parties' address; the
node is no candidate then, and the owner hands over once, which is the end of it: no call takes it back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from vipd.aws import ipamd
from vipd.core.model import Address, Eni, Vip

log = logging.getLogger("vipd")

INTERVAL_S = 15.0
"""ipamd reconciles once a minute; each question is a line in its log."""

Warn = Callable[[str, str], None]
"""Tell people: a reason in UpperCamelCase, and a sentence."""


class IpamdGate:
    """A monitor; ``status`` is what is known."""

    def __init__(
        self, vips: Sequence[Vip], enis: Mapping[str, Eni], warn: Warn, *, interval_s: float = INTERVAL_S
    ) -> None:
        """``enis`` by interface."""
        self._vips = tuple(vips)
        self._enis = {eni.id: eni for eni in enis.values()}
        self._warn = warn
        self._interval_s = interval_s
        self._adopted: frozenset[Address] = frozenset()
        self.answers: bool | None = None
        """Whether ipamd answers; None: not asked yet."""
        self.managed: tuple[str, ...] = ()
        """ENIs of the VIPs that ipamd manages."""
        self.given: dict[Address, str] = {}
        """VIPs that pods have, by pod."""

    def status(self) -> dict[str, object]:
        """For ``/status``."""
        return {
            "answers": self.answers,
            "managed_enis": list(self.managed),
            "adopted": sorted(map(str, self._adopted)),
            "given_to_pods": {str(address): pod for address, pod in sorted(self.given.items(), key=str)},
        }

    async def run(self, report: Callable[[bool, str], None]) -> None:
        """Until cancelled."""
        told: str | None = None
        while True:
            why = self._take_in(await ipamd.look())
            if why != told:
                told = why
                report(not why, why)
            await asyncio.sleep(self._interval_s)

    def _take_in(self, pool: ipamd.Pool | None) -> str:
        """Why this node is no candidate; empty where it may be.  While ipamd is silent, what it said last holds."""
        self.answers = pool is not None
        if pool is not None:
            self._learn(pool)
        given = sorted(self.given.items(), key=str)
        return "; ".join(f"ipamd has given {address} to the pod {pod}" for address, pod in given)

    def _learn(self, pool: ipamd.Pool) -> None:
        managed = tuple(sorted(set(self._enis) & pool.enis))
        if managed and managed != self.managed:
            self._warn("ManagedByVpcCni", managed_sentence(managed, certain=True))
        self.managed = managed
        mine = {vip.address for vip in self._vips}
        found = {address: pod for address, pod in pool.addresses.items() if address in mine}
        for address in sorted(frozenset(found) - self._adopted, key=str):
            self._warn("AdoptedByVpcCni", f"ipamd has taken {address} into the pool of addresses for its pods")
        self._adopted = frozenset(found)
        given = {address: pod for address, pod in found.items() if pod}
        for address in sorted(frozenset(given) - frozenset(self.given), key=str):
            self._warn(
                "GivenToPod",
                f"ipamd on this node has given {address} to the pod {given[address]}: two parties bear it now. Delete "
                f"that pod. {ipamd.WAYS_OUT}",
            )
        self.given = given


def managed_sentence(enis: Sequence[str], *, certain: bool) -> str:
    """What people have to know."""
    manages = "manages" if certain else "may manage"
    return (
        f"the VPC CNI {manages} {', '.join(enis)}, the ENI of the VIPs: its ipamd adopts every secondary address there "
        f"and may give the VIP to a pod, or unassign it. {ipamd.WAYS_OUT}"
    )
