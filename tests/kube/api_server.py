"""The server as the tests use it, and plain HTTP to it."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from rbac import rights

from vipd.lab.kubeapi.server import KubeApi
from vipd.lab.kubeapi.store import PODS

if TYPE_CHECKING:
    from real_api import RealApi


MEMBER, OPERATOR = "vipd", "ops"
"""The ServiceAccounts of the members and of an operator, in the namespace "default"."""


class RunningApi(KubeApi):
    """The API, and how to get at it."""

    token = "a-token"

    def kubeconfig(self, path: Path, *, token: str | None = None, namespace: str = "default") -> Path:
        """Write a kubeconfig."""
        return write_kubeconfig(path, url=self.url, token=token or self.token, namespace=namespace)

    def faulty_kubeconfig(self, path: Path, *, token: str) -> Path:
        """The same: faults are this API's own."""
        return self.kubeconfig(path, token=token)

    async def member_token(self) -> str:
        """A new token with the rights that the examples grant, and no others."""
        token = secrets.token_hex(8)
        self.add_user(f"system:serviceaccount:default:{MEMBER}", token, rights("Role"))
        return token

    async def operator_token(self) -> str:
        """A new token with an operator's rights."""
        token = secrets.token_hex(8)
        self.add_user(OPERATOR, token, rights("ClusterRole"))
        return token

    async def put_pod(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Pod in the namespace "default"; the Pod."""
        return self.store.create(PODS, "default", body)

    async def revoke(self, token: str) -> None:
        """The token is worth nothing any more, as one that has expired."""
        self.expire_token(token)

    async def restart(self) -> None:
        """It ends and starts again, as one that comes back to its etcd."""
        port = int(self.url.rpartition(":")[2])
        await self.stop()
        await asyncio.sleep(4)
        self.compact()
        await self.start(port=port)


def write_kubeconfig(path: Path, *, url: str, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig (YAML, as JSON is)."""
    context = {"cluster": "lab", "user": "u", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": context}],
        "current-context": "lab",
    }
    path.write_text(json.dumps(document))
    return path


class Raw:
    """Plain HTTP, for what no client library would send: every call gives (status, JSON document)."""

    def __init__(self, session: aiohttp.ClientSession, api: RunningApi | RealApi) -> None:
        """``session`` trusts the API's certificate, where it has one."""
        self.session = session
        self.api = api

    def url(self, path: str) -> str:
        if path.startswith("/"):
            return self.api.url + path
        return f"{self.api.url}/apis/coordination.k8s.io/v1/namespaces/default/{path}"

    async def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = "",
        content_type: str = "application/json",
        **query: str,
    ) -> tuple[int, Any]:
        headers = {"Content-Type": content_type}
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.api.token}"
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with self.session.request(method, self.url(path), data=data, params=query, headers=headers) as answer:
            return answer.status, await answer.json()


def lease(name: str = "vip", /, *, version: str = "", uid: str = "", **spec: Any) -> dict[str, Any]:
    """A Lease as JSON."""
    metadata = {"name": name, "resourceVersion": version, "uid": uid}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {key: value for key, value in metadata.items() if value},
        "spec": spec,
    }
