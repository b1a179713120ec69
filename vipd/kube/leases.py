"""The Lease itself: read, create, replace by compare-and-swap, watch.

Implements ``vipd.core.ports.LeaseStore``.  One call is one HTTP request, ended within the time it was given;
an answer that never came is told apart from one that refused, since only the former leaves the outcome unknown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from vipd.core.model import (
    CallFailed,
    CallFailure,
    Conflict,
    LeaseAbsent,
    LeaseDraft,
    LeaseView,
    ReadOutcome,
    WriteOutcome,
    Written,
)
from vipd.kube.api import MERGE_PATCH, Api, Reply
from vipd.kube.codec import API_VERSION, create_body, lease_view, replace_body
from vipd.kube.watch import LeaseWatch

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

READ_FOR_WATCH_S = 2.0
"""Time limit of the reads that a watch begins with, in seconds."""


def utc_now() -> datetime:
    """The wall clock, as it is stamped into ``renewTime``."""
    return datetime.now(UTC)


def leases_path(namespace: str | None) -> str:
    """The collection's path; ``namespace`` None: of all namespaces."""
    if namespace is None:
        return f"/apis/{API_VERSION}/leases"
    return f"/apis/{API_VERSION}/namespaces/{quote(namespace, safe='')}/leases"


class KubeLeases:
    """One Lease, named by ``namespace`` and ``name``.  ``wall`` gives the time that writes are stamped with."""

    def __init__(self, client: ApiClient, *, namespace: str, name: str, wall: Callable[[], datetime] = utc_now) -> None:
        self._api = Api(client)
        self._namespace = namespace
        self._name = name
        self._wall = wall
        self._collection = leases_path(namespace)
        self._path = f"{self._collection}/{quote(name, safe='')}"
        self._watches: set[LeaseWatch] = set()

    async def read(self, *, timeout_s: float) -> ReadOutcome:
        """A quorum read: without resourceVersion the API server asks etcd (API concepts, resource versions)."""
        reply = await self._api.call("GET", self._path, timeout_s=timeout_s)
        if isinstance(reply, CallFailed):
            return reply
        if reply.ok:
            return self._view(reply)
        return LeaseAbsent() if self._is_absent(reply) else reply.failed()

    async def create(self, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        """POST.  A 404 here is no absent Lease but an absent namespace, and so a failure."""
        body = create_body(namespace=self._namespace, name=self._name, draft=draft, renew_time=self._wall())
        reply = await self._api.call("POST", self._collection, timeout_s=timeout_s, body=body)
        return self._confirmed(self._written(reply, absent_possible=False), draft)

    async def replace(self, base: LeaseView, draft: LeaseDraft, *, timeout_s: float) -> WriteOutcome:
        """PUT with base's resourceVersion and uid; refused unsent where base has none, for then it would overwrite."""
        if not base.uid or not base.resource_version:
            return CallFailed(CallFailure.INVALID, "the base of the write has no uid or no resourceVersion")
        body = replace_body(base, namespace=self._namespace, name=self._name, draft=draft, renew_time=self._wall())
        reply = await self._api.call("PUT", self._path, timeout_s=timeout_s, body=body)
        return self._confirmed(self._written(reply, absent_possible=True), draft)

    async def annotate(
        self, base: LeaseView, annotations: Mapping[str, str | None], *, timeout_s: float
    ) -> WriteOutcome:
        """Merge-patch annotations (None removes one) on base's version; the spec, the sign of life, is not touched."""
        metadata = {
            "uid": base.uid,
            "resourceVersion": base.resource_version,
            "annotations": dict(annotations),
        }
        reply = await self._api.call(
            "PATCH", self._path, timeout_s=timeout_s, body={"metadata": metadata}, content_type=MERGE_PATCH
        )
        return self._written(reply, absent_possible=True)

    async def watch(self) -> AsyncGenerator[LeaseView | LeaseAbsent | CallFailed, None]:
        """What becomes of the Lease, for ever; see LeaseWatch."""
        watch = LeaseWatch(
            self._api, collection=self._collection, name=self._name, read=lambda: self.read(timeout_s=READ_FOR_WATCH_S)
        )
        self._watches.add(watch)
        try:
            async with aclosing(watch.events()) as events:
                async for outcome in events:
                    yield outcome
        finally:
            self._watches.discard(watch)

    def rewatch(self) -> None:
        """Drop the present stream at once and connect anew, with a read."""
        for watch in self._watches:
            watch.drop()

    def _view(self, reply: Reply) -> LeaseView | CallFailed:
        view = lease_view(reply.body)
        if not view.uid or not view.resource_version:
            return CallFailed(CallFailure.INVALID, f"HTTP {reply.status} with a body that is no Lease: {reply.detail}")
        return view

    def _is_absent(self, reply: Reply) -> bool:
        """Whether a 404 speaks of this Lease.

        A proxy's page, or a server that does not know the API group yet, answers 404 as well; a holder that took
        that for a deleted Lease would create another.
        """
        if reply.status != 404 or reply.reason != "NotFound":
            return False
        details = reply.body.get("details")
        named = details.get("name") if isinstance(details, dict) else None
        return named in (None, "", self._name)

    def _written(self, reply: Reply | CallFailed, *, absent_possible: bool) -> WriteOutcome:
        if isinstance(reply, CallFailed):
            return reply
        if reply.ok:
            view = self._view(reply)
            return Written(view) if isinstance(view, LeaseView) else view
        if reply.status == 409:
            return Conflict(reply.detail)
        if absent_possible and self._is_absent(reply):
            return LeaseAbsent()
        return reply.failed()

    def _confirmed(self, outcome: WriteOutcome, draft: LeaseDraft) -> WriteOutcome:
        """A right to act begins with this answer, so it must show the tenure that was written.

        Where it does not (a webhook changed the Lease on its way in, something else answers in the API server's
        place) it is unknown what was applied, and to be read.  The duration may differ: whoever counts, the holder
        and the candidates, goes by the one that stands in the Lease; but by none there is no right to count.
        """
        if not isinstance(outcome, Written):
            return outcome
        view = outcome.view
        if (view.holder, view.transitions) == (draft.holder, draft.transitions) and view.duration_s > 0:
            return outcome
        told = f"holder {view.holder[:80]!r}, transitions {view.transitions}, {view.duration_s} s"
        return CallFailed(CallFailure.INVALID, f"the answer to a write of {self._name} shows another Lease: {told}")


@dataclass(frozen=True, slots=True)
class LeaseList:
    """Leases as they were at one moment; name and namespace stand in each view's ``raw``."""

    leases: tuple[LeaseView, ...]
    version: str
    """Where a watch goes on."""


async def list_leases(
    client: ApiClient, *, namespace: str | None, timeout_s: float, fields: str = ""
) -> LeaseList | CallFailed:
    """Every Lease of a namespace (None: of all) that the field selector ``fields`` lets through."""
    query = [("fieldSelector", fields)] if fields else []
    reply = await Api(client).call("GET", leases_path(namespace), timeout_s=timeout_s, query=query)
    if isinstance(reply, CallFailed):
        return reply
    items = reply.body.get("items") if isinstance(reply.body, dict) else None
    if not reply.ok or not isinstance(items, list):
        return reply.failed()
    return LeaseList(tuple(lease_view(item) for item in items), lease_view(reply.body).resource_version)
