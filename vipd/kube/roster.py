"""Who takes part: the Pods and Nodes that bear the labels of ``vipd.kube.members``.

For people who look on.  Who may not list them is told so and sees the Leases all the same.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vipd.core.model import CallFailed, CallFailure
from vipd.kube.api import Api
from vipd.kube.members import IDENTITY_ANNOTATION, LEASE_LABEL, ROLE_LABEL, Role, label_value

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

PAGE = 250
"""Objects asked for at a time: whole Pods may have some 20 kB each."""

MAX_PAGES = 40
ENDED = ("Succeeded", "Failed")


class MemberKind(enum.StrEnum):
    """What bears the labels."""

    POD = "Pod"
    NODE = "Node"


@dataclass(frozen=True, slots=True)
class Member:
    """One labelled object."""

    kind: MemberKind
    namespace: str
    """Empty for a Node."""
    name: str
    uid: str
    node: str
    """Where the Pod runs (empty: not placed yet); the Node itself."""
    lease: str
    """As a label value (``label_value``)."""
    role: str
    """As labelled: a ``Role``, or anything that somebody else put there."""
    leaving: bool
    """It is being deleted."""
    told: str = ""
    """What it says that it calls itself in the Lease."""

    @property
    def identity(self) -> str:
        """What the member calls itself in the Lease; where it does not say, what it does by default."""
        if self.told:
            return self.told
        return f"{self.name}_{self.uid}" if self.kind is MemberKind.POD else self.name

    @property
    def ready(self) -> bool:
        """Whether it could take the Lease, as far as its labels tell."""
        return self.role == Role.STANDBY and not self.leaving


Found = tuple[Member, ...] | CallFailed


@dataclass(frozen=True, slots=True)
class Roster:
    """What was found, each kind apart: Nodes are cluster-wide, and few people may list them."""

    pods: Found
    nodes: Found

    def of(self, namespace: str, lease: str) -> tuple[Member, ...] | None:
        """The members of a Lease, the active one first; None where that cannot be told.

        A Node's label names no namespace: it counts for every Lease of that name.
        """
        label = label_value(lease)
        if isinstance(self.pods, CallFailed):
            return None
        found = [pod for pod in self.pods if (pod.namespace, pod.lease) == (namespace, label)]
        if isinstance(self.nodes, CallFailed):
            return tuple(sorted(found, key=_order)) if found else None
        return tuple(sorted((*found, *(node for node in self.nodes if node.lease == label)), key=_order))


async def read_roster(
    client: ApiClient, *, namespace: str | None, lease: str | None = None, timeout_s: float
) -> Roster:
    """The members of one Lease (None: of all) in a namespace (None: in all).  One page takes ``timeout_s`` at most."""
    api = Api(client)
    selector = f"{LEASE_LABEL}={label_value(lease)}" if lease else LEASE_LABEL
    pods = "/api/v1/pods" if namespace is None else f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"
    found = await asyncio.gather(
        _list(api, pods, MemberKind.POD, selector, timeout_s),
        _list(api, "/api/v1/nodes", MemberKind.NODE, selector, timeout_s),
    )
    return Roster(*found)


async def _list(api: Api, path: str, kind: MemberKind, selector: str, timeout_s: float) -> Found:
    members: list[Member] = []
    query = [("labelSelector", selector), ("limit", str(PAGE))]
    more = ""
    for _ in range(MAX_PAGES):
        reply = await api.call("GET", path, timeout_s=timeout_s, query=[*query, ("continue", more)] if more else query)
        if isinstance(reply, CallFailed):
            return reply
        items = reply.body.get("items") if isinstance(reply.body, dict) else None
        if not reply.ok or not isinstance(items, list):
            return reply.failed()
        members += [member for item in items if (member := _member(kind, item)) is not None]
        more = _text(_mapping(reply.body.get("metadata")).get("continue"))
        if not more:
            return tuple(members)
    return CallFailed(CallFailure.INVALID, f"{path}: more than {MAX_PAGES * PAGE} objects are labelled {LEASE_LABEL}")


def _member(kind: MemberKind, item: object) -> Member | None:
    """None for a Pod that has ended, and for what is no object."""
    body = _mapping(item)
    metadata, spec = _mapping(body.get("metadata")), _mapping(body.get("spec"))
    labels, name = _mapping(metadata.get("labels")), _text(metadata.get("name"))
    if not name or _mapping(body.get("status")).get("phase") in ENDED:
        return None
    return Member(
        kind=kind,
        namespace=_text(metadata.get("namespace")),
        name=name,
        uid=_text(metadata.get("uid")),
        node=name if kind is MemberKind.NODE else _text(spec.get("nodeName")),
        lease=_text(labels.get(LEASE_LABEL)),
        role=_text(labels.get(ROLE_LABEL)),
        leaving=bool(metadata.get("deletionTimestamp")),
        told=_text(_mapping(metadata.get("annotations")).get(IDENTITY_ANNOTATION)),
    )


def _order(member: Member) -> tuple[bool, bool, str]:
    return (member.role != Role.ACTIVE, not member.ready, member.name)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""
