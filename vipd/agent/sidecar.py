"""``vipd sidecar``: checks everything it depends on, then takes part in the election of its VIPs until told to stop.

Beside that it follows the pod's own addresses (``vipd.agent.follow_side``); without VIPs it does nothing else.

Order matters: nothing is touched (no address, no Lease, no EC2 write) before configuration, interfaces, ENI,
credentials and permissions have been looked at, and each failure is one sentence that says what to do.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vipd.agent.agent import Agent
from vipd.agent.aws import AwsSide, connect_aws
from vipd.agent.clock import SystemClock
from vipd.agent.follow_lock import following_lock
from vipd.agent.follow_side import FollowSide, follow_only
from vipd.agent.hands import Hands
from vipd.agent.witness import Teller
from vipd.announce.claims import PacketClaims
from vipd.announce.packet import PacketAnnouncer
from vipd.checks.make import make_checks
from vipd.checks.monitor import HealthMonitor
from vipd.config import SidecarSettings, reload
from vipd.core import timing
from vipd.core.model import CallFailed, CallFailure, Fence, LinkState
from vipd.core.settings import ElectionConfig
from vipd.errors import AwsError, ConfigError
from vipd.kube.connect import connect
from vipd.kube.events import EventWriter, LeaseRef
from vipd.kube.leases import KubeLeases
from vipd.kube.members import MemberLabels, NodeRef, PodRef
from vipd.kube.preflight import preflight
from vipd.link.kernel import KernelLink
from vipd.link.lock import InstanceLock
from vipd.link.wait import wait_for_interface
from vipd.observe.http import ObserveServer
from vipd.observe.logs import fields, set_level
from vipd.observe.metrics import Metrics
from vipd.observe.status import ready, status_document

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

log = logging.getLogger("vipd")

API_START_S = 30.0
"""How long an API that is away at the start is waited for."""

PASSING = frozenset({CallFailure.TIMEOUT, CallFailure.UNREACHABLE, CallFailure.THROTTLED, CallFailure.SERVER})

CREDENTIALS_S = 60.0
"""How often temporary AWS credentials are looked at, so that a takeover never waits for new ones."""

LIVE_KEYS = frozenset({"priority", "preempt", "lease-duration", "renew-interval", "grace", "log-level"})
"""What SIGHUP changes at once; everything else needs a restart, and says so."""


def run(settings: SidecarSettings, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    return asyncio.run(_run(settings, argv, environ))


async def _run(settings: SidecarSettings, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    async with AsyncExitStack() as stack:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if not settings.vips:
            return await follow_only(settings, environ, stopping)
        prepared = asyncio.create_task(_prepare(settings, environ, stack))
        told = asyncio.create_task(stopping.wait())
        await asyncio.wait({prepared, told}, return_when=asyncio.FIRST_COMPLETED)
        if not prepared.done():
            # Nothing is held yet: there is nothing to hand over.
            prepared.cancel()
            await asyncio.gather(prepared, return_exceptions=True)
            log.info("told to stop before the election began")
            return 0
        told.cancel()
        sidecar = prepared.result()
        return await sidecar.serve(argv, environ, stopping)


class Sidecar:
    """Everything composed; ``serve`` runs it."""

    def __init__(
        self,
        settings: SidecarSettings,
        *,
        agent: Agent,
        hands: Hands,
        teller: Teller,
        metrics: Metrics,
        aws: AwsSide | None,
        following: FollowSide | None,
    ) -> None:
        self._settings = settings
        self._following = following
        self._aws = aws
        self._agent = agent
        self._hands = hands
        self._teller = teller
        self._metrics = metrics

    async def serve(self, argv: Sequence[str], environ: Mapping[str, str], stopping: asyncio.Event) -> int:
        """Take part until told to stop; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._agent.stop)
        if stopping.is_set():
            self._agent.stop()
        loop.add_signal_handler(signal.SIGHUP, self._reload, argv, environ)
        loop.add_signal_handler(signal.SIGUSR1, self._log_state)
        server = None
        if self._settings.listen is not None:
            server = ObserveServer(
                self._settings.listen,
                health=lambda: (True, "the loop turns"),
                ready=self._ready,
                status=self._status,
                metrics=self._metrics.render,
            )
            await server.start()
        keeping = asyncio.create_task(_keep_credentials(self._aws)) if self._aws else None
        try:
            return await self._run()
        finally:
            if keeping is not None:
                keeping.cancel()
            await self._teller.close()
            if server is not None:
                await server.stop()

    async def _run(self) -> int:
        """The election, and following beside it; either one's failure ends both."""
        election = asyncio.create_task(self._agent.run())
        jobs: set[asyncio.Task[Any]] = {election}
        if self._following is not None:
            jobs.add(asyncio.create_task(self._following.run()))
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
            return await election
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    def _ready(self) -> tuple[bool, str]:
        well, sentence = ready(self._agent.state, self._hands.clock.now())
        if not well or self._following is None:
            return well, sentence
        followed, why = self._following.ready()
        return followed, f"{sentence}; {why}"

    def _status(self) -> dict[str, object]:
        settings = self._settings
        document = status_document(
            self._agent.state,
            settings.vips,
            namespace=settings.namespace,
            name=settings.lease,
            now=self._hands.clock.now(),
        )
        document["following"] = self._following.rows() if self._following else None
        return document

    def _log_state(self) -> None:
        log.info("state on request", extra=fields(status=self._status()))

    def _reload(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        try:
            settings, changed = reload(self._settings, argv, environ)
        except ConfigError as error:
            log.error("SIGHUP: the new configuration is not used, the old one stays: %s", error)
            return
        later = sorted(set(changed) - LIVE_KEYS)
        if later:
            log.warning("SIGHUP: these need a restart and stay as they were: %s", ", ".join(later))
        now = sorted(set(changed) & LIVE_KEYS)
        self._settings = replace(
            self._settings,
            priority=settings.priority,
            preempt=settings.preempt,
            lease_duration_s=settings.lease_duration_s,
            renew_interval_s=settings.renew_interval_s,
            grace_s=settings.grace_s,
            log_level=settings.log_level,
        )
        set_level(settings.log_level)
        config = self._agent.state.config
        if config.fence is Fence.LEASE and settings.lease_duration_s < 2:
            log.error("SIGHUP: fence lease needs lease-duration >= 2s; %d s is not used", settings.lease_duration_s)
            return
        self._agent.reconfigure(
            replace(
                config,
                priority=settings.priority,
                preempt=settings.preempt,
                duration_s=settings.lease_duration_s,
                interval_s=settings.renew_interval_s,
                grace_s=settings.grace_s,
            )
        )
        log.info("SIGHUP: configuration reloaded; changed: %s", ", ".join(now) or "nothing")


async def _prepare(settings: SidecarSettings, environ: Mapping[str, str], stack: AsyncExitStack) -> Sidecar:
    """Look at everything the election depends on; raises VipdError with what is wrong, having touched nothing."""
    lock = InstanceLock(f"{settings.namespace}/{settings.lease}")
    lock.acquire()
    stack.callback(lock.close)
    kernel = KernelLink()
    stack.push_async_callback(kernel.close)
    names = sorted({vip.interface for vip in settings.vips})
    await wait_for_interface(kernel, names, settings.interface_timeout_s)
    links = {name: link for name in names if (link := await kernel.link(name)) is not None}
    aws = await _aws(settings, links, environ)
    if aws is not None:
        stack.push_async_callback(aws.close)
    fence = _fence(settings, managed=aws is not None)
    client = await connect(environ=environ)
    stack.push_async_callback(client.close)
    left_over = {(b.vip.address, b.vip.interface) for b in await kernel.borne()}
    await _reach_api(client, settings, keeps=any((v.address, v.interface) in left_over for v in settings.vips))
    announcer = PacketAnnouncer()
    stack.callback(announcer.close)
    await announcer.warm(settings.vips, list(links.values()))
    metrics = Metrics(namespace=settings.namespace, lease=settings.lease)
    hands = Hands(
        settings.vips,
        clock=SystemClock(),
        store=KubeLeases(client, namespace=settings.namespace, name=settings.lease),
        kernel=kernel,
        announcer=announcer,
        metrics=metrics,
        enis=aws.enis if aws else None,
        reader=aws.reader if aws else None,
        mover=aws.mover if aws else None,
        claims=PacketClaims(),
    )
    config = ElectionConfig(
        identity=settings.identity,
        incarnation=str(uuid.uuid4()),
        addresses=tuple(vip.address for vip in settings.vips),
        duration_s=settings.lease_duration_s,
        interval_s=settings.renew_interval_s,
        priority=settings.priority,
        preempt=settings.preempt,
        checks=bool(settings.checks),
        fence=fence,
        eni=aws.eni_ids if aws else "",
        grace_s=settings.grace_s,
        ask_fast_s=aws.ask_fast_s if aws else timing.MAPPING_FAST_S,
        ask_slow_s=aws.ask_slow_s if aws else timing.MAPPING_SLOW_S,
    )
    teller = _teller(settings, client, metrics)
    log.info(
        "ready to take part",
        extra=fields(
            vips=[str(v) for v in settings.vips],
            lease=f"{settings.namespace}/{settings.lease}",
            identity=settings.identity,
            fence=fence.value,
            eni=config.eni or None,
        ),
    )
    agent = Agent(config, hands, teller, monitor=_monitor(settings))
    following = None
    if settings.follow:
        followed = following_lock(settings.follow_interfaces)
        followed.acquire()
        stack.callback(followed.close)
        following = FollowSide(settings, environ, kernel=kernel, registry=metrics.registry, shared=aws, client=client)
        stack.push_async_callback(following.close)
    return Sidecar(settings, agent=agent, hands=hands, teller=teller, metrics=metrics, aws=aws, following=following)


def _monitor(settings: SidecarSettings) -> HealthMonitor | None:
    if not settings.checks:
        return None
    return HealthMonitor(
        make_checks(settings.checks, timeout_s=settings.check_timeout_s),
        interval_s=settings.check_interval_s,
        rise=settings.check_rise,
        fall=settings.check_fall,
    )


async def _keep_credentials(aws: AwsSide) -> None:
    """Renew temporary credentials before they end; a failure is told, and tried again."""
    while True:
        await asyncio.sleep(CREDENTIALS_S)
        try:
            await aws.mover.warm()
        except AwsError as error:
            log.warning("%s", error)


async def _reach_api(client: ApiClient, settings: SidecarSettings, *, keeps: bool) -> None:
    """Wait out an API that is away for a moment; raise KubeError for what does not go by, and after API_START_S.

    ``keeps``: an earlier run left a VIP on its interface.  The kernel removes it within seconds, so the election
    begins at once: it keeps the VIP through the outage as long as IMDS shows it here.
    """
    clock = SystemClock()
    deadline = clock.now() + API_START_S
    complained = False
    while True:
        found = await preflight(client, namespace=settings.namespace, name=settings.lease)
        passing = isinstance(found.lease, CallFailed) and found.lease.failure in PASSING
        if not passing or clock.now() >= deadline:
            found.require()
            return
        if keeps:
            log.warning("going on with the VIP of an earlier run: %s", " ".join(found.problems))
            return
        if not complained:
            log.warning("trying for %.0f s more: %s", deadline - clock.now(), " ".join(found.problems))
            complained = True
        await asyncio.sleep(0.5)


async def _aws(settings: SidecarSettings, links: Mapping[str, LinkState], environ: Mapping[str, str]) -> AwsSide | None:
    if settings.eni_mode == "none":
        log.info("no ENI is managed (--eni none): neighbours learn of the VIP by GARP and NA alone")
        return None
    return await connect_aws(
        settings.vips,
        links,
        eni_ids=settings.eni_ids,
        region=settings.region,
        subnet_cidrs=settings.subnet_cidrs,
        environ=environ,
    )


def _fence(settings: SidecarSettings, *, managed: bool) -> Fence:
    chosen = settings.fence.value
    fence = (Fence.ENI if managed else Fence.LEASE) if chosen == "auto" else Fence(chosen)
    if fence is Fence.ENI and not managed:
        raise ConfigError(
            "--fence eni: no ENI is managed (--eni none), so the mapping fences nothing; use --fence lease"
        )
    if fence is Fence.LEASE and settings.lease_duration_s < 2:
        raise ConfigError(
            f"--lease-duration {settings.lease_duration_s}s: fence lease needs 2s or more, because the kernel's "
            "address lifetimes are whole seconds"
        )
    return fence


def _teller(settings: SidecarSettings, client: ApiClient, metrics: Metrics) -> Teller:
    """Labels and Events are about the Pod; on a bare host labels are the Node's, and Events are about the Lease."""
    pod = settings.pod
    me: PodRef | NodeRef | None = None
    about: PodRef | LeaseRef = LeaseRef(namespace=settings.namespace, name=settings.lease)
    if pod.name:
        me = about = PodRef(namespace=pod.namespace or settings.namespace, name=pod.name, uid=pod.uid or "")
    elif pod.node:
        me = NodeRef(name=pod.node)
    return Teller(
        metrics=metrics,
        labels=MemberLabels(client, me=me, lease=settings.lease, identity=settings.identity) if me else None,
        events=EventWriter(client, about=about, instance=settings.identity),
    )
