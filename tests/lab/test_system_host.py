"""``vipd host`` as a process: which nodes are candidates, what ends candidacy, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from system import ended, eventually, fetch, log_lines, untouched

from vipd.lab.hoststage import HostStage
from vipd.lab.run import staged
from vipd.lab.setting import VIP4, Node, Setting
from vipd.lab.stage import Stage
from vipd.lab.topology import HOST_RIGHTS, LEASE, NAMESPACE, Lab

ONE = Setting(nodes=("a",), host=True)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab(ONE, folder=tmp_path) as lab:
        yield lab


def holder(lab: Lab) -> str:
    lease = lab.api.lease(NAMESPACE, LEASE)
    return str(lease["spec"].get("holderIdentity") or "") if lease else ""


async def owns(lab: Lab, node: Node) -> None:
    await eventually(lambda: holder(lab) == node.identity and lab.mapped_to(VIP4) == node.name)


async def said(node: Node, words: str) -> None:
    await eventually(lambda: node.log.exists() and words in node.log.read_text())


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--vip", "10.0.1.11"), 2, ["10.0.1.11", "primary", "10.0.1.0/24"]),
        (("--vip", "10.0.1.2"), 2, ["10.0.1.2", "reserves"]),
        (("--vip", "10.0.1.37"), 2, ["10.0.1.37", "10.0.1.32/28", "delegated"]),
        (("--interface", "ens99", "--interface-timeout", "1s"), 3, ["ens99", "net1"]),
        (("--eni", "eni-00000000000000bad"), 2, ["eni-00000000000000bad", "eni-0000000000000000a"]),
        (("--address-mode", "static", "--eni", "none", "--interface", "net1"), 2, ["static", "none"]),
    ],
)
async def test_wrong_values_end_with_one_sentence_and_touch_nothing(
    lab: Lab, arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    node = lab.nodes["a"]
    assert node.eni is not None
    node.eni.prefixes4.append(ip_network("10.0.1.32/28"))  # type: ignore[arg-type]
    only = "--vip" in arguments
    lab.vipd_command = lambda node: ["host", "--lease", LEASE, *([] if only else ["--vip", str(VIP4)])]  # type: ignore[method-assign]
    got, told = await ended(lab, node, *arguments)
    assert got == code, told
    assert [word for word in words if word not in told] == []
    assert untouched(lab)


async def test_an_address_of_user_data_is_no_managed_one(lab: Lab) -> None:
    node = lab.nodes["a"]
    await lab.add_address(node, f"{VIP4}/24")
    got, told = await ended(lab, node)
    assert got == 2
    assert [word for word in (str(VIP4), "net1", "--address-mode static") if word not in told] == []
    assert not lab.api.lease_writes
    assert lab.mapped_to(VIP4) is None


async def test_imds_that_does_not_answer_is_told_with_the_ways_out(lab: Lab) -> None:
    node = lab.nodes["a"]
    assert node.imds is not None
    node.imds.faults.silent = True
    got, told = await ended(lab, node)
    assert got == 1
    assert [word for word in ("IMDS", "--interface", "--eni", "--region") if word not in told] == []
    assert untouched(lab)


# ------------------------------------------------------------------------------- who is a candidate


async def test_a_node_in_another_subnet_waits_and_says_so(lab: Lab) -> None:
    node = lab.nodes["a"]
    lab.vipd_command = lambda node: ["host", "--lease", LEASE, "--vip", "10.0.2.100", "--listen", "127.0.0.1:9808"]  # type: ignore[method-assign]
    await lab.start_vipd(node)
    await said(node, "this node is no candidate")
    status, body = await fetch(lab, node, "/readyz")
    assert (status, "10.0.2.100" in body) == (200, True)
    status, body = await fetch(lab, node, "/status")
    assert json.loads(body)["state"] == "no-candidate"
    assert (await fetch(lab, node, "/healthz"))[0] == 200
    assert untouched(lab)
    assert node.vipd is not None
    for number, told in ((signal.SIGHUP, "configuration reloaded; changed: nothing"), (signal.SIGUSR1, "state on")):
        node.vipd.send_signal(number)
        await said(node, told)
    node.vipd.terminate()
    assert await asyncio.wait_for(node.vipd.wait(), 10) == 0


async def test_what_was_found_out_is_no_change_when_the_configuration_is_read_again(lab: Lab) -> None:
    node = lab.nodes["a"]
    await lab.start_vipd(node)
    await owns(lab, node)
    lab.signal(node, signal.SIGHUP)
    await said(node, "SIGHUP: configuration reloaded; changed: nothing")
    assert "need a restart" not in node.log.read_text()


async def test_the_status_tells_of_the_host(lab: Lab) -> None:
    node = lab.nodes["a"]
    await lab.start_vipd(node)
    await owns(lab, node)
    document = json.loads((await fetch(lab, node, "/status"))[1])
    assert document["host"]["node"] == "node-a"
    assert document["host"]["address_mode"] == "managed"
    assert document["host"]["vpc_cni"]["answers"] is False
    assert document["vips"][0]["interface"] == "net1"
    assert document["checks"] == {"healthy": True, "detail": ""}


@pytest.mark.parametrize("wrong", ["cordoned", "not Ready", "kube-proxy"])
async def test_a_node_that_is_not_well_takes_nothing_until_it_is(lab: Lab, wrong: str) -> None:
    node = lab.nodes["a"]
    assert node.worker is not None
    if wrong == "kube-proxy":
        node.worker.proxy_well(False)
    else:
        await lab.api.set_node("node-a", cordoned=wrong == "cordoned", ready=wrong != "not Ready")
    await lab.start_vipd(node)
    await said(node, "standby -> fault (check-failed: " + ("check http" if wrong == "kube-proxy" else "Node node-a"))
    status, body = await fetch(lab, node, "/readyz")
    # A rollout waits for what somebody has to mend, not for a node that is to be out of the race.
    assert status == (503 if wrong == "kube-proxy" else 200)
    assert {"kube-proxy": "10256", "cordoned": "no candidate: Node node-a: the node is cordoned"}.get(
        wrong, wrong
    ) in body
    assert lab.mapped_to(VIP4) is None
    assert holder(lab) == ""
    node.worker.proxy_well(True)
    await lab.api.set_node("node-a")
    await owns(lab, node)


async def test_a_node_that_may_not_be_seen_is_no_candidate_and_the_rule_is_named(lab: Lab) -> None:
    lab.api.access.rights["system:serviceaccount:lab:vipd-a"] = HOST_RIGHTS - {("get", "nodes")}  # type: ignore[attr-defined]
    node = lab.nodes["a"]
    await lab.start_vipd(node)
    await said(node, "--no-node-gate")
    await asyncio.sleep(1)
    assert holder(lab) == ""
    status, body = await fetch(lab, node, "/readyz")
    assert (status, "have not run yet" in body) == (503, True)


async def test_without_the_gate_the_node_is_not_looked_at(tmp_path: Path) -> None:
    setting = replace(ONE, arguments=("--no-node-gate", "--kube-proxy", "off"))
    async with Lab(setting, folder=tmp_path) as lab:
        lab.api.access.rights["system:serviceaccount:lab:vipd-a"] = HOST_RIGHTS - {("get", "nodes"), ("watch", "nodes")}  # type: ignore[attr-defined]
        node = lab.nodes["a"]
        await lab.api.set_node("node-a", cordoned=True)
        await lab.start_vipd(node)
        await owns(lab, node)


# ------------------------------------------------------------------------------------- static mode


async def test_without_user_datas_address_a_node_is_no_candidate(tmp_path: Path) -> None:
    async with Lab(replace(ONE, static=True), folder=tmp_path) as lab:
        node = lab.nodes["a"]
        assert await lab.delete_address(node, VIP4)
        await lab.start_vipd(node)
        await said(node, "is not on net1, where user data is to put it")
        await asyncio.sleep(0.5)
        assert holder(lab) == ""
        await lab.add_address(node, f"{VIP4}/24")
        await owns(lab, node)
        assert [a for a in lab.observer.announcements if a.node == "a"] == []


async def test_an_owner_that_loses_user_datas_address_hands_over(tmp_path: Path) -> None:
    async with Lab(replace(ONE, nodes=("a", "b"), static=True), folder=tmp_path) as lab:
        for node in lab.nodes.values():
            await lab.start_vipd(node)
        await eventually(lambda: lab.mapped_to(VIP4) is not None)
        owner = lab.nodes[str(lab.mapped_to(VIP4))]
        other = next(node for node in lab.nodes.values() if node is not owner)
        await eventually(lambda: "standby" in json.dumps(lab.api.pod(NAMESPACE, other.pod)))
        assert await lab.delete_address(owner, VIP4)
        await owns(lab, other)


async def test_a_restart_of_the_owner_takes_nothing_off_in_static_mode(tmp_path: Path) -> None:
    async with Lab(replace(ONE, static=True), folder=tmp_path) as lab:
        node = lab.nodes["a"]
        await lab.start_vipd(node)
        await owns(lab, node)
        assert node.vipd is not None
        node.vipd.kill()
        await node.vipd.wait()
        await lab.start_vipd(node)
        await eventually(lambda: sum("-> active" in str(line.get("msg")) for line in log_lines(node)) == 2)
        assert [b.until for b in lab.observer.bearings if b.node == "a"] == [None]


# ------------------------------------------------------------------------------------- never none


async def lost_while(stage: Stage, seconds: float) -> int:
    """How many requests fail from now on, and the owner is the one that it was."""
    began = stage.now()
    await stage.pause(seconds)
    end = stage.now()
    await stage.pause(1.2)
    stage.lab.require_well()
    window = stage.lab.probes[VIP4].window(began, end)
    assert window.sent > seconds * 100
    assert (window.first_who, window.last_who) == (stage.active, stage.active)
    return window.lost


async def test_where_no_node_is_fit_the_vip_stays_where_it_is(tmp_path: Path) -> None:
    async with staged(Setting(host=True), folder=tmp_path) as stage:
        assert isinstance(stage, HostStage)
        # The one that stands by first: nobody is left who could take an offer.
        await stage.cordon(stage.standby)
        await stage.until("it is no candidate", lambda: stage.role(stage.standby) == "fault", within_s=5)
        await stage.cordon(stage.active)
        await stage.until("the owner has let go of the Lease", lambda: not stage.holder(), within_s=8)
        # Longer than the kernel's lifetime of the address.
        assert await lost_while(stage, 12) == 0
        for name in stage.lab.nodes:
            await stage.lab.api.set_node(stage.worker(name).name)
        await stage.until_any_owner(within_s=15)


async def test_an_outage_of_the_api_moves_nothing(tmp_path: Path) -> None:
    async with staged(Setting(host=True), folder=tmp_path) as stage:
        await stage.api_outage(True)
        assert await lost_while(stage, 6) == 0
        await stage.api_outage(False)
        assert await lost_while(stage, 3) == 0
        await stage.until_owner(stage.active, within_s=5)
