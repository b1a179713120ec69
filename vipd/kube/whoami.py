"""What the Kubernetes API calls us: SelfSubjectReview (authentication.k8s.io/v1, 1.28 and newer; everybody may ask)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vipd.core.model import CallFailed
from vipd.kube.api import Api

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

PATH = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
CALL_S = 2.0
NODE = "system:node:"
"""The kubelet's credentials bear this before the Node's name (Kubernetes, "Using Node Authorization")."""

log = logging.getLogger(__name__)


async def own_node(client: ApiClient) -> str:
    """The Node whose credentials these are; empty where they are no Node's, or the API does not tell.  Never raises."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    reply = await Api(client).call("POST", PATH, timeout_s=CALL_S, body=body)
    if isinstance(reply, CallFailed) or not reply.ok or not isinstance(reply.body, dict):
        log.debug("the API does not tell who we are: %s", reply.detail)
        return ""
    status = reply.body.get("status")
    info = status.get("userInfo") if isinstance(status, dict) else None
    name = info.get("username") if isinstance(info, dict) else None
    return name.removeprefix(NODE) if isinstance(name, str) and name.startswith(NODE) else ""
