"""The lab's EC2: the Query protocol over HTTP, so that unmodified AWS clients work, and EC2's manners with it.

Calls take time, are throttled by a token bucket for each action, can fail, hang, or be applied late.  What they may
do is decided by ``vipd.lab.vpc``.  The order is EC2's: credentials, throttling, policy, and then, at the end of its
latency and just before the answer, the call itself.  A client that gives up in between changes nothing about that.

Of the signature (SigV4) only the access key and the Region are looked at: the secrets of a lab are worth nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from dataclasses import dataclass

from aiohttp import web

from vipd.core.model import Address
from vipd.lab import ec2_xml
from vipd.lab.ec2_actions import ACTIONS, WRITES, Content, Form, addresses_of
from vipd.lab.ec2_faults import DROP, HANG, MESSAGES, STATUS, Bucket, Faults
from vipd.lab.listener import Listener, drop
from vipd.lab.vpc import Ec2Refusal, Vpc, boottime

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/\d{8}/(?P<region>[^/]+)/ec2/aws4_request,.*Signature=\S+"
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as EC2 saw it, times on CLOCK_BOOTTIME.

    ``outcome``: "OK", an error code, or what kept it from being done ("hang", "drop").  A write that was applied late
    ended when it was applied; its caller never heard of it (``answered``).
    """

    started_at: float
    ended_at: float
    action: str
    caller: str
    eni: str
    addresses: tuple[Address, ...]
    outcome: str
    answered: bool = True


class Unanswered(Exception):
    """The client gets no answer; ``why`` is HANG, DROP, or "late"."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that is under way."""

    started_at: float
    action: str
    caller: str
    form: Form


class Ec2:
    """The server.  ``write_s`` and ``describe_s``: how long calls take; ``latency_s`` has the actions that differ."""

    def __init__(self, vpc: Vpc, *, write_s: float = 0.4, describe_s: float = 0.1, region: str = "us-east-2") -> None:
        self.vpc = vpc
        self.write_s = write_s
        self.describe_s = describe_s
        self.latency_s: dict[str, float] = {}
        self.region = region
        self.faults = Faults()
        self.credentials: dict[str, str] = {}
        """Access key to caller."""
        self.buckets = {action: Bucket(50, 5) if action in WRITES else Bucket(100, 20) for action in ACTIONS}
        """The default rates of the EC2 Developer Guide for mutating and for describing actions."""
        self.log: deque[Call] = deque(maxlen=100_000)
        """The calls in the order in which they ended."""
        app = web.Application()
        app.router.add_route("*", "/", self._handle)
        self._listener = Listener(app)
        self._stopping = asyncio.Event()
        self._late: set[asyncio.TimerHandle] = set()

    @property
    def url(self) -> str:
        """For AWS_ENDPOINT_URL_EC2."""
        return self._listener.url

    async def start(self, sock: socket.socket | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Ec2:
        """Serve on ``sock`` (bound, perhaps in another namespace; ours from now on) or on ``host:port``."""
        await self._listener.start(sock, host=host, port=port)
        return self

    async def refuse(self) -> None:
        """Refuse connections and break those that exist, until ``resume``."""
        await self._listener.refuse()

    async def resume(self) -> None:
        """Serve again."""
        await self._listener.resume()

    async def stop(self) -> None:
        """End.  Calls that hang are dropped, writes that were to be applied late are not applied any more."""
        self._stopping.set()
        for handle in self._late:
            handle.cancel()
        self._late.clear()
        await self._listener.stop()

    # -------------------------------------------------------------------------------------- requests

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        started = boottime()
        form = {key: str(value) for key, value in (await http.post()).items()} | dict(http.query)
        action = form.get("Action", "")
        request = _Request(started, action, "", form)
        try:
            request = _Request(started, action, self._authenticate(http), form)
            content = await self._act(request)
        except Ec2Refusal as refusal:
            self._note(request, refusal.code)
            return ec2_xml.error(refusal.code, refusal.message, status=refusal.status)
        except Unanswered as fault:
            if fault.why != DROP:
                await self._stopping.wait()
            return drop(http)
        self._note(request, "OK")
        return ec2_xml.answer(action, content)

    def _authenticate(self, http: web.Request) -> str:
        """The caller.  Raises Ec2Refusal."""
        match = _CREDENTIAL.fullmatch(http.headers.get("Authorization", ""))
        if match is None or match["key"] not in self.credentials:
            raise _refusal("AuthFailure")
        if match["region"] != self.region:
            message = f"Credential should be scoped to a valid Region, not '{match['region']}'."
            raise Ec2Refusal("AuthFailure", message, STATUS["AuthFailure"])
        if match["key"] in self.faults.expired:
            raise _refusal(self.faults.expired[match["key"]])
        return self.credentials[match["key"]]

    async def _act(self, request: _Request) -> Content:
        """Raises Ec2Refusal, and Unanswered for a call whose fate has been noted already or is noted later."""
        action, form = request.action, request.form
        if action not in ACTIONS:
            raise Ec2Refusal("InvalidAction", f"The action {action} is not valid for this web service.")
        error = self.faults.next_error(action)
        if error is None and not self.buckets[action].take():
            error = "RequestLimitExceeded"
        if error in (HANG, DROP):
            self._note(request, error, answered=False)
            raise Unanswered(error)
        if error is not None:
            raise _refusal(error)
        if self.faults.denies(request.caller, action):
            raise _refusal(
                "UnauthorizedOperation",
                f"You are not authorized to perform this operation. User: {request.caller} "
                f"is not authorized to perform: ec2:{action}",
            )
        if form.get("DryRun", "false").lower() == "true":
            raise _refusal("DryRunOperation")
        late_s = self.faults.next_late() if action in WRITES else None
        if late_s is not None:
            self._apply_late(request, late_s)
            raise Unanswered("late")
        hold = self.faults.held.get(request.caller) if action in WRITES else None
        if hold is not None:
            hold.waiting += 1
            await hold.released.wait()
        else:
            await asyncio.sleep(self._latency_s(action))
        return ACTIONS[action](self.vpc, form, request.caller)

    def _latency_s(self, action: str) -> float:
        return self.latency_s.get(action, self.write_s if action in WRITES else self.describe_s)

    def _apply_late(self, request: _Request, late_s: float) -> None:
        def apply() -> None:
            self._late.discard(handle)
            try:
                ACTIONS[request.action](self.vpc, request.form, request.caller)
            except Ec2Refusal as refusal:
                self._note(request, refusal.code, answered=False)
            else:
                self._note(request, "OK", answered=False)

        handle = asyncio.get_running_loop().call_later(late_s, apply)
        self._late.add(handle)

    def _note(self, request: _Request, outcome: str, *, answered: bool = True) -> None:
        form = request.form
        try:
            addresses = tuple(addresses_of(form))
        except Ec2Refusal:
            addresses = ()
        eni = form.get("NetworkInterfaceId", "")
        self.log.append(
            Call(request.started_at, boottime(), request.action, request.caller, eni, addresses, outcome, answered)
        )


def _refusal(code: str, message: str = "") -> Ec2Refusal:
    return Ec2Refusal(code, message or MESSAGES.get(code, code), STATUS.get(code, 400))
