"""A real kube-apiserver as the tests use it: the twin of ``api_server.RunningApi``."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from pathlib import Path
from typing import Any

import aiohttp
from api_server import MEMBER, OPERATOR, write_kubeconfig
from rbac import rules

from vipd.lab.controlplane.controlplane import ControlPlane
from vipd.lab.controlplane.front import Front

NAMESPACE = "default"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
CLEANED = (
    LEASES,
    f"/api/v1/namespaces/{NAMESPACE}/pods?gracePeriodSeconds=0",
    f"/api/v1/namespaces/{NAMESPACE}/events",
    "/api/v1/nodes",
)


class RealApi:
    """One control plane for all tests; each finds the namespace "default" empty."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.url = plane.url
        self.token = plane.admin.token
        self.tls = ssl.create_default_context(cafile=str(plane.ca))
        self._front = Front(plane.url, self.tls)
        self.faults = self._front.faults
        self.requests = self._front.requests
        self._secrets: dict[str, str] = {}

    async def start(self) -> None:
        await asyncio.to_thread(self._clean)
        await self._front.start()

    async def stop(self) -> None:
        await self._front.stop()

    def _clean(self) -> None:
        for path in CLEANED:
            code, answer = self.plane.admin.call("DELETE", path)
            assert code == 200, answer

    def kubeconfig(self, path: Path, *, token: str | None = None, namespace: str = NAMESPACE) -> Path:
        """Straight to kube-apiserver, by TLS."""
        return self.plane.kubeconfig(path, token=token or self.token, namespace=namespace)

    def connector(self) -> aiohttp.TCPConnector:
        """Trusts its certificate; for sessions of plain requests."""
        return aiohttp.TCPConnector(ssl=self.tls)

    async def restart(self) -> None:
        """kube-apiserver ends (SIGKILL: its connections break) and starts again over the same etcd."""
        await asyncio.to_thread(self.plane.stop_api, kill=True)
        await asyncio.to_thread(self.plane.start_api)

    def faulty_kubeconfig(self, path: Path, *, token: str) -> Path:
        """By way of the front, which suffers ``faults``; plain HTTP."""
        return write_kubeconfig(path, url=self._front.url, token=token)

    async def member_token(self) -> str:
        """A new token of a ServiceAccount with the rights that the examples grant, and no others."""
        return await asyncio.to_thread(self._member_token)

    def _member_token(self) -> str:
        admin = self.plane.admin
        admin.grant(NAMESPACE, MEMBER, rules("Role"))
        secret = f"token-{secrets.token_hex(4)}"
        token = admin.account_token(NAMESPACE, MEMBER, secret=secret)
        self._secrets[token] = secret
        self._front.users[token] = MEMBER
        return token

    async def operator_token(self) -> str:
        """A new token of a ServiceAccount with an operator's rights, and no others."""
        admin = self.plane.admin
        await asyncio.to_thread(admin.grant, NAMESPACE, OPERATOR, [], everywhere=rules("ClusterRole"))
        return await asyncio.to_thread(admin.account_token, NAMESPACE, OPERATOR)

    async def put_pod(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a Pod in the namespace "default"; the Pod."""
        whole = {"spec": {"containers": [{"name": "app", "image": "app"}]}, **body}
        return await asyncio.to_thread(self.plane.admin.ensure, f"/api/v1/namespaces/{NAMESPACE}/pods", whole)

    async def revoke(self, token: str) -> None:
        """The token is worth nothing any more, as one that has expired; within 10 s, for which it is remembered."""
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{self._secrets.pop(token)}"
        code, answer = await asyncio.to_thread(self.plane.admin.call, "DELETE", path)
        assert code == 200, answer
