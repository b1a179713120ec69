"""Small servers of the AWS tests that answer as a test tells them, and the clock of all rights."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Scripted:
    """An HTTP server on loopback whose handler a test may replace at any time."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    handler: Handler | None = None
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the end of the test: what a handler waits for that is never to answer."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        self.requests.append(str(form["Action"]) if "Action" in form else f"{request.method} {request.path}")
        assert self.handler is not None
        return await self.handler(request)


def ec2_done(action: str) -> web.Response:
    """EC2's answer to a write that was applied."""
    ns = "http://ec2.amazonaws.com/doc/2016-11-15/"
    done = "<requestId>0</requestId><return>true</return>"
    return web.Response(text=f'<{action}Response xmlns="{ns}">{done}</{action}Response>')


def ec2_error(code: str, message: str = "as the test wants it", status: int = 400) -> web.Response:
    """EC2's answer to a call that it refuses."""
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return web.Response(status=status, text=f"<Response><Errors>{error}</Errors><RequestID>0</RequestID></Response>")


def now() -> float:
    """Seconds on CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
