"""The stage for pods whose addresses vipd maps without an election: ``vipd init``, and following in ``vipd sidecar``.

A node of the lab is one pod, as ipvlan would show it: its net1 bears the ENI's MAC, and addresses that the CNI chose
beside the ENI's own.  Between two rounds the CNI's part is played anew.
"""

from __future__ import annotations

import json
import signal as signals
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

from vipd.core.model import Address
from vipd.errors import VipdError
from vipd.lab.ec2 import Call
from vipd.lab.measure import Phases, following_phases
from vipd.lab.pods import Pods
from vipd.lab.setting import Node
from vipd.lab.stage import ANSWER_LAG_S, READY_S, Stage
from vipd.lab.topology import Lab

INIT_S = 60.0
"""The longest that a ``vipd init`` of a scenario may take."""


class Init(NamedTuple):
    """How a ``vipd init`` ended."""

    code: int
    said: str
    """Its last word."""
    began_at: float
    ended_at: float


class PodStage(Stage):
    """``homes`` of the setting are where the round begins; a sidecar follows on each node unless it says otherwise."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.pods = Pods(lab)
        self.may_describe = False
        self._measured: Phases | None = None
        self._logged: dict[str, int] = {}
        """How long each node's log was when its vipd was started."""

    # ------------------------------------------------------------------------------------- questions

    def serves(self, name: str) -> bool:
        """Whether every probed address is delivered to this node, which answers right now."""
        return all(self._delivers(vip, name) for vip in self.vips)

    def _delivers(self, address: Address, name: str) -> bool:
        answerer = self.lab.probes[address].answered_since(self.now() - ANSWER_LAG_S)
        return self.lab.mapped_to(address) == name and answerer == name

    def picture(self) -> str:
        mapped = ", ".join(f"{vip} is mapped to {self.lab.mapped_to(vip)}" for vip in self.vips)
        return f"{mapped}; logs in {self.lab.folder}"

    def calls(self, since: float) -> list[Call]:
        """EC2 calls that began after this moment."""
        return [c for c in self.lab.ec2.log if c.started_at >= since]

    def phases(self) -> Phases | None:
        if self._measured is not None:
            return self._measured
        return following_phases(since=self.fault_at, bearings=self.lab.observer.bearings, calls=self.lab.ec2.log)

    async def until_delivered(self, address: Address, name: str, *, within_s: float) -> None:
        await self.until(
            f"{address} is delivered to node {name}", lambda: self._delivers(address, name), within_s=within_s
        )

    # ------------------------------------------------------------------------------------ the rounds

    async def set(self) -> None:
        """The CNI has given every pod its addresses; where sidecars run, each follows them."""
        self.complaints, self.notes = [], []
        self.owner_before, self.may_describe, self._measured = "", False, None
        await self.heal()
        for node in self.lab.nodes.values():
            if node.alive and node.vipd is not None:
                self.lab.signal(node, signals.SIGKILL)
                await node.vipd.wait()
            await self._furnish(node)
        await self.pods.clear()
        self._forget_the_rest()
        if not self.lab.setting.sidecars:
            self.recast("")
            return
        for node in self.lab.nodes.values():
            log = self.lab.folder / f"vipd-{node.name}.log"
            self._logged[node.name] = log.stat().st_size if log.exists() else 0
            await self.lab.start_vipd(node)
        await self.until("every address is delivered to its pod", self._is_set, within_s=READY_S)
        self.recast(next(iter(self.lab.nodes)))

    def _is_set(self) -> bool:
        for node in self.lab.nodes.values():
            if not node.alive:
                raise VipdError(f"vipd on node {node.name} ended; its log: {node.log}")
            for address in self._homes(node):
                probed = address in self.lab.probes
                if not (self._delivers(address, node.name) if probed else self.lab.mapped_to(address) == node.name):
                    return False
        # What an earlier vipd mapped is mapped before this one has started.
        return all(map(self._follows, self.lab.nodes.values()))

    def _follows(self, node: Node) -> bool:
        """Whether this vipd has said of each address that IMDS shows it."""
        with node.log.open("rb") as log:
            log.seek(self._logged[node.name])
            said = log.read().decode()
        own = [a for eni in node.enis.values() for a in self.base[eni.id] if a.version == 6]
        return all(f"{address}: confirmed" in said for address in (*self._homes(node), *own))

    def _homes(self, node: Node) -> list[Address]:
        return [ip_interface(home.partition("%")[0]).ip for home in self.lab.setting.homes.get(node.name, ())]

    async def _furnish(self, node: Node) -> None:
        """The CNI's addresses and those of the ENIs, and no others."""
        homes = self._homes(node)
        own = {address for eni in node.enis.values() for address in self.base[eni.id]}
        present = set()
        for interface in node.enis:
            index = await node.space.index(interface)
            async for message in await node.space.ipr.addr("dump", index=index):
                address = ip_address(message.get("local") or message.get("address"))
                if address in homes:
                    present.add(address)
                elif address not in own and not address.is_link_local:
                    length = message["prefixlen"]
                    await node.space.ipr.addr("del", index=index, address=str(address), prefixlen=length)
        for home, address in zip(self.lab.setting.homes.get(node.name, ()), homes, strict=True):
            if address not in present:
                await self.lab.add_address(node, home)

    @property
    def base(self) -> Mapping[str, frozenset[Address]]:
        """What each ENI came with."""
        found: dict[str, list[Address]] = {eni: [] for eni in self.lab.vpc.enis}
        for remap in self.lab.vpc.history:
            if remap.by == "attach" and remap.eni is not None:
                found[remap.eni].append(remap.address)
        return {eni: frozenset(addresses) for eni, addresses in found.items()}

    def _forget_the_rest(self) -> None:
        """Unmap what earlier rounds left; where sidecars run, not what they map anyway."""
        base = self.base
        stay = (
            {a for node in self.lab.nodes.values() for a in self._homes(node)} if self.lab.setting.sidecars else set()
        )
        for eni in self.lab.vpc.enis.values():
            self.lab.vpc.forget([a for a in eni.addresses if a not in base[eni.id] | stay])

    # --------------------------------------------------------------------------------------- the acts

    async def add(self, name: str, home: str) -> None:
        """An address (ADDR/PREFIX) comes to a pod."""
        await self.lab.add_address(self.node(name), home)

    async def delete(self, name: str, home: str) -> None:
        """It leaves."""
        local = ip_interface(home)
        if not await self.lab.delete_address(self.node(name), local.ip, prefixlen=local.network.prefixlen):
            self.complaints.append(f"node {name} did not bear {local.ip} when it was to be deleted")

    async def init(self, name: str, *flags: str) -> Init:
        """``vipd init`` in a node's pod, to its end."""
        node, began_at = self.node(name), self.now()
        process = await self.lab.start_init(node, *flags)
        await self.until_ended([process], within_s=INIT_S)
        ended_at = self.now()
        return Init(process.returncode or 0, last_word(node), began_at, ended_at)

    async def until_ended(self, processes: Sequence[Process], *, within_s: float) -> None:
        def ended() -> bool:
            return all(process.returncode is not None for process in processes)

        await self.until("vipd init ends", ended, within_s=within_s)

    def measure(self, init: Init) -> None:
        """This run is what the round's phases tell: ``eni_ms`` its EC2 calls, ``detect_ms`` all the rest of it."""
        calls = self.calls(init.began_at)
        calling_s = max((c.ended_at for c in calls), default=0.0) - min((c.started_at for c in calls), default=0.0)
        rest_s = init.ended_at - init.began_at - calling_s
        self._measured = Phases(detect_ms=round(rest_s * 1000, 1), eni_ms=round(calling_s * 1000, 1))
        self.notes.append(f"vipd init took {rest_s:.2f} s besides {len(calls)} EC2 calls of {calling_s:.2f} s in all")

    # ------------------------------------------------------------------------------- further promises

    def require(self, true: bool, complaint: str) -> None:
        """Complain where it is not so."""
        if not true:
            self.complaints.append(complaint)

    def require_exit(self, init: Init, code: int, *words: str) -> None:
        """It ended with this code, and its last word has all these words in it."""
        self.require(init.code == code, f"vipd init ended with {init.code}, not with {code}: {init.said}")
        for word in words:
            self.require(word in init.said, f"vipd init did not say {word!r}, but {init.said!r}")

    def require_calls(self, since: float, *expected: str) -> None:
        """Exactly these EC2 actions were called since then, in whatever order."""
        found = sorted(c.action for c in self.calls(since))
        self.require(found == sorted(expected), f"EC2 calls: {', '.join(found) or 'none'}")

    def require_in_imds(self, name: str, addresses: Sequence[Address]) -> None:
        """IMDS shows them on an ENI of the node."""
        shown = {a for eni in self.node(name).enis.values() for a in self.lab.vpc.imds_view(eni.id)}
        missing = ", ".join(str(a) for a in addresses if a not in shown)
        self.require(not missing, f"IMDS of node {name} does not show {missing}")

    def foreign_ec2_writes(self, since: float) -> list[str]:
        """Calls that must never be: for an ENI's own primary, an Unassign from oneself, a Describe without need."""
        found = []
        for call in self.calls(since):
            node = self.lab.nodes.get(call.caller)
            own = list(node.enis.values()) if node else []
            if any(eni.primary in call.addresses for eni in own):
                found.append(f"{call.caller} called {call.action} for the primary address of its own ENI")
            if call.action.startswith("Unassign") and call.eni in [eni.id for eni in own]:
                found.append(f"{call.caller} unassigned {', '.join(map(str, call.addresses))} from itself")
            if call.action.startswith("Describe") and not self.may_describe:
                found.append(f"{call.caller} called {call.action}")
        return found


def last_word(node: Node) -> str:
    """The message of the last line of a node's log."""
    lines = node.log.read_text().splitlines() or [""]
    return str(json.loads(lines[-1])["msg"]) if lines[-1].startswith("{") else lines[-1]
