"""What a request asks for, read off its method, path and query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vipd.lab.kubeapi.kinds import KINDS, Kind
from vipd.lab.kubeapi.selectors import Selector
from vipd.lab.kubeapi.status import Refused, no_such_method, no_such_path

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMED = ("get", "update", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Target:
    """A verb on a resource; ``kind`` is None for paths that are no resource (discovery, health)."""

    verb: str
    kind: Kind | None = None
    namespace: str = ""
    """Empty: cluster-wide."""
    name: str = ""
    rest: str = ""
    """What follows the name: a subresource, none of which is served."""

    @classmethod
    def parse(cls, method: str, path: str, query: Mapping[str, str]) -> Target:
        """Never raises: what does not exist is found out by ``existing``."""
        parts = path.strip("/").split("/")
        depth = 2 if parts[0] == "api" else 3
        version, rest = "/".join(parts[1:depth]), parts[depth:]
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = next((k for k in KINDS if rest and (k.api_version, k.resource) == (version, rest[0])), None)
        name = rest[1] if len(rest) > 1 else ""
        if method in ("GET", "HEAD"):
            watching = query.get("watch", "") in ("true", "1")
            verb = "watch" if watching and kind else "get" if name or kind is None else "list"
        else:
            verb = _VERBS.get(method, method.lower())
        return cls(verb, kind, namespace, name, "/".join(rest[2:]))

    @property
    def resource(self) -> str:
        return self.kind.resource if self.kind else ""

    def existing(self) -> Kind:
        """The resource.  Raises Refused: 404 for what is not served, 405 for verbs that make no sense there."""
        kind = self.kind
        if kind is None or self.rest or (self.namespace and not kind.namespaced):
            raise no_such_path()
        if self.name and kind.namespaced and not self.namespace:
            raise no_such_path()
        wants_name = self.verb in _NAMED
        homeless = self.verb == "create" and kind.namespaced and not self.namespace
        if self.verb not in (*_NAMED, "list", "watch", "create") or homeless:
            raise no_such_method()
        if self.verb != "watch" and wants_name != bool(self.name):
            raise no_such_method()
        return kind

    def selector(self, query: Mapping[str, str]) -> Selector:
        """Of a list or watch.  Raises Refused (400)."""
        fields = [query.get("fieldSelector", "")] + ([f"metadata.name={self.name}"] if self.name else [])
        labels = query.get("labelSelector", "")
        return Selector.parse(self.existing(), fields=",".join(filter(None, fields)), labels=labels)


def selected_name(target: Target, query: Mapping[str, str]) -> str:
    """The one name that a list or watch selects, or empty: rights and faults may be about it."""
    if target.verb not in ("list", "watch") or target.kind is None:
        return ""
    try:
        return target.selector(query).name
    except Refused:
        return ""  # the request itself is refused for it later
