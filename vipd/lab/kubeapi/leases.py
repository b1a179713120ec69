"""What a kube-apiserver reads and checks of a Lease's spec (pkg/apis/coordination/validation)."""

from __future__ import annotations

from typing import Any

from vipd.lab.kubeapi.decode import Fields, Type, decode_fields
from vipd.lab.kubeapi.status import FieldError

_FIELDS: Fields = {
    "holderIdentity": Type.STRING,
    "leaseDurationSeconds": Type.INT32,
    "acquireTime": Type.MICRO_TIME,
    "renewTime": Type.MICRO_TIME,
    "leaseTransitions": Type.INT32,
}
"""``strategy`` and ``preferredHolder`` are dropped, as while CoordinatedLeaderElection is off (the default)."""


def decode_spec(spec: object) -> dict[str, Any]:
    """The spec as it would be stored.  Raises Undecodable."""
    return decode_fields(spec, _FIELDS, struct="LeaseSpec", path="spec")


def check_spec(spec: dict[str, Any]) -> list[FieldError]:
    """What is wrong with the values; empty where nothing is."""
    found = []
    duration, transitions = spec.get("leaseDurationSeconds", 1), spec.get("leaseTransitions", 0)
    if duration <= 0:
        found.append(FieldError("spec.leaseDurationSeconds", f"Invalid value: {duration}: must be greater than 0"))
    if transitions < 0:
        wrong = f"Invalid value: {transitions}: must be greater than or equal to 0"
        found.append(FieldError("spec.leaseTransitions", wrong))
    return found
