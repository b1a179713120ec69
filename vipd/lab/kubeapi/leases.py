"""What a kube-apiserver checks of a Lease before it takes it, and how it normalises it.

Unknown fields of the spec are dropped, types are checked when the JSON is decoded (400), values afterwards (422,
pkg/apis/coordination/validation).  A MicroTime must have exactly six digits (apimachinery, micro_time.go):
``isoformat()`` of a datetime whose microsecond is 0 has none, and is refused here as there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from vipd.lab.kubeapi.status import bad_request, invalid

_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_FIELDS: dict[str, type] = {
    "holderIdentity": str,
    "leaseDurationSeconds": int,
    "acquireTime": str,
    "renewTime": str,
    "leaseTransitions": int,
    "strategy": str,
    "preferredHolder": str,
}
INT32_MAX = 2**31 - 1


def clean_spec(name: str, spec: object) -> dict[str, Any]:
    """The spec as the API would store it.  Raises Refused."""
    if spec is None:
        return {}
    if not isinstance(spec, dict):
        raise bad_request('Lease in version "v1" cannot be handled as a Lease: json: cannot unmarshal into Go struct')
    stored: dict[str, Any] = {}
    for key, kind in _FIELDS.items():
        value = spec.get(key)
        if value is not None:
            stored[key] = _typed(key, value, kind)
    if "leaseDurationSeconds" in stored and stored["leaseDurationSeconds"] <= 0:
        raise _not(name, "leaseDurationSeconds", stored, "must be greater than 0")
    if "leaseTransitions" in stored and stored["leaseTransitions"] < 0:
        raise _not(name, "leaseTransitions", stored, "must be greater than or equal to 0")
    return stored


def _not(name: str, key: str, stored: dict[str, Any], what: str) -> Exception:
    return invalid("Lease.coordination.k8s.io", name, f"spec.{key}: Invalid value: {stored[key]}: {what}")


def _typed(key: str, value: object, kind: type) -> Any:
    wrong = bad_request(
        f'Lease in version "v1" cannot be handled as a Lease: json: cannot unmarshal {type(value).__name__} into Go '
        f"struct field LeaseSpec.spec.{key}"
    )
    if not isinstance(value, kind) or isinstance(value, bool):
        raise wrong
    if isinstance(value, int) and not -INT32_MAX - 1 <= value <= INT32_MAX:
        raise wrong
    return _micro_time(key, value) if key.endswith("Time") and isinstance(value, str) else value


def _micro_time(key: str, value: str) -> str:
    if not _MICRO_TIME.fullmatch(value):
        raise bad_request(
            f'Lease in version "v1" cannot be handled as a Lease: parsing time "{value}" as '
            f'"2006-01-02T15:04:05.000000Z07:00": cannot parse (spec.{key})'
        )
    try:
        moment = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise bad_request(f'parsing time "{value}": {error}') from error
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
