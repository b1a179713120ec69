"""Members show themselves: labels on the own Pod, or on the Node where there is no pod.

People and Services select on them (``vipd.io/role: active``); the election never depends on them.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vipd.core.model import CallFailed, CallFailure
from vipd.kube.api import MERGE_PATCH, Api

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

LEASE_LABEL = "vipd.io/lease"
ROLE_LABEL = "vipd.io/role"
IDENTITY_ANNOTATION = "vipd.io/identity"
"""What the member calls itself in the Lease: longer than a label may be."""

MAX_LABEL_CHARS = 63
"""Labels are shorter than the names of Leases may be (253)."""


class Role(enum.StrEnum):
    """What the label ``vipd.io/role`` says."""

    ACTIVE = "active"
    STANDBY = "standby"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class PodRef:
    """The own Pod.  ``uid`` keeps the label off a successor of the same name (StatefulSet)."""

    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class NodeRef:
    """The own Node, for a member that is no pod."""

    name: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """The object bears the labels; ``written`` False: it did already, nothing was sent."""

    written: bool


def label_value(name: str) -> str:
    """A Lease's name as a label value: itself where it fits, else shortened and told apart by a hash."""
    if len(name) <= MAX_LABEL_CHARS and re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    kept = re.sub(r"[^A-Za-z0-9_.-]", "-", name)[: MAX_LABEL_CHARS - len(digest) - 1].strip("_.-")
    return f"{kept}-{digest}" if kept else digest


class MemberLabels:
    """The labels of one member of one VIP group."""

    def __init__(self, client: ApiClient, *, me: PodRef | NodeRef, lease: str, identity: str) -> None:
        self._identity = identity
        self._api = Api(client)
        self._lease = label_value(lease)
        self._shown: Role | None = None
        self._sure = False
        self._calls = 0
        self._metadata: dict[str, Any] = {}
        if isinstance(me, PodRef):
            self._path = f"/api/v1/namespaces/{quote(me.namespace, safe='')}/pods/{quote(me.name, safe='')}"
            if me.uid:
                self._metadata["uid"] = me.uid
        else:
            self._path = f"/api/v1/nodes/{quote(me.name, safe='')}"

    async def show(self, role: Role | None, *, timeout_s: float = 2.0) -> Labelled | CallFailed:
        """Have the object bear the role; None takes both labels away.  Sends only what changes; never raises.

        After a failure the next call sends again, whatever it is asked for: what the object bears is not known.
        """
        if self._sure and role is self._shown:
            return Labelled(written=False)
        self._shown, self._sure = role, False
        self._calls += 1
        call = self._calls
        labels = {LEASE_LABEL: self._lease if role else None, ROLE_LABEL: role.value if role else None}
        annotations = {IDENTITY_ANNOTATION: self._identity if role else None}
        reply = await self._api.call(
            "PATCH",
            self._path,
            timeout_s=timeout_s,
            body={"metadata": {**self._metadata, "labels": labels, "annotations": annotations}},
            content_type=MERGE_PATCH,
        )
        if isinstance(reply, CallFailed):
            return reply
        if not reply.ok:
            # 409 and 422: another object bears this name by now, which the uid told.
            failed = reply.failed()
            return CallFailed(CallFailure.INVALID, failed.detail) if reply.status == 409 else failed
        # Of two calls that overlapped nobody knows which came last.
        self._sure = call == self._calls
        return Labelled(written=True)
