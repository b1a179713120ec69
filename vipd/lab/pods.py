"""Many small pods on the lab's nodes: more than a node for each could be built, and all behind the nodes' ENIs.

    pod ── eth0 ── a bridge of its node ── management network, and the node's IMDS (the cluster network)
        └─ net1, with the ENI's MAC ── routed by its node to the fabric (as ipvlan in its L3 mode does)

``vipd init`` runs in each.  Its address is given to a pod by ``furnish``, so that a hundred can come at once.
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from vipd.core.model import Address
from vipd.lab.fabric import Bridge
from vipd.lab.netns import Namespace, join
from vipd.lab.setting import Node
from vipd.lab.stage import SceneFailed
from vipd.lab.topology import Lab
from vipd.lab.vpc import LAB_SUBNET

FIRST = ip_address("10.0.1.100")
"""The address of the first pod; the others follow."""

START_S = 600
"""In a hundred pods at once, ``vipd init`` takes two cores a minute before each waits for its address."""

SERVED_S = 120.0
"""In what time each is to be served once it has its address."""

IDLE_S = 0.5
"""CPU time that all together may take in a second while they wait."""

_PREFIX = LAB_SUBNET.cidr4.prefixlen


@dataclass(slots=True)
class Pod:
    """One of them, and its ``vipd init``."""

    node: Node
    number: int
    space: Namespace
    pod_ip: str
    """Of eth0."""
    init: Process | None = None

    @property
    def address(self) -> Address:
        """What net1 gets."""
        return FIRST + self.number


class Pods:
    """Built when they are first needed, and kept for later rounds."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._all: list[Pod] = []
        self._borne: set[int] = set()

    async def build(self, count: int) -> list[Pod]:
        """So many, dealt out to the nodes in turn."""
        if not self._all:
            for node in self._lab.nodes.values():
                await self._ready(node)
            nodes = list(self._lab.nodes.values())
            for number in range(count):
                self._all.append(await self._pod(nodes[number % len(nodes)], number))
        return self._all

    async def _ready(self, node: Node) -> None:
        """The node's own part: a bridge for eth0 of its pods, and forwarding."""
        node.space.sysctl({"net/ipv4/ip_forward": 1})
        await Bridge(node.space, "pods").start([f"{_gateway(node)}/24"])
        await self._lab.control.space.ipr.route("add", dst=f"10.244.{node.number}.0/24", gateway=node.management)

    async def _pod(self, node: Node, number: int) -> Pod:
        space = await self._lab.new_space(f"pod-{number}")
        pod_ip = str(ip_address(_gateway(node)) + 1 + number)
        pods = await node.space.index("pods")
        cable, _ = await join(node.space, f"c{number}", space, "eth0")
        await node.space.ipr.link("set", index=cable, master=pods)
        await space.ipr.addr("add", index=await space.index("eth0"), address=pod_ip, prefixlen=24)
        await space.ipr.route("add", dst="0.0.0.0/0", gateway=_gateway(node))
        index, _ = await join(node.space, f"v{number}", space, "net1", other_mac=node.mac)
        node.space.sysctl({f"net/ipv4/conf/v{number}/proxy_arp": 1, f"net/ipv4/neigh/v{number}/proxy_delay": 0})
        await node.space.ipr.route("add", dst=f"{FIRST + number}/32", oif=index, scope=253)
        pod = Pod(node, number, space, pod_ip)
        if pod.address in self._lab.probes:
            await self._lab.start_responder(space, node.name)
            self._lab.observer.watch_addresses(node.name, space)
        return pod

    async def start_init(self) -> None:
        """Start ``vipd init`` in every pod, and wait until all wait for their addresses."""
        given = {node.name: _credentials_given(node) for node in self._lab.nodes.values()}
        for pod in self._all:
            pod.init = await self._lab.start_init(
                pod.node, "--timeout", f"{START_S + SERVED_S:g}s", space=pod.space, env={"POD_IP": pod.pod_ip}
            )
        await self._until_waiting(given)

    async def _until_waiting(self, given: Mapping[str, int]) -> None:
        """Until each has got its AWS credentials, and all together use next to no CPU.  Raises SceneFailed."""
        used_s = self._used_s()
        for _ in range(START_S):
            await asyncio.sleep(1.0)
            before_s, used_s = used_s, self._used_s()
            if any(pod.init is not None and pod.init.returncode is not None for pod in self._all):
                raise SceneFailed(f"vipd init ended before the pod had its address; logs in {self._lab.folder}")
            if used_s - before_s < IDLE_S and all(
                _credentials_given(node) - given[node.name] >= sum(pod.node is node for pod in self._all)
                for node in self._lab.nodes.values()
            ):
                return
        raise SceneFailed(f"{len(self._all)} times vipd init did not start in {START_S} s: the machine is too busy")

    def _used_s(self) -> float:
        return sum(_cpu_s(pod.init.pid) for pod in self._all if pod.init is not None and pod.init.returncode is None)

    async def furnish(self) -> None:
        """The CNI gives every pod its address."""
        for pod in self._all:
            index = await pod.space.index("net1")
            await pod.space.ipr.addr("add", index=index, address=str(pod.address), prefixlen=_PREFIX)
            self._borne.add(pod.number)

    async def clear(self) -> None:
        """End every ``vipd init`` that still runs, and take the addresses away."""
        for pod in self._all:
            if pod.init is not None and pod.init.returncode is None:
                pod.init.kill()
                await pod.init.wait()
            if pod.number in self._borne:
                index = await pod.space.index("net1")
                await pod.space.ipr.addr("del", index=index, address=str(pod.address), prefixlen=_PREFIX)
                self._borne.remove(pod.number)


def _credentials_given(node: Node) -> int:
    return node.imds.credentials_given if node.imds else 0


def _gateway(node: Node) -> str:
    return f"10.244.{node.number}.1"


def _cpu_s(pid: int) -> float:
    """User and system time of a process (proc_pid_stat(5)); 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
