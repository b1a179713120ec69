"""The lab's IMDSv2: one for each node, on the link-local address in the node's namespace.

Session tokens as AWS has them (a PUT with a TTL, refused when it was forwarded, its answer limited to ``hop_limit``
hops), the part of the tree that tells of the node's ENIs, and instance role credentials.  A key without a value is
absent (404), as on a real instance: ``ipv6s`` of an ENI that has none, for example.

Source: EC2 User Guide, "Use the Instance Metadata Service" and "Instance metadata categories".
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from vipd.lab.ec2_actions import ACCOUNT
from vipd.lab.listener import Listener, drop
from vipd.lab.vpc import EniRecord, Vpc, boottime

ADDRESS = "169.254.169.254"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
MAX_TTL_S = 21600
ROLE = "lab-node"
USUAL_HOPS = 64
"""Linux's default TTL, which every answer but that of the token bears."""


@dataclass(slots=True)
class ImdsFaults:
    """What goes wrong at present; changed while running."""

    silent: bool = False
    """Accept and never answer, as it looks from a pod where packets are dropped on the way back."""
    status: int | None = None
    """Answer everything with this HTTP status (4xx or 5xx)."""
    delay_s: float = 0.0
    """Answer this much later."""


class Imds:
    """The metadata service of one instance."""

    def __init__(
        self,
        vpc: Vpc,
        instance_id: str,
        *,
        region: str = "us-east-2",
        access_key: str = "",
        hop_limit: int = 2,
    ) -> None:
        """``access_key``: of the instance role, one that EC2 knows; empty: the instance has no role."""
        self.vpc = vpc
        self.instance_id = instance_id
        self.region = region
        self.access_key = access_key
        self.credentials_valid_s = 6 * 3600.0
        self.hop_limit = hop_limit
        """1 to 64: how far the answer to a token request may travel (HttpPutResponseHopLimit)."""
        self.faults = ImdsFaults()
        self.requests = 0
        """How many came in."""
        self.credentials_given = 0
        """How often a role's credentials were handed out."""
        self._tokens: dict[str, float] = {}
        app = web.Application()
        app.router.add_put("/latest/api/token", self._token)
        app.router.add_get("/latest/{path:.*}", self._get)
        self._listener = Listener(app)
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """For AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        return self._listener.url

    async def start(self, sock: socket.socket | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Imds:
        """Serve on ``sock`` (bound, perhaps in another namespace; ours from now on) or on ``host:port``."""
        await self._listener.start(sock, host=host, port=port)
        return self

    async def refuse(self) -> None:
        """Be down: refuse connections and break those that exist, until ``resume``."""
        await self._listener.refuse()

    async def resume(self) -> None:
        """Serve again.  Tokens given out before are good still."""
        await self._listener.resume()

    async def stop(self) -> None:
        """End; requests that hang are dropped."""
        self._stopping.set()
        await self._listener.stop()

    def forget_tokens(self) -> None:
        """Tokens do not survive some maintenance of the host."""
        self._tokens.clear()

    # -------------------------------------------------------------------------------------- requests

    async def _misbehaved(self, request: web.Request) -> web.Response | None:
        """What a request meets in place of an answer, if anything."""
        self.requests += 1
        await asyncio.sleep(self.faults.delay_s)
        if self.faults.silent:
            await self._stopping.wait()
            return drop(request)
        if self.faults.status is not None:
            return web.Response(status=self.faults.status)
        return None

    async def _token(self, request: web.Request) -> web.Response:
        fault = await self._misbehaved(request)
        if fault is not None:
            return fault
        if "X-Forwarded-For" in request.headers:
            raise web.HTTPForbidden
        ttl = request.headers.get(TTL_HEADER, "")
        if not (ttl.isascii() and ttl.isdigit() and 1 <= int(ttl) <= MAX_TTL_S):
            raise web.HTTPBadRequest
        _limit_hops(request, self.hop_limit)
        token = secrets.token_urlsafe(40)
        self._tokens[token] = boottime() + int(ttl)
        return web.Response(text=token, headers={TTL_HEADER: ttl})

    async def _get(self, request: web.Request) -> web.Response:
        fault = await self._misbehaved(request)
        if fault is not None:
            return fault
        _limit_hops(request, USUAL_HOPS)
        if self._tokens.get(request.headers.get(TOKEN_HEADER, ""), 0.0) <= boottime():
            raise web.HTTPUnauthorized
        text = look_up(self.tree(), request.match_info["path"])
        if text is None:
            raise web.HTTPNotFound
        self.credentials_given += request.match_info["path"].endswith(f"security-credentials/{ROLE}")
        return web.Response(text=text)

    # ------------------------------------------------------------------------------------- the tree

    def tree(self) -> dict[str, str]:
        """Every key that has a value at present."""
        enis = sorted(
            (eni for eni in self.vpc.enis.values() if eni.instance_id == self.instance_id),
            key=lambda eni: eni.device_number,
        )
        tree = {
            "meta-data/instance-id": self.instance_id,
            "meta-data/placement/region": self.region,
            "meta-data/placement/availability-zone": f"{self.region}a",
        }
        if enis:
            tree["meta-data/mac"] = enis[0].mac
            tree["meta-data/local-ipv4"] = str(enis[0].primary)
        tree["dynamic/instance-identity/document"] = self._identity(enis)
        for eni in enis:
            for key, value in self._interface(eni).items():
                tree[f"meta-data/network/interfaces/macs/{eni.mac}/{key}"] = value
        if self.access_key:
            tree[f"meta-data/iam/security-credentials/{ROLE}"] = self._credentials()
        return {key: value for key, value in tree.items() if value}

    def _interface(self, eni: EniRecord) -> dict[str, str]:
        seen = self.vpc.imds_view(eni.id)
        return {
            "device-number": str(eni.device_number),
            "interface-id": eni.id,
            "ipv4-prefix": _lines(eni.prefixes4),
            "ipv6-prefix": _lines(eni.prefixes6),
            "ipv6s": _lines(a for a in seen if a.version == 6),
            "local-ipv4s": _lines(a for a in seen if a.version == 4),
            "mac": eni.mac,
            "owner-id": ACCOUNT,
            "subnet-id": eni.subnet.id,
            "subnet-ipv4-cidr-block": str(eni.subnet.cidr4),
            "subnet-ipv6-cidr-blocks": _lines(eni.subnet.cidrs6),
            "vpc-id": eni.subnet.vpc_id,
            "vpc-ipv4-cidr-block": str(eni.subnet.vpc_cidr4),
            "vpc-ipv4-cidr-blocks": str(eni.subnet.vpc_cidr4),
        }

    def _identity(self, enis: list[EniRecord]) -> str:
        return json.dumps(
            {
                "accountId": ACCOUNT,
                "availabilityZone": f"{self.region}a",
                "instanceId": self.instance_id,
                "instanceType": "m5.large",
                "privateIp": str(enis[0].primary) if enis else None,
                "region": self.region,
                "version": "2017-09-30",
            },
            indent=2,
        )

    def _credentials(self) -> str:
        now = datetime.now(UTC)
        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": _stamp(now),
                "Type": "AWS-HMAC",
                "AccessKeyId": self.access_key,
                "SecretAccessKey": "lab",
                "Token": "lab",
                "Expiration": _stamp(now + timedelta(seconds=self.credentials_valid_s)),
            },
            indent=2,
        )


def look_up(tree: dict[str, str], path: str) -> str | None:
    """The value at ``path``, or the list of what is below it (with a slash where there is more below), or None."""
    path = path.strip("/")
    if path in tree:
        return tree[path]
    folder = f"{path}/" if path else ""
    below = [key.removeprefix(folder) for key in tree if key.startswith(folder)]
    names = dict.fromkeys(name + slash for name, slash, _ in (key.partition("/") for key in below))
    return "\n".join(names) or None


def _lines(values: Iterable[object]) -> str:
    return "\n".join(str(value) for value in values)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _limit_hops(request: web.Request, hops: int) -> None:
    """How far what is sent on this connection from now on may travel."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None:
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
