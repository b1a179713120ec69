"""The objects, their versions, and who watches them: what etcd and the registry do behind a kube-apiserver.

One counter gives every change its resourceVersion.  A limited window of changes is kept for watches to start from;
who asks for an older one is told 410 and must read anew.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vipd.lab.kubeapi.leases import clean_spec
from vipd.lab.kubeapi.status import MODIFIED, already_exists, bad_request, conflict, expired, not_found

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource."""

    resource: str
    kind: str
    api_version: str
    namespaced: bool = True
    create_on_update: bool = False

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def qualified(self) -> str:
        """As error messages name it: ``leases.coordination.k8s.io``, ``pods``."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


LEASES = Kind("leases", "Lease", "coordination.k8s.io/v1", create_on_update=True)
PODS = Kind("pods", "Pod", "v1")
KINDS = (
    LEASES,
    PODS,
    Kind("nodes", "Node", "v1", namespaced=False),
    Kind("events", "Event", "v1"),
)
Key = tuple[str, str, str]
"""resource, namespace, name"""


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    version: int
    type: str
    kind: Kind
    namespace: str
    name: str
    object: Object


class Store:
    """All objects of the API."""

    def __init__(self, *, window: int = 10_000) -> None:
        self.version = 1
        self.oldest = 0
        """Watches may start at this version or later."""
        self._objects: dict[Key, Object] = {}
        self._changes: deque[Change] = deque()
        self._window = window
        self._watchers: set[asyncio.Queue[Change | None]] = set()
        self.listeners: list[Callable[[Change], None]] = []

    # -------------------------------------------------------------------------------------- reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises Refused (404)."""
        found = self._objects.get((kind.resource, namespace, name))
        if found is None:
            raise not_found(kind.qualified, name)
        return found

    def all(self, kind: Kind, namespace: str | None) -> list[Object]:
        """All of a kind, of one namespace or (None) of all."""
        return [
            found
            for (resource, space, _), found in sorted(self._objects.items(), key=lambda item: item[0])
            if resource == kind.resource and namespace in (None, space)
        ]

    # -------------------------------------------------------------------------------------- writing

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """POST."""
        metadata = dict(body.get("metadata") or {})
        name = metadata.get("name") or (metadata.get("generateName", "") + uuid.uuid4().hex[:5])
        if not isinstance(name, str) or not name:
            raise bad_request("name or generateName is required")
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        key = (kind.resource, namespace, name)
        if key in self._objects:
            raise already_exists(kind.qualified, name)
        created = self._cleaned(kind, namespace, name, body)
        created["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        return self._put(kind, key, created, "ADDED")

    def update(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """PUT: compare-and-swap where a resourceVersion or uid is given."""
        metadata = body.get("metadata") or {}
        if metadata.get("name") not in (None, "", name):
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        key = (kind.resource, namespace, name)
        present = self._objects.get(key)
        version, uid = metadata.get("resourceVersion"), metadata.get("uid")
        if present is None:
            return self._create_by_update(kind, namespace, name, body, version=version, uid=uid)
        if uid and uid != present["metadata"]["uid"]:
            raise conflict(
                kind.qualified,
                name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {present['metadata']['uid']}",
            )
        if version and version != present["metadata"]["resourceVersion"]:
            raise conflict(kind.qualified, name, MODIFIED)
        return self._replace(kind, key, present, self._cleaned(kind, namespace, name, body))

    def _create_by_update(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], *, version: object, uid: object
    ) -> Object:
        """Leases may be created by PUT, but not where the writer believes that it updates something."""
        if not kind.create_on_update or version:
            raise not_found(kind.qualified, name)
        if uid:
            raise conflict(
                kind.qualified, name, f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
            )
        return self.create(kind, namespace, body)

    def merge(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        """PATCH with a JSON merge patch (RFC 7396)."""
        present = self.get(kind, namespace, name)
        wanted = (patch.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != present["metadata"]["resourceVersion"]:
            raise conflict(kind.qualified, name, MODIFIED)
        uid = (patch.get("metadata") or {}).get("uid")
        if uid and uid != present["metadata"]["uid"]:
            raise conflict(kind.qualified, name, f"Precondition failed: UID in precondition: {uid}")
        merged = _merged(copy.deepcopy(present), patch)
        assert isinstance(merged, dict)
        key = (kind.resource, namespace, name)
        return self._replace(kind, key, present, self._cleaned(kind, namespace, name, merged))

    def delete(self, kind: Kind, namespace: str, name: str) -> Object:
        """DELETE, at once."""
        gone = copy.deepcopy(self.get(kind, namespace, name))
        del self._objects[(kind.resource, namespace, name)]
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell(Change(self.version, "DELETED", kind, namespace, name, gone))
        return gone

    def _replace(self, kind: Kind, key: Key, present: Object, wanted: Object) -> Object:
        for field in ("uid", "creationTimestamp", "resourceVersion"):
            wanted["metadata"][field] = present["metadata"][field]
        if wanted == present:
            return present  # a write that changes nothing gets no new version
        return self._put(kind, key, wanted, "MODIFIED")

    def _cleaned(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        metadata = {k: v for k, v in dict(body.get("metadata") or {}).items() if v not in (None, {}, [])}
        for field in ("labels", "annotations"):
            values = metadata.get(field, {})
            if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
                raise bad_request(f"cannot unmarshal metadata.{field}: values must be strings")
        metadata |= {"name": name}
        if kind.namespaced:
            metadata["namespace"] = namespace
        cleaned = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        if kind is LEASES:
            cleaned["spec"] = clean_spec(name, body.get("spec"))
        else:
            cleaned |= {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata")}
        return copy.deepcopy(cleaned)

    def _put(self, kind: Kind, key: Key, wanted: Object, change: str) -> Object:
        self.version += 1
        wanted["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key] = wanted
        self._tell(Change(self.version, change, kind, key[1], key[2], wanted))
        return wanted

    # ------------------------------------------------------------------------------------- watching

    def _tell(self, change: Change) -> None:
        self._changes.append(change)
        while len(self._changes) > self._window:
            self.oldest = self._changes.popleft().version
        for queue in self._watchers:
            queue.put_nowait(change)
        for listener in self.listeners:
            listener(change)

    def since(self, version: int) -> list[Change]:
        """Changes after this version.  Raises Refused (410) where they are no longer known."""
        if version < self.oldest:
            raise expired(version)
        return [change for change in self._changes if change.version > version]

    def compact(self) -> None:
        """Forget the past: watches from earlier versions are told 410."""
        self._changes.clear()
        self.oldest = self.version

    def subscribe(self) -> asyncio.Queue[Change | None]:
        """A queue of changes from now on; None ends the watch."""
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._watchers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Change | None]) -> None:
        self._watchers.discard(queue)

    def break_watches(self) -> None:
        """End every watch, as a restarting API server does."""
        for queue in self._watchers:
            queue.put_nowait(None)


def _merged(target: object, patch: object) -> object:
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
