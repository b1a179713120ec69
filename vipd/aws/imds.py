"""The instance metadata service, version 2: what this node knows of its ENIs without one call to EC2.

IMDS is link-local, so it answers in a millisecond or not at all.  Every call has a hard limit (0.3 s to connect,
0.5 s in all) and none ever goes through a proxy: a proxy's metadata are another machine's.  The session token is
kept, renewed before its end, and fetched anew when IMDS no longer knows it (401).

Source: EC2 User Guide, "Use the Instance Metadata Service" and "Instance metadata categories".
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import time
from collections.abc import Mapping

from vipd.aws.plainhttp import BadAnswer, ask
from vipd.core.model import Address, Eni, Network
from vipd.errors import AwsError, ConfigError

IPV4_ENDPOINT = "http://169.254.169.254"
IPV6_ENDPOINT = "http://[fd00:ec2::254]"
CONNECT_S = 0.3
TOTAL_S = 0.5
TOKEN_TTL_S = 21600
"""The longest that IMDS grants (6 hours)."""
RENEW_AT = 0.9
"""The part of its lifetime after which a token is renewed."""

MAX_BYTES = 65536
"""Far more than an ENI has addresses; what is longer is no answer of IMDS."""

AT_ONCE = 8
"""Requests at a time: IMDS allows 1024 packets a second for each ENI."""

_TOKEN = re.compile(r"[!-~]{1,1024}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ENI_ID = re.compile(r"eni-[0-9a-f]{1,32}")
_NUMBER = re.compile(r"[0-9]{1,4}")

_ENI_KEYS = (
    "interface-id",
    "device-number",
    "vpc-id",
    "subnet-ipv4-cidr-block",
    "subnet-ipv6-cidr-blocks",
    "local-ipv4s",
    "ipv4-prefix",
    "ipv6-prefix",
)
"""All asked for at the same time."""

MACS = "meta-data/network/interfaces/macs"
ADVICE = (
    "In a pod IMDS needs a hop limit of 2 (HttpPutResponseHopLimit) and no network policy against 169.254.169.254; "
    "with IMDS blocked pass --eni, --region and --subnet-cidr"
)


class ImdsError(AwsError):
    """IMDS gave no usable answer within its time."""


def endpoint_from(env: Mapping[str, str]) -> str:
    """Where IMDS is, by botocore's own settings: an endpoint, else a mode (IPv4 or IPv6), else the IPv4 address.

    Raises ConfigError for a mode that is neither.
    """
    explicit = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/")
    if explicit:
        return explicit
    mode = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() or "ipv4"
    if mode not in ("ipv4", "ipv6"):
        raise ConfigError(f"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE={mode!r}: allowed are IPv4 and IPv6")
    return IPV6_ENDPOINT if mode == "ipv6" else IPV4_ENDPOINT


class Imds:
    """A client for one event loop; makes no connection before it is asked for something."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        connect_s: float = CONNECT_S,
        total_s: float = TOTAL_S,
        token_ttl_s: int = TOKEN_TTL_S,
    ) -> None:
        """``endpoint`` None: as the environment says.  ``token_ttl_s``: 1 to 21600 seconds."""
        self.endpoint = endpoint or endpoint_from(os.environ)
        self._connect_s = connect_s
        self._total_s = total_s
        self._token_ttl_s = token_ttl_s
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._token = ""
        self._renew_at = 0.0
        self._token_lock = asyncio.Lock()

    async def get(self, path: str, *, timeout_s: float | None = None) -> str | None:
        """The text at ``/latest/<path>``; None where there is none (404).

        Ends within ``timeout_s`` (default 0.5 s), token and second try included.  Raises ImdsError.
        """
        limit = self._total_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit):
                return await self._get(path)
        except TimeoutError:
            raise ImdsError(f"IMDS at {self.endpoint}: no answer to {path} within {limit:g} s. {ADVICE}") from None

    async def ping(self, *, timeout_s: float | None = None) -> bool:
        """Whether IMDS answers at all."""
        try:
            return await self.get("meta-data/placement/region", timeout_s=timeout_s) is not None
        except ImdsError:
            return False

    async def region(self, *, timeout_s: float | None = None) -> str:
        """The Region of this instance.  Raises ImdsError."""
        region = await self.get("meta-data/placement/region", timeout_s=timeout_s)
        if not region:
            raise ImdsError(f"IMDS at {self.endpoint} does not tell the region; set AWS_REGION or pass --region")
        return self._like(_REGION, region.strip(), "a region")

    async def enis(self) -> dict[str, Eni]:
        """This node's ENIs by MAC (lower case).  Raises ImdsError."""
        listed = (await self.get(f"{MACS}/") or "").split()
        macs = [self._like(_MAC, line.strip("/").lower(), "a MAC") for line in listed]
        found = await asyncio.gather(*(self._eni(mac) for mac in macs))
        return {eni.mac: eni for eni in found if eni is not None}

    async def ipv4s(self, mac: str, *, timeout_s: float | None = None) -> tuple[Address, ...] | None:
        """The IPv4 addresses of that ENI, its primary first; None where it has none, or IMDS knows no such MAC."""
        listed = self._addresses(await self.get(f"{MACS}/{mac}/local-ipv4s", timeout_s=timeout_s), 4)
        if listed == ():
            raise self._nonsense("an ENI without its primary IPv4 address")
        return listed

    async def ipv6s(self, mac: str, *, timeout_s: float | None = None) -> tuple[Address, ...] | None:
        """The IPv6 addresses of that ENI; None where it has none (the key is absent), or IMDS knows no such MAC."""
        return self._addresses(await self.get(f"{MACS}/{mac}/ipv6s", timeout_s=timeout_s), 6)

    async def knows(self, eni: Eni, *, timeout_s: float | None = None) -> bool:
        """Whether IMDS says that this MAC is this ENI: then what it lists of it is complete.  Raises ImdsError."""
        told = await self.get(f"{MACS}/{eni.mac}/interface-id", timeout_s=timeout_s)
        return told is not None and told.strip() == eni.id

    async def close(self) -> None:
        """Nothing is kept between two questions, so there is nothing to give back yet."""

    async def _eni(self, mac: str) -> Eni | None:
        eni_id, number, vpc, ipv4, ipv6, own, *prefixes = await asyncio.gather(
            *(self.get(f"{MACS}/{mac}/{key}") for key in _ENI_KEYS)
        )
        if not eni_id:
            # It is just being attached or detached: listed already, or still, but without data.
            return None
        return Eni(
            id=self._like(_ENI_ID, eni_id.strip(), "an ENI id"),
            mac=mac,
            device_number=int(number) if number and _NUMBER.fullmatch(number.strip()) else 0,
            subnet_cidrs=self._networks(ipv4) + self._networks(ipv6),
            vpc_id=(vpc or "").strip(),
            primary=next(iter(self._addresses(own, 4) or ()), None),
            prefixes=tuple(network for text in prefixes for network in self._networks(text)),
        )

    async def _get(self, path: str) -> str | None:
        try:
            status, text = await self._ask(path, await self._fresh_token())
            if status == 401:
                # IMDS forgot the token (its host changed, or it restarted).
                self._renew_at = 0.0
                status, text = await self._ask(path, await self._fresh_token())
        except (BadAnswer, OSError) as error:
            told = _one_line(error) or type(error).__name__
            raise ImdsError(f"IMDS at {self.endpoint}: {path}: {told}. {ADVICE}") from error
        if status == 404:
            return None
        if status != 200:
            raise ImdsError(f"IMDS at {self.endpoint}: {path}: HTTP {status}. {ADVICE}")
        return text

    async def _ask(self, path: str, token: str) -> tuple[int, str]:
        return await self._request("GET", path, {"X-aws-ec2-metadata-token": token})

    async def _request(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        async with self._slots:
            url = f"{self.endpoint}/latest/{path}"
            status, body = await ask(method, url, headers, connect_s=self._connect_s, max_bytes=MAX_BYTES)
        try:
            # IMDS speaks ASCII, whatever the Content-Type says.
            return status, body.decode("ascii")
        except UnicodeDecodeError as error:
            raise self._nonsense("an answer that is no ASCII text") from error

    async def _fresh_token(self) -> str:
        async with self._token_lock:
            sent_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            if sent_at < self._renew_at:
                return self._token
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(self._token_ttl_s)}
            status, text = await self._request("PUT", "api/token", headers)
            if status != 200:
                raise ImdsError(f"IMDS at {self.endpoint}: no session token: HTTP {status}. {ADVICE}")
            self._token = self._like(_TOKEN, text.strip(), "a session token")
            self._renew_at = sent_at + RENEW_AT * self._token_ttl_s
            return self._token

    def _addresses(self, text: str | None, version: int) -> tuple[Address, ...] | None:
        try:
            found = None if text is None else tuple(ipaddress.ip_address(line) for line in text.split())
        except ValueError as error:
            raise self._nonsense(error) from error
        if found and any(address.version != version for address in found):
            raise self._nonsense(f"an address of the wrong family among the IPv{version} ones")
        return found

    def _networks(self, text: str | None) -> tuple[Network, ...]:
        try:
            return tuple(ipaddress.ip_network(line) for line in (text or "").split())
        except ValueError as error:
            raise self._nonsense(error) from error

    def _like(self, pattern: re.Pattern[str], text: str, what: str) -> str:
        """``text`` where it is what it should be.  Raises ImdsError."""
        if not pattern.fullmatch(text):
            raise self._nonsense(f"{text[:40]!r} is not {what}")
        return text

    def _nonsense(self, what: object) -> ImdsError:
        return ImdsError(
            f"IMDS at {self.endpoint}: {_one_line(what)}; something else than IMDS answers there. {ADVICE}"
        )


def _one_line(what: object) -> str:
    """What others say, fit for an error: garbage may be long, and have lines."""
    return " ".join(str(what).split())[:200]
