"""Refusals, as a kube-apiserver words them (metav1.Status)."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """The answer to a request that is not granted."""

    def __init__(self, code: int, reason: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
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
            "reason": self.reason,
            "code": self.code,
        }
        if self.retry_after_s is not None:
            body["details"] = {"retryAfterSeconds": self.retry_after_s}
        return body


def not_found(what: str, name: str) -> Refused:
    return Refused(404, "NotFound", f'{what} "{name}" not found')


def already_exists(what: str, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{what} "{name}" already exists')


def conflict(what: str, name: str, why: str) -> Refused:
    return Refused(409, "Conflict", f'Operation cannot be fulfilled on {what} "{name}": {why}')


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def invalid(kind: str, name: str, message: str) -> Refused:
    return Refused(422, "Invalid", f'{kind} "{name}" is invalid: {message}')


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def expired(version: int) -> Refused:
    return Refused(410, "Expired", f"too old resource version: {version}")


REASONS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
