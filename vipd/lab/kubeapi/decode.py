"""JSON into typed fields, as strictly as Go's decoder: unknown fields are dropped, wrong types are refused (400)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from vipd.lab.kubeapi.gotime import NotATime, micro_time, whole_seconds


class Undecodable(ValueError):
    """What the decoder says; whoever knows the kind makes a Status of it."""


class Type(enum.Enum):
    """The Go types of the fields served here."""

    STRING = "string"
    INT32 = "int32"
    INT64 = "int64"
    MICRO_TIME = "v1.MicroTime"
    TIME = "v1.Time"
    OBJECT = "object"
    """Any JSON object, kept as it is."""


_BITS = {Type.INT32: 32, Type.INT64: 64}
Fields = Mapping[str, "Type | Fields"]


def decode_fields(value: object, fields: Fields, *, struct: str, path: str) -> dict[str, Any]:
    """The known fields of ``value`` that are set (null is not).  Raises Undecodable."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Undecodable(_cannot(value, f"{struct}.{path}", struct))
    decoded: dict[str, Any] = {}
    for name, kind in fields.items():
        given = value.get(name)
        if given is None:
            continue
        where = f"{path}.{name}" if path else name
        if isinstance(kind, Mapping):
            decoded[name] = decode_fields(given, kind, struct=struct, path=where)
        elif (read := _decode(given, kind, f"{struct}.{where}")) is not None:
            decoded[name] = read
    return decoded


def decode_strings(value: object, where: str) -> dict[str, str]:
    """A map of strings; null as a value is the empty string, as in Go.  Raises Undecodable."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Undecodable(_cannot(value, where, "map[string]string"))
    for item in value.values():
        if item is not None and not isinstance(item, str):
            raise Undecodable(_cannot(item, where, "string"))
    return {key: item or "" for key, item in value.items()}


def _decode(value: object, kind: Type, where: str) -> Any:
    if kind is Type.OBJECT:
        if not isinstance(value, dict):
            raise Undecodable(_cannot(value, where, "object"))
        return value
    if kind in _BITS:
        limit = 2 ** (_BITS[kind] - 1)
        if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
            raise Undecodable(_cannot(value, where, kind.value))
        return value
    if not isinstance(value, str):
        raise Undecodable(_cannot(value, where, "string"))
    if kind is Type.STRING:
        return value
    try:
        return micro_time(value) if kind is Type.MICRO_TIME else whole_seconds(value)
    except NotATime as error:
        raise Undecodable(str(error)) from error


def _cannot(value: object, where: str, wanted: str) -> str:
    number = f" {value}" if wanted in ("int32", "int64") and type(value) in (int, float) else ""
    return f"json: cannot unmarshal {_json_type(value)}{number} into Go struct field {where} of type {wanted}"


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "number"
