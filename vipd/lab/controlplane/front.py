"""Stands between the lab and a real kube-apiserver: passes every request on, suffers faults, remembers what happened.

Clients meet it where the lab's own API would be, by plain HTTP; it speaks TLS to kube-apiserver with the caller's own
token, so that rights and answers are the real ones.  It gives the lab what its own API gives: the faults, the
requests, the Lease writes with their times, and each object as the newest answer to a write showed it.  What is not
written through it, it does not know.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import web

from vipd.kube.connect import never_resend
from vipd.lab.kubeapi.faults import Call, Fault, Faults
from vipd.lab.kubeapi.kinds import LEASES, Object
from vipd.lab.kubeapi.records import UNANSWERED, LeaseWrite, Request, boottime
from vipd.lab.kubeapi.status import Refused
from vipd.lab.kubeapi.suffering import Unanswered, refusal, suffer_after, suffer_before
from vipd.lab.kubeapi.target import Target, selected_name

HISTORY = 100_000
CONNECT_S = 5.0
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "host"})
"""Headers that are one connection's own (RFC 9110, section 7.6.1)."""

_WRITES = frozenset({"create", "update", "patch", "delete"})


class Front:
    """``upstream``: kube-apiserver's URL; ``tls``: how to trust it."""

    def __init__(self, upstream: str, tls: ssl.SSLContext) -> None:
        self.faults = Faults()
        self.requests: deque[Request] = deque(maxlen=HISTORY)
        self.lease_writes: deque[LeaseWrite] = deque(maxlen=HISTORY)
        self.users: dict[str, str] = {}
        """Bearer token -> name, for the records and the faults; kube-apiserver decides for itself."""
        self.url = ""
        self._upstream = upstream
        self._tls = tls
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[web.StreamResponse]] = set()

    # ---------------------------------------------------------------------------------- for the lab

    async def start(self, sock: socket.socket | None = None) -> None:
        """Serve on ``sock`` (bound; it may live in another network namespace), else on a free port of loopback."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        # A write that was sent twice would be a conflict with itself.
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, middlewares=(never_resend,)
        )
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.SockSite(runner, sock) if sock is not None else web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """End; requests under way are dropped unanswered."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object as it was after the newest write that went through here.  Not to be changed."""
        return self._objects.get((resource, namespace, name))

    def learn(self, resource: str, found: Object) -> None:
        """Know an object that was written another way."""
        metadata = found["metadata"]
        self._objects[resource, metadata.get("namespace", ""), metadata["name"]] = found

    def forget(self, resource: str, namespace: str, name: str) -> None:
        """Know that an object is gone."""
        self._objects.pop((resource, namespace, name), None)

    # ------------------------------------------------------------------------------------- requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        began = boottime()
        target = Target.parse(request.method, request.path, request.query)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self.users.get(token.strip(), "") if scheme.lower() == "bearer" else ""
        call = Call(user, target.verb, target.resource, target.name or selected_name(target, request.query))
        body = await request.read()
        if target.verb == "watch":
            return await self._serve(request, target, call, body, began)
        # What has begun is carried out also when the client leaves, as it is by a server that has read it.
        task = asyncio.get_running_loop().create_task(self._serve(request, target, call, body, began))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _serve(
        self, request: web.Request, target: Target, call: Call, body: bytes, began: float
    ) -> web.StreamResponse:
        status = UNANSWERED
        try:
            hits = await suffer_before(self.faults, call, request)
            async with self._send(request, body) as answer:
                if target.verb == "watch" and answer.status == 200:
                    self._note(call, target, began, 200)
                    return await self._stream(request, call, answer, hits)
                data = await answer.read()
                self._learn(call, target, answer.status, data, began)
                await suffer_after(hits, request)
                status = answer.status
                return web.Response(status=answer.status, headers=_kept(answer.headers), body=data)
        except Refused as refused:
            status = refused.code
            return refusal(refused)
        except (aiohttp.ClientError, ConnectionError):
            # Nobody is there, as for a client that asks kube-apiserver itself.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)  # never sent: the connection is gone
        except Unanswered:
            return web.Response(status=503)  # likewise
        finally:
            if target.verb != "watch":
                self._note(call, target, began, status)

    def _send(self, request: web.Request, body: bytes) -> Any:
        assert self._session is not None
        # Answers are read here, too.
        headers = _kept(request.headers) | {"Accept-Encoding": "identity"}
        url = self._upstream + str(request.rel_url)
        return self._session.request(request.method, url, headers=headers, data=body or None, allow_redirects=False)

    async def _stream(
        self, request: web.Request, call: Call, answer: aiohttp.ClientResponse, hits: list[Fault]
    ) -> web.StreamResponse:
        """A watch, as it comes; silent while a fault freezes it."""
        response = web.StreamResponse(headers=_kept(answer.headers))
        response.enable_chunked_encoding()
        await response.prepare(request)
        await suffer_after(hits, request)
        async for chunk in answer.content.iter_any():
            while self.faults.frozen(call):
                await self.faults.changed()
            await response.write(chunk)
        return response

    # -------------------------------------------------------------------------------------- records

    def _note(self, call: Call, target: Target, began: float, status: int) -> None:
        took_s = boottime() - began
        said = Request(began, call.user, call.verb, call.resource, target.namespace, call.name, status, took_s)
        self.requests.append(said)

    def _learn(self, call: Call, target: Target, status: int, data: bytes, began: float) -> None:
        """What a write that succeeded has changed."""
        if call.verb not in _WRITES or not 200 <= status < 300 or target.kind is None or target.rest:
            return
        found = json.loads(data)
        if call.verb == "delete":
            found = self._objects.pop((call.resource, target.namespace, target.name), None)
        else:
            known = self.find(call.resource, target.namespace, found["metadata"]["name"])
            if known is None or _version(found) > _version(known):
                self.learn(call.resource, found)
        if found is not None and call.resource == LEASES.resource:
            self.note_lease(LeaseWrite(boottime(), began, call.user, call.verb, found))

    def note_lease(self, write: LeaseWrite) -> None:
        """Remember a write in the order in which kube-apiserver made them, whichever answer came first."""
        later: list[LeaseWrite] = []
        if write.verb != "delete":
            while self.lease_writes and _version(self.lease_writes[-1].object) > _version(write.object):
                later.append(self.lease_writes.pop())
        self.lease_writes.append(write)
        self.lease_writes.extend(reversed(later))


def _version(found: Object) -> int:
    return int(found["metadata"].get("resourceVersion") or 0)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in _HOP_BY_HOP}
