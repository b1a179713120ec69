"""Scenarios of pods whose addresses a CNI or an application moves: ``vipd init``, and following in ``vipd sidecar``."""

from __future__ import annotations

import signal
from ipaddress import ip_address

from vipd.lab.crowd import CROWD, play_crowd
from vipd.lab.pod_stage import PodStage
from vipd.lab.promise import Promise, Scenario
from vipd.lab.setting import SECOND, Setting
from vipd.lab.stage import Stage

POD_A, POD_B, POD_C = (ip_address(f"10.0.1.{n}") for n in (80, 81, 82))
POD6 = ip_address("fd00:10:0:1::80")
FOREIGN = "10.0.1.12/24"
"""The primary address of node b's ENI, which no other ENI can have."""


NODES_OWN = ("--ignore", "fd00:10:0:1::/64")
"""The lab's net1 bears the node's own IPv6 address beside the pod's, which no pod's interface does."""


def _pods(stage: Stage) -> PodStage:
    assert isinstance(stage, PodStage)
    return stage


async def _init(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    await pod.init("a", *NODES_OWN)
    pod.require_calls(1)
    await pod.until_delivered("a", *pod.vips, within_s=2)


async def _init_throttled(stage: Stage) -> None:
    pod = _pods(stage)
    pod.ec2_error("RequestLimitExceeded", calls=2)
    pod.bear_witness("a")
    await pod.init("a", *NODES_OWN)
    pod.require_calls(3)
    await pod.until_delivered("a", *pod.vips, within_s=2)


async def _init_one_bad(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    await pod.lab.add_address(pod.node("a"), FOREIGN)
    said = await pod.init("a", code=1)
    await pod.take_away("a", ip_address("10.0.1.12"))
    if "10.0.1.12 on net1" not in said or "refused" not in said:
        pod.complaints.append(f"vipd init did not tell what was wrong: {said}")
    await pod.until_delivered("a", *pod.vips, within_s=2)


async def _follow(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    await pod.give("a", POD_C)
    await pod.until_delivered("a", POD_C, within_s=5)
    pod.require_calls(1)
    pod.require_prompt("a", POD_C, within_s=0.15)


async def _follow_return(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    for old, new in (("a", "b"), ("b", "a"), ("a", "b")):
        await pod.take_away(old, POD_A)
        await pod.give(new, POD_A)
        await pod.until_delivered(new, POD_A, within_s=5)
    pod.require_calls(3)


async def _follow_restart(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    for number in (signal.SIGTERM, signal.SIGKILL):
        pod.signal("a", number)
        vipd = pod.node("a").vipd
        assert vipd is not None
        await vipd.wait()
        await pod.lab.start_vipd(pod.node("a"))
        await pod.pause(4.0)
    pod.require_calls(0)


async def _same_subnet(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    await pod.init("a", *NODES_OWN)
    pod.require_calls(2)
    node = pod.node("a")
    for address, eni in ((POD_A, node.eni), (POD_B, node.second)):
        if eni is None or pod.lab.vpc.owner(address) != eni.id:
            pod.complaints.append(f"{address} is mapped to {pod.lab.vpc.owner(address)}")
    await pod.until(
        "both addresses answer",
        lambda: all(log.answered_since(pod.now() - 0.2) == "a" for log in pod.lab.probes.values()),
        within_s=3,
    )


async def _ipv6_move(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    await pod.take_away("a", POD6)
    await pod.give("b", POD6, prefixlen=64)
    await pod.until_delivered("b", POD6, within_s=6)
    pod.require_calls(4, describe=True)


async def _drift(stage: Stage) -> None:
    pod = _pods(stage)
    pod.bear_witness("a")
    pod.steal(POD_A)
    await pod.until_delivered("a", POD_A, within_s=20)
    pod.require_calls(1)


async def _crowd(stage: Stage) -> None:
    await play_crowd(_pods(stage))


_INIT = Setting(targets=(POD_A, POD_B), homes={"a": ("10.0.1.80/24", "10.0.1.81/32")}, sidecars=False)
_FOLLOW = Setting(targets=(POD_A,), homes={"a": ("10.0.1.80/24",)})

PODS = (
    Scenario(
        "init",
        "vipd init maps two addresses of a new pod; the gap counts from its start",
        Promise("exit code 0, one EC2 call, no Describe; gap ≤ 3 s + the EC2 call", gap_ms=3000.0),
        _init,
        _INIT,
        PodStage,
    ),
    Scenario(
        "init-throttled",
        "vipd init while EC2 throttles two calls",
        Promise("exit code 0, three EC2 calls; gap ≤ 16 s + the EC2 call", gap_ms=16000.0),
        _init_throttled,
        _INIT,
        PodStage,
    ),
    Scenario(
        "init-one-bad",
        "vipd init, and one of three addresses is the primary of another ENI",
        Promise("exit code 1 and its reason; the others are mapped", gap_ms=6000.0),
        _init_one_bad,
        _INIT,
        PodStage,
    ),
    Scenario(
        "follow",
        "an address comes to a pod whose sidecar follows",
        Promise("EC2 is called at once, once; gap ≤ 0.7 s + the EC2 call", gap_ms=700.0),
        _follow,
        Setting(targets=(POD_C, POD_A), homes={"a": ("10.0.1.80/24",)}, nodes=("a",)),
        PodStage,
    ),
    Scenario(
        "follow-return",
        "the application moves its address to the other pod, back, and there again",
        Promise("gap ≤ 0.3 s + the EC2 call, one call a move", gap_ms=300.0, owner_changes=True),
        _follow_return,
        _FOLLOW,
        PodStage,
    ),
    Scenario(
        "follow-100-pods",
        f"{CROWD} pods start at once, on EC2's own request rates (50 at once, 5 a second)",
        Promise("all are mapped; EC2 calls ≤ 2.2 a pod"),
        _crowd,
        Setting(targets=(POD_A,), homes={"a": ("10.0.1.80/24",)}, nodes=("a",), sidecars=False),
        PodStage,
    ),
    Scenario(
        "follow-restart",
        "the following sidecar is stopped and started, then killed and started",
        Promise("0 probes lost, no EC2 call", lost=0, owner_changes=False),
        _follow_restart,
        _FOLLOW,
        PodStage,
    ),
    Scenario(
        "same-subnet-enis",
        "vipd init on a node with two ENIs in one subnet",
        Promise("each address on the ENI of its interface; gap ≤ 3 s + the EC2 calls", gap_ms=3000.0),
        _same_subnet,
        Setting(
            targets=(POD_A, POD_B),
            homes={"a": ("10.0.1.80/24",), SECOND: ("10.0.1.81/32",)},
            nodes=("a",),
            sidecars=False,
        ),
        PodStage,
    ),
    Scenario(
        "ipv6-move",
        "the application moves an IPv6 address to the other pod (no atomic move in EC2)",
        Promise("gap ≤ 1.2 s + the EC2 calls that move it", gap_ms=1200.0, owner_changes=True),
        _ipv6_move,
        Setting(targets=(POD6,), homes={"a": ("fd00:10:0:1::80/64",)}),
        PodStage,
    ),
    Scenario(
        "drift",
        "somebody else's EC2 call maps a pod's address to another ENI",
        Promise("gap ≤ 16 s + the EC2 call, one call", gap_ms=16000.0, owner_changes=False),
        _drift,
        _FOLLOW,
        PodStage,
    ),
)
