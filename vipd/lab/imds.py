"""The lab's IMDSv2: one for each node, on the link-local address in the node's namespace.

Session tokens as AWS has them (a PUT with a TTL, refused when it was forwarded), the part of the tree that tells of the
node's ENIs, and instance role credentials.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from dataclasses import dataclass

from aiohttp import web

from vipd.lab.vpc import EniRecord, Vpc, boottime

ADDRESS = "169.254.169.254"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
MAX_TTL_S = 21600
ROLE = "lab-node"


@dataclass(slots=True)
class ImdsFaults:
    """What goes wrong at present."""

    silent: bool = False
    """Accept and never answer, as a hop limit of 1 looks from a pod."""
    status: int | None = None


class Imds:
    """The metadata service of one instance."""

    def __init__(self, vpc: Vpc, instance_id: str, *, region: str = "us-east-2", access_key: str = "") -> None:
        self.vpc = vpc
        self.instance_id = instance_id
        self.region = region
        self.access_key = access_key
        self.faults = ImdsFaults()
        self.requests = 0
        self.url = ""
        self._tokens: dict[str, float] = {}
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()

    async def start(self, sock: socket.socket | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Imds:
        """Serve on ``sock`` (which may live in another namespace) or on ``host:port``."""
        app = web.Application()
        app.router.add_put("/latest/api/token", self._token)
        app.router.add_get("/latest/{path:.*}", self._get)
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
        if self._runner is not None:
            await self._runner.cleanup()

    async def _fail(self) -> None:
        self.requests += 1
        if self.faults.silent:
            await self._released.wait()
        if self.faults.status is not None:
            raise web.HTTPException(reason="fault") if self.faults.status == 0 else _http_error(self.faults.status)

    async def _token(self, request: web.Request) -> web.Response:
        await self._fail()
        if "X-Forwarded-For" in request.headers:
            raise web.HTTPForbidden
        ttl = request.headers.get(TTL_HEADER, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= MAX_TTL_S:
            raise web.HTTPBadRequest
        token = secrets.token_urlsafe(40)
        self._tokens[token] = boottime() + int(ttl)
        return web.Response(text=token, headers={TTL_HEADER: ttl})

    async def _get(self, request: web.Request) -> web.Response:
        await self._fail()
        if self._tokens.get(request.headers.get(TOKEN_HEADER, ""), 0.0) <= boottime():
            raise web.HTTPUnauthorized
        text = self._lookup(request.match_info["path"])
        if text is None:
            raise web.HTTPNotFound
        return web.Response(text=text)

    def forget_tokens(self) -> None:
        """Tokens do not survive some maintenance of the host."""
        self._tokens.clear()

    # ------------------------------------------------------------------------------------- the tree

    def _lookup(self, path: str) -> str | None:
        macs = "meta-data/network/interfaces/macs"
        if path.rstrip("/") == macs:
            return "\n".join(f"{eni.mac}/" for eni in self._enis())
        if path.startswith(f"{macs}/"):
            mac, _, key = path.removeprefix(f"{macs}/").partition("/")
            eni = next((e for e in self._enis() if e.mac == mac.lower()), None)
            return None if eni is None else self._eni_key(eni, key.rstrip("/"))
        return self._instance_key(path.rstrip("/"))

    def _enis(self) -> list[EniRecord]:
        return [eni for eni in self.vpc.enis.values() if eni.instance_id == self.instance_id]

    def _eni_key(self, eni: EniRecord, key: str) -> str | None:
        seen = self.vpc.imds_view(eni.id)
        cidr6 = eni.subnet.cidr6
        tree = {
            "interface-id": eni.id,
            "device-number": str(eni.device_number),
            "mac": eni.mac,
            "subnet-id": eni.subnet.id,
            "vpc-id": eni.subnet.vpc_id,
            "owner-id": "123456789012",
            "subnet-ipv4-cidr-block": str(eni.subnet.cidr4),
            "vpc-ipv4-cidr-block": str(eni.subnet.cidr4),
            "local-ipv4s": "\n".join(str(a) for a in seen if a.version == 4),
            "ipv6s": "\n".join(str(a) for a in seen if a.version == 6),
            "subnet-ipv6-cidr-blocks": str(cidr6) if cidr6 else "",
            "ipv4-prefix": "\n".join(map(str, eni.prefixes)),
        }
        if not key:
            return "\n".join(name for name, value in tree.items() if value)
        # An empty key is absent, as AWS has it: 404.
        return tree.get(key) or None

    def _instance_key(self, path: str) -> str | None:
        credentials = "meta-data/iam/security-credentials"
        tree = {
            "meta-data/placement/region": self.region,
            "meta-data/placement/availability-zone": f"{self.region}a",
            "meta-data/instance-id": self.instance_id,
            "dynamic/instance-identity/document": json.dumps(
                {"region": self.region, "instanceId": self.instance_id, "accountId": "123456789012"}
            ),
        }
        if self.access_key:
            tree[credentials] = ROLE
            tree[f"{credentials}/{ROLE}"] = json.dumps(
                {
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "LastUpdated": "2026-01-01T00:00:00Z",
                    "AccessKeyId": self.access_key,
                    "SecretAccessKey": "lab",
                    "Token": "lab",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
            )
        return tree.get(path)


def _http_error(status: int) -> web.HTTPException:
    error = web.HTTPInternalServerError()
    error.set_status(status)
    return error
