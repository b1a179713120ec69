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
        self.why: str | None = None
        """Why the node is not to own a VIP; empty where it may; None: not seen yet."""

    async def run(self, report: Callable[[bool, str], None]) -> None:
        """Until cancelled."""
        complaint = ""
        async with aclosing(self._watch.events()) as events:
            async for event in events:
                if isinstance(event, CallFailed):
                    if complaint != event.failure:
                        complaint = event.failure
                        log.warning("the Node %s cannot be seen: %s; %s", self._name, _advice(event), self._meanwhile())
                    continue
                why = why_unfit(event)
                if why != self.why:
                    self.why = why
                    report(not why, f"Node {self._name}: {why}" if why else "")

    def _meanwhile(self) -> str:
        return "this node is no candidate until it can be" if self.why is None else "what it said last holds"


def _advice(failed: CallFailed) -> str:
    if failed.failure is not CallFailure.FORBIDDEN:
        return failed.detail
    rule = '{apiGroups: [""], resources: ["nodes"], verbs: ["get", "watch"]}'
    return (
        f"{failed.detail}. Is that this node's name in Kubernetes (--node, NODE_NAME)? If so, add to the ClusterRole "
        f"of this account the rule {rule}, or pass --no-node-gate"
    )
