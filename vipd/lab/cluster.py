"""The Kubernetes of a lab: its own API, or a real kube-apiserver behind a front.

Both know the Lease writes with their times, suffer the lab's faults, and can be asked for an object as it is.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from vipd.errors import VipdError
from vipd.lab.kubeapi.faults import Faults
from vipd.lab.kubeapi.kinds import LEASES, NODES, PODS, Object
from vipd.lab.kubeapi.patch import merged
from vipd.lab.kubeapi.records import LeaseWrite, Request, boottime
from vipd.lab.kubeapi.server import KubeApi

TOKENS_LAST_S = 7 * 86400
"""Longer than any lab lives: nobody replaces the members' tokens, as a kubelet would."""

UNLABELLED = {"metadata": {"labels": {"vipd.io/role": None}}}
Rights = Iterable[tuple[str, str]]
"""(verb, resource) in the account's own namespace; those of CLUSTER_WIDE in the whole cluster."""

CLUSTER_WIDE = (NODES.resource, "servicecidrs")
GROUPS = {LEASES.resource: LEASES.group, "servicecidrs": "networking.k8s.io"}
"""API groups by resource; all others are in the core group."""


class Cluster(Protocol):
    """What the lab wants of a Kubernetes API.  Names of accounts are those of ServiceAccounts."""

    faults: Faults
    requests: deque[Request]
    lease_writes: deque[LeaseWrite]
    url: str

    async def begin(self, sock: socket.socket) -> None:
        """Serve on a bound socket."""

    async def end(self) -> None:
        """Stop serving, and end what was started for it."""

    async def add_account(self, namespace: str, name: str, rights: Rights) -> str:
        """A ServiceAccount with these rights; its token."""

    async def add_pod(self, namespace: str, name: str, *, node: str) -> str:
        """A Pod on a node; its uid."""

    async def add_node(self, name: str) -> None:
        """A Node that is Ready."""

    async def set_node(self, name: str, *, cordoned: bool = False, ready: bool = True) -> None:
        """``kubectl cordon`` and ``uncordon``; what the kubelet, or the node controller for it, says."""

    async def unlabel(self, namespace: str, pod: str) -> None:
        """Take the role's label off a Pod."""

    async def delete_lease(self, namespace: str, name: str) -> None:
        """As an administrator; one that does not exist is no error."""

    def lease(self, namespace: str, name: str) -> Object | None:
        """The Lease as it is, or None.  Not to be changed."""

    def pod(self, namespace: str, name: str) -> Object | None:
        """The Pod as it is, or None.  Not to be changed."""


def make(kind: str, folder: Path) -> Cluster:
    """A cluster of one of KUBES; ``folder`` takes what it writes.  Raises VipdError where it cannot be had."""
    return Embedded() if kind == "embedded" else Real(folder / "control-plane")


class Embedded(KubeApi):
    """The lab's own API."""

    async def begin(self, sock: socket.socket) -> None:
        await self.start(sock)

    async def end(self) -> None:
        await self.stop()

    async def add_account(self, namespace: str, name: str, rights: Rights) -> str:
        token = secrets.token_hex(16)
        self.add_user(f"system:serviceaccount:{namespace}:{name}", token, rights)
        return token

    async def add_pod(self, namespace: str, name: str, *, node: str) -> str:
        pod = self.store.create(PODS, namespace, {"metadata": {"name": name}, "spec": {"nodeName": node}})
        return str(pod["metadata"]["uid"])

    async def add_node(self, name: str) -> None:
        self.store.create(NODES, "", {"metadata": {"name": name}})
        await self.set_node(name)

    async def set_node(self, name: str, *, cordoned: bool = False, ready: bool = True) -> None:
        change = _cordon(cordoned) | _readiness(ready)
        self.store.patch(NODES, "", name, lambda found: merged(found, change))

    async def unlabel(self, namespace: str, pod: str) -> None:
        self.store.patch(PODS, namespace, pod, lambda found: merged(found, UNLABELLED))

    async def delete_lease(self, namespace: str, name: str) -> None:
        if self.lease(namespace, name) is not None:
            self.store.delete(LEASES, namespace, name)

    def pod(self, namespace: str, name: str) -> Object | None:
        return self.store.find(PODS, namespace, name)


class Real:
    """kube-apiserver and etcd, behind a front that the lab's nodes ask instead."""

    def __init__(self, folder: Path) -> None:
        from vipd.lab.controlplane.binaries import find
        from vipd.lab.controlplane.controlplane import ControlPlane
        from vipd.lab.controlplane.front import Front

        self._plane = ControlPlane(find(), folder)
        self._admin = self._plane.admin
        self._front = Front(self._plane.url, ssl.create_default_context(cafile=str(self._plane.ca)))
        self.faults = self._front.faults
        self.requests = self._front.requests
        self.lease_writes = self._front.lease_writes
        self.url = ""

    async def begin(self, sock: socket.socket) -> None:
        # It takes seconds, and the lab's loop has packets to look at.
        await asyncio.to_thread(self._plane.__enter__)
        await self._front.start(sock)
        self.url = self._front.url

    async def end(self) -> None:
        await self._front.stop()
        await asyncio.to_thread(self._plane.__exit__, None, None, None)

    async def add_account(self, namespace: str, name: str, rights: Rights) -> str:
        rules = [_rule(verb, what) for verb, what in rights if what not in CLUSTER_WIDE]
        everywhere = [_rule(verb, what) for verb, what in rights if what in CLUSTER_WIDE]
        await asyncio.to_thread(self._admin.grant, namespace, name, rules, everywhere=everywhere)
        token = await asyncio.to_thread(self._admin.account_token, namespace, name, lasts_s=TOKENS_LAST_S)
        self._front.users[token] = f"system:serviceaccount:{namespace}:{name}"
        return token

    async def add_pod(self, namespace: str, name: str, *, node: str) -> str:
        spec = {"nodeName": node, "containers": [{"name": "vipd", "image": "vipd"}]}
        path = f"/api/v1/namespaces/{namespace}/pods"
        pod = await asyncio.to_thread(self._admin.ensure, path, {"metadata": {"name": name}, "spec": spec})
        self._front.learn(PODS.resource, pod)
        return str(pod["metadata"]["uid"])

    async def add_node(self, name: str) -> None:
        await asyncio.to_thread(self._admin.ensure, "/api/v1/nodes", {"metadata": {"name": name}})
        await self.set_node(name)

    async def set_node(self, name: str, *, cordoned: bool = False, ready: bool = True) -> None:
        await self._admit("PATCH", f"/api/v1/nodes/{name}", _cordon(cordoned))
        await self._admit("PATCH", f"/api/v1/nodes/{name}/status", _readiness(ready))

    async def unlabel(self, namespace: str, pod: str) -> None:
        found = await self._admit("PATCH", f"/api/v1/namespaces/{namespace}/pods/{pod}", UNLABELLED)
        self._front.learn(PODS.resource, found)

    async def delete_lease(self, namespace: str, name: str) -> None:
        known = self.lease(namespace, name)
        if known is not None:
            await self._admit("DELETE", f"/apis/{LEASES.api_version}/namespaces/{namespace}/leases/{name}")
            self._front.forget(LEASES.resource, namespace, name)
            now = boottime()
            self._front.note_lease(LeaseWrite(now, now, "", "delete", known))

    def lease(self, namespace: str, name: str) -> Object | None:
        return self._front.find(LEASES.resource, namespace, name)

    def pod(self, namespace: str, name: str) -> Object | None:
        return self._front.find(PODS.resource, namespace, name)

    async def _admit(self, method: str, path: str, body: object = None) -> Any:
        code, answer = await asyncio.to_thread(self._admin.call, method, path, body)
        if code != 200:
            raise VipdError(f"kube-apiserver refuses {method} {path}: HTTP {code}: {answer}")
        return answer


def _cordon(cordoned: bool) -> Object:
    return {"spec": {"unschedulable": cordoned or None}}


def _readiness(ready: bool) -> Object:
    reason = "KubeletReady" if ready else "NodeStatusUnknown"
    return {"status": {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown", "reason": reason}]}}


def _rule(verb: str, resource: str) -> dict[str, list[str]]:
    return {
        "apiGroups": [GROUPS.get(resource, "")],
        "resources": [resource],
        "verbs": [verb],
    }
