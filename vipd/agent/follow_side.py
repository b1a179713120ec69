"""The following side of ``vipd sidecar``: by itself in a pod without VIPs, or beside the election.

By itself it needs no Kubernetes API: the client is loaded when there is an Event to write, and without a right to
write Events nothing is lost but the Event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from vipd import __version__
from vipd.agent.aws import AwsSide
from vipd.agent.clock import SystemClock
from vipd.agent.enis import Enis
from vipd.agent.follow_aws import FollowAws
from vipd.agent.follow_lock import following_lock
from vipd.agent.follow_witness import FollowTeller
from vipd.agent.follower import Follower
from vipd.agent.reloading import Reloading, on_signals
from vipd.agent.surroundings import Choice
from vipd.announce.claims import PacketClaims
from vipd.config import SidecarSettings
from vipd.core import timing
from vipd.core.following import FollowConfig
from vipd.errors import VipdError
from vipd.kube.events import EventWriter
from vipd.kube.members import PodRef
from vipd.link.kernel import KernelLink
from vipd.observe.following import FollowMetrics, following_ready, following_rows
from vipd.observe.http import ObserveServer
from vipd.observe.logs import fields

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

log = logging.getLogger("vipd")

DESCRIBE_SLOW_S = 60.0
"""Where IMDS is blocked EC2 itself is asked, and every pod shares its account's token bucket."""


class FollowSide:
    """Composed from settings; ``run`` follows until cancelled."""

    def __init__(
        self,
        settings: SidecarSettings,
        environ: Mapping[str, str],
        *,
        kernel: KernelLink,
        registry: CollectorRegistry,
        shared: AwsSide | None = None,
        client: ApiClient | None = None,
    ) -> None:
        """``shared`` and ``client``: what the election of this process has of AWS and of Kubernetes."""
        self._settings, self._environ, self._client = settings, environ, client
        self._clock = SystemClock()
        self._writer: EventWriter | None = None
        self._own_client: ApiClient | None = None
        self._teller = FollowTeller(FollowMetrics(registry), events=self._events if settings.pod.name else None)
        # With VIPs and --eni the operator told one ENI for each VIP interface; others are asked for in IMDS.
        self._aws = FollowAws(
            region=settings.region, environ=environ, shared=shared, blind=bool(settings.eni_ids) and shared is None
        )
        self.follower = Follower(
            self._config(),
            Choice(
                interfaces=settings.follow_interfaces,
                pod_ips=settings.pod.ips,
                skip=frozenset(vip.address for vip in settings.vips),
                ignore=settings.ignore,
            ),
            kernel=kernel,
            clock=self._clock,
            aws=self._aws,
            enis=Enis(self._aws.imds, eni_ids=settings.eni_ids, subnet_cidrs=settings.subnet_cidrs),
            witness=self._teller,
            claims=PacketClaims() if settings.release else None,
        )

    def _config(self) -> FollowConfig:
        release_after_s = self._settings.release_after_s if self._settings.release else None
        if self._settings.eni_ids:
            return FollowConfig(
                release_after_s=release_after_s, ask_fast_s=timing.DESCRIBE_FAST_S, ask_slow_s=DESCRIBE_SLOW_S
            )
        return FollowConfig(release_after_s=release_after_s)

    async def run(self) -> None:
        """Until cancelled."""
        await self.follower.run()

    def ready(self) -> tuple[bool, str]:
        """For ``/readyz``."""
        return following_ready(self.follower.state, began=self.follower.began)

    def excuse(self) -> str:
        """None: an election that is not well is not, whatever is followed."""
        return ""

    def status(self) -> dict[str, object]:
        """For ``/status``."""
        return {"following": following_rows(self.follower.state, self._clock.now())}

    async def close(self) -> None:
        """Give back what is its own."""
        await self._teller.close()
        await self._aws.close()
        if self._own_client is not None:
            await self._own_client.close()

    async def _events(self) -> EventWriter | None:
        if self._writer is None:
            client = self._client
            if client is None:
                from vipd.kube.connect import connect

                try:
                    client = self._own_client = await connect(environ=self._environ)
                except VipdError as error:
                    log.debug("no Events are written: %s", error)
                    return None
            pod = self._settings.pod
            about = PodRef(namespace=pod.namespace or self._settings.namespace, name=pod.name, uid=pod.uid or "")
            self._writer = EventWriter(client, about=about, instance=self._settings.identity)
        return self._writer


async def follow_only(
    settings: SidecarSettings, argv: Sequence[str], environ: Mapping[str, str], stopping: asyncio.Event
) -> int:
    """``vipd sidecar`` without VIPs, until told to stop; the exit code."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    async with AsyncExitStack() as stack:
        lock = following_lock(settings.follow_interfaces)
        lock.acquire()
        stack.callback(lock.close)
        kernel = KernelLink()
        stack.push_async_callback(kernel.close)
        side = FollowSide(settings, environ, kernel=kernel, registry=registry)
        stack.push_async_callback(side.close)

        def status() -> dict[str, object]:
            return {"version": __version__, "identity": settings.identity, **side.status()}

        on_signals(Reloading(settings, argv, environ).again, status)
        if settings.listen is not None:
            server = ObserveServer(
                settings.listen,
                health=lambda: (True, "the loop turns"),
                ready=side.ready,
                status=status,
                metrics=lambda: generate_latest(registry),
            )
            await server.start()
            stack.push_async_callback(server.stop)
        log.info("following the addresses of this pod", extra=fields(identity=settings.identity))
        await until_stopped(side.run(), stopping)
    return 0


async def until_stopped(job: object, stopping: asyncio.Event) -> None:
    """Run the job until told to stop; raises what it raises."""
    work = asyncio.ensure_future(job)  # type: ignore[call-overload]
    told = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        for task in (work, told):
            task.cancel()
        await asyncio.gather(work, told, return_exceptions=True)
