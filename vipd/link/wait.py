"""Waiting for interfaces that are not there yet, as when Multus has not finished: by events, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from vipd.core.model import LinkState
from vipd.core.ports import LinkChanged, MonitorResync
from vipd.errors import TimeUp
from vipd.link.kernel import KernelLink


async def wait_for_interface(kernel: KernelLink, names: Sequence[str], timeout_s: float) -> None:
    """Return once all of ``names`` exist and are up.

    Raises TimeUp after ``timeout_s`` seconds, naming what is missing or down and what is there; LinkError where the
    kernel does not answer.
    """
    if not _wanting(names, await _links(kernel)):
        return
    try:
        async with asyncio.timeout(timeout_s), aclosing(kernel.events()) as events:
            async for event in events:
                if isinstance(event, LinkChanged | MonitorResync) and not _wanting(names, await _links(kernel)):
                    return
    except TimeoutError:
        there = await _links(kernel)
        raise TimeUp(
            f"{', '.join(_wanting(names, there)) or 'interfaces came up too late'} after {timeout_s:g} s "
            f"(--interface-timeout); interfaces here: {', '.join(there)}. Check the pod's network annotation, or name "
            "the right interface with --vip ADDR%IF or --interface"
        ) from None


async def _links(kernel: KernelLink) -> Mapping[str, LinkState]:
    return {link.name: link for link in await kernel.links()}


def _wanting(names: Sequence[str], there: Mapping[str, LinkState]) -> list[str]:
    """What is wrong with the interfaces named, each as a clause."""
    absent = [f"there is no interface {name}" for name in names if name not in there]
    return absent + [f"interface {name} is down" for name in names if name in there and not there[name].up]
