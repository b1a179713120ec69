"""The lab's EC2: the Query protocol over HTTP, so that unmodified AWS clients work, and EC2's manners with it.

Calls take time, are throttled by a token bucket for each action, can fail, hang, or be applied late.  What they may
do is decided by ``vipd.lab.vpc``.  A write is applied at the end of its latency, just before it is answered.
"""

from __future__ import annotations

import asyncio
import re
import socket
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aiohttp import web

from vipd.core.model import Address
from vipd.lab.vpc import Ec2Refusal, EniRecord, Vpc, boottime, parse_addresses

VERSION = "2016-11-15"
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/ec2/aws4_request")
WRITES = frozenset(
    {"AssignPrivateIpAddresses", "UnassignPrivateIpAddresses", "AssignIpv6Addresses", "UnassignIpv6Addresses"}
)
_STATUS = {"RequestLimitExceeded": 503, "Throttling": 400, "InternalError": 500, "Unavailable": 503}


@dataclass(frozen=True, slots=True)
class Call:
    """One request as EC2 saw it; ``outcome`` is "OK" or an error code."""

    started_at: float
    ended_at: float
    action: str
    caller: str
    eni: str
    addresses: tuple[Address, ...]
    outcome: str


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``capacity`` at once, ``refill`` a second."""

    capacity: float
    refill: float
    tokens: float = -1.0
    at: float = 0.0

    def take(self) -> bool:
        now = boottime()
        if self.tokens < 0:
            self.tokens = self.capacity
        else:
            self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.refill)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class Faults:
    """What goes wrong at present; changed while running."""

    error: str | None = None
    """Answer calls with this error code ..."""
    calls: int | None = None
    """... this many times (None: until it is cleared)."""
    hang: bool = False
    """Accept and never answer."""
    late_s: float | None = None
    """Never answer writes, but apply them this many seconds later."""
    denied: set[str] = field(default_factory=set)
    """Actions that the policy denies."""

    def next_error(self) -> str | None:
        if self.error is None or self.calls == 0:
            return None
        if self.calls is not None:
            self.calls -= 1
        return self.error


class Ec2:
    """The server."""

    def __init__(self, vpc: Vpc, *, write_s: float = 0.4, describe_s: float = 0.1) -> None:
        self.vpc = vpc
        self.write_s = write_s
        self.describe_s = describe_s
        self.faults = Faults()
        self.credentials: dict[str, str] = {}
        """Access key to caller."""
        self.buckets: dict[str, Bucket] = {}
        self.log: deque[Call] = deque(maxlen=100_000)
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()
        self._late: set[asyncio.TimerHandle] = set()

    async def start(self, sock: socket.socket | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Ec2:
        """Serve on ``sock`` (which may live in another namespace) or on ``host:port``."""
        app = web.Application()
        app.router.add_route("*", "/", self._handle)
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
        """End; requests that hang are dropped."""
        self._released.set()
        for handle in self._late:
            handle.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    # -------------------------------------------------------------------------------------- requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        started = boottime()
        form = {key: str(value) for key, value in (await request.post()).items()} | dict(request.query)
        action = form.get("Action", "")
        caller, outcome = "", "OK"
        try:
            caller = self._authenticate(request, action)
            body = await self._act(action, form, caller)
            return _xml(200, body)
        except Ec2Refusal as refusal:
            outcome = refusal.code
            return _error(refusal)
        finally:
            addresses = tuple(_addresses(form)) if action in WRITES else ()
            eni = form.get("NetworkInterfaceId", "")
            self.log.append(Call(started, boottime(), action, caller, eni, addresses, outcome))

    def _authenticate(self, request: web.Request, action: str) -> str:
        match = _CREDENTIAL.match(request.headers.get("Authorization", ""))
        if match is None or match[1] not in self.credentials:
            raise Ec2Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        if action in self.faults.denied:
            raise Ec2Refusal(
                "UnauthorizedOperation",
                f"You are not authorized to perform this operation. User: {self.credentials[match[1]]} "
                f"is not authorized to perform: ec2:{action}",
                403,
            )
        return self.credentials[match[1]]

    async def _act(self, action: str, form: Mapping[str, str], caller: str) -> str:
        handler = self._actions().get(action)
        if handler is None:
            raise Ec2Refusal("InvalidAction", f"The action {action} is not valid for this web service.")
        bucket = self.buckets.get(action)
        error = self.faults.next_error()
        if error is None and bucket is not None and not bucket.take():
            error = "RequestLimitExceeded"
        if error is not None:
            raise Ec2Refusal(error, "Request limit exceeded." if "Limit" in error else error, _STATUS.get(error, 400))
        if self.faults.hang:
            await self._released.wait()
        if action in WRITES and self.faults.late_s is not None:
            await self._apply_late(lambda: handler(form, caller))
        await asyncio.sleep(self.write_s if action in WRITES else self.describe_s)
        return handler(form, caller)

    async def _apply_late(self, apply: Callable[[], str]) -> None:
        """The client hears nothing, and the call is applied all the same."""

        def later() -> None:
            try:
                apply()
            except Ec2Refusal as refusal:
                self.log.append(Call(boottime(), boottime(), "late", "", "", (), refusal.code))

        assert self.faults.late_s is not None
        self._late.add(asyncio.get_running_loop().call_later(self.faults.late_s, later))
        await self._released.wait()

    def _actions(self) -> Mapping[str, Callable[[Mapping[str, str], str], str]]:
        return {
            "AssignPrivateIpAddresses": self._assign_v4,
            "UnassignPrivateIpAddresses": self._unassign_v4,
            "AssignIpv6Addresses": self._assign_v6,
            "UnassignIpv6Addresses": self._unassign_v6,
            "DescribeNetworkInterfaces": self._describe,
        }

    # --------------------------------------------------------------------------------------- actions

    def _assign_v4(self, form: Mapping[str, str], caller: str) -> str:
        addresses = _addresses(form)
        if not addresses:
            raise Ec2Refusal("MissingParameter", "The request must contain the parameter privateIpAddress")
        eni = form.get("NetworkInterfaceId", "")
        reassign = form.get("AllowReassignment", "false").lower() == "true"
        self.vpc.assign_v4(eni, addresses, reassign=reassign, by=caller)
        items = "".join(f"<item><privateIpAddress>{a}</privateIpAddress></item>" for a in addresses)
        return _answer(
            "AssignPrivateIpAddresses",
            f"<networkInterfaceId>{escape(eni)}</networkInterfaceId>"
            f"<assignedPrivateIpAddressesSet>{items}</assignedPrivateIpAddressesSet><return>true</return>",
        )

    def _unassign_v4(self, form: Mapping[str, str], caller: str) -> str:
        self.vpc.unassign_v4(form.get("NetworkInterfaceId", ""), _addresses(form), by=caller)
        return _answer("UnassignPrivateIpAddresses", "<return>true</return>")

    def _assign_v6(self, form: Mapping[str, str], caller: str) -> str:
        addresses, eni = _addresses(form), form.get("NetworkInterfaceId", "")
        self.vpc.assign_v6(eni, addresses, by=caller)
        items = "".join(f"<item>{a}</item>" for a in addresses)
        return _answer(
            "AssignIpv6Addresses",
            f"<assignedIpv6Addresses>{items}</assignedIpv6Addresses>"
            f"<networkInterfaceId>{escape(eni)}</networkInterfaceId>",
        )

    def _unassign_v6(self, form: Mapping[str, str], caller: str) -> str:
        addresses, eni = _addresses(form), form.get("NetworkInterfaceId", "")
        self.vpc.unassign_v6(eni, addresses, by=caller)
        items = "".join(f"<item>{a}</item>" for a in addresses)
        return _answer(
            "UnassignIpv6Addresses",
            f"<networkInterfaceId>{escape(eni)}</networkInterfaceId>"
            f"<unassignedIpv6Addresses>{items}</unassignedIpv6Addresses>",
        )

    def _describe(self, form: Mapping[str, str], caller: str) -> str:
        wanted = [form[k] for k in sorted(form) if k.startswith("NetworkInterfaceId.")]
        enis = [self.vpc.eni(eni) for eni in wanted] if wanted else list(self.vpc.enis.values())
        for key in sorted(k for k in form if re.fullmatch(r"Filter\.\d+\.Name", k)):
            values = {form[k] for k in form if k.startswith(key.removesuffix("Name") + "Value.")}
            enis = [eni for eni in enis if _filter_values(eni, form[key]) & values]
        items = "".join(_interface(eni) for eni in enis)
        return _answer("DescribeNetworkInterfaces", f"<networkInterfaceSet>{items}</networkInterfaceSet>")


def _addresses(form: Mapping[str, str]) -> list[Address]:
    keys = sorted(
        (k for k in form if re.fullmatch(r"(PrivateIpAddress|Ipv6Addresses)\.\d+", k)),
        key=lambda k: int(k.rpartition(".")[2]),
    )
    return parse_addresses(form[k] for k in keys)


def _filter_values(eni: EniRecord, name: str) -> set[str]:
    known = {
        "network-interface-id": {eni.id},
        "addresses.private-ip-address": {str(a) for a in (eni.primary, *eni.secondaries)},
        "private-ip-address": {str(a) for a in (eni.primary, *eni.secondaries)},
        "ipv6-addresses.ipv6-address": {str(a) for a in eni.ipv6s},
        "mac-address": {eni.mac},
        "subnet-id": {eni.subnet.id},
        "vpc-id": {eni.subnet.vpc_id},
        "attachment.instance-id": {eni.instance_id},
        **{f"tag:{key}": {value} for key, value in eni.tags.items()},
    }
    if name not in known and not name.startswith("tag:"):
        raise Ec2Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")
    return known.get(name, set())


def _interface(eni: EniRecord) -> str:
    fours = "".join(
        f"<item><privateIpAddress>{a}</privateIpAddress><primary>{str(a == eni.primary).lower()}</primary></item>"
        for a in (eni.primary, *eni.secondaries)
    )
    sixes = "".join(f"<item><ipv6Address>{a}</ipv6Address></item>" for a in eni.ipv6s)
    tags = "".join(
        f"<item><key>{escape(k)}</key><value>{escape(v)}</value></item>" for k, v in sorted(eni.tags.items())
    )
    return (
        f"<item><networkInterfaceId>{eni.id}</networkInterfaceId><subnetId>{eni.subnet.id}</subnetId>"
        f"<vpcId>{eni.subnet.vpc_id}</vpcId><macAddress>{eni.mac}</macAddress><status>in-use</status>"
        f"<privateIpAddress>{eni.primary}</privateIpAddress><attachment><instanceId>{eni.instance_id}</instanceId>"
        f"<deviceIndex>{eni.device_number}</deviceIndex><status>attached</status></attachment>"
        f"<privateIpAddressesSet>{fours}</privateIpAddressesSet><ipv6AddressesSet>{sixes}</ipv6AddressesSet>"
        f"<tagSet>{tags}</tagSet></item>"
    )


def _answer(action: str, inner: str) -> str:
    return (
        f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/{VERSION}/"><requestId>{uuid.uuid4()}</requestId>'
        f"{inner}</{action}Response>"
    )


def _xml(status: int, body: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return web.Response(status=status, text=text, content_type="text/xml", charset="UTF-8")


def _error(refusal: Ec2Refusal) -> web.Response:
    return _xml(
        refusal.status,
        f"<Response><Errors><Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error></Errors>"
        f"<RequestID>{uuid.uuid4()}</RequestID></Response>",
    )
