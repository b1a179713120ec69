"""A member of an election, composed of its parts: what ``vipd sidecar`` and ``vipd host`` have in common.

Order matters: nothing is touched (no address, no Lease, no EC2 write) before configuration, interfaces, ENI,
credentials and permissions have been looked at, and each failure is one sentence that says what to do.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import signal
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from vipd.agent.agent import Agent, Monitor
from vipd.agent.aws import AwsSide, connect_aws
from vipd.agent.clock import SystemClock
from vipd.agent.hands import Hands
from vipd.agent.reloading import LIVE, Reloading, not_yet, on_signals
from vipd.agent.static_address import StaticKernel
from vipd.agent.witness import Teller
from vipd.announce.packet import PacketAnnouncer
from vipd.checks.make import make_checks
from vipd.checks.monitor import HealthMonitor
from vipd.config import MemberSettings
from vipd.config.check import MIN_FENCE_LEASE_S
from vipd.config.checkspec import CheckSpec
from vipd.core import timing
from vipd.core.model import CallFailed, CallFailure, Fence, LinkState
from vipd.core.ports import Announcer, ClaimWatch, Kernel
from vipd.core.settings import ElectionConfig
from vipd.errors import AwsError, ConfigError
from vipd.kube.events import EventWriter, LeaseRef
from vipd.kube.leases import KubeLeases
from vipd.kube.members import MemberLabels, NodeRef, PodRef
from vipd.kube.preflight import preflight
from vipd.link.kernel import kernel_note
from vipd.observe.http import ObserveServer
from vipd.observe.logs import fields
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


class Beside(Protocol):
    """What a process does beside its election."""

    async def run(self) -> None:
        """Until cancelled."""

    def ready(self) -> tuple[bool, str]:
        """For ``/readyz``."""

    def excuse(self) -> str:
        """Why a member that is not ready is as it is to be; empty where it is not."""

    def status(self) -> dict[str, object]:
        """Further keys of ``/status``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a sidecar and a host have each in a way of its own."""

    kernel: Kernel
    links: Mapping[str, LinkState]
    """The interfaces of the VIPs."""
    aws: AwsSide | None
    """None: no ENI is managed."""
    client: ApiClient
    announcer: Announcer
    claims: ClaimWatch | None
    monitor: Monitor | None
    metrics: Metrics
    teller: Teller


async def until_told(
    prepare: Callable[[], Awaitable[Member]], stopping: asyncio.Event, argv: Sequence[str], environ: Mapping[str, str]
) -> int:
    """Prepare and serve, unless told to stop before; the exit code."""
    prepared = asyncio.ensure_future(prepare())
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait({prepared, told}, return_when=asyncio.FIRST_COMPLETED)
    if not prepared.done():
        # Nothing is held yet: there is nothing to hand over.
        prepared.cancel()
        await asyncio.gather(prepared, return_exceptions=True)
        log.info("told to stop before the election began")
        return 0
    told.cancel()
    return await prepared.result().serve(argv, environ, stopping)


def stop_signals() -> asyncio.Event:
    """Set by SIGTERM or SIGINT from now on."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    not_yet()
    return stopping


class Member:
    """Everything composed; ``serve`` runs it."""

    def __init__(
        self,
        settings: MemberSettings,
        *,
        told: MemberSettings,
        agent: Agent,
        hands: Hands,
        teller: Teller,
        metrics: Metrics,
        aws: AwsSide | None,
        beside: Beside | None,
    ) -> None:
        self._settings = settings
        self._told = told
        self._beside = beside
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
        reloading = Reloading(self._told, argv, environ, live=LIVE, require=self._require)
        on_signals(lambda: self._reload(reloading), self._status)
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
        """The election, and what runs beside it; either one's failure ends both."""
        election = asyncio.create_task(self._agent.run())
        jobs: set[asyncio.Task[Any]] = {election}
        if self._beside is not None:
            jobs.add(asyncio.create_task(self._beside.run()))
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
        if self._beside is None:
            return well, sentence
        if not well:
            excuse = self._beside.excuse()
            return bool(excuse), excuse or sentence
        beside, why = self._beside.ready()
        return beside, f"{sentence}; {why}" if why else sentence

    def _status(self) -> dict[str, object]:
        settings = self._settings
        document = status_document(
            self._agent.state,
            settings.vips,
            namespace=settings.namespace,
            name=settings.lease,
            now=self._hands.clock.now(),
        )
        return {**document, "following": None, **(self._beside.status() if self._beside else {})}

    def _require(self, settings: MemberSettings) -> None:
        """Raises ConfigError: the fence is in force already, whatever the new settings say of it."""
        require_duration(self._agent.state.config.fence, settings.lease_duration_s)

    def _reload(self, reloading: Reloading) -> None:
        if not reloading.again():
            return
        told = reloading.told
        self._agent.reconfigure(
            replace(
                self._agent.state.config,
                priority=told.priority,
                preempt=told.preempt,
                duration_s=told.lease_duration_s,
                interval_s=told.renew_interval_s,
                grace_s=told.grace_s,
            )
        )


def compose(
    settings: MemberSettings,
    fence: Fence,
    parts: Parts,
    beside: Beside | None = None,
    *,
    told: MemberSettings | None = None,
) -> Member:
    """Put the parts together; nothing is touched before ``serve``.

    ``told``: the settings as they were told, where what was left open has been found out since.
    """
    aws = parts.aws
    hands = Hands(
        settings.vips,
        clock=SystemClock(),
        store=KubeLeases(parts.client, namespace=settings.namespace, name=settings.lease),
        kernel=parts.kernel,
        announcer=parts.announcer,
        metrics=parts.metrics,
        enis=aws.enis if aws else None,
        macs=_own_macs(aws, parts.links) if aws else None,
        reader=aws.reader if aws else None,
        mover=aws.mover if aws else None,
        claims=parts.claims,
    )
    config = _election(settings, fence, parts)
    note = "" if isinstance(parts.kernel, StaticKernel) else kernel_note(platform.release())
    if note:
        log.warning("%s", note)
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
    agent = Agent(config, hands, parts.teller, monitor=parts.monitor)
    return Member(
        settings,
        told=told or settings,
        agent=agent,
        hands=hands,
        teller=parts.teller,
        metrics=parts.metrics,
        aws=aws,
        beside=beside,
    )


def _own_macs(aws: AwsSide, links: Mapping[str, LinkState]) -> dict[str, str]:
    """By interface: the MAC of its ENI, where the interface bears it (a macvlan's is its own).

    An ENI without a primary address is one of which IMDS told nothing: it has the interface's MAC for want of another.
    """
    told = {name: eni.mac for name, eni in aws.enis.items() if eni.primary is not None}
    return {name: mac for name, mac in told.items() if name in links and links[name].mac == mac}


def _election(settings: MemberSettings, fence: Fence, parts: Parts) -> ElectionConfig:
    """What the core is told of this member."""
    aws = parts.aws
    return ElectionConfig(
        identity=settings.identity,
        incarnation=str(uuid.uuid4()),
        addresses=tuple(vip.address for vip in settings.vips),
        duration_s=settings.lease_duration_s,
        interval_s=settings.renew_interval_s,
        priority=settings.priority,
        preempt=settings.preempt,
        checks=parts.monitor is not None,
        fence=fence,
        eni=aws.eni_ids if aws else "",
        grace_s=settings.grace_s,
        ask_fast_s=aws.ask_fast_s if aws else timing.MAPPING_FAST_S,
        ask_slow_s=aws.ask_slow_s if aws else timing.MAPPING_SLOW_S,
    )


async def warm_announcer(
    settings: MemberSettings, links: Mapping[str, LinkState], stack: AsyncExitStack
) -> PacketAnnouncer:
    """The one that sends packets, with what it would else pay for at the first takeover."""
    announcer = PacketAnnouncer()
    stack.callback(announcer.close)
    await announcer.warm(settings.vips, list(links.values()))
    return announcer


def health_monitor(settings: MemberSettings, specs: Sequence[CheckSpec]) -> HealthMonitor | None:
    """What runs these checks at the pace that was told; None where there are none."""
    if not specs:
        return None
    return HealthMonitor(
        make_checks(specs, timeout_s=settings.check_timeout_s),
        interval_s=settings.check_interval_s,
        rise=settings.check_rise,
        fall=settings.check_fall,
    )


async def _keep_credentials(aws: AwsSide) -> None:
    """Renew temporary credentials before they end; a failure is told once, and tried again."""
    complained = ""
    while True:
        await asyncio.sleep(CREDENTIALS_S)
        problem = ""
        try:
            await aws.mover.warm()
        except AwsError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - a task that ended would renew nothing any more, and nobody would know
            problem = f"AWS credentials cannot be renewed: {type(error).__name__}: {error}"
        if problem and problem != complained:
            log.warning("%s", problem)
        complained = problem


async def reach_api(client: ApiClient, settings: MemberSettings, *, keeps: bool) -> None:
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


async def bears_any(kernel: Kernel, settings: MemberSettings) -> bool:
    """Whether an earlier run left a VIP on its interface."""
    there = {(b.vip.address, b.vip.interface) for b in await kernel.borne()}
    return any((vip.address, vip.interface) in there for vip in settings.vips)


async def find_aws(
    settings: MemberSettings, links: Mapping[str, LinkState], environ: Mapping[str, str], stack: AsyncExitStack
) -> AwsSide | None:
    """The AWS side for the interfaces of the VIPs; None where no ENI is managed."""
    if settings.eni_mode == "none":
        log.info("no ENI is managed (--eni none): neighbours learn of the VIP by GARP and NA alone")
        return None
    aws = await connect_aws(
        settings.vips,
        links,
        eni_ids=settings.eni_ids,
        region=settings.region,
        subnet_cidrs=settings.subnet_cidrs,
        environ=environ,
    )
    stack.push_async_callback(aws.close)
    return aws


def choose_fence(settings: MemberSettings, *, managed: bool) -> Fence:
    """The fence in force.  Raises ConfigError for one that cannot be."""
    chosen = settings.fence.value
    fence = (Fence.ENI if managed else Fence.LEASE) if chosen == "auto" else Fence(chosen)
    if fence is Fence.ENI and not managed:
        raise ConfigError(
            "--fence eni: no ENI is managed (--eni none), so the mapping fences nothing; use --fence lease"
        )
    require_duration(fence, settings.lease_duration_s)
    return fence


def require_duration(fence: Fence, duration_s: int) -> None:
    """Raises ConfigError for a Lease that is too short for its fence."""
    if fence is Fence.LEASE and duration_s < MIN_FENCE_LEASE_S:
        raise ConfigError(
            f"lease-duration {duration_s}s: fence lease needs {MIN_FENCE_LEASE_S}s or more, because the kernel's "
            "address lifetimes are whole seconds"
        )


def make_teller(settings: MemberSettings, client: ApiClient, metrics: Metrics) -> Teller:
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
