"""Pods whose addresses are mapped without an election: ``vipd init``, and following in ``vipd sidecar``.

In every round it is judged, too, that nobody called EC2 for the primary address of its own ENI, unassigned from itself,
or described anything without need.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address

from vipd.lab.ec2_faults import Bucket
from vipd.lab.pods import SERVED_S
from vipd.lab.podstage import PodStage
from vipd.lab.promise import Act, Promise, Scenario
from vipd.lab.setting import Setting
from vipd.lab.stage import Stage

HOME4, SECOND4, COMES4 = ip_address("10.0.1.80"), ip_address("10.0.1.90"), ip_address("10.0.1.85")
HOME6 = ip_address("fd00:10:0:1::80")
BAD = "10.0.1.12"
"""The primary address of node b's ENI: EC2 never reassigns one."""

ASSIGN4, ASSIGN6 = "AssignPrivateIpAddresses", "AssignIpv6Addresses"
UNASSIGN6, DESCRIBE = "UnassignIpv6Addresses", "DescribeNetworkInterfaces"

COMINGS = 11
CALLS_A_POD = 3.0
"""How many EC2 calls a pod may need when a hundred come at once: one, and those that are throttled."""


def _pods(act: Callable[[PodStage], Awaitable[None]]) -> Act:
    """An act that needs the stage of pods."""

    async def play(stage: Stage) -> None:
        if not isinstance(stage, PodStage):
            raise TypeError("this scenario needs a setting with targets")
        await act(stage)

    return play


async def _init(stage: PodStage) -> None:
    stage.fault()
    init = await stage.init("a")
    stage.require_exit(init, 0)
    stage.require_in_imds("a", stage.vips)
    stage.require_calls(init.began_at, ASSIGN4, ASSIGN6)
    stage.measure(init)
    await stage.until_owner("a", within_s=2)


async def _init_throttled(stage: PodStage) -> None:
    stage.fault()
    stage.ec2_error("RequestLimitExceeded", calls=None)
    stage.require_exit(await stage.init("a", "--timeout", "3s"), 3, str(HOME4), "throttled", "--timeout")
    stage.ec2_error("RequestLimitExceeded", calls=2)
    init = await stage.init("a")
    stage.require_exit(init, 0)
    stage.require_in_imds("a", stage.vips)
    stage.measure(init)
    await stage.until_owner("a", within_s=2)


async def _init_one_bad(stage: PodStage) -> None:
    stage.fault()
    init = await stage.init("a")
    stage.require_exit(init, 1, BAD, "primary")
    stage.require_in_imds("a", stage.vips)
    stage.require(stage.lab.mapped_to(ip_address(BAD)) == "b", f"{BAD} is no longer mapped to node b")
    stage.measure(init)
    await stage.until_owner("a", within_s=2)


async def _follow(stage: PodStage) -> None:
    home = f"{COMES4}/24"
    stage.fault()
    for number in range(COMINGS):
        began_at = stage.now()
        await stage.add("a", home)
        await stage.until(
            f"EC2 has been called for {COMES4} once more ({number + 1})",
            lambda since=began_at: any(COMES4 in call.addresses for call in stage.calls(since - 0.05)),  # type: ignore[misc]
            within_s=5,
        )
        await stage.until_delivered(COMES4, "a", within_s=5)
        await stage.pause(0.1)
        if number < COMINGS - 1:
            await stage.delete("a", home)
            await stage.pause(0.3)
    stage.require_calls(stage.fault_at, *[ASSIGN4] * COMINGS)
    lost = stage.lab.probes[HOME4].window(stage.fault_at, stage.now() - 1.2).lost
    stage.require(lost == 0, f"{lost} probes of an address that stayed were lost")


async def _follow_return(stage: PodStage) -> None:
    stage.fault()
    for old, new in (("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")):
        await stage.delete(old, f"{HOME4}/24")
        left_at = stage.now()
        await stage.add(new, f"{HOME4}/24")
        await stage.until_owner(new, within_s=5)
        await stage.pause(1.2)
        stale = [p for p in stage.lab.probes[HOME4].between(left_at, stage.now()) if p.who == old]
        stage.require(len(stale) == 0, f"node {old} answered {len(stale)} probes after the address had left it")
    stage.require_calls(stage.fault_at, *[ASSIGN4] * 4)


async def _follow_restart(stage: PodStage) -> None:
    # IMDS has shown everything: nothing is under way.
    await stage.until_quiet_ec2(1.5)
    stage.fault()
    for number in (signal.SIGTERM, signal.SIGKILL):
        stage.signal("a", number)
        if number is signal.SIGTERM:
            await stage.until_exit("a", within_s=10)
        else:
            await stage.until("vipd is dead", lambda: not stage.node("a").alive, within_s=10)
        await stage.lab.start_vipd(stage.node("a"))
        await stage.pause(4.0)
    stage.require_calls(stage.fault_at)


async def _follow_100_pods(stage: PodStage) -> None:
    pods = await stage.pods.build(stage.lab.setting.pods)
    # As much as a hundred pods meet in an account whose buckets are full: the default rates, 50 at once and 5 a second.
    stage.lab.ec2.buckets[ASSIGN4] = Bucket(len(pods) / 2, len(pods) / 20)
    await stage.pods.start_init()
    stage.fault()
    await stage.pods.furnish()
    await stage.until(
        "every pod's address is mapped to its node",
        lambda: all(stage.lab.mapped_to(pod.address) == pod.node.name for pod in pods),
        within_s=SERVED_S,
    )
    served_s, calls = stage.now() - stage.fault_at, stage.calls(stage.fault_at)
    await stage.until_ended([pod.init for pod in pods if pod.init], within_s=15)
    failed = [pod.number for pod in pods if pod.init and pod.init.returncode != 0]
    stage.require(not failed, f"vipd init failed in the pods {failed}")
    throttled = sum(call.outcome == "RequestLimitExceeded" for call in calls)
    told = (
        f"{len(calls)} EC2 calls for {len(pods)} pods ({throttled} throttled); all were served after {served_s:.1f} s"
    )
    stage.notes.append(told)
    stage.require(len(calls) <= CALLS_A_POD * len(pods), told)
    for vip, name in zip(stage.vips, stage.lab.nodes, strict=False):
        await stage.until_delivered(vip, name, within_s=2)


async def _same_subnet_enis(stage: PodStage) -> None:
    stage.fault()
    init = await stage.init("a")
    stage.require_exit(init, 0)
    # Each ENI came with an IPv6 address, too.
    stage.require_calls(init.began_at, ASSIGN4, ASSIGN4, ASSIGN6, ASSIGN6)
    for interface, address in (("net1", HOME4), ("net2", SECOND4)):
        eni = stage.node("a").enis[interface]
        owner = stage.lab.vpc.owner(address)
        stage.require(owner == eni.id, f"{address} on {interface} was mapped to {owner}, not to {eni.id}")
    stage.measure(init)
    await stage.until_owner("a", within_s=2)


async def _ipv6_move(stage: PodStage) -> None:
    stage.may_describe = True
    stage.fault()
    await stage.delete("a", f"{HOME6}/64")
    await stage.add("b", f"{HOME6}/64")
    await stage.until_owner("b", within_s=8)
    stage.require_calls(stage.fault_at, ASSIGN6, DESCRIBE, UNASSIGN6, ASSIGN6)


async def _drift(stage: PodStage) -> None:
    # IMDS has shown it here, and is asked every 10 s from now on.
    await stage.until_quiet_ec2(1.5)
    stage.fault()
    stage.steal(HOME4)
    await stage.until_owner("a", within_s=20)
    stage.require_calls(stage.fault_at, ASSIGN4)


def _setting(**homes: tuple[str, ...]) -> Setting:
    """Pods with these addresses, of which all are probed."""
    given = [home.partition("/")[0] for node in homes.values() for home in node]
    return Setting(targets=tuple(ip_address(text) for text in given if text != BAD), homes=homes)


_ONE = _setting(a=(f"{HOME4}/24",))
FOLLOWINGS = (
    Scenario(
        "init",
        "'vipd init' in a pod with an IPv4 and an IPv6 address",
        Promise("exit 0, IMDS shows them, one EC2 call each; ≤ 5 s besides", detect_ms=5000.0),
        _pods(_init),
        replace(_setting(a=(f"{HOME4}/24", f"{HOME6}/64")), sidecars=False),
    ),
    Scenario(
        "init-throttled",
        "EC2 throttles every call, and 'vipd init' has 3 s; then EC2 throttles two calls, and it has a minute",
        Promise("exit 3 with the reason, then exit 0"),
        _pods(_init_throttled),
        replace(_ONE, sidecars=False),
    ),
    Scenario(
        "init-one-bad",
        "'vipd init' in a pod with two good addresses and one that is another ENI's primary",
        Promise("the good ones are mapped; exit 1, naming the bad one and why"),
        _pods(_init_one_bad),
        replace(_setting(a=(f"{HOME4}/24", f"{BAD}/24", f"{SECOND4}/24")), sidecars=False),
    ),
    Scenario(
        "follow",
        f"an address comes to a pod {COMINGS} times, while another one stays",
        Promise("EC2 called ≤ 20 ms after it came (median), once each; the other one: 0 probes lost", detect_ms=20.0),
        _pods(_follow),
        replace(_ONE, targets=(HOME4, COMES4)),
    ),
    Scenario(
        "follow-return",
        "an address goes from a pod to another and back, twice, as keepalived in them would do it",
        Promise("gap ≤ 0.1 s + the EC2 call, 0 stale answers", gap_ms=100.0, owner_changes=False),
        _pods(_follow_return),
        _ONE,
    ),
    Scenario(
        "follow-100-pods",
        "100 pods get their address at once, and EC2 throttles: 50 calls at once, then 5 a second",
        Promise("all served within 2 min by ≤ 3 EC2 calls a pod"),
        _pods(_follow_100_pods),
        Setting(
            targets=(ip_address("10.0.1.100"), ip_address("10.0.1.101")),
            nodes=("a", "b", "c", "d"),
            sidecars=False,
            limit4=30,
            pods=100,
        ),
    ),
    Scenario(
        "follow-restart",
        "the following vipd ends by SIGTERM, then by SIGKILL, and is started anew each time",
        Promise("0 probes lost, no EC2 call", lost=0, owner_changes=False),
        _pods(_follow_restart),
        _ONE,
    ),
    Scenario(
        "same-subnet-enis",
        "'vipd init' in a pod on two ENIs of one subnet, with an address on each",
        Promise("each address on its own ENI, one EC2 call for each ENI and family"),
        _pods(_same_subnet_enis),
        replace(_setting(a=(f"{HOME4}/24", f"{SECOND4}/24%net2")), sidecars=False, enis=2, nodes=("a",)),
    ),
    Scenario(
        "ipv6-move",
        "an IPv6 address goes from a pod to another (no atomic move in EC2)",
        Promise("gap ≤ 0.3 s + the four EC2 calls, nothing unassigned from itself", gap_ms=300.0, owner_changes=True),
        _pods(_ipv6_move),
        _setting(a=(f"{HOME6}/64",)),
    ),
    Scenario(
        "drift",
        "somebody else's EC2 call maps a followed address to another ENI",
        Promise("gap ≤ 10 s + 5 s + 1 s + the EC2 call, by one call", gap_ms=16000.0, owner_changes=False),
        _pods(_drift),
        _ONE,
    ),
)
