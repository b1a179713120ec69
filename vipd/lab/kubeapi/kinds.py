"""The resources that the lab's API serves, and how each treats a PUT (their strategies in kubernetes, pkg/registry)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of one API group and version."""

    resource: str
    kind: str
    api_version: str
    namespaced: bool = True
    create_on_update: bool = False
    """A PUT of an object that does not exist creates it."""
    unconditional_update: bool = True
    """A PUT needs no resourceVersion."""
    returns_deleted: bool = False
    """A DELETE answers with the object instead of a Status."""
    short_names: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def qualified(self) -> str:
        """As error messages name the resource: ``leases.coordination.k8s.io``, ``pods``."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def qualified_kind(self) -> str:
        """As validation errors name the kind: ``Lease.coordination.k8s.io``, ``Pod``."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


LEASES = Kind("leases", "Lease", "coordination.k8s.io/v1", create_on_update=True, unconditional_update=False)
PODS = Kind("pods", "Pod", "v1", returns_deleted=True, short_names=("po",))
NODES = Kind("nodes", "Node", "v1", namespaced=False, short_names=("no",))
EVENTS = Kind("events", "Event", "v1", create_on_update=True, short_names=("ev",))
EVENTS_V1 = Kind("events", "Event", "events.k8s.io/v1", create_on_update=True, short_names=("ev",))
"""The same objects as EVENTS, under newer names."""

KINDS = (LEASES, PODS, NODES, EVENTS, EVENTS_V1)
