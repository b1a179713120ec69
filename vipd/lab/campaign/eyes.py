"""What is to be seen of the lab when an episode is over: kernels, ENIs, labels; each compared with how the lab began.

Asked of the kernels and of EC2, never of vipd.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from vipd.core.model import Address
from vipd.lab.netns import Namespace
from vipd.lab.stage import Stage
from vipd.lab.topology import Lab


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at the lab."""

    owner: str
    """The node that serves; empty: none."""
    vips: tuple[Address, ...]
    roles: Mapping[str, str]
    """Node to the label of its pod."""
    foreign: Mapping[str, tuple[Address, ...]]
    """Node to the addresses of all its interfaces that it did not have when the lab was built."""
    enis: Mapping[str, tuple[Address, ...]]
    """Node (or the client) to the addresses that its ENI bears now and did not bear then; empty without ENIs."""
    delivered: Mapping[Address, str]
    """Where the VPC's data plane takes each VIP; empty without ENIs."""


class Eyes:
    """Compares a lab with what it was; made as soon as it is built, before any vipd runs in it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._kernels: dict[str, frozenset[Address]] = {}
        self._enis = {eni.id: frozenset(eni.addresses) for eni in lab.vpc.enis.values()}

    async def open(self) -> Eyes:
        """Look at the kernels for the first time."""
        for name, node in self._lab.nodes.items():
            self._kernels[name] = frozenset(await _addresses(node.space))
        return self

    async def look(self, stage: Stage, owner: str) -> Sight:
        """As it is now, where ``owner`` is known to serve (empty: nobody is)."""
        lab = self._lab
        foreign = {}
        for name, node in lab.nodes.items():
            now = await _addresses(node.space)
            foreign[name] = tuple(a for a in now if a not in self._kernels[name] and not a.is_link_local)
        enis = {
            str(lab.node_of(eni.id)): tuple(a for a in eni.addresses if a not in self._enis[eni.id])
            for eni in lab.vpc.enis.values()
        }
        return Sight(
            owner=owner,
            vips=stage.vips,
            roles={name: stage.role(name) for name in lab.nodes},
            foreign=foreign,
            enis=enis,
            delivered={vip: lab.node_of(lab.vpc.reached(vip)) or "" for vip in stage.vips if lab.setting.vpc},
        )


async def _addresses(space: Namespace) -> list[Address]:
    """Of all interfaces, in the kernel's order."""
    async with space.netlink() as questions:
        found = [message async for message in await questions.addr("dump")]
    return [ip_address(message.get("local") or message.get("address")) for message in found]
