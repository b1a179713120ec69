"""``vipd init`` and a following ``vipd sidecar`` as processes: real kernel, real EC2 and IMDS clients.

What was wrong in the sample that they replace (aws-samples/eks-automated-ipmgmt-multus-pods), and where it is tested:

1. what leaves and comes back is never assigned again: ``test_an_address_goes_to_another_pod_and_comes_back``,
   ``test_follow.test_what_leaves_and_comes_back_is_assigned_again``, the scenario follow-return
2. a failed assignment is forgotten, exit 0: ``test_init_tells_what_it_could_not_map_and_maps_the_rest``
3. one throttled request at start spoils it for good: the scenario init-throttled (nothing is described at all)
4. an IPv6 address is unassigned from its own ENI, and too late:
   ``test_an_ipv6_address_moves_and_is_never_taken_from_the_node_it_is_on``,
   ``test_mover.test_it_never_unassigns_from_itself``,
   ``test_release.test_an_address_that_is_back_while_it_is_given_back_ends_up_here``
5. two ENIs in one subnet, and /32: the scenario same-subnet-enis, ``test_a_sidecar_maps_what_is_there_and_what_comes``
6. tentative addresses, and those not there yet: ``test_init_takes_no_tentative_address_and_waits_for_it``,
   ``test_network_status`` and ``test_link_wait``
7. drift is never noticed: the scenario drift,
   ``test_follow.test_drift_is_repaired_after_5_30_and_300_seconds_and_then_no_more``
8. one bad address, a full ENI, no release: the scenario init-one-bad, ``test_batch``,
   ``test_follow.test_failures_have_each_a_pace_of_their_own``,
   ``test_a_release_unassigns_what_left_and_is_nowhere_else``
9. it polls, and an IMDS that is late is for ever: ``tests/bench/cost.py``,
   ``test_init_waits_for_an_imds_that_is_late``,
   ``test_a_sidecar_waits_for_an_imds_that_is_late``
10. the NodePort helper reads another place than its manifest sets: ``test_shim``
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest
from system import eventually, fetch, log_lines

from vipd.lab.ec2 import Call
from vipd.lab.setting import Setting
from vipd.lab.topology import Lab

A4, B4, A6 = ip_address("10.0.1.80"), ip_address("10.0.1.81"), ip_address("fd00:10:0:1::80")
HOMES = {"a": ("10.0.1.80/24", "fd00:10:0:1::80/64")}


def setting(**fields: Any) -> Setting:
    fields = {"targets": (A4, A6), "homes": HOMES, "ec2_s": 0.05, "nodes": ("a", "b"), **fields}
    return Setting(**fields)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab(setting()) as lab:
        yield lab


async def init(lab: Lab, *flags: str, node: str = "a", within_s: float = 30) -> tuple[int, str]:
    """Run ``vipd init``: its exit code, and its last word."""
    process = await lab.start_init(lab.nodes[node], *flags)
    code = await asyncio.wait_for(process.wait(), within_s)
    return code, log_lines(lab.nodes[node])[-1]["msg"]


def writes(lab: Lab) -> list[Call]:
    return [call for call in lab.ec2.log if not call.action.startswith("Describe")]


def described(lab: Lab) -> list[Call]:
    return [call for call in lab.ec2.log if call.action.startswith("Describe")]


async def test_init_maps_every_address_of_the_pod_and_ends(lab: Lab) -> None:
    code, said = await init(lab)
    assert code == 0, said
    assert lab.mapped_to(A4) == lab.mapped_to(A6) == "a"
    assert sorted(call.action for call in writes(lab)) == ["AssignIpv6Addresses", "AssignPrivateIpAddresses"]
    assert {address for call in writes(lab) for address in call.addresses} >= {A4, A6}
    assert lab.nodes["a"].eni is not None
    assert lab.nodes["a"].eni.primary not in {a for call in writes(lab) for a in call.addresses}
    assert described(lab) == []


async def test_init_tells_what_it_could_not_map_and_maps_the_rest(lab: Lab) -> None:
    await lab.add_address(lab.nodes["a"], "10.0.1.12/24")  # the primary address of node b's ENI
    code, said = await init(lab)
    assert code == 1
    assert "10.0.1.12 on net1" in said
    assert "is refused" in said
    assert lab.mapped_to(A4) == "a"


async def test_init_ends_with_3_when_the_time_is_over(lab: Lab) -> None:
    lab.ec2.faults.error, lab.ec2.faults.calls = "RequestLimitExceeded", None
    code, said = await init(lab, "--timeout", "2s")
    assert code == 3
    assert "is throttled" in said
    assert "--timeout" in said


async def test_init_waits_for_an_imds_that_is_late(lab: Lab) -> None:
    imds = lab.nodes["a"].imds
    assert imds is not None
    await imds.refuse()
    waiting = asyncio.create_task(init(lab))
    await asyncio.sleep(2)
    await imds.resume()
    code, said = await waiting
    assert code == 0, said


async def test_init_takes_no_tentative_address_and_waits_for_it(lab: Lab) -> None:
    await lab.nodes["a"].space.ipr.addr(
        "add", index=await lab.nodes["a"].space.index("net1"), address="fd00:10:0:1::85", prefixlen=64
    )
    code, said = await init(lab)
    assert code == 0, said
    assert lab.mapped_to(ip_address("fd00:10:0:1::85")) == "a"


async def test_init_without_an_address_is_a_failure_unless_that_is_allowed(lab: Lab) -> None:
    code, said = await init(lab, "--ignore", "10.0.0.0/8", "--ignore", "fd00::/8", "--timeout", "1s")
    assert code == 3
    assert "net1 has no address" in said
    code, said = await init(lab, "--ignore", "10.0.0.0/8", "--ignore", "fd00::/8", "--allow-none")
    assert code == 0, said
    assert writes(lab) == []


async def sidecar(lab: Lab, node: str = "a", *flags: str) -> None:
    """Start a following sidecar, until all that it follows is confirmed."""
    await lab.start_vipd(lab.nodes[node], *flags)
    await eventually(lambda: lab.nodes[node].log.exists() and "following" in lab.nodes[node].log.read_text())


async def test_a_sidecar_maps_what_is_there_and_what_comes(lab: Lab) -> None:
    await sidecar(lab)
    await eventually(lambda: lab.mapped_to(A4) == "a" and lab.mapped_to(A6) == "a")
    await lab.add_address(lab.nodes["a"], "10.0.1.81/32")
    await eventually(lambda: lab.mapped_to(B4) == "a")
    await eventually(lambda: lab.probes[A4].answered_since(asyncio.get_running_loop().time() - 1) is not None)
    status, body = await fetch(lab, lab.nodes["a"], "/status")
    rows = {row["address"]: row for row in json.loads(body)["following"]}
    assert status == 200
    assert set(rows) >= {"10.0.1.80", "10.0.1.81", "fd00:10:0:1::80"}
    assert (await fetch(lab, lab.nodes["a"], "/readyz"))[0] == 200
    assert 'vipd_followed_addresses{state="confirmed"}' in (await fetch(lab, lab.nodes["a"], "/metrics"))[1]
    assert described(lab) == []


async def test_a_sidecar_waits_for_an_imds_that_is_late(lab: Lab) -> None:
    imds = lab.nodes["a"].imds
    assert imds is not None
    await imds.refuse()
    await lab.start_vipd(lab.nodes["a"])
    await eventually(lambda: "IMDS" in lab.nodes["a"].log.read_text())
    await asyncio.sleep(2)
    assert lab.mapped_to(A4) is None
    await imds.resume()
    await eventually(lambda: lab.mapped_to(A4) == "a" and lab.mapped_to(A6) == "a")


async def test_a_restart_writes_nothing(lab: Lab) -> None:
    await sidecar(lab)
    await eventually(lambda: lab.mapped_to(A4) == "a" and lab.mapped_to(A6) == "a")
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = len(lab.ec2.log)
        lab.signal(lab.nodes["a"], number)
        vipd = lab.nodes["a"].vipd
        assert vipd is not None
        code = await vipd.wait()
        assert code == (0 if number is signal.SIGTERM else -9)
        await lab.start_vipd(lab.nodes["a"])
        await asyncio.sleep(2.5)
        assert len(lab.ec2.log) == before


async def test_an_address_goes_to_another_pod_and_comes_back(lab: Lab) -> None:
    """As an application does that moves its own floating IP."""
    await sidecar(lab, "a")
    await sidecar(lab, "b")
    await eventually(lambda: lab.mapped_to(A4) == "a")
    for old, new in (("a", "b"), ("b", "a"), ("a", "b")):
        await lab.delete_address(lab.nodes[old], A4, prefixlen=24)
        await lab.add_address(lab.nodes[new], "10.0.1.80/24")
        await eventually(lambda new=new: lab.mapped_to(A4) == new, within_s=5)  # type: ignore[misc]
        await asyncio.sleep(0.5)


async def test_an_ipv6_address_moves_and_is_never_taken_from_the_node_it_is_on(lab: Lab) -> None:
    await sidecar(lab, "a")
    await sidecar(lab, "b")
    await eventually(lambda: lab.mapped_to(A6) == "a")
    await lab.delete_address(lab.nodes["a"], A6, prefixlen=64)
    await lab.add_address(lab.nodes["b"], "fd00:10:0:1::80/64")
    await eventually(lambda: lab.mapped_to(A6) == "b")
    own = {name: node.eni.id for name, node in lab.nodes.items() if node.eni}
    assert not [c for c in lab.ec2.log if c.action.startswith("Unassign") and c.eni == own[c.caller]]


async def test_a_release_unassigns_what_left_and_is_nowhere_else(lab: Lab) -> None:
    await sidecar(lab, "a", "--release", "--release-after", "1s")
    await eventually(lambda: lab.mapped_to(A4) == "a" and lab.mapped_to(A6) == "a")
    await asyncio.sleep(1)
    await lab.delete_address(lab.nodes["a"], A4, prefixlen=24)
    await eventually(lambda: lab.mapped_to(A4) is None, within_s=10)
    await lab.add_address(lab.nodes["a"], "10.0.1.80/24")
    await eventually(lambda: lab.mapped_to(A4) == "a")
