"""Seeing what becomes of one Node: read, then a watch on it alone.

    read ──▶ stream from its version ──┬─ it changed ────────▶ told
      ▲                                ├─ end of time ───────▶ stream from the last version
      └────────────── pause ◀──────────┴─ it broke, its version is gone

A Node changes seldom (the kubelet's heartbeat is a Lease), so this costs next to nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

from vipd.core.model import CallFailed, CallFailure
from vipd.kube.api import Api, reply_from
from vipd.kube.stream import Lines, LineTooLong, keep_alive

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

CALL_S = 5.0
"""Time limit of a read and of opening a stream, in seconds."""

STREAM_S = 300
OVERTIME_S = 10.0
"""How long a stream is asked to last, and when a half-open one is found out."""

PAUSE_S = 2.0
"""Between a failure, or a stream that ended at once, and the next attempt."""

EXCLUDED_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Load balancers leave such a node out (well-known labels)."""

LEAVING_TAINTS = (
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "node.cloudprovider.kubernetes.io/shutdown",
)
"""Of Cluster Autoscaler, Karpenter and cloud providers: the node is about to be removed, its pods are evicted next."""

log = logging.getLogger(__name__)

Node = dict[str, Any]


def why_unfit(node: Node | None) -> str:
    """Why a node is not to own a VIP, in one line; empty where it may.  Never raises, whatever the object is."""
    if node is None:
        return "there is no such Node in Kubernetes"
    metadata, spec, status = (_mapping(node.get(key)) for key in ("metadata", "spec", "status"))
    if metadata.get("deletionTimestamp"):
        return "the Node is being deleted"
    if spec.get("unschedulable") is True:
        return "the node is cordoned"
    taints = [taint.get("key") for taint in _list(spec.get("taints")) if isinstance(taint, dict)]
    if leaving := [key for key in LEAVING_TAINTS if key in taints]:
        return f"the node is about to be removed (taint {leaving[0]})"
    if EXCLUDED_LABEL in _mapping(metadata.get("labels")):
        return f"the node bears the label {EXCLUDED_LABEL}"
    conditions = [c for c in _list(status.get("conditions")) if isinstance(c, dict) and c.get("type") == "Ready"]
    if not conditions:
        return "the node has not said yet that it is Ready"
    if conditions[0].get("status") == "True":
        return ""
    said = f"{conditions[0].get('reason', '')}: {conditions[0].get('message', '')}"
    return f"the node is not Ready ({' '.join(said.split())[:200]})"


class NodeWatch:
    """One Node by its name."""

    def __init__(self, client: ApiClient, name: str) -> None:
        self._api = Api(client)
        self._name = name
        self._version = ""

    async def read(self) -> Node | CallFailed | None:
        """The Node as it is; None where there is none."""
        reply = await self._api.call("GET", f"/api/v1/nodes/{quote(self._name, safe='')}", timeout_s=CALL_S)
        if isinstance(reply, CallFailed):
            return reply
        if reply.status == 404 and reply.reason == "NotFound":
            return None
        if not reply.ok:
            return reply.failed()
        if not isinstance(reply.body, dict):
            return CallFailed(CallFailure.INVALID, f"the Node {self._name} is no object")
        return reply.body

    async def events(self) -> AsyncGenerator[Node | CallFailed | None, None]:
        """The Node as it is, then as it becomes (None: it is gone), for ever; CallFailed for each failure to see it."""
        while True:
            node = await self.read()
            yield node
            if isinstance(node, dict):
                self._version = str(_mapping(node.get("metadata")).get("resourceVersion", ""))
                async with aclosing(self._streams()) as events:
                    async for event in events:
                        yield event
            await asyncio.sleep(PAUSE_S)

    async def _streams(self) -> AsyncGenerator[Node | CallFailed | None, None]:
        """One stream after the other, until a read is due."""
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            async with aclosing(self._stream()) as events:
                async for event in events:
                    yield event
            if now() - began < STREAM_S / 2:
                return

    async def _stream(self) -> AsyncGenerator[Node | CallFailed | None, None]:
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(CALL_S):
                response = await self._api.open("/api/v1/nodes", query=self._query())
                body = None if response.status == 200 else await response.content.read(65536)
            if body is not None:
                reply = reply_from(response.status, body, response.headers)
                if reply.status != 410:
                    yield reply.failed()
                return
            keep_alive(response)
            lines = Lines(response.content)
            async with asyncio.timeout(STREAM_S + OVERTIME_S):
                while (line := await lines.next()) is not None:
                    event = _event(line)
                    kind, node = event.get("type"), event.get("object")
                    if kind == "ERROR" or not isinstance(node, dict):
                        return
                    self._version = str(_mapping(node.get("metadata")).get("resourceVersion", self._version))
                    if kind in ("ADDED", "MODIFIED", "DELETED"):
                        yield None if kind == "DELETED" else node
        except (TimeoutError, LineTooLong, aiohttp.ClientError, OSError) as error:
            # Streams break, by idle proxies for one; the read that follows tells whether the API is away.
            log.debug("%s", self._api.lost(f"watch on Node {self._name}", error).detail)
        finally:
            if response is not None:
                response.close()

    def _query(self) -> list[tuple[str, str]]:
        return [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(STREAM_S)),
            ("resourceVersion", self._version),
            ("fieldSelector", f"metadata.name={self._name}"),
        ]


def _event(line: bytes) -> dict[str, Any]:
    try:
        return _mapping(json.loads(line))
    except (ValueError, RecursionError):
        return {}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
