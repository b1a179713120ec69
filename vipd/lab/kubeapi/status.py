"""Refusals, as a kube-apiserver words them (metav1.Status).

The words matter: clients, and the people who read their logs, know these messages (apimachinery, api/errors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vipd.lab.kubeapi.kinds import Kind

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refused(Exception):
    """The answer to a request that is not granted.  ``details``: the Status's own, such as name, group and kind."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> dict[str, Any]:
        """The metav1.Status object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        details = dict(self.details)
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        if details:
            body["details"] = details
        return body | {"code": self.code}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with one field.  ``type`` as in apimachinery's ``field.ErrorType``."""

    field: str
    message: str
    type: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def not_found(kind: Kind, name: str) -> Refused:
    return Refused(404, "NotFound", f'{kind.qualified} "{name}" not found', details=_about(kind, name))


def already_exists(kind: Kind, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', details=_about(kind, name))


def conflict(kind: Kind, name: str, why: str) -> Refused:
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return Refused(409, "Conflict", message, details=_about(kind, name))


def uid_differs(kind: Kind, namespace: str, name: str, *, wanted: str, present: str) -> Refused:
    """Worded by the storage layer (apiserver, storage/errors.go and storage/interfaces.go)."""
    folder = "minions" if kind.resource == "nodes" else kind.resource
    key = "/".join(part for part in ("/registry", folder, namespace, name) if part)
    return conflict(
        kind,
        name,
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {present}",
    )


def precondition(kind: Kind, name: str, what: str, *, wanted: str, present: str) -> Refused:
    """Worded by the registry's delete (apiserver, registry/rest/delete.go)."""
    since = "deleted and then recreated" if what == "UID" else "modified"
    message = (
        f'Operation cannot be fulfilled on {kind.qualified_kind} "{name}": the {what} in the precondition ({wanted}) '
        f"does not match the {what} in record ({present}). The object might have been {since}"
    )
    return Refused(409, "Conflict", message, details=_about(kind, name) | {"kind": kind.kind})


def forbidden(kind: Kind, namespace: str, name: str, *, user: str, verb: str) -> Refused:
    named = f' "{name}"' if name else ""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    message = (
        f'{kind.qualified}{named} is forbidden: User "{user}" cannot {verb} resource "{kind.resource}" '
        f'in API group "{kind.group}" {where}'
    )
    return Refused(403, "Forbidden", message, details=_about(kind, name))


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def invalid(what: str, name: str, errors: Sequence[FieldError]) -> Refused:
    """422.  ``what``: the kind and its group, such as ``Lease.coordination.k8s.io``."""
    listed = str(errors[0]) if len(errors) == 1 else f"[{', '.join(map(str, errors))}]"
    kind, _, group = what.partition(".")
    causes = [{"reason": e.type, "message": e.message, "field": e.field} for e in errors]
    details = {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}
    return Refused(422, "Invalid", f'{what} "{name}" is invalid: {listed}', details=details | {"causes": causes})


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def expired(version: int, oldest: int) -> Refused:
    return Refused(410, "Expired", f"too old resource version: {version} ({oldest})")


def too_large_version(wanted: int, present: int) -> Refused:
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {wanted}, current: {present}"
    return Refused(504, "Timeout", message, details={"causes": [cause]}, retry_after_s=1)


def no_such_path() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource")


def no_such_method() -> Refused:
    message = "the server does not allow this method on the requested resource"
    return Refused(405, "MethodNotAllowed", message)


def internal(message: str) -> Refused:
    """What the registry did not foresee: 500 without a reason."""
    return Refused(500, "", message)


def _about(kind: Kind, name: str) -> dict[str, Any]:
    named = (("name", name), ("group", kind.group), ("kind", kind.resource))
    return {key: value for key, value in named if value}
