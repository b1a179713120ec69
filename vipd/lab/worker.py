"""What makes a lab's node a Kubernetes worker: a pod behind a NodePort, kube-proxy's part, the Node object, ipamd.

    client ── fabric ── net1 of the node ── nftables: TCP to any of its addresses at NODE_PORT ── eth0 of the pod

Every node sends NodePort traffic to its own pod, as with ``externalTrafficPolicy: Local``.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from typing import TYPE_CHECKING

from vipd.lab.health import ILL, WELL, Health
from vipd.lab.ipamd import PORT as IPAMD_PORT
from vipd.lab.ipamd import Ipamd
from vipd.lab.netns import Namespace, join
from vipd.lab.nodeport import forward

if TYPE_CHECKING:
    from vipd.lab.setting import Node
    from vipd.lab.topology import Lab

NODE_PORT, POD_PORT = 30080, 8080
PROXY_PORT = 10256
"""Where kube-proxy says that it is healthy."""

HEALTH_PORT = 32000
"""The healthCheckNodePort: 200 where the node has an endpoint of its own that is ready, else 503."""

START_S = 20.0


class Worker:
    """One node's."""

    def __init__(self, lab: Lab, node: Node) -> None:
        self._lab, self._node = lab, node
        self._pod: Namespace
        self._web: Process | None = None
        self._proxy = Health("/healthz")
        self._local = Health("/healthz")
        self.ipamd: Ipamd | None = None

    async def build(self) -> Worker:
        """Everything in place; the Node is Ready."""
        node, lab = self._node, self._lab
        gateway, address = f"10.244.{node.number}.1", f"10.244.{node.number}.2"
        self._pod = await lab.new_space(f"web-{node.name}")
        outer, inner = await join(node.space, "veth0", self._pod, "eth0")
        await node.space.ipr.addr("add", index=outer, address=gateway, prefixlen=24)
        await self._pod.ipr.addr("add", index=inner, address=address, prefixlen=24)
        await self._pod.ipr.route("add", dst="0.0.0.0/0", gateway=gateway)
        node.space.sysctl({"net/ipv4/ip_forward": 1})
        node.space.run(lambda: forward(NODE_PORT, address, POD_PORT))
        await self._proxy.start(node.space.listen("127.0.0.1", PROXY_PORT))
        await self._local.start(node.space.listen("127.0.0.1", HEALTH_PORT))
        await lab.api.add_node(self.name)
        await self.start()
        return self

    @property
    def name(self) -> str:
        """Of the Node object."""
        return f"node-{self._node.name}"

    @property
    def process(self) -> Process | None:
        """The application's."""
        return self._web

    async def start(self) -> None:
        """The pod runs, and is an endpoint."""
        arguments = ["--name", self._node.name, "--address", f"10.244.{self._node.number}.2", "--port", str(POD_PORT)]
        self._web = await self._lab.keep(
            await self._pod.spawn(
                [sys.executable, "-m", "vipd.lab.webpod", *arguments],
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        )
        assert self._web.stdout is not None
        await asyncio.wait_for(self._web.stdout.readline(), START_S)
        self.ready(True)

    def ready(self, yes: bool) -> None:
        """Whether the pod is an endpoint that is ready; not ready, it is terminating, and serves on."""
        self._local.status = WELL if yes else ILL

    def proxy_well(self, yes: bool) -> None:
        """Whether kube-proxy says that it is healthy."""
        self._proxy.status = WELL if yes else ILL

    async def end_pod(self) -> None:
        """The pod's grace period is over."""
        if self._web is not None and self._web.returncode is None:
            self._web.kill()
            await self._web.wait()

    async def start_ipamd(self) -> Ipamd:
        """From now on the VPC CNI manages the node's ENI."""
        if self.ipamd is None:
            assert self._node.eni is not None
            self.ipamd = await Ipamd(self._node.eni).start(self._node.space.listen("127.0.0.1", IPAMD_PORT))
        return self.ipamd

    async def stop(self) -> None:
        """What runs in this process; the rest ends with the lab."""
        await self._proxy.stop()
        await self._local.stop()
        if self.ipamd is not None:
            await self.ipamd.stop()
