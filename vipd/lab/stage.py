"""The stage on which a scenario plays: the lab with its members, and waits that say what they wait for.

A scenario speaks of the active and the standby node.  Whether something has come about is read off the lab itself
(kernel, mapping, Lease, packets), never off vipd's own word.
"""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Callable

from vipd.core.model import Address
from vipd.errors import VipdError
from vipd.lab.kubeapi.server import LeaseWrite
from vipd.lab.kubeapi.store import LEASES, PODS
from vipd.lab.setting import Node
from vipd.lab.topology import LEASE, NAMESPACE, Lab
from vipd.lab.vpc import boottime

POLL_S = 0.01
ANSWER_LAG_S = 0.15
"""Probes of this age have been answered, read and parsed if they ever are, on a node that serves."""

READY_S = 40.0
THIEF = "eni-0000000000000cccc"
"""The client's ENI plays the third party that takes an address."""


class SceneFailed(VipdError):
    """Something that a scenario waits for did not come about: a promise was broken."""


class Stage:
    """One running lab, one round of one scenario after the other."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.active = ""
        self.standby = ""
        self.fault_at = 0.0
        self.complaints: list[str] = []

    # ------------------------------------------------------------------------------------- questions

    @property
    def vips(self) -> tuple[Address, ...]:
        return self.lab.setting.vips

    @property
    def duration_s(self) -> float:
        return self.lab.setting.duration_s

    def now(self) -> float:
        return boottime()

    def node(self, name: str) -> Node:
        return self.lab.nodes[name]

    def holder(self) -> str | None:
        """The node that the Lease names."""
        lease = self.lab.api.lease(NAMESPACE, LEASE)
        identity = lease["spec"].get("holderIdentity") if lease else None
        return next((n.name for n in self.lab.nodes.values() if n.identity == identity), None)

    def serves(self, name: str) -> bool:
        """Whether the node holds the Lease, bears the VIPs, has the mapping, and answers probes right now."""
        if self.holder() != name:
            return False
        if any(self.lab.observer.bearing(name, vip) is None for vip in self.vips):
            return False
        if self.lab.setting.vpc and any(self.lab.mapped_to(vip) != name for vip in self.vips):
            return False
        return all(log.answered_since(self.now() - ANSWER_LAG_S) == name for log in self.lab.probes.values())

    def stands_by(self, name: str) -> bool:
        """Whether the node's vipd has said that it is a standby and has its watch open."""
        pod = self.lab.api.store.get(PODS, NAMESPACE, self.node(name).pod)
        labelled = pod["metadata"].get("labels", {}).get("vipd.io/role") == "standby"
        return labelled and self.node(name).alive and not self.lab.observer.bears(name)

    def lease_writes(self) -> list[LeaseWrite]:
        """The writes since the fault."""
        return [w for w in self.lab.api.lease_writes if w.at >= self.fault_at]

    # ----------------------------------------------------------------------------------------- waits

    async def until(self, what: str, true: Callable[[], bool], *, within_s: float) -> None:
        """Raises SceneFailed when it does not come about in time, or as soon as a vipd ended that should run."""
        deadline = self.now() + within_s
        while not true():
            if self.now() > deadline:
                raise SceneFailed(f"not within {within_s:g} s: {what} ({self._picture()})")
            await asyncio.sleep(POLL_S)

    def _picture(self) -> str:
        mapped = ", ".join(f"{vip} is mapped to {self.lab.mapped_to(vip)}" for vip in self.vips)
        bearers = [name for name in self.lab.nodes if self.lab.observer.bears(name)]
        return f"the Lease names {self.holder()}; {mapped}; borne by {bearers}; logs in {self.lab.folder}"

    async def until_owner(self, name: str, *, within_s: float) -> None:
        await self.until(f"node {name} serves the VIP", lambda: self.serves(name), within_s=within_s)

    async def until_any_owner(self, *, within_s: float) -> None:
        await self.until("some node serves the VIP", lambda: any(map(self.serves, self.lab.nodes)), within_s=within_s)

    async def until_holder(self, name: str, *, within_s: float) -> None:
        await self.until(f"node {name} holds the Lease", lambda: self.holder() == name, within_s=within_s)

    async def until_withdrawn(self, name: str, *, within_s: float) -> None:
        await self.until(
            f"node {name} no longer bears it", lambda: not self.lab.observer.bears(name), within_s=within_s
        )

    async def until_exit(self, name: str, *, within_s: float) -> None:
        """vipd ends by itself, with exit code 0."""
        await self.until(f"vipd on node {name} ends", lambda: not self.node(name).alive, within_s=within_s)
        process = self.node(name).vipd
        if process is not None and process.returncode != 0:
            self.complaints.append(f"vipd on node {name} ended with exit code {process.returncode}")

    async def until_quiet_ec2(self, seconds: float) -> None:
        """Until the last EC2 write is this long ago."""
        await self.until(
            f"no EC2 call for {seconds:g} s",
            lambda: not self.lab.ec2.log or self.now() - self.lab.ec2.log[-1].ended_at >= seconds,
            within_s=seconds + 10,
        )

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # ------------------------------------------------------------------------------------ the rounds

    async def set(self) -> None:
        """Before a round: every node up, one serves, the others stand by."""
        self.complaints = []
        for node in self.lab.nodes.values():
            if not node.powered:
                await self.lab.power_on(node)
        await self.heal()
        for node in self.lab.nodes.values():
            if not node.alive:
                await self.lab.start_vipd(node)
        await self.until("one node serves and the others stand by", self._is_set, within_s=READY_S)

    def _is_set(self) -> bool:
        for node in self.lab.nodes.values():
            if not node.alive:
                code = node.vipd.returncode if node.vipd else None
                raise SceneFailed(f"vipd on node {node.name} ended with exit code {code}; its log: {node.log}")
        owner = next((name for name in self.lab.nodes if self.serves(name)), None)
        if owner is None or not all(self.stands_by(name) for name in self.lab.nodes if name != owner):
            return False
        self.active = owner
        self.standby = next((name for name in self.lab.nodes if name != owner), "")
        return True

    async def heal(self) -> None:
        """Take back every fault that is not the end of a process."""
        self.lab.ec2.faults.error = None
        self.lab.ec2.faults.hang = False
        await self.api_outage(False)
        for node in self.lab.nodes.values():
            await self.lab.partition(node, "api", cut=False)
            await self.lab.partition(node, "ec2", cut=False)
            if node.alive:
                self.lab.signal(node, signals.SIGCONT)
            await self.lab.link(node, up=True)

    # ---------------------------------------------------------------------------------------- faults

    def fault(self) -> None:
        """Now is the moment from which the round is measured."""
        self.fault_at = self.now()

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

    async def stop_all(self) -> None:
        """Kill every vipd, wait for their addresses to end, and unmap the VIPs."""
        for node in self.lab.nodes.values():
            if node.alive:
                self.lab.signal(node, signals.SIGKILL)
                if node.vipd is not None:
                    await node.vipd.wait()
            for vip in self.vips:
                await self.lab.delete_address(node, vip)
        self.lab.vpc.forget(self.vips)

    async def start_all(self) -> None:
        await asyncio.gather(*(self.lab.start_vipd(node) for node in self.lab.nodes.values()))

    async def delete_lease(self) -> None:
        if self.lab.api.lease(NAMESPACE, LEASE) is not None:
            self.lab.api.store.delete(LEASES, NAMESPACE, LEASE)

    # ------------------------------------------------------------------------------- further promises

    def forbid_acts(self, name: str, *, since: float) -> None:
        """The node must have neither called EC2 nor announced anything since then."""
        calls = [c for c in self.lab.ec2.log if c.caller == name and c.started_at >= since]
        claims = [a for a in self.lab.observer.announcements if a.node == name and a.at >= since]
        if calls:
            self.complaints.append(f"node {name} called EC2 when it no longer might: {calls[0].action}")
        if claims:
            self.complaints.append(f"node {name} announced the VIP when it no longer might ({claims[0].kind})")

    def require_one_take(self) -> None:
        """Exactly one member has taken the Lease since the fault."""
        takers = {w.holder for w in self.lease_writes() if w.holder}
        if len(takers) != 1:
            self.complaints.append(f"{len(takers)} members held the Lease: {sorted(takers)}")

    def foreign_ec2_writes(self, since: float) -> list[str]:
        """EC2 writes begun by a member that the Lease did not name at that moment."""
        found = []
        for call in self.lab.ec2.log:
            if call.started_at < since or call.action.startswith("Describe"):
                continue
            holders = [w for w in self.lab.api.lease_writes if w.at <= call.started_at]
            node = self.lab.nodes.get(call.caller)
            if node is not None and (not holders or holders[-1].holder != node.identity):
                found.append(f"{call.caller} called {call.action} while the Lease named {holders[-1:]}")
        return found
