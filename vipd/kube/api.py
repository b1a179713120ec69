"""One request to the Kubernetes API, ended in time, with a value for every way it can go.

This is the only place that knows aiohttp's and kubernetes.aio's exceptions.  No request is repeated here and none
waits for a rate limiter: who renews a Lease decides himself, and in time, whether to try again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from vipd.core.model import CallFailed, CallFailure

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

MAX_BODY_BYTES = 8 * 1024 * 1024
"""etcd takes objects of 1.5 MB; what is far larger is no answer of an API server (a list of Leases may be long)."""

_DETAIL_CHARS = 500

_FAILURES = {
    401: CallFailure.UNAUTHORIZED,
    403: CallFailure.FORBIDDEN,
    408: CallFailure.TIMEOUT,
    429: CallFailure.THROTTLED,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer.  ``body`` is the parsed JSON, or None where it is none."""

    status: int
    body: Any
    detail: str = ""
    """For people: the Status message of the API, or the beginning of what came instead."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """The ``reason`` of the Status object, such as NotFound, AlreadyExists or Expired."""
        reason = self.body.get("reason") if isinstance(self.body, dict) else None
        return reason if isinstance(reason, str) else ""

    def failed(self) -> CallFailed:
        """What an answer that is no success, and has no meaning of its own to the caller, comes to."""
        default = CallFailure.SERVER if self.status >= 500 else CallFailure.INVALID
        return CallFailed(_FAILURES.get(self.status, default), f"HTTP {self.status}: {self.detail}")


class Api:
    """Bounded calls over one ApiClient."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @property
    def host(self) -> str:
        """The base URL, for messages."""
        return str(self._client.configuration.host)

    async def call(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        query: Sequence[tuple[str, str]] = (),
        body: dict[str, Any] | None = None,
        content_type: str = JSON,
    ) -> Reply | CallFailed:
        """One request and its whole answer within ``timeout_s`` seconds, connecting included.

        A connection whose request ran out of time is closed, not given back: its late answer would be taken for
        that of the next request, and a path that swallows packets would swallow the next ones too.
        """
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._send(method, path, query=query, body=body, content_type=content_type)
                try:
                    return reply_from(response.status, await _bounded_body(response), response.headers)
                finally:
                    # A complete body has given the connection back to the pool already; any other ends it.
                    if not response.content.at_eof():
                        response.close()
        except TimeoutError:
            return CallFailed(CallFailure.TIMEOUT, f"{method} {path}: no answer from {self.host} within {timeout_s} s")
        except (aiohttp.ClientError, OSError) as error:
            return self.lost(f"{method} {path}", error)

    async def open(self, path: str, *, query: Sequence[tuple[str, str]]) -> aiohttp.ClientResponse:
        """Begin a GET whose answer is read as it comes (a watch).

        The caller bounds it in time, closes the response, and turns aiohttp.ClientError and OSError into values
        with ``lost``.
        """
        return await self._send("GET", path, query=query, body=None, content_type=JSON)

    async def _send(
        self, method: str, path: str, *, query: Sequence[tuple[str, str]], body: Any, content_type: str
    ) -> aiohttp.ClientResponse:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params={"Accept": JSON, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        # The limits are the caller's asyncio.timeout; aiohttp rounds its own up to whole seconds beyond 5 s.
        reply = await self._client.call_api(*request, _request_timeout=aiohttp.ClientTimeout(total=None))
        response: aiohttp.ClientResponse = reply.response
        if response.status == 401:
            # Who gives the token may have a new one (vipd.kube.connect.ExecToken).
            refused = getattr(self._client.configuration.refresh_api_key_hook, "refused", None)
            if refused is not None:
                refused()
        return response

    def lost(self, what: str, error: Exception) -> CallFailed:
        """No answer, or one that is not HTTP."""
        failure = CallFailure.UNREACHABLE
        if isinstance(error, TimeoutError):
            failure = CallFailure.TIMEOUT
        elif isinstance(error, aiohttp.ClientResponseError):
            failure = CallFailure.INVALID
        return CallFailed(failure, f"{what} at {self.host}: {str(error) or type(error).__name__}"[:_DETAIL_CHARS])


def reply_from(status: int, body: bytes | None, headers: Any = None) -> Reply:
    """Sort what came: ``body`` None means more than MAX_BODY_BYTES."""
    if body is None:
        return Reply(status, None, f"more than {MAX_BODY_BYTES} bytes")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return Reply(status, None, _printable(body[: _DETAIL_CHARS * 4].decode("utf-8", "replace")))
    message = parsed.get("message") if isinstance(parsed, dict) else None
    detail = _printable(message) if isinstance(message, str) else ""
    wait = headers.get("Retry-After") if headers is not None and status in (429, 503) else None
    return Reply(status, parsed, f"{detail} (Retry-After: {wait})" if wait else detail)


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(chunk)
    return b"".join(parts)


def _printable(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())[:_DETAIL_CHARS]
