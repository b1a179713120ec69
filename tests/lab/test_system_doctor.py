"""``vipd doctor`` in a lab: well where vipd works, and what is wrong where it would not; nothing is touched."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from system import untouched

from vipd.lab.listener import Listener
from vipd.lab.setting import VIP4, Node, Setting
from vipd.lab.topology import HOST_RIGHTS, LEASE, NAMESPACE, Lab

PROXY = {"kubeproxy.config.k8s.io": {"mode": "iptables", "nodePortAddresses": None}}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab(Setting(nodes=("a",), host=True), folder=tmp_path) as lab:
        yield lab


async def doctor(lab: Lab, node: Node, mode: str, *flags: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and verdict and detail of each check (the worst, where one is there several times)."""
    process = await node.space.spawn(
        [
            sys.executable,
            "-m",
            "vipd",
            "doctor",
            mode,
            "--lease",
            LEASE,
            "--namespace",
            NAMESPACE,
            "-o",
            "json",
            *flags,
        ],
        env=lab.environment(node),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode in (0, 1), err.decode()
    order = ("ok", "unknown", "warn", "fail")
    found: dict[str, tuple[str, str]] = {}
    for finding in json.loads(out):
        check, verdict = finding["check"], finding["verdict"]
        if check not in found or order.index(verdict) > order.index(found[check][0]):
            found[check] = (verdict, finding["detail"])
    return process.returncode, found


async def proxy(node: Node, config: dict[str, Any]) -> Listener:
    """kube-proxy's metrics port."""
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(config)

    app.router.add_get("/configz", answer)
    listener = Listener(app)
    await listener.start(node.space.listen("127.0.0.1", 10249), host="", port=0)
    return listener


async def test_a_host_on_which_all_is_well(lab: Lab) -> None:
    node = lab.nodes["a"]
    assert node.eni is not None
    node.eni.tags["node.k8s.amazonaws.com/no_manage"] = "true"
    listener = await proxy(node, PROXY)
    try:
        code, found = await doctor(lab, node, "host", "--vip", str(VIP4))
    finally:
        await listener.stop()
    assert code == 0, found
    # The lab's API is no newer Kubernetes in this.
    assert {check: verdict for check, (verdict, _) in found.items()} == {
        "capabilities": "ok",
        "kernel": "ok",
        "interface": "ok",
        "eni": "ok",
        "mapping": "ok",
        "vpc-cni": "ok",
        "kubernetes": "ok",
        "service-cidr": "unknown",
        "node": "ok",
        "check": "ok",
        "nodeport-addresses": "ok",
    }
    assert untouched(lab)


async def test_everything_that_is_wrong_is_told_at_once(lab: Lab) -> None:
    node = lab.nodes["a"]
    assert node.worker is not None
    node.worker.proxy_well(False)
    ipamd = await node.worker.start_ipamd()
    assert node.eni is not None
    lab.vpc.steal(VIP4, node.eni.id)
    ipamd.given[VIP4] = ("shop", "cart")
    await lab.api.set_node("node-a", cordoned=True)
    lab.api.access.rights["system:serviceaccount:lab:vipd-a"] = HOST_RIGHTS - {("create", "leases")}  # type: ignore[attr-defined]
    listener = await proxy(node, {"kubeproxy.config.k8s.io": {"mode": "nftables", "nodePortAddresses": ["primary"]}})
    try:
        code, found = await doctor(lab, node, "host", "--vip", str(VIP4), "--address-mode", "static")
    finally:
        await listener.stop()
    assert code == 1
    wrong = {check: detail for check, (verdict, detail) in found.items() if verdict in ("fail", "warn")}
    assert wrong.keys() == {"vpc-cni", "kubernetes", "node", "check", "nodeport-addresses", "address"}
    assert "shop/cart" in wrong["vpc-cni"]
    assert "Not allowed to create the Lease" in wrong["kubernetes"]
    assert "cordoned" in wrong["node"]
    assert "10256" in wrong["check"]
    assert "primary address alone" in wrong["nodeport-addresses"]
    assert "user data" in wrong["address"]
    assert not lab.api.lease_writes


async def test_a_node_in_another_subnet(lab: Lab) -> None:
    code, found = await doctor(lab, lab.nodes["a"], "host", "--vip", "10.0.2.100")
    assert code == 1
    assert found["interface"][0] == "fail"
    assert "no ENI of this node is in the subnet of 10.0.2.100" in found["interface"][1]
    assert "eni" not in found


@pytest.mark.parametrize(
    ("flags", "check", "words"),
    [
        (("--vip", "10.0.1.11%net1"), "aws", "primary"),
        (("--vip", "10.0.1.100%net7"), "interface", "no interface net7"),
        (("--vip", "10.0.1.100%net1", "--check", "http://127.0.0.1:1/"), "check", "127.0.0.1:1"),
    ],
)
async def test_a_sidecars_flags_are_examined_in_the_same_way(
    lab: Lab, flags: tuple[str, ...], check: str, words: str
) -> None:
    code, found = await doctor(lab, lab.nodes["a"], "sidecar", *flags)
    verdict, detail = found[check]
    assert (verdict in ("fail", "warn"), words in detail) == (True, True)
    assert code == (0 if check == "check" else 1)
    assert "node" not in found
    assert untouched(lab)


async def test_an_api_that_is_away_is_one_of_the_findings(lab: Lab) -> None:
    await lab.partition(None, "api", cut=True)
    code, found = await doctor(lab, lab.nodes["a"], "sidecar", "--vip", "10.0.1.100%net1")
    assert code == 1
    assert found["kubernetes"][0] == "fail"
    assert found["eni"][0] == "ok"
