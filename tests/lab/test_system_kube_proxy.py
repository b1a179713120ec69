"""A real kube-apiserver and a real kube-proxy: by which of its settings a NodePort is reached at a managed VIP, and
that ``vipd doctor`` says the same.

IPVS mode is not among them: it needs the kernel's ip_vs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from system import eventually

from vipd.errors import VipdError
from vipd.lab.cluster import Real
from vipd.lab.controlplane.binaries import find
from vipd.lab.setting import VIP4, Node, Setting
from vipd.lab.topology import LEASE, NAMESPACE, Lab
from vipd.lab.worker import NODE_PORT, POD_PORT

RELAY_PORT = 6444
ASK = f"import urllib.request as u; print(u.urlopen('http://%s:{NODE_PORT}/', timeout=2).read().decode(), end='')"


def program() -> Path:
    try:
        found = find().kube_apiserver.with_name("kube-proxy")
    except VipdError as error:
        pytest.skip(str(error))
    if not os.access(found, os.X_OK):
        pytest.skip(f"there is no kube-proxy beside kube-apiserver in {found.parent}; `make envtest` builds one")
    return found


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (make tools)")


# vipd.lab.worker's own rule must not be there: kube-proxy is to do it.
@pytest.fixture(autouse=True)
def no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vipd.lab.worker.forward", lambda *_: None)


@asynccontextmanager
async def relayed(node: Node, port: int) -> AsyncIterator[None]:
    """kube-apiserver's port, on the node's loopback."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return  # one side is gone, and so is the other then
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))

    server = await asyncio.start_server(serve, sock=node.space.listen("127.0.0.1", RELAY_PORT))
    try:
        yield
    finally:
        server.close()


async def publish(cluster: Real, node: Node) -> None:
    """A NodePort Service whose one endpoint is the node's pod."""
    address = f"10.244.{node.number}.2"
    await cluster._admit(
        "PATCH",
        f"/api/v1/nodes/node-{node.name}/status",
        {"status": {"addresses": [{"type": "InternalIP", "address": f"10.0.1.{10 + node.number}"}]}},
    )
    ports = [{"name": "http", "port": 80, "targetPort": POD_PORT, "nodePort": NODE_PORT}]
    service = {"metadata": {"name": "web"}, "spec": {"type": "NodePort", "ports": ports}}
    endpoints = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": POD_PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": f"node-{node.name}", "conditions": {"ready": True}}],
    }
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    await asyncio.to_thread(cluster._admin.ensure, f"/api/v1/namespaces/{NAMESPACE}/services", service)
    await asyncio.to_thread(cluster._admin.ensure, slices, endpoints)


async def start_proxy(lab: Lab, node: Node, *flags: str) -> None:
    assert isinstance(lab.api, Real)
    config = lab.api._plane.kubeconfig(lab.folder / "kube-proxy")
    document = json.loads(config.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{RELAY_PORT}"
    config.write_text(json.dumps(document))
    command = [str(program()), f"--kubeconfig={config}", f"--hostname-override=node-{node.name}", *flags]
    # Without root of the machine it may not set these.
    command += ["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]
    command += ["--conntrack-tcp-timeout-close-wait=0"]
    with (lab.folder / "kube-proxy.log").open("wb") as log:
        await lab.keep(await node.space.spawn(command, stdout=log, stderr=log))


async def answers(lab: Lab, address: object) -> bool:
    """Whether HTTP at this address and the NodePort is answered by the node's pod."""
    process = await lab.client.spawn(
        [sys.executable, "-c", ASK % address], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return out == b"a"


async def doctor(lab: Lab, node: Node) -> tuple[str, str]:
    """Its verdict on kube-proxy's NodePort addresses."""
    command = ["-m", "vipd", "doctor", "host", "--vip", str(VIP4), "--lease", LEASE, "--namespace", NAMESPACE]
    process = await node.space.spawn(
        [sys.executable, *command, "-o", "json"],
        env=lab.environment(node),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    found: list[dict[str, Any]] = [f for f in json.loads(out) if f["check"] == "nodeport-addresses"]
    return found[0]["verdict"], found[0]["detail"]


@pytest.mark.parametrize(
    ("mode", "flags", "served", "verdict"),
    [
        ("iptables", (), True, "ok"),
        ("iptables", ("--nodeport-addresses=10.0.1.11/32",), False, "fail"),
        ("nftables", (), False, "fail"),
        ("nftables", ("--nodeport-addresses=0.0.0.0/0",), True, "ok"),
        ("nftables", ("--nodeport-addresses=10.0.1.0/24",), False, "warn"),
    ],
)
async def test_a_nodeport_through_the_vip(
    tmp_path: Path, mode: str, flags: tuple[str, ...], served: bool, verdict: str
) -> None:
    program()
    needs({"iptables": "iptables", "nftables": "nft"}[mode])
    async with Lab(Setting(host=True, kube="real", nodes=("a",)), folder=tmp_path) as lab:
        node = lab.nodes["a"]
        assert isinstance(lab.api, Real)
        assert node.worker is not None
        # kube-proxy says itself that it is healthy.
        await node.worker._proxy.stop()
        await publish(lab.api, node)
        port = int(lab.api._plane.url.rpartition(":")[2])
        async with relayed(node, port):
            await start_proxy(lab, node, f"--proxy-mode={mode}", *flags)
            await lab.start_vipd(node)
            await eventually(lambda: lab.mapped_to(VIP4) == "a", within_s=40)
            own = f"10.0.1.{10 + node.number}"
            for _ in range(50):
                if await answers(lab, own):
                    break
                await asyncio.sleep(0.2)
            else:
                pytest.fail(f"no NodePort at the node's own address; {lab.folder / 'kube-proxy.log'} says why")
            assert await answers(lab, VIP4) is served
            assert (await doctor(lab, node))[0] == verdict
