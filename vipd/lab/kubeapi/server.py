"""The HTTP side of the lab's Kubernetes API: routes, tokens, RBAC, watches, faults, and a log of all requests."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from vipd.lab.kubeapi.status import REASONS, Refused, bad_request, expired, unauthorized
from vipd.lab.kubeapi.store import KINDS, LEASES, Change, Kind, Object, Store

HISTORY = 100_000


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the API saw it."""

    at: float
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    status: int
    took_s: float


@dataclass(frozen=True, slots=True)
class LeaseWrite:
    """One change of a Lease, at the moment it was applied; ``began_at``: when the request came in."""

    at: float
    began_at: float
    user: str
    verb: str
    object: Object

    @property
    def holder(self) -> str:
        return str(self.object["spec"].get("holderIdentity") or "")

    @property
    def transitions(self) -> int:
        return int(self.object["spec"].get("leaseTransitions") or 0)


@dataclass(slots=True)
class Faults:
    """What goes wrong at present; each applies to requests for which ``match`` is true."""

    match: Callable[[str, str, str], bool] = lambda user, verb, resource: True
    """(user, verb, resource) -> whether it is hit."""
    status: int | None = None
    retry_after_s: int | None = None
    hang: bool = False
    before_s: float = 0.0
    after_s: float = 0.0
    drop_answer: float = 0.0
    """Probability that a write is applied and its connection dropped unanswered."""
    mute_watches: bool = False
    """Watches stay open and say nothing more (half-open)."""


class KubeApi:
    """The server.  ``tokens``: bearer token to user; ``allowed``: user to (verb, resource) pairs or ("*", "*")."""

    def __init__(self, *, window: int = 10_000) -> None:
        self.store = Store(window=window)
        self.tokens: dict[str, str] = {}
        self.allowed: dict[str, set[tuple[str, str]]] = {}
        self.faults = Faults()
        self.requests: deque[Request] = deque(maxlen=HISTORY)
        self.lease_writes: deque[LeaseWrite] = deque(maxlen=HISTORY)
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()
        self._in_hand: tuple[float, str, str] = (0.0, "", "")
        self.store.listeners.append(self._note_lease)

    async def start(self, sock: socket.socket | None = None, *, host: str = "127.0.0.1", port: int = 0) -> KubeApi:
        """Serve on ``sock`` (which may live in another namespace) or on ``host:port``."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        if sock is None:
            site: web.BaseSite = web.TCPSite(self._runner, host, port)
        else:
            site = web.SockSite(self._runner, sock)
        await site.start()
        bound = self._runner.addresses[0]
        self.url = f"http://{bound[0]}:{bound[1]}"
        return self

    async def stop(self) -> None:
        """End; watches and requests that hang are dropped."""
        self._released.set()
        self.store.break_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    def add_user(self, user: str, token: str, rights: set[tuple[str, str]] | None = None) -> None:
        """Know a token; without ``rights`` everything is allowed."""
        self.tokens[token] = user
        self.allowed[user] = rights if rights is not None else {("*", "*")}

    def lease(self, namespace: str, name: str) -> Object | None:
        """The Lease as it is, or None."""
        found = [o for o in self.store.all(LEASES, namespace) if o["metadata"]["name"] == name]
        return found[0] if found else None

    def _note_lease(self, change: Change) -> None:
        if change.kind is LEASES:
            began_at, user, verb = self._in_hand
            self.lease_writes.append(LeaseWrite(boottime(), began_at, user, verb, change.object))

    # -------------------------------------------------------------------------------------- requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        began = boottime()
        user, status = "", 200
        target = _Target.parse(request)
        try:
            user = self._authenticate(request)
            answer = await self._answer(request, target, user, began)
            status = answer.status
            return answer
        except Refused as refused:
            status = refused.code
            headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s is not None else None
            return web.json_response(refused.status, status=refused.code, headers=headers)
        finally:
            took = boottime() - began
            self.requests.append(
                Request(began, user, target.verb, target.resource, target.namespace, target.name, status, took)
            )

    def _authenticate(self, request: web.Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise unauthorized()
        return self.tokens[token]

    async def _answer(self, request: web.Request, target: _Target, user: str, began: float) -> web.StreamResponse:
        if target.kind is None:
            return self._discovery(request.path)
        self._authorize(user, target)
        faults = self.faults
        hit = faults.match(user, target.verb, target.resource)
        if hit:
            await self._misbehave(faults)
        if target.verb == "watch":
            return await self._watch(request, target)
        body = await _json(request) if target.verb in ("create", "update", "patch") else {}
        self._in_hand = (began, user, target.verb)
        answer = self._act(target, body)
        self._in_hand = (0.0, "", "")
        if hit and faults.after_s:
            await asyncio.sleep(faults.after_s)
        writes = target.verb in ("create", "update", "patch", "delete")
        if hit and writes and faults.drop_answer and random.random() < faults.drop_answer:
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _misbehave(self, faults: Faults) -> None:
        if faults.hang:
            await self._released.wait()
        if faults.before_s:
            await asyncio.sleep(faults.before_s)
        if faults.status is not None:
            reason = REASONS.get(faults.status, "InternalError")
            raise Refused(faults.status, reason, "the lab makes it so", retry_after_s=faults.retry_after_s)

    def _authorize(self, user: str, target: _Target) -> None:
        assert target.kind is not None
        rights = self.allowed.get(user, set())
        if ("*", "*") in rights or (target.verb, target.resource) in rights:
            return
        named = f'"{target.name}" ' if target.name else ""
        where = f' in the namespace "{target.namespace}"' if target.kind.namespaced else " at the cluster scope"
        raise Refused(
            403,
            "Forbidden",
            f'{target.kind.qualified} {named}is forbidden: User "{user}" cannot {target.verb} resource '
            f'"{target.resource}" in API group "{target.kind.group}"{where}',
        )

    def _act(self, target: _Target, body: Mapping[str, Any]) -> web.Response:
        kind, space, name, store = target.kind, target.namespace, target.name, self.store
        assert kind is not None
        match target.verb:
            case "get":
                return web.json_response(store.get(kind, space, name))
            case "list":
                return web.json_response(self._list(kind, target))
            case "create":
                return web.json_response(store.create(kind, space, body), status=201)
            case "update":
                known = any(o["metadata"]["name"] == name for o in store.all(kind, space))
                return web.json_response(store.update(kind, space, name, body), status=200 if known else 201)
            case "patch":
                return web.json_response(store.merge(kind, space, name, body))
            case "delete":
                return web.json_response(store.delete(kind, space, name))
        raise Refused(405, "MethodNotAllowed", f"the server does not allow this method: {target.verb}")

    def _list(self, kind: Kind, target: _Target) -> Object:
        items = [o for o in self.store.all(kind, target.namespace or None) if target.selects(o)]
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": str(self.store.version)},
            "items": items,
        }

    def _discovery(self, path: str) -> web.Response:
        match path.rstrip("/"):
            case "/healthz" | "/readyz" | "/livez":
                return web.Response(text="ok")
            case "/version":
                return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0-vipd-lab"})
            case "/api":
                return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
            case "/apis/coordination.k8s.io/v1" | "/api/v1":
                group = "coordination.k8s.io/v1" if "coordination" in path else "v1"
                names = [
                    {"name": k.resource, "kind": k.kind, "namespaced": k.namespaced, "singularName": k.kind.lower()}
                    for k in KINDS
                    if k.api_version == group
                ]
                return web.json_response({"kind": "APIResourceList", "groupVersion": group, "resources": names})
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    # ----------------------------------------------------------------------------------------- watch

    async def _watch(self, request: web.Request, target: _Target) -> web.StreamResponse:
        query = request.query
        version = query.get("resourceVersion", "")
        limit_s = float(query.get("timeoutSeconds") or random.uniform(1800, 3600))
        queue = self.store.subscribe()
        try:
            start, error = self._start_of(target, version)
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            for change in start:
                await _send(response, change.type, change.object)
            if error is not None:
                await _send(response, "ERROR", error.status)
                return response
            try:
                await self._follow(response, target, queue, boottime() + limit_s)
            except ConnectionResetError:
                return response  # the client went away
            return response
        finally:
            self.store.unsubscribe(queue)

    def _start_of(self, target: _Target, version: str) -> tuple[list[Change], Refused | None]:
        assert target.kind is not None
        if version in ("", "0"):
            objects = self.store.all(target.kind, target.namespace or None)
            added = [Change(0, "ADDED", target.kind, "", "", o) for o in objects if target.selects(o)]
            return added, None
        if not version.isdigit():
            raise bad_request(f'invalid resource version "{version}"')
        try:
            return [c for c in self.store.since(int(version)) if target.concerns(c)], None
        except Refused:
            return [], expired(int(version))

    async def _follow(
        self, response: web.StreamResponse, target: _Target, queue: asyncio.Queue[Change | None], until: float
    ) -> None:
        while not self._released.is_set():
            try:
                change = await asyncio.wait_for(queue.get(), max(0.0, until - boottime()))
            except TimeoutError:
                return
            if change is None:
                return
            if target.concerns(change) and not self.faults.mute_watches:
                await _send(response, change.type, change.object)


async def _send(response: web.StreamResponse, kind: str, body: Object) -> None:
    await response.write(json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n")


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, UnicodeDecodeError) as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from error
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type Object)")
    return body


@dataclass(frozen=True, slots=True)
class _Target:
    """What a URL asks for."""

    verb: str
    kind: Kind | None = None
    namespace: str = ""
    name: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        return self.kind.resource if self.kind else ""

    @classmethod
    def parse(cls, request: web.Request) -> _Target:
        parts = request.path.strip("/").split("/")
        if parts[:1] == ["api"]:
            version, rest = "/".join(parts[1:2]), parts[2:]
        else:
            version, rest = "/".join(parts[1:3]), parts[3:]
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = next((k for k in KINDS if rest and k.api_version == version and k.resource == rest[0]), None)
        name = rest[1] if len(rest) > 1 else ""
        verb = _verb(request, named=bool(name))
        query = request.query
        return cls(
            verb, kind, namespace, name, _selector(query.get("fieldSelector")), _selector(query.get("labelSelector"))
        )

    def selects(self, found: Object) -> bool:
        metadata = found["metadata"]
        fields = {"metadata.name": metadata["name"], "metadata.namespace": metadata.get("namespace", "")}
        labels = metadata.get("labels", {})
        return all(fields.get(k) == v for k, v in self.fields.items()) and all(
            labels.get(k) == v for k, v in self.labels.items()
        )

    def concerns(self, change: Change) -> bool:
        return change.kind is self.kind and self.namespace in ("", change.namespace) and self.selects(change.object)


def _verb(request: web.Request, *, named: bool) -> str:
    if request.method == "GET":
        if request.query.get("watch") in ("true", "1"):
            return "watch"
        return "get" if named else "list"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    return verbs.get(request.method, request.method.lower())


def _selector(text: str | None) -> dict[str, str]:
    pairs = (part.replace("==", "=").partition("=") for part in (text or "").split(",") if part)
    return {key: value for key, _, value in pairs}
