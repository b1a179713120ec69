"""From a client's JSON to the object that is stored: decoded first (400), checked later (422), as the registry does.

Between the two stand the preconditions (409): a stale write is a conflict even where its values are wrong as well.
Pods and Nodes are kept as they come; of Leases, Events and all metadata only what the API knows is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from vipd.lab.kubeapi.decode import Undecodable
from vipd.lab.kubeapi.events import check_event, decode_event, render_event
from vipd.lab.kubeapi.kinds import EVENTS, EVENTS_V1, LEASES, Kind, Object
from vipd.lab.kubeapi.leases import check_spec, decode_spec
from vipd.lab.kubeapi.metadata import check_metadata, decode_metadata
from vipd.lab.kubeapi.status import FieldError, bad_request, invalid


def decode(kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
    """The object in its stored form; ``name``: the URL's, or empty.  Raises Refused (400) and Undecodable."""
    given = body.get("apiVersion") or kind.api_version, body.get("kind") or kind.kind
    if given != (kind.api_version, kind.kind):
        raise bad_request(
            f"the API version in the data ({given[0]}, {given[1]}) does not match the expected API version "
            f"({kind.api_version}, {kind.kind})"
        )
    metadata = decode_metadata(body.get("metadata"))
    rest = _decode_rest(kind, dict(body))
    if name and metadata.get("name", name) != name:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    if namespace and metadata.get("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if name:
        metadata["name"] = name
    if kind.namespaced:
        metadata["namespace"] = namespace
    stored = EVENTS if kind is EVENTS_V1 else kind
    head = {"apiVersion": stored.api_version, "kind": stored.kind, "metadata": metadata}
    return copy.deepcopy(head | rest)


def _decode_rest(kind: Kind, body: Object) -> dict[str, Any]:
    if kind is LEASES:
        return {"spec": decode_spec(body.get("spec"))}
    if kind.resource == "events":
        return decode_event(kind, body)
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}


def decoded_request(kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
    """``decode`` of a POST or PUT.  Raises Refused (400)."""
    try:
        return decode(kind, namespace, name, body)
    except Undecodable as error:
        version = kind.api_version.rpartition("/")[2]
        raise bad_request(f'{kind.kind} in version "{version}" cannot be handled as a {kind.kind}: {error}') from error


def check(kind: Kind, wanted: Object, further: Sequence[FieldError] = ()) -> None:
    """Raises Refused (422) with everything that is wrong with the values; ``further``: what else of the metadata is."""
    found = [*check_metadata(wanted["metadata"]), *further]
    if kind is LEASES:
        found += check_spec(wanted["spec"])
    elif kind.resource == "events":
        found += check_event(kind, wanted)
    if found:
        raise invalid(kind.qualified_kind, wanted["metadata"]["name"], found)


def render(kind: Kind, stored: Object) -> Object:
    """A stored object as this kind shows it.  Not a copy: not to be changed."""
    return render_event(kind, stored) if kind.resource == "events" else stored
