"""Waiting for interfaces that are not there yet, as when Multus has not finished: by events, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from vipd.core.ports import LinkChanged, MonitorResync
from vipd.errors import TimeUp
from vipd.link.kernel import KernelLink


async def wait_for_interface(kernel: KernelLink, names: Sequence[str], timeout_s: float) -> None:
    """Return once all of them exist and are up.  Raises TimeUp naming what is missing and what is there."""
    try:
        async with asyncio.timeout(timeout_s):
            async for event in kernel.events():
                if isinstance(event, LinkChanged | MonitorResync) and not await _missing(kernel, names):
                    return
    except TimeoutError:
        missing = ", ".join(await _missing(kernel, names))
        there = ", ".join(link.name for link in await kernel.links())
        raise TimeUp(
            f"interface {missing}: not there and up within {timeout_s:g} s (--interface-timeout); interfaces here: "
            f"{there}. Check the pod's network annotation, or name the right one with --vip ADDR%IF or --interface"
        ) from None


async def _missing(kernel: KernelLink, names: Sequence[str]) -> list[str]:
    up = {link.name for link in await kernel.links() if link.up}
    return [name for name in names if name not in up]
