"""How a request suffers the faults that hit it: what comes before it is carried out, and what becomes of its answer."""

from __future__ import annotations

import asyncio

from aiohttp import web

from vipd.lab.kubeapi.faults import Call, Fault, Faults
from vipd.lab.kubeapi.status import REASONS, Refused


class Unanswered(Exception):
    """Nobody is there to be answered, or nobody is to be."""


async def suffer_before(faults: Faults, call: Call, request: web.Request) -> list[Fault]:
    """Suffer what comes before the request is carried out; the faults that hit it.  Raises Refused, Unanswered."""
    hits = faults.hits(call)
    for fault in hits:
        if fault.hang:
            await faults.over(fault)
            if request.transport is None or request.transport.is_closing():
                raise Unanswered
        if fault.before_s:
            await asyncio.sleep(fault.before_s)
        if fault.status is not None:
            reason = REASONS.get(fault.status, "")
            raise Refused(fault.status, reason, fault.message, retry_after_s=fault.retry_after_s)
    return hits


async def suffer_after(hits: list[Fault], request: web.Request) -> None:
    """Suffer what comes after the request was carried out.  Raises Unanswered."""
    for fault in hits:
        if fault.after_s:
            await asyncio.sleep(fault.after_s)
        if fault.drop:
            if request.transport is not None:
                request.transport.abort()
            raise Unanswered


def refusal(refused: Refused) -> web.Response:
    """The HTTP answer of a refusal."""
    headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s is not None else None
    return web.json_response(refused.status, status=refused.code, headers=headers)
