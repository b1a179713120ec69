"""The objects, their versions, and who watches them: what etcd and the registry do behind a kube-apiserver.

One counter gives every change its resourceVersion.  A limited window of changes is kept for watches to start from;
who asks for an older one is told 410 and must read anew.  Objects given out are the stored ones: nobody changes
them, a write puts a new one in their place.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vipd.lab.kubeapi.decode import Undecodable
from vipd.lab.kubeapi.kinds import EVENTS, EVENTS_V1, KINDS, LEASES, NODES, PODS, Kind, Object
from vipd.lab.kubeapi.metadata import generated_name
from vipd.lab.kubeapi.schema import check, decode, decoded_request, render
from vipd.lab.kubeapi.status import (
    MODIFIED,
    FieldError,
    already_exists,
    bad_request,
    conflict,
    expired,
    internal,
    invalid,
    not_found,
    precondition,
    uid_differs,
)

__all__ = ["EVENTS", "EVENTS_V1", "KINDS", "LEASES", "NODES", "PODS", "Change", "Kind", "Object", "Store"]

Key = tuple[str, str, str]
"""resource, namespace, name"""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object.  ``before``: what it replaced, if anything."""

    version: int
    type: str
    """ADDED, MODIFIED or DELETED."""
    resource: str
    namespace: str
    name: str
    object: Object
    before: Object | None = None


class Store:
    """All objects of the API.  ``window``: how many changes watches may go back."""

    def __init__(self, *, window: int = 10_000) -> None:
        self.version = 1
        self.oldest = 0
        """Watches may start at this version or later."""
        self.listeners: list[Callable[[Change], None]] = []
        self._objects: dict[Key, Object] = {}
        self._changes: deque[Change] = deque()
        self._window = window
        self._watchers: set[asyncio.Queue[Change | None]] = set()

    # -------------------------------------------------------------------------------------- reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises Refused (404)."""
        found = self._objects.get((kind.resource, namespace, name))
        if found is None:
            raise not_found(kind, name)
        return found

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """As ``get``, but None where there is none."""
        return self._objects.get((kind.resource, namespace, name))

    def all(self, kind: Kind, namespace: str | None) -> list[Object]:
        """All of a kind, of one namespace or (None) of all, in the order of their names."""
        return [
            found
            for (resource, space, _), found in sorted(self._objects.items(), key=lambda item: item[0])
            if resource == kind.resource and namespace in (None, space)
        ]

    # -------------------------------------------------------------------------------------- writing

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """POST.  Raises Refused."""
        wanted = decoded_request(kind, namespace, "", body)
        metadata = wanted["metadata"]
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                required = FieldError("metadata.name", "Required value: name or generateName is required")
                raise invalid(kind.qualified_kind, "", [required])
            metadata["name"] = generated_name(metadata["generateName"])
        check(kind, wanted)
        if metadata.get("resourceVersion", "0") != "0" and not dry_run:
            raise internal("resourceVersion should not be set on objects to be created")
        return self._create(kind, wanted, dry_run=dry_run)

    def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        may_create: Callable[[], None] = lambda: None,
        dry_run: bool = False,
    ) -> Object:
        """PUT: compare-and-swap where a resourceVersion or uid is given; Leases need the former.

        A Lease that is not there is created, *even where a resourceVersion is given*; only a uid prevents that
        (apiserver, registry/store.go, Update).  ``may_create`` raises Refused where the user must not.
        """
        wanted = decoded_request(kind, namespace, name, body)
        present = self.find(kind, namespace, name)
        if present is None and not kind.create_on_update:
            raise not_found(kind, name)
        uid = wanted["metadata"].get("uid", "")
        present_uid = present["metadata"]["uid"] if present else ""
        if uid and uid != present_uid:
            raise uid_differs(kind, namespace, name, wanted=uid, present=present_uid)
        _number(wanted["metadata"].get("resourceVersion", "0"))
        if present is None:
            may_create()
            check(kind, wanted)
            return self._create(kind, wanted, dry_run=dry_run)
        return self._replace(kind, present, wanted, dry_run=dry_run)

    def patch(
        self, kind: Kind, namespace: str, name: str, apply: Callable[[Object], Any], *, dry_run: bool = False
    ) -> Object:
        """PATCH; a resourceVersion in the patch must be the present one.  Raises Refused."""
        present = self.get(kind, namespace, name)
        patched = apply(render(kind, present))
        try:
            if not isinstance(patched, dict):
                raise Undecodable("the patch leaves no object")
            head = patched.get("apiVersion"), patched.get("kind")
            if not head[0]:
                raise bad_request("the patch takes away the apiVersion")
            if head[0] != kind.api_version or head[1] not in (None, "", kind.kind):
                raise Undecodable(f'no kind "{head[1]}" is registered for version "{head[0]}"')
            wanted = decode(kind, namespace, name, patched)
        except Undecodable as error:
            raise invalid("", "", [FieldError("patch", f"Invalid value: {error}")]) from error
        return self._replace(kind, present, wanted, dry_run=dry_run)

    def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str = "", version: str = "", dry_run: bool = False
    ) -> Object:
        """DELETE, at once (Pods have no grace period here); with preconditions where given.  Raises Refused."""
        present = self.get(kind, namespace, name)
        metadata = present["metadata"]
        for what, wanted, field in (("UID", uid, "uid"), ("ResourceVersion", version, "resourceVersion")):
            if wanted and wanted != metadata[field]:
                raise precondition(kind, name, what, wanted=wanted, present=metadata[field])
        if dry_run:
            return present
        del self._objects[(kind.resource, namespace, name)]
        self.version += 1
        gone = present | {"metadata": metadata | {"resourceVersion": str(self.version)}}
        self._tell(Change(self.version, "DELETED", kind.resource, namespace, name, gone, present))
        return gone

    def _create(self, kind: Kind, wanted: Object, *, dry_run: bool) -> Object:
        metadata = wanted["metadata"]
        if self.find(kind, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise already_exists(kind, metadata["name"])
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        return wanted if dry_run else self._put(kind, wanted, None)

    def _replace(self, kind: Kind, present: Object, wanted: Object, *, dry_run: bool) -> Object:
        metadata, was = wanted["metadata"], present["metadata"]
        version = _number(metadata.get("resourceVersion", "0"))
        if version == 0 and not kind.unconditional_update:
            unset = FieldError("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
            raise invalid(kind.qualified, was["name"], [unset])
        if version and str(version) != was["resourceVersion"]:
            raise conflict(kind, was["name"], MODIFIED)
        uid = metadata.get("uid", was["uid"])
        immutable = FieldError("metadata.uid", f'Invalid value: "{uid}": field is immutable')
        metadata.pop("generation", None)
        kept = ("uid", "creationTimestamp", "resourceVersion", "generation")
        metadata |= {field: was[field] for field in kept if field in was}
        check(kind, wanted, [immutable] if uid != was["uid"] else [])
        # A write that changes nothing gets no new version, and no watch hears of it (etcd3 store, GuaranteedUpdate).
        if wanted == present:
            return present
        return wanted if dry_run else self._put(kind, wanted, present)

    def _put(self, kind: Kind, wanted: Object, before: Object | None) -> Object:
        self.version += 1
        metadata = wanted["metadata"]
        metadata["resourceVersion"] = str(self.version)
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        self._objects[(kind.resource, namespace, name)] = wanted
        word = "MODIFIED" if before else "ADDED"
        self._tell(Change(self.version, word, kind.resource, namespace, name, wanted, before))
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
            raise expired(version, self.oldest)
        return [change for change in self._changes if change.version > version]

    def compact(self) -> None:
        """Forget the past, as etcd does every few minutes: watches from earlier versions are told 410."""
        self._changes.clear()
        self.oldest = self.version

    def subscribe(self) -> asyncio.Queue[Change | None]:
        """A queue of all changes from now on; None in it is put there by those who want the watch to end."""
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._watchers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Change | None]) -> None:
        self._watchers.discard(queue)


def parse_version(text: str) -> int:
    """A resourceVersion in a query; 0 where there is none.  Raises Refused (500, as of a watch or a read)."""
    if text and not (text.isascii() and text.isdecimal()):
        message = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise internal(f"resourceVersion: {message}")
    return int(text or "0")


def _number(version: str) -> int:
    """A resourceVersion in an object.  Raises Refused (500)."""
    if not (version.isascii() and version.isdecimal()):
        raise internal(f'strconv.ParseUint: parsing "{version}": invalid syntax')
    return int(version)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
