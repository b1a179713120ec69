"""``vipd status``: what is wanted, one look at it, and how it is printed."""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vipd.core.model import CallFailed, LeaseAbsent, LeaseView
from vipd.errors import KubeError
from vipd.kube.leases import KubeLeases, LeaseList, list_leases
from vipd.kube.preflight import explain
from vipd.kube.roster import Roster, read_roster
from vipd.operate.document import document
from vipd.operate.lease_status import LeaseStatus, is_ours, lease_status
from vipd.operate.tables import detail, table

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

CALL_S = 5.0
"""Time limit of one call, in seconds: people wait for it."""

NODE_LEASES = "kube-node-lease"
"""The namespace of the kubelets' heartbeats: one Lease a node, each renewed every 10 s."""


class Output(enum.StrEnum):
    """The forms of ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which Leases to show, and how."""

    namespace: str | None
    """None: all."""
    lease: str = ""
    """Only this one, whoever wrote it; empty: many."""
    foreign: bool = False
    """Those that vipd never wrote, too."""
    output: Output = Output.TABLE

    @property
    def fields(self) -> str:
        """The field selector: what is not wanted is not sent."""
        if self.lease:
            return f"metadata.name={self.lease}"
        return "" if self.namespace else f"metadata.namespace!={NODE_LEASES}"

    @property
    def where(self) -> str:
        return f"the namespace {self.namespace}" if self.namespace else "any namespace"

    def picks(self, view: LeaseView) -> bool:
        """Whether a Lease that the selector let through is to be shown."""
        return bool(view.uid) and (bool(self.lease) or self.foreign or is_ours(view))

    def nothing(self) -> str:
        """What to say when there is none to be shown."""
        if self.lease:
            return f'There is no Lease "{self.lease}" in {self.where}.'
        hint = "" if self.foreign else " (--all-leases shows those of others)"
        return f"No {'' if self.foreign else 'vipd '}Leases found in {self.where}{hint}."


@dataclass(frozen=True, slots=True)
class Look:
    """What one look gave, and what people should know besides."""

    statuses: tuple[LeaseStatus, ...]
    notes: tuple[str, ...] = ()


async def look(client: ApiClient, wanted: Wanted) -> Look:
    """The Leases as they are.  Raises KubeError where they cannot be read, or the one that was named is not there."""
    read = _one(client, wanted) if wanted.lease else _many(client, wanted)
    views, roster = await asyncio.gather(
        read, read_roster(client, namespace=wanted.namespace, lease=wanted.lease or None, timeout_s=CALL_S)
    )
    wall = datetime.now(UTC)
    statuses = tuple(lease_status(view, members_of(roster, view), wall=wall) for view in views)
    return Look(statuses, unseen_members(roster, statuses))


def members_of(roster: Roster, view: LeaseView) -> Any:
    """The members of this Lease, or None."""
    metadata = view.raw["metadata"]
    return roster.of(str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))


def unseen_members(roster: Roster, statuses: Sequence[LeaseStatus]) -> tuple[str, ...]:
    """Why members are not shown, where some are not."""
    if all(status.members is not None for status in statuses):
        return ()
    return tuple(
        f"members are not known: {kind} cannot be listed: {found.detail}"
        for kind, found in (("Pods", roster.pods), ("Nodes", roster.nodes))
        if isinstance(found, CallFailed)
    )


def rendered(statuses: Sequence[LeaseStatus], wanted: Wanted, *, stream: bool = False) -> str:
    """All of it in the form that is wanted.  ``stream``: one document of many (JSON in a line, YAML after ``---``)."""
    if wanted.output is Output.TABLE:
        if not statuses:
            return ""
        return "\n".join(detail(statuses[0]) if wanted.lease else table(statuses)) + "\n"
    documents = [document(status) for status in statuses]
    shown: Any = (documents[0] if documents else None) if wanted.lease else documents
    if wanted.output is Output.JSON:
        return json.dumps(shown, indent=None if stream else 2) + "\n"
    import yaml

    return str(yaml.safe_dump(shown, sort_keys=False, explicit_start=stream, width=120))


async def _one(client: ApiClient, wanted: Wanted) -> tuple[LeaseView, ...]:
    assert wanted.namespace is not None
    found = await KubeLeases(client, namespace=wanted.namespace, name=wanted.lease).read(timeout_s=CALL_S)
    if isinstance(found, LeaseAbsent):
        raise KubeError(wanted.nothing())
    if isinstance(found, CallFailed):
        raise unreadable(client, found)
    return (found,)


async def _many(client: ApiClient, wanted: Wanted) -> tuple[LeaseView, ...]:
    found = await list_leases(client, namespace=wanted.namespace, timeout_s=CALL_S, fields=wanted.fields)
    if not isinstance(found, LeaseList):
        raise unreadable(client, found)
    return tuple(view for view in found.leases if wanted.picks(view))


def unreadable(client: ApiClient, failed: CallFailed) -> KubeError:
    """The error for Leases that could not be read."""
    return KubeError(explain(str(client.configuration.host), failed))
