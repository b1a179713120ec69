"""``vipd host``: the election of a NodePort VIP among nodes, in the host's network.

A node takes part when one of its ENIs is in the VIPs' subnet; others wait, for an ENI may be attached later.  What
gates candidacy is told apart: the Node object, kube-proxy and further checks, in static mode the address itself, and
the VPC CNI.

    no ENI in the subnet ──(looked for once a minute)──▶ member: STANDBY, TAKING, ACTIVE ... (vipd.core.election)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from vipd import __version__
from vipd.agent.agent import Monitor
from vipd.agent.aws import AwsSide
from vipd.agent.gates import Gates
from vipd.agent.host_place import NoPlace, place, place_again
from vipd.agent.ipamd_gate import IpamdGate, managed_sentence
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
from vipd.agent.node_gate import NodeGate
from vipd.agent.reloading import Reloading, not_yet, on_signals
from vipd.agent.static_address import StaticAddresses, StaticKernel, by_others, not_ours
from vipd.announce.claims import PacketClaims
from vipd.announce.silence import Silence
from vipd.aws import ipamd
from vipd.aws.imds import Imds
from vipd.config import AddressMode, HostSettings
from vipd.config.table_host import AUTO
from vipd.core.model import Network
from vipd.errors import ConfigError
from vipd.kube.connect import connect
from vipd.kube.nodes import NodeWatch
from vipd.kube.services import service_cidrs
from vipd.link.kernel import KernelLink
from vipd.link.lock import InstanceLock
from vipd.link.wait import wait_for_interface
from vipd.observe.http import ObserveServer
from vipd.observe.metrics import Metrics

log = logging.getLogger("vipd")

LOOK_AGAIN_S = 60.0
"""How often a node without an ENI in the subnet looks for one."""


def run(settings: HostSettings, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    return asyncio.run(_run(settings, argv, environ))


async def _run(settings: HostSettings, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    stopping = stop_signals()
    async with AsyncExitStack() as stack:
        return await until_told(lambda: _prepare(settings, argv, environ, stack), stopping, argv, environ)


async def _prepare(
    settings: HostSettings, argv: Sequence[str], environ: Mapping[str, str], stack: AsyncExitStack
) -> Member:
    """Look at everything the election depends on; raises VipdError with what is wrong, having touched nothing."""
    lock = InstanceLock(f"{settings.namespace}/{settings.lease}")
    lock.acquire()
    stack.callback(lock.close)
    kernel = KernelLink()
    stack.push_async_callback(kernel.close)
    reloading = Reloading(settings, argv, environ)
    settings = await _placed(settings, kernel, reloading)
    names = sorted({vip.interface for vip in settings.vips})
    await wait_for_interface(kernel, names, settings.interface_timeout_s)
    links = {name: link for name in names if (link := await kernel.link(name)) is not None}
    aws = await find_aws(settings, links, environ, stack)
    await _nobody_elses(settings, kernel)  # after that, which knows a primary address for what it is
    fence = choose_fence(settings, managed=aws is not None)
    client = await connect(environ=environ)
    stack.push_async_callback(client.close)
    keeps = await bears_any(kernel, settings)
    await reach_api(client, settings, keeps=keeps)
    if not keeps:  # what an earlier run left has seconds to live, and was looked at then
        outside_services(settings, await service_cidrs(client))
    metrics = Metrics(namespace=settings.namespace, lease=settings.lease)
    teller = make_teller(settings, client, metrics)
    cni = IpamdGate(settings.vips, aws.enis, teller.warned) if aws else None
    node = NodeGate(NodeWatch(client, settings.node), settings.node) if settings.node_gate else None
    gates = _gates(settings, kernel, node, cni)
    static = settings.address_mode is AddressMode.STATIC
    parts = Parts(
        kernel=StaticKernel(kernel) if static else kernel,
        links=links,
        aws=aws,
        client=client,
        announcer=await warm_announcer(settings, links, stack) if settings.announce else Silence(),
        # Where every node bears the address, others may answer for it.
        claims=None if static else PacketClaims(),
        monitor=Gates(gates) if gates else None,
        metrics=metrics,
        teller=teller,
    )
    return compose(settings, fence, parts, HostSide(settings, aws, node, cni), told=reloading.told)


def _gates(settings: HostSettings, kernel: KernelLink, node: NodeGate | None, cni: IpamdGate | None) -> list[Monitor]:
    """What must be well for this node to be a candidate."""
    gates: list[Monitor] = []
    if node is not None:
        gates.append(node)
    if settings.address_mode is AddressMode.STATIC:
        gates.append(StaticAddresses(kernel, settings.vips))
    if cni is not None:
        gates.append(cni)
    proxy = () if settings.kube_proxy is None else (settings.kube_proxy,)
    checks = health_monitor(settings, (*proxy, *settings.checks))
    return gates if checks is None else [*gates, checks]


class HostSide:
    """What a host says of itself beside its election."""

    def __init__(
        self, settings: HostSettings, aws: AwsSide | None, node: NodeGate | None, cni: IpamdGate | None
    ) -> None:
        self._settings = settings
        self._aws = aws
        self._node = node
        self._cni = cni

    async def run(self) -> None:
        """Until cancelled: look at the ENI's tags once where no ipamd answers; the monitors run in the election."""
        if self._aws is not None and await ipamd.look() is None:
            await _ask_for_tags(self._aws)
        await asyncio.Event().wait()

    def ready(self) -> tuple[bool, str]:
        """Nothing more than the election says."""
        return True, ""

    def excuse(self) -> str:
        """A node that is cordoned or not Ready is to be no candidate, and holds up no rollout of the others."""
        why = self._node.why if self._node else ""
        return f"no candidate: Node {self._settings.node}: {why}" if why else ""

    def status(self) -> dict[str, object]:
        """The key ``host`` of ``/status``."""
        return {
            "host": {
                "node": self._settings.node,
                "address_mode": self._settings.address_mode.value,
                "vpc_cni": self._cni.status() if self._cni else None,
            }
        }


async def _placed(settings: HostSettings, kernel: KernelLink, reloading: Reloading) -> HostSettings:
    """The settings with a real interface, once there is one; until then this node is no candidate, and says so."""
    if not any(vip.interface == AUTO for vip in settings.vips):
        return settings
    imds = Imds()
    waiting: Waiting | None = None
    try:
        while True:
            if waiting is None:
                found = await place(settings, imds, await kernel.links())
            else:
                found = await place_again(settings, imds, kernel, waiting.detail)
            if not isinstance(found, NoPlace):
                log.info(
                    "interface %s is the one for %s", found.interface, ", ".join(str(v.address) for v in found.vips)
                )
                return found
            if waiting is None:
                log.warning("this node is no candidate: %s; looking again every %.0f s", found.detail, LOOK_AGAIN_S)
                waiting = await Waiting(settings, reloading).start()
            waiting.detail = found.detail
            await asyncio.sleep(LOOK_AGAIN_S)
    finally:
        if waiting is not None:
            await waiting.stop()
        await imds.close()


class Waiting:
    """The HTTP endpoint and the signals of a node that is no candidate: well, ready, and out of the race."""

    def __init__(self, settings: HostSettings, reloading: Reloading) -> None:
        self._settings = settings
        self._reloading = reloading
        self.detail = ""
        self._server: ObserveServer | None = None

    async def start(self) -> Waiting:
        on_signals(self._reloading.again, self._status)
        if self._settings.listen is not None:
            self._server = ObserveServer(
                self._settings.listen,
                health=lambda: (True, "the loop turns"),
                # A cluster has nodes in other zones: their pods are as they are to be, and no rollout waits for them.
                ready=lambda: (True, f"no candidate: {self.detail}"),
                status=self._status,
                metrics=lambda: b"",
            )
            await self._server.start()
        return self

    def _status(self) -> dict[str, object]:
        return {
            "version": __version__,
            "identity": self._settings.identity,
            "state": "no-candidate",
            "reason": self.detail,
        }

    async def stop(self) -> None:
        not_yet()
        if self._server is not None:
            await self._server.stop()


async def _nobody_elses(settings: HostSettings, kernel: KernelLink) -> None:
    """Raises ConfigError in managed mode where the address is on its interface by somebody else's hand."""
    if settings.address_mode is AddressMode.MANAGED:
        for vip in await by_others(kernel, settings.vips):
            raise ConfigError(not_ours(vip))


def outside_services(settings: HostSettings, cidrs: Sequence[Network]) -> None:
    """Raises ConfigError for a VIP that Kubernetes may give to a Service."""
    for vip in settings.vips:
        for cidr in cidrs:
            if vip.address in cidr:
                raise ConfigError(
                    f"VIP {vip}: {vip.address} is in the service CIDR {cidr} of this cluster, and kube-proxy would "
                    "take its packets for a Service's; allowed: a free address of the nodes' subnet"
                )


async def _ask_for_tags(aws: AwsSide) -> None:
    """Where ipamd does not answer (there is none, or it tells nobody), the tags say whether it may manage the ENI."""
    unmarked = [eni.id for eni in aws.enis.values() if await ipamd.tagged_no_manage(aws.ec2, eni) is False]
    if unmarked:
        log.info("where there is an ipamd: %s", managed_sentence(unmarked, certain=False))
