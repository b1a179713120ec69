"""Kubernetes Events: what an operator sees in ``kubectl describe`` when the VIP has moved, or could not.

Bounded in rate, so that a flapping group cannot fill etcd.  A failed Event is an outcome and nothing more.
"""

from __future__ import annotations

import enum
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vipd.core.model import CallFailed
from vipd.kube.api import Api
from vipd.kube.leases import utc_now
from vipd.kube.members import PodRef

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

COMPONENT = "vipd"

BURST = 20
REFILL_S = 15.0
"""At most BURST Events at once, then one each REFILL_S seconds."""

MAX_MESSAGE_BYTES = 1024
MAX_REASON_CHARS = 128
MAX_INSTANCE_CHARS = 128
"""Limits of the API server (core validation, events.go)."""


class EventType(enum.StrEnum):
    """The two types that the API knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """The Lease an Event is about, where there is no pod."""

    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class EventWritten:
    """The API took it, under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class EventSuppressed:
    """Not sent: too many in a short time.  ``suppressed``: how many since the last that was sent."""

    suppressed: int


EventOutcome = EventWritten | EventSuppressed | CallFailed


class EventWriter:
    """Events about one object.  ``instance`` names the member; ``monotonic`` (seconds) paces, ``wall`` is written."""

    def __init__(
        self,
        client: ApiClient,
        *,
        about: PodRef | LeaseRef,
        instance: str,
        wall: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = Api(client)
        self._about = about
        self._instance = instance[:MAX_INSTANCE_CHARS]
        self._wall = wall
        self._monotonic = monotonic
        self._tokens = float(BURST)
        self._refilled_at = monotonic()
        self._suppressed = 0

    async def write(
        self, reason: str, message: str, *, type_: EventType = EventType.NORMAL, timeout_s: float = 2.0
    ) -> EventOutcome:
        """Write one Event.  ``reason`` is one word in UpperCamelCase; long messages are cut.  Never raises."""
        if not self._take_token():
            self._suppressed += 1
            return EventSuppressed(self._suppressed)
        body = self._body(reason, message, type_)
        path = f"/api/v1/namespaces/{quote(self._about.namespace, safe='')}/events"
        reply = await self._api.call("POST", path, timeout_s=timeout_s, body=body)
        if isinstance(reply, CallFailed):
            return reply
        if not reply.ok:
            return reply.failed()
        self._suppressed = 0
        return EventWritten(body["metadata"]["name"])

    def _take_token(self) -> bool:
        now = self._monotonic()
        self._tokens = min(float(BURST), self._tokens + (now - self._refilled_at) / REFILL_S)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _body(self, reason: str, message: str, type_: EventType) -> dict[str, Any]:
        about = self._about
        kind, version = ("Pod", "v1") if isinstance(about, PodRef) else ("Lease", "coordination.k8s.io/v1")
        involved = {"apiVersion": version, "kind": kind, "namespace": about.namespace, "name": about.name}
        if about.uid:
            involved["uid"] = about.uid
        # metav1.Time, unlike MicroTime, has whole seconds.
        now = self._wall().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            # A name has at most 253 characters, and so has the object's own.
            "metadata": {"namespace": about.namespace, "name": f"{about.name[:200].rstrip('.-')}.{uuid.uuid4().hex}"},
            "involvedObject": involved,
            "reason": reason[:MAX_REASON_CHARS],
            "message": message.encode("utf-8", "replace")[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore"),
            "type": type_.value,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": COMPONENT, "host": self._instance},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }
