"""The stage for pods whose addresses are mapped and followed without an election.

Before a round each address is where its CNI put it; with sidecars it is mapped there, too, and answers.
"""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_interface

from vipd.core.model import Address
from vipd.lab.ec2 import Call
from vipd.lab.setting import CONFIRM_S, SECOND
from vipd.lab.stage import READY_S, SceneFailed, Stage


class PodStage(Stage):
    """Addresses by the text of their home: ADDR/PREFIX."""

    async def set(self) -> None:
        self.complaints = []
        self.owner_before = ""
        await self.heal()
        await self._go_home()
        if not self.lab.setting.sidecars:
            self.lab.vpc.forget(self.vips)
            return
        for node in self.lab.nodes.values():
            if not node.alive:
                await self.lab.start_vipd(node)
        await self.until("every address answers where its CNI put it", self._all_at_home, within_s=READY_S)
        # Until IMDS has shown it, and following has settled.
        await self.pause(CONFIRM_S)

    def _homes(self) -> dict[Address, tuple[str, str]]:
        """The probed addresses that a node's net1 has from its CNI: (node, ADDR/PREFIX)."""
        homes = self.lab.setting.homes
        return {ip_interface(h).ip: (name, h) for name in self.lab.nodes for h in homes.get(name, ())}

    async def _go_home(self) -> None:
        homes = self._homes()
        elsewhere = {ip_interface(h).ip for h in self.lab.setting.homes.get(SECOND, ())}
        for address in set(self.vips) - elsewhere:
            name, home = homes.get(address, ("", ""))
            for bearer in [n for n in self.lab.nodes if n != name and self.bears(n, address)]:
                await self.take_away(bearer, address)
            if name and not self.bears(name, address):
                await self.lab.add_address(self.node(name), home)

    def _all_at_home(self) -> bool:
        for node in self.lab.nodes.values():
            if not node.alive:
                raise SceneFailed(f"vipd on node {node.name} ended; its log: {node.log}")
        return all(self.delivered(address, name) for address, (name, _) in self._homes().items())

    def bears(self, name: str, address: Address) -> bool:
        return self.lab.observer.bearing(name, address) is not None

    def delivered(self, address: Address, name: str) -> bool:
        """Whether the VPC maps it there, and that node answers for it right now."""
        return self.lab.mapped_to(address) == name and self.lab.probes[address].answered_since(self.now() - 0.2) == name

    async def until_delivered(self, name: str, *addresses: Address, within_s: float) -> None:
        await self.until(
            f"node {name} answers for {', '.join(map(str, addresses))}",
            lambda: all(self.delivered(a, name) for a in addresses),
            within_s=within_s,
        )

    def bear_witness(self, name: str) -> None:
        """The node that the round is about."""
        self.recast(name)
        self.fault()

    async def give(self, name: str, address: Address, *, prefixlen: int = 24) -> None:
        """The application, or the CNI, adds the address."""
        await self.lab.add_address(self.node(name), f"{address}/{prefixlen}")

    async def take_away(self, name: str, address: Address) -> None:
        """It is deleted, whatever its prefix."""
        for prefixlen in (24, 64, address.max_prefixlen):
            if await self.lab.delete_address(self.node(name), address, prefixlen=prefixlen):
                return
        self.complaints.append(f"node {name} did not bear {address} when it was to be deleted")

    async def init(self, name: str, *flags: str, code: int = 0, within_s: float = 60) -> str:
        """``vipd init`` on the node, which is to end with this exit code; its last word."""
        process = await self.lab.start_init(self.node(name), *flags)
        async with asyncio.timeout(within_s):
            ended = await process.wait()
        lines = self.node(name).log.read_text().splitlines()
        said = str(json.loads(lines[-1])["msg"]) if lines else ""
        if ended != code:
            self.complaints.append(f"vipd init ended with exit code {ended}, not {code}: {said}")
        return said

    # ------------------------------------------------------------------------------- further promises

    def calls(self) -> list[Call]:
        """EC2 calls since the fault."""
        return [call for call in self.lab.ec2.log if call.started_at >= self.fault_at]

    def require_calls(self, most: int, *, describe: bool = False) -> None:
        """No more EC2 calls since the fault, no Describe unless allowed, none for a node's own primary address."""
        calls = self.calls()
        if len(calls) > most:
            self.complaints.append(f"{len(calls)} EC2 calls, promised {most}")
        if not describe and any(call.action.startswith("Describe") for call in calls):
            self.complaints.append("EC2 was asked to describe, promised never")
        primaries = {node.eni.primary for node in self.lab.nodes.values() if node.eni}
        if any(primaries & set(call.addresses) and call.outcome == "OK" for call in calls):
            self.complaints.append("a primary address was assigned")
        own = {node.name: node.eni.id for node in self.lab.nodes.values() if node.eni}
        if any(call.action.startswith("Unassign") and own.get(call.caller) == call.eni for call in calls):
            self.complaints.append("an address was unassigned from the ENI of its own node")

    def require_prompt(self, name: str, address: Address, *, within_s: float) -> None:
        """Between the address on the interface and the call at EC2 lies no more than this."""
        since = max(
            (b.since for b in self.lab.observer.bearings if b.node == name and b.address == address), default=0.0
        )
        first = min((c.started_at for c in self.calls() if address in c.addresses), default=float("inf"))
        if first - since > within_s:
            self.complaints.append(
                f"EC2 was called {first - since:.3f} s after {address} came, promised {within_s:g} s"
            )
