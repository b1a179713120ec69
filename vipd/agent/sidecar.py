"""``vipd sidecar``: checks everything it depends on, then takes part in the election of its VIPs until told to stop.

Beside that it follows the pod's own addresses (``vipd.agent.follow_side``); without VIPs it does nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from vipd.agent.follow_lock import following_lock
from vipd.agent.follow_side import FollowSide, follow_only
from vipd.agent.member import (
    Member,
    Parts,
    bears_any,
    choose_fence,
    compose,
    find_aws,
    health_monitor,
    make_teller,
    reach_api,
    stop_signals,
    until_told,
    warm_announcer,
)
from vipd.announce.claims import PacketClaims
from vipd.config import SidecarSettings
from vipd.kube.connect import connect
from vipd.link.kernel import KernelLink
from vipd.link.lock import InstanceLock
from vipd.link.wait import wait_for_interface
from vipd.observe.metrics import Metrics


def run(settings: SidecarSettings, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    return asyncio.run(_run(settings, argv, environ))


async def _run(settings: SidecarSettings, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    stopping = stop_signals()
    if not settings.vips:
        return await follow_only(settings, argv, environ, stopping)
    async with AsyncExitStack() as stack:
        return await until_told(lambda: _prepare(settings, environ, stack), stopping, argv, environ)


async def _prepare(settings: SidecarSettings, environ: Mapping[str, str], stack: AsyncExitStack) -> Member:
    """Look at everything the election depends on; raises VipdError with what is wrong, having touched nothing."""
    lock = InstanceLock(f"{settings.namespace}/{settings.lease}")
    lock.acquire()
    stack.callback(lock.close)
    kernel = KernelLink()
    stack.push_async_callback(kernel.close)
    names = sorted({vip.interface for vip in settings.vips})
    await wait_for_interface(kernel, names, settings.interface_timeout_s)
    links = {name: link for name in names if (link := await kernel.link(name)) is not None}
    aws = await find_aws(settings, links, environ, stack)
    fence = choose_fence(settings, managed=aws is not None)
    client = await connect(environ=environ)
    stack.push_async_callback(client.close)
    await reach_api(client, settings, keeps=await bears_any(kernel, settings))
    metrics = Metrics(namespace=settings.namespace, lease=settings.lease)
    following = None
    if settings.follow:
        followed = following_lock(settings.follow_interfaces)
        followed.acquire()
        stack.callback(followed.close)
        following = FollowSide(settings, environ, kernel=kernel, registry=metrics.registry, shared=aws, client=client)
        stack.push_async_callback(following.close)
    parts = Parts(
        kernel=kernel,
        links=links,
        aws=aws,
        client=client,
        announcer=await warm_announcer(settings, links, stack),
        claims=PacketClaims(),
        monitor=health_monitor(settings, settings.checks),
        metrics=metrics,
        teller=make_teller(settings, client, metrics),
    )
    return compose(settings, fence, parts, following)
