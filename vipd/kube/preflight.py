"""Before anything depends on it: does the API answer, does it know us, and may we do what the election needs?

A missing permission is found at the first take otherwise, in the middle of the failover that it spoils.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vipd.core.model import CallFailed, CallFailure, ReadOutcome
from vipd.errors import KubeError
from vipd.kube.api import Api
from vipd.kube.codec import API_VERSION
from vipd.kube.leases import KubeLeases

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

REVIEW_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

LEASE_VERBS = ("get", "watch", "create", "update", "patch")
"""What an election needs on its Lease.  ``create`` cannot be granted by name (RBAC, referring to resources)."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on the Lease.  ``allowed`` None: the API server did not tell."""

    verb: str
    namespace: str
    name: str
    allowed: bool | None
    reason: str = ""

    @property
    def rule(self) -> str:
        """The Role rule that grants it, as YAML on one line."""
        names = "" if self.verb == "create" else f', resourceNames: ["{self.name}"]'
        return f'{{apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["{self.verb}"]{names}}}'

    @property
    def message(self) -> str:
        """What is refused, and what to do about it."""
        said = f" ({self.reason})" if self.reason else ""
        return (
            f'Not allowed to {self.verb} the Lease "{self.name}" in the namespace "{self.namespace}"{said}: '
            f"add to the Role of this ServiceAccount the rule {self.rule}"
        )


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found.  ``lease`` is the Lease as it is, or why it could not be read."""

    host: str
    lease: ReadOutcome
    permissions: tuple[Permission, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for people, each with what to do; empty where nothing stands in the way."""
        denied = tuple(p.message for p in self.permissions if p.allowed is False)
        failed = self.lease
        if not isinstance(failed, CallFailed) or (failed.failure is CallFailure.FORBIDDEN and denied):
            return denied
        return (explain(self.host, failed), *denied)

    def require(self) -> None:
        """Raise KubeError with every problem."""
        if self.problems:
            raise KubeError(" ".join(self.problems))


async def preflight(client: ApiClient, *, namespace: str, name: str, timeout_s: float = 5.0) -> Preflight:
    """One read of the Lease and, where the API server offers it, what it says we may do; within ``timeout_s``.

    A refusal of the reviews themselves leaves permissions unknown; it is no problem of the election's.
    """
    api = Api(client)
    lease = await KubeLeases(client, namespace=namespace, name=name).read(timeout_s=timeout_s / 2)
    if isinstance(lease, CallFailed) and lease.failure is not CallFailure.FORBIDDEN:
        return Preflight(api.host, lease, ())
    reviews = (_review(api, verb, namespace, name, timeout_s / 2) for verb in LEASE_VERBS)
    permissions = list(await asyncio.gather(*reviews))
    if isinstance(lease, CallFailed):
        permissions[0] = Permission("get", namespace, name, False, lease.detail)
    return Preflight(api.host, lease, tuple(permissions))


async def _review(api: Api, verb: str, namespace: str, name: str, timeout_s: float) -> Permission:
    group = API_VERSION.partition("/")[0]
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": "leases"}
    if verb != "create":
        attributes["name"] = name
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    reply = await api.call("POST", REVIEW_PATH, timeout_s=timeout_s, body=body)
    if isinstance(reply, CallFailed):
        return Permission(verb, namespace, name, None, reply.detail)
    status = reply.body.get("status") if isinstance(reply.body, dict) else None
    if not reply.ok or not isinstance(status, dict) or not isinstance(status.get("allowed"), bool):
        return Permission(verb, namespace, name, None, reply.detail)
    return Permission(verb, namespace, name, status["allowed"], str(status.get("reason") or ""))


def explain(host: str, failed: CallFailed) -> str:
    """A failed call on a Lease as a sentence for people, with what to look at."""
    advice = {
        CallFailure.TIMEOUT: f"The Kubernetes API at {host} does not answer in time. Check routes and security groups",
        CallFailure.UNREACHABLE: f"The Kubernetes API at {host} cannot be reached. Check its address and the network",
        CallFailure.UNAUTHORIZED: f"The Kubernetes API at {host} does not accept the credentials (401). "
        "The token may have expired or belong to another cluster",
        CallFailure.FORBIDDEN: f"The Kubernetes API at {host} forbids to read the Lease (403)",
        CallFailure.THROTTLED: f"The Kubernetes API at {host} is throttling (429)",
        CallFailure.SERVER: f"The Kubernetes API at {host} has an error of its own",
        CallFailure.INVALID: f"What answers at {host} is no Kubernetes API with Leases",
    }
    return f"{advice[failed.failure]}: {failed.detail}."
