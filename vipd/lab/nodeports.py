"""NodePort VIPs: ``vipd host`` on every worker, and a client that makes 200 HTTP requests a second through the VIP.

A request whose connection is reset in the middle of the move is sent once more, as HTTP clients do with a GET.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

from vipd.lab.hoststage import HostStage
from vipd.lab.promise import Act, Promise, Scenario
from vipd.lab.setting import Setting
from vipd.lab.stage import Stage
from vipd.lab.worker import HEALTH_PORT

EVICTED_AFTER_S = 0.2
"""kubectl drain cordons, lists the pods, and evicts."""

ASKED_S = 15.0
"""How often vipd asks ipamd."""


def _hosts(act: Callable[[HostStage], Awaitable[None]]) -> Act:
    """An act that needs the stage of hosts."""

    async def play(stage: Stage) -> None:
        if not isinstance(stage, HostStage):
            raise TypeError("this scenario needs a setting with host")
        await act(stage)
        stage.note_again()

    return play


async def _managed(stage: HostStage) -> None:
    leaver, heir = stage.active, stage.standby
    stage.fault()
    stage.signal(leaver, signal.SIGTERM)
    await stage.until_owner(heir, within_s=5)
    await stage.until_exit(leaver, within_s=28)
    await stage.until_withdrawn(leaver, within_s=1)


async def _static(stage: HostStage) -> None:
    leaver, heir = stage.active, stage.standby
    stage.fault()
    stage.signal(leaver, signal.SIGTERM)
    await stage.until_owner(heir, within_s=5)
    await stage.until_exit(leaver, within_s=28)
    for name in (leaver, heir):
        if not stage.lab.observer.bears(name):
            stage.complaints.append(f"the address of user data is gone from node {name}")


async def _drain(stage: HostStage) -> None:
    drained, heir = stage.active, stage.standby
    stage.fault()
    await stage.cordon(drained)
    await stage.pause(EVICTED_AFTER_S)
    stage.worker(drained).ready(False)
    await stage.until_owner(heir, within_s=5)
    await stage.until_withdrawn(drained, within_s=15)
    await stage.worker(drained).end_pod()
    await stage.pause(stage.duration_s + 1)
    if stage.holder() != heir:
        stage.complaints.append(f"the Lease went back to {stage.holder()}")
    await stage.renew(drained)


async def _node_loss(stage: HostStage) -> None:
    victim, heir = stage.active, stage.standby
    stage.fault()
    await stage.power_off(victim)
    await stage.until_owner(heir, within_s=stage.duration_s + 8)


async def _ipamd(stage: HostStage) -> None:
    for name in stage.lab.nodes:
        await stage.ipamd(name)
    robbed, heir = stage.active, stage.standby
    await stage.until(
        "vipd has told that ipamd adopted the VIP",
        lambda: stage.said(robbed, "ManagedByVpcCni") and stage.said(robbed, "AdoptedByVpcCni"),
        within_s=ASKED_S + 5,
    )
    await stage.until_quiet_ec2(1.0)
    stage.fault()
    for vip in stage.vips:
        (await stage.ipamd(robbed)).given[vip] = ("shop", "cart-7d9c")
    await stage.until_owner(heir, within_s=ASKED_S + 5)
    await stage.until_withdrawn(robbed, within_s=15)
    calls = [call for call in stage.lab.ec2.log if call.started_at >= stage.fault_at]
    if [call.caller for call in calls] != [heir]:
        told = ", ".join(f"{call.action} by {call.caller}" for call in calls) or "none"
        stage.complaints.append(f"one EC2 call of node {heir} was expected; there were: {told}")
    if not stage.said(robbed, "GivenToPod") or "shop/cart-7d9c" not in stage.node(robbed).log.read_text():
        stage.complaints.append(f"vipd on node {robbed} did not say which pod was given the VIP")
    await stage.renew(robbed)


NODEPORTS = (
    Scenario(
        "nodeport-managed",
        "HTTP through a NodePort VIP that vipd puts on the owner: the active vipd is told to stop",
        Promise("0 requests failed, nothing is left on the old node", lost=0, owner_changes=True),
        _hosts(_managed),
        Setting(host=True, remap_lag_s=1.0),
    ),
    Scenario(
        "nodeport-static",
        "the same, with the address on every node by user data: the active vipd is told to stop",
        Promise("0 requests failed, the address stays on every node", lost=0, owner_changes=True),
        _hosts(_static),
        Setting(host=True, static=True, remap_lag_s=1.0),
    ),
    Scenario(
        "nodeport-drain",
        "the active node is drained (externalTrafficPolicy: Local, its pod is evicted)",
        Promise("0 requests failed; the VIP does not come back", lost=0, owner_changes=True),
        _hosts(_drain),
        Setting(host=True, remap_lag_s=1.0, arguments=("--check", f"http://127.0.0.1:{HEALTH_PORT}/healthz")),
    ),
    Scenario(
        "nodeport-node-loss",
        "the active node loses power",
        Promise("gap ≤ Lease duration + the EC2 call + 0.1 s", gap_ms=100.0, durations=1.0, owner_changes=True),
        _hosts(_node_loss),
        Setting(host=True),
    ),
    Scenario(
        "nodeport-ipamd",
        "the VPC CNI manages the nodes' ENIs, adopts the VIP, and gives it to a pod",
        Promise("it is told; 0 requests failed, one EC2 call", lost=0, owner_changes=True),
        _hosts(_ipamd),
        Setting(host=True),
    ),
)
