"""What a scenario can do to the lab: every fault, and how it is taken back."""

from __future__ import annotations

import asyncio
import signal as signals
from enum import Enum

from vipd.core.model import Address
from vipd.lab.ec2_faults import Hold
from vipd.lab.health import ILL, WELL
from vipd.lab.intruder import Intruder
from vipd.lab.operator import run_vipd
from vipd.lab.setting import Node
from vipd.lab.topology import LEASE, NAMESPACE, Lab

THIEF = "eni-0000000000000cccc"
"""The client's ENI plays the third party that takes an address."""


class ImdsState(Enum):
    """How the metadata service of every node behaves."""

    WELL = "answers"
    REFUSES = "refuses connections"
    SILENT = "accepts, and never answers"


class Stagecraft:
    """Faults by node name; ``complaints``: what was found to be other than promised."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.complaints: list[str] = []
        self._intruder = Intruder(lab)

    def node(self, name: str) -> Node:
        return self.lab.nodes[name]

    async def heal(self) -> None:
        """Take back every fault that is not the end of a process."""
        self.lab.ec2.faults.error = None
        self.lab.ec2.faults.hang = False
        for name in list(self.lab.ec2.faults.held):
            self.release_ec2(name)
        await self.api_outage(False)
        for node in self.lab.nodes.values():
            await self.lab.partition(node, "api", cut=False)
            await self.lab.partition(node, "ec2", cut=False)
            if node.alive:
                self.lab.signal(node, signals.SIGCONT)
            await self.lab.link(node, up=True)
            self.set_health(node.name, well=True)
        await self.imds(ImdsState.WELL)

    def signal(self, name: str, number: signals.Signals) -> None:
        self.lab.signal(self.node(name), number)

    async def restart(self, name: str) -> None:
        """End the node's vipd and start it anew: a hold-down does not outlive it."""
        node = self.node(name)
        if node.alive and node.vipd is not None:
            self.lab.signal(node, signals.SIGKILL)
            await node.vipd.wait()
        await self.lab.start_vipd(node)

    async def power_off(self, name: str) -> None:
        await self.lab.power_off(self.node(name))

    async def partition(self, name: str, *, api: bool) -> None:
        """Cut the node off from the Kubernetes API alone (True), or heal that."""
        await self.lab.partition(self.node(name), "api", cut=api)

    async def api_outage(self, away: bool) -> None:
        """The Kubernetes API is away for everybody, without a word."""
        await self.lab.partition(None, "api", cut=away)

    async def link(self, name: str, *, up: bool) -> None:
        await self.lab.link(self.node(name), up=up)

    async def delete_address(self, name: str, address: Address) -> None:
        if not await self.lab.delete_address(self.node(name), address):
            self.complaints.append(f"node {name} did not bear {address} when it was to be deleted")

    def steal(self, address: Address) -> None:
        """A third party maps the address to its own ENI."""
        self.lab.vpc.steal(address, THIEF)

    def ec2_error(self, code: str | None, *, calls: int | None) -> None:
        """EC2 answers this error so many times (None: until told otherwise)."""
        self.lab.ec2.faults.error, self.lab.ec2.faults.calls = code, calls

    def hold_ec2(self, name: str) -> Hold:
        """The node's EC2 writes stay on their way until ``release_ec2``."""
        return self.lab.ec2.faults.held.setdefault(name, Hold())

    def release_ec2(self, name: str) -> None:
        """The node's EC2 writes that were on their way are applied now, whoever has the Lease."""
        self.lab.ec2.faults.held.pop(name).released.set()

    async def imds(self, state: ImdsState) -> None:
        """The metadata services of all nodes."""
        for node in self.lab.nodes.values():
            if node.imds is not None:
                node.imds.faults.silent = state is ImdsState.SILENT
                await (node.imds.refuse if state is ImdsState.REFUSES else node.imds.resume)()

    def set_health(self, name: str, *, well: bool) -> None:
        """What the node's application answers to health checks."""
        health = self.node(name).health
        assert health is not None
        health.status = WELL if well else ILL

    async def claim(self, *, times: int, every_s: float) -> None:
        """A host that is no member claims the first VIP by gratuitous ARP."""
        await self._intruder.claim(self.lab.setting.vips[0], times=times, every_s=every_s)

    async def hand_over(self, *flags: str) -> None:
        """``vipd handover``, as an operator runs it; it is to end with exit code 0."""
        said = await run_vipd(self.lab, "handover", LEASE, "-n", NAMESPACE, *flags)
        if said.code != 0:
            self.complaints.append(f"vipd handover ended with exit code {said.code}: {said.err.strip()}")

    async def stop_all(self) -> None:
        """Kill every vipd, wait for their addresses to end, and unmap the VIPs."""
        for node in self.lab.nodes.values():
            if node.alive:
                self.lab.signal(node, signals.SIGKILL)
                if node.vipd is not None:
                    await node.vipd.wait()
            for vip in self.lab.setting.vips:
                await self.lab.delete_address(node, vip)
        self.lab.vpc.forget(self.lab.setting.vips)

    async def start_all(self) -> None:
        await asyncio.gather(*(self.lab.start_vipd(node) for node in self.lab.nodes.values()))

    async def delete_lease(self) -> None:
        await self.lab.api.delete_lease(NAMESPACE, LEASE)
