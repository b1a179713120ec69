"""The bodies of a PATCH: JSON merge patch (RFC 7396) and JSON patch (RFC 6902).

A strategic merge patch is taken as a merge patch: for the maps that Leases and labels consist of they are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from vipd.lab.kubeapi.kinds import Object
from vipd.lab.kubeapi.status import Refused, bad_request

MERGE_TYPES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
JSON_PATCH = "application/json-patch+json"
Patch = Callable[[Object], Any]


def patch_of(content_type: str, body: object) -> Patch:
    """What the patch makes of an object.  Raises Refused (400, 415)."""
    if content_type in MERGE_TYPES:
        if not isinstance(body, Mapping):
            raise bad_request("json: cannot unmarshal into Go value of type map[string]interface {}")
        return lambda target: merged(target, body)
    if content_type == JSON_PATCH:
        if not isinstance(body, list) or not all(isinstance(step, dict) for step in body):
            raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type jsonpatch.Patch")
        return lambda target: _apply_all(target, body)
    supported = ", ".join((JSON_PATCH, *MERGE_TYPES))
    message = f"the body of the request was in an unknown format - accepted media types include: {supported}"
    raise Refused(415, "UnsupportedMediaType", message)


def merged(target: object, patch: object) -> Any:
    """RFC 7396: null removes, objects merge, all else replaces."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _apply_all(target: Object, steps: list[dict[str, Any]]) -> Any:
    document: Any = copy.deepcopy(target)
    for number, step in enumerate(steps):
        try:
            document = _apply(document, step)
        except (LookupError, TypeError, ValueError) as error:
            message = f"the server rejected our request due to an error in our request: step {number}: {error}"
            raise Refused(422, "Invalid", message) from error
    return document


def _apply(document: Any, step: dict[str, Any]) -> Any:
    operation, path = step["op"], _pointer(step["path"])
    if operation == "test":
        if _look(document, path) != step.get("value"):
            raise ValueError(f"testing value {step['path']} failed")
    elif operation in ("remove", "replace"):
        _look(document, path)
        document = _remove(document, path)
        if operation == "replace":
            document = _add(document, path, step["value"])
    elif operation == "add":
        document = _add(document, path, step["value"])
    elif operation in ("move", "copy"):
        source = _pointer(step["from"])
        value = copy.deepcopy(_look(document, source))
        document = _add(_remove(document, source) if operation == "move" else document, path, value)
    else:
        raise ValueError(f"unexpected kind: {operation}")
    return document


def _pointer(text: str) -> list[str]:
    """RFC 6901."""
    if text and not text.startswith("/"):
        raise ValueError(f"not a JSON pointer: {text}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _step(holder: Any, part: str) -> Any:
    return int(part) if isinstance(holder, list) else part


def _look(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_step(document, part)]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return copy.deepcopy(value)
    holder, last = _look(document, path[:-1]), path[-1]
    if isinstance(holder, list):
        index = len(holder) if last == "-" else int(last)
        if not 0 <= index <= len(holder):
            raise IndexError(f"no index {index}")
        holder.insert(index, copy.deepcopy(value))
    else:
        holder[last] = copy.deepcopy(value)
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    holder = _look(document, path[:-1])
    del holder[_step(holder, path[-1])]
    return document
