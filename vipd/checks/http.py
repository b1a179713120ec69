"""``http://HOST:PORT/PATH`` and ``https://...``: a GET that is answered with 200 to 399, as the kubelet's probes go.

Redirects are not followed, certificates are not verified, no proxy is used, each attempt has a connection of its own,
and nothing but the status is read.  aiohttp is in memory anyhow, for the Kubernetes API and IMDS.
"""

from __future__ import annotations

import asyncio
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from vipd import __version__
from vipd.checks.detail import one_line, why
from vipd.checks.resolve import Target

HEADERS = {"User-Agent": f"vipd/{__version__}", "Accept": "*/*"}


class HttpCheck:
    """A ``vipd.core.ports.HealthCheck``."""

    def __init__(self, url: str, *, host: str, timeout_s: float) -> None:
        """``host`` is the URL's.  ``timeout_s`` bounds an attempt, the lookup of a name included."""
        self._url = url
        self._resolver = _Lookup(host)
        self._timeout_s = timeout_s

    def __str__(self) -> str:
        return self._url

    async def run(self) -> str | None:
        """One attempt; None: the status is 200 to 399."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._status()
        except TimeoutError:
            return f"no answer within {self._timeout_s:g}s"
        except aiohttp.ClientConnectorError as error:
            return why(error.os_error)
        except (aiohttp.ClientError, OSError) as error:
            return one_line(f"no HTTP answer: {error or type(error).__name__}")
        return None if 200 <= status <= 399 else f"status {status}"

    async def _status(self) -> int:
        connector = aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                headers=HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
            ) as session,
            session.get(self._url, allow_redirects=False, ssl=False) as response,
        ):
            return response.status


class _Lookup(AbstractResolver):
    """Gives aiohttp what ``resolve`` finds; see there why."""

    def __init__(self, host: str) -> None:
        self._target = Target(host, 0)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=found,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for found, address in await self._target.addresses()
        ]

    async def close(self) -> None:
        """Nothing is kept."""
