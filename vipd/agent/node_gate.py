"""The Node decides about candidacy: not Ready, cordoned, or about to be removed, it hands the VIP over.

``kubectl drain`` cordons a node before it evicts anything, so the VIP leaves before the pods do.  While the Kubernetes
API is away, what it said last holds: an outage moves nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing

from vipd.core.model import CallFailed, CallFailure
from vipd.kube.nodes import NodeWatch, why_unfit

log = logging.getLogger("vipd")


class NodeGate:
    """A monitor over one Node."""

    def __init__(self, watch: NodeWatch, name: str) -> None:
        self._watch = watch
        self._name = name

    async def run(self, report: Callable[[bool, str], None]) -> None:
        """Until cancelled."""
        complained, told = False, None
        async with aclosing(self._watch.events()) as events:
            async for event in events:
                if isinstance(event, CallFailed):
                    if not complained:
                        log.warning(
                            "the Node %s cannot be seen, what it said last holds: %s", self._name, _advice(event)
                        )
                    complained = True
                    continue
                complained = False
                why = why_unfit(event)
                if why != told:
                    told = why
                    report(not why, f"Node {self._name}: {why}" if why else "")


def _advice(failed: CallFailed) -> str:
    if failed.failure is not CallFailure.FORBIDDEN:
        return failed.detail
    rule = '{apiGroups: [""], resources: ["nodes"], verbs: ["get", "watch"]}'
    return f"{failed.detail}; add to the ClusterRole of this ServiceAccount the rule {rule}, or pass --no-node-gate"
