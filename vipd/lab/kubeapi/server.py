"""The HTTP side of the lab's Kubernetes API: who asks, what goes wrong on purpose, what is remembered.

One object, in the caller's loop.  Objects outlive ``stop``: started again it is the same cluster, as an API server
is that comes back to its etcd.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from aiohttp import web

from vipd.lab.kubeapi.access import Access, Right
from vipd.lab.kubeapi.acts import Given, act, body_of, review
from vipd.lab.kubeapi.discovery import PUBLIC, discover
from vipd.lab.kubeapi.faults import Call, Faults
from vipd.lab.kubeapi.kinds import LEASES, Object
from vipd.lab.kubeapi.records import UNANSWERED, LeaseWrite, Request, boottime
from vipd.lab.kubeapi.status import Refused
from vipd.lab.kubeapi.store import Change, Store
from vipd.lab.kubeapi.suffering import Unanswered, refusal, suffer_after, suffer_before
from vipd.lab.kubeapi.target import Target, selected_name
from vipd.lab.kubeapi.watch import Options, Watch

__all__ = ["KubeApi", "LeaseWrite", "Request"]

HISTORY = 100_000
MAX_BODY_BYTES = 3 * 1024 * 1024
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
Listener = Callable[[LeaseWrite], None]


class KubeApi:
    """The server.  ``window``: changes that watches may go back; ``bookmark_s``: seconds between bookmarks."""

    def __init__(self, *, window: int = 10_000, history: int = HISTORY, bookmark_s: float = 60.0) -> None:
        self.store = Store(window=window)
        self.access = Access()
        self.faults = Faults()
        self.requests: deque[Request] = deque(maxlen=history)
        self.lease_writes: deque[LeaseWrite] = deque(maxlen=history)
        self.watches: set[Watch] = set()
        self.url = ""
        self.bookmark_s = bookmark_s
        self._listeners: list[Listener] = []
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[web.StreamResponse]] = set()
        self._writer: tuple[float, str, str] | None = None
        self.store.listeners.append(self._note_lease)

    # ---------------------------------------------------------------------------------- for the lab

    async def start(self, sock: socket.socket | None = None, *, host: str = "127.0.0.1", port: int = 0) -> KubeApi:
        """Serve on ``sock`` (bound; it may live in another network namespace) or on ``host:port``."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A watch must end when its client leaves; what is being carried out is shielded from that.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.SockSite(runner, sock) if sock is not None else web.TCPSite(runner, host, port)
        await site.start()
        self._runner = runner
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.url = f"http://{shown}:{bound[1]}"
        return self

    async def stop(self) -> None:
        """End; open watches and requests under way are dropped unanswered."""
        self.break_watches()
        for task in tuple(self._tasks):
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def add_user(self, user: str, token: str, rights: Iterable[Right] | None = None) -> None:
        """Know a token; without ``rights`` everything is allowed.  More: ``access``."""
        self.access.add_user(user, token, rights)

    def expire_token(self, token: str) -> None:
        """From now on the token is answered with 401; watches that it opened stay open, as in a real API server."""
        self.access.expire(token)

    def lease(self, namespace: str, name: str) -> Object | None:
        """The Lease as it is, or None.  Not to be changed."""
        return self.store.find(LEASES, namespace, name)

    def on_lease_write(self, callback: Listener) -> Callable[[], None]:
        """Call back for every Lease write, as it is applied; the returned function ends that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def compact(self) -> None:
        """Forget all past changes: a watch from an earlier version is told 410."""
        self.store.compact()

    def break_watches(self, *users: str, gracefully: bool = False) -> int:
        """End the open watches (of these users); their connections break, unless ``gracefully``.  How many."""
        return self._each_watch(users, lambda watch: watch.end(gracefully=gracefully))

    def freeze_watches(self, *users: str) -> int:
        """The watches open now (of these users) say nothing more: half-open connections.  New ones work.  How many."""

        def freeze(watch: Watch) -> None:
            watch.frozen = True

        return self._each_watch(users, freeze)

    def thaw_watches(self) -> None:
        """Frozen watches go on with what they held back."""
        for watch in self.watches:
            watch.frozen = False
        self.faults.wake()

    def _each_watch(self, users: tuple[str, ...], do: Callable[[Watch], None]) -> int:
        chosen = [watch for watch in self.watches if not users or watch.call.user in users]
        for watch in chosen:
            do(watch)
        return len(chosen)

    def _note_lease(self, change: Change) -> None:
        if change.resource != LEASES.resource:
            return
        now = boottime()
        began_at, user, verb = self._writer or (now, "", "")
        write = LeaseWrite(now, began_at, user, verb, change.object)
        self.lease_writes.append(write)
        for listener in tuple(self._listeners):
            listener(write)

    # ------------------------------------------------------------------------------------- requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        began = boottime()
        target = Target.parse(request.method, request.path, request.query)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            message = f"Request entity too large: limit is {MAX_BODY_BYTES}"
            return refusal(Refused(413, "RequestEntityTooLarge", message))
        given = Given(request.query, request.content_type, body)
        if target.verb == "watch":
            return await self._serve(request, target, given, began)
        # What has begun is carried out also when the client leaves, as by a real API server that has sent it to etcd.
        task = asyncio.get_running_loop().create_task(self._serve(request, target, given, began))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _serve(self, request: web.Request, target: Target, given: Given, began: float) -> web.StreamResponse:
        user = self.access.user_of(request.headers.get("Authorization", "")) or ""
        call = Call(user, target.verb, target.resource, target.name or selected_name(target, given.query))
        status, opened = UNANSWERED, None
        try:
            hits = await suffer_before(self.faults, call, request)
            if target.verb != "watch":
                done = self._carry_out(request, target, call, given, began)
                await suffer_after(hits, request)
                status = done.status
                return done
            asked = self._open(request, target, call, given)
            await suffer_after(hits, request)
            opened = asked
        except Refused as refused:
            status = refused.code
            return refusal(refused)
        except Unanswered:
            return web.Response(status=503)  # never sent: the connection is gone
        finally:
            if opened is None:
                self._note(call, target, began, status)
        return await self._stream(request, target, opened, began)

    def _note(self, call: Call, target: Target, began: float, status: int) -> None:
        self.requests.append(
            Request(
                began,
                call.user,
                call.verb,
                call.resource,
                target.namespace,
                call.name,
                status,
                boottime() - began,
            )
        )

    def _carry_out(self, request: web.Request, target: Target, call: Call, given: Given, began: float) -> web.Response:
        if target.kind is None:
            return self._beside_resources(request, given)
        user = self._permit(request, target, call)

        def may_create() -> None:
            self.access.authorize(user, "create", target.existing(), target.namespace, target.name)

        with self._writing(began, user, target.verb):
            done = act(self.store, target, given, may_create=may_create)
        return web.json_response(done.document, status=done.code)

    def _permit(self, request: web.Request, target: Target, call: Call) -> str:
        """The user.  Raises Refused: 401, then 404 for what is not served, then 403, then 406."""
        user = self.access.authenticate(request.headers.get("Authorization", ""))
        kind = target.existing()
        self.access.authorize(user, target.verb, kind, target.namespace, call.name)
        accepted = request.headers.get("Accept", "*/*")
        if not any(wanted in accepted for wanted in ("*/*", "application/*", "application/json")):
            message = "only the following media types are accepted: application/json"
            raise Refused(406, "NotAcceptable", message)
        return user

    @contextmanager
    def _writing(self, began: float, user: str, verb: str) -> Iterator[None]:
        self._writer = (began, user, verb)
        try:
            yield
        finally:
            self._writer = None

    def _beside_resources(self, request: web.Request, given: Given) -> web.Response:
        if request.path.startswith(PUBLIC):
            found = discover(request.path)
            return web.Response(text=found) if isinstance(found, str) else web.json_response(found)
        user = self.access.authenticate(request.headers.get("Authorization", ""))
        if request.path == REVIEWS and request.method == "POST":
            done = review(body_of(given), lambda verb, what, space: self.access.allowed(user, verb, what, space))
            return web.json_response(done.document, status=done.code)
        return web.json_response(discover(request.path))

    def _open(self, request: web.Request, target: Target, call: Call, given: Given) -> tuple[Watch, Options]:
        self._permit(request, target, call)
        options, selector = Options.parse(given.query), target.selector(given.query)
        kind = target.existing()
        watch = Watch(self.store, self.faults, call=call, kind=kind, namespace=target.namespace, selector=selector)
        return watch, options

    async def _stream(
        self, request: web.Request, target: Target, opened: tuple[Watch, Options], began: float
    ) -> web.StreamResponse:
        watch, options = opened
        self.watches.add(watch)
        try:
            self._note(watch.call, target, began, watch.begin(options))
            return await watch.serve(request, options, bookmark_s=self.bookmark_s)
        finally:
            self.watches.discard(watch)
            watch.close()
