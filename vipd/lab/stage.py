"""The stage on which a scenario plays: the lab with its members, and waits that say what they wait for.

A scenario speaks of the active and the standby node.  Whether something has come about is read off the lab itself
(kernel, mapping, Lease, packets), never off vipd's own word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vipd.core.model import Address
from vipd.errors import VipdError
from vipd.lab.kubeapi.records import LeaseWrite
from vipd.lab.measure import Phases
from vipd.lab.stagecraft import Stagecraft
from vipd.lab.topology import LEASE, NAMESPACE, Lab
from vipd.lab.vpc import boottime

POLL_S = 0.01
ANSWER_LAG_S = 0.15
"""Probes of this age have been answered, read and parsed if they ever are, on a node that serves."""

READY_S = 40.0


class SceneFailed(VipdError):
    """Something that a scenario waits for did not come about: a promise was broken."""


class Stage(Stagecraft):
    """One running lab, one round of one scenario after the other."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.active = ""
        self.standby = ""
        self.fault_at = 0.0
        self.owner_before = ""
        self.notes: list[str] = []
        """What a round is to tell beside its figures."""

    # ------------------------------------------------------------------------------------- questions

    @property
    def vips(self) -> tuple[Address, ...]:
        return self.lab.setting.vips

    @property
    def duration_s(self) -> float:
        return self.lab.setting.duration_s

    @property
    def outage_s(self) -> float:
        return self.lab.setting.outage_s

    def now(self) -> float:
        return boottime()

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
        return self.role(name) == "standby" and self.node(name).alive and not self.lab.observer.bears(name)

    def role(self, name: str) -> str:
        """What the node's pod is labelled as: "active", "standby", "fault"; empty where it bears no label."""
        pod = self.lab.api.pod(NAMESPACE, self.node(name).pod)
        return "" if pod is None else str(pod["metadata"].get("labels", {}).get("vipd.io/role", ""))

    def lease_writes(self) -> list[LeaseWrite]:
        """The writes since the fault."""
        return [w for w in self.lab.api.lease_writes if w.at >= self.fault_at]

    # ----------------------------------------------------------------------------------------- waits

    async def until(self, what: str, true: Callable[[], bool], *, within_s: float) -> None:
        """Raises SceneFailed when it does not come about in time, VipdError where the lab itself has failed."""
        deadline = self.now() + within_s
        while not true():
            self.lab.require_well()
            if self.now() > deadline:
                raise SceneFailed(f"not within {within_s:g} s: {what} ({self.picture()})")
            await asyncio.sleep(POLL_S)

    def picture(self) -> str:
        """Where the VIPs are, in a sentence."""
        mapped = ", ".join(f"{vip} is mapped to {self.lab.mapped_to(vip)}" for vip in self.vips)
        bearers = [name for name in self.lab.nodes if self.lab.observer.bears(name)]
        return f"the Lease names {self.holder()}; {mapped}; borne by {bearers}; logs in {self.lab.folder}"

    async def until_owner(self, name: str, *, within_s: float) -> None:
        await self.until(f"node {name} serves the VIP", lambda: self.serves(name), within_s=within_s)

    async def until_any_owner(self, *, within_s: float) -> None:
        await self.until("some node serves the VIP", lambda: any(map(self.serves, self.lab.nodes)), within_s=within_s)

    async def until_holder(self, name: str, *, within_s: float) -> None:
        await self.until(f"node {name} holds the Lease", lambda: self.holder() == name, within_s=within_s)

    async def until_mapped(self, name: str, *, within_s: float) -> None:
        """By EC2's decisions; the VPC may deliver otherwise for a while yet."""
        mapped = self.lab.mapped_to
        await self.until(
            f"EC2 maps the VIP to node {name}", lambda: all(mapped(vip) == name for vip in self.vips), within_s=within_s
        )

    async def until_standby(self, name: str, *, within_s: float) -> None:
        await self.until(f"node {name} stands by", lambda: self.stands_by(name), within_s=within_s)

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

    async def until_silent(self, name: str, seconds: float, *, within_s: float) -> None:
        """Until the node's last announcement is this long ago."""

        def silent() -> bool:
            times = [a.at for a in self.lab.observer.announcements if a.node == name]
            return not times or self.now() - times[-1] >= seconds

        await self.until(f"node {name} announces nothing for {seconds:g} s", silent, within_s=within_s)

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
        self.complaints, self.notes = [], []
        self.owner_before = ""
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
        self.recast(owner)
        return True

    # ---------------------------------------------------------------------------------------- faults

    def fault(self) -> None:
        """Now is the moment from which the round is measured; the active node is the owner before it."""
        self.fault_at = self.now()
        self.owner_before = self.active

    def recast(self, active: str) -> None:
        """The first part of the scenario is over: this node is the active one from now on."""
        self.active = active
        self.standby = next((name for name in self.lab.nodes if name != active), "")

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

    def require_no_take(self) -> None:
        """The Lease has named the active node, in one tenure, ever since the fault."""
        identity = self.node(self.active).identity
        before = [w for w in self.lab.api.lease_writes if w.at < self.fault_at][-1:]
        for write in self.lease_writes():
            if write.holder != identity or any(write.transitions != w.transitions for w in before):
                after_s = write.at - self.fault_at
                self.complaints.append(f"{after_s:.1f} s after the fault the Lease was taken for {write.holder!r}")
                return

    def require_no_take_before(self, name: str, moment: float) -> None:
        """The node must not have taken the Lease before this moment."""
        early = [w for w in self.lease_writes() if w.holder == self.node(name).identity and w.at < moment]
        if early:
            self.complaints.append(f"node {name} took the Lease {moment - early[0].at:.1f} s too early")

    def require_few_announcements(self, name: str, *, most: int, in_s: float) -> None:
        """The node must have announced at least once since the fault, and never more than ``most`` times in ``in_s``.

        Counted are the frames of one kind: an announcement is several.
        """
        claims = [a for a in self.lab.observer.announcements if a.node == name and a.at >= self.fault_at]
        times = [a.at for a in claims if a.kind == claims[0].kind]
        if not times:
            self.complaints.append(f"node {name} announced nothing")
        for first, over in zip(times, times[most:], strict=False):
            if over - first < in_s:
                self.complaints.append(f"node {name} announced more than {most} times within {over - first:.2f} s")
                return

    def phases(self) -> Phases | None:
        """How the round spent its time, where that is no takeover."""
        return None

    def foreign_ec2_writes(self, since: float) -> list[str]:
        """EC2 writes for a VIP begun by a member that the Lease did not name at that moment, or whose offer stood."""
        found = []
        for call in self.lab.ec2.log:
            elsewhere = not set(self.vips) & set(call.addresses)
            if call.started_at < since or call.action.startswith("Describe") or elsewhere:
                continue  # a pod's own addresses are its own business
            holders = [w for w in self.lab.api.lease_writes if w.at <= call.started_at]
            node = self.lab.nodes.get(call.caller)
            if node is not None and (not holders or holders[-1].holder != node.identity):
                names = {n.identity: n.name for n in self.lab.nodes.values()}
                named = names.get(holders[-1].holder, "nobody") if holders else "nobody"
                found.append(f"{call.caller} called {call.action} while the Lease named {named}")
            elif node is not None and holders[-1].offers:
                found.append(f"{call.caller} called {call.action} while its own offer stood")
        return found
