"""What a lab is built of: its setting, its nodes, and the addresses that everything in it uses."""

from __future__ import annotations

import itertools
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from vipd.core.model import Address
from vipd.lab.health import Health
from vipd.lab.imds import Imds
from vipd.lab.netns import Namespace
from vipd.lab.vpc import EniRecord
from vipd.lab.worker import Worker

VIP4 = ip_address("10.0.1.100")
VIP6 = ip_address("fd00:10:0:1::100")
KUBES = ("embedded", "real")
CHECK_PORT = 7080
"""Where a node's application says on loopback whether it is healthy, over HTTP."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is built before the curtain rises."""

    fabric: str = "vpc"
    """"vpc": delivery follows the EC2 mapping; "bridge": a plain L2 segment, no ENI, neighbours' caches decide."""
    kube: str = "embedded"
    """Whose Kubernetes API: "embedded", the lab's own, or "real", a kube-apiserver with etcd."""
    families: tuple[int, ...] = (4,)
    targets: tuple[Address, ...] = ()
    """Pod addresses that are probed in the place of VIPs: nothing is elected, vipd maps and follows them."""
    homes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the CNI gives to a node's pod at the start: ADDR/PREFIX on net1, or ADDR/PREFIX%IF, by the node's name."""
    enis: int = 1
    """How many ENIs a node has in the one subnet: net1, net2 ..."""
    limit4: int = 10
    """How many IPv4 addresses an ENI may have, its primary included (m5.large: 10, m5.4xlarge: 30)."""
    pods: int = 0
    """How many small pods there are beside those that the nodes are themselves, in the scenario with many."""
    host: bool = False
    """Whether ``vipd host`` runs in the place of sidecars; its NodePort is probed by HTTP, 200 times a second."""
    static: bool = False
    """Whether user data has put the VIPs on every node (``--address-mode static``)."""
    sidecars: bool = True
    """Whether a ``vipd sidecar`` runs on each node."""
    nodes: tuple[str, ...] = ("a", "b")
    duration_s: float = 3
    ec2_s: float = 0.4
    remap_lag_s: float = 0.0
    """The most that the VPC's delivery follows EC2's OK late; each change takes a random share of it."""
    imds_lag_s: float = 0.0
    arguments: tuple[str, ...] = ()
    """More arguments for every ``vipd sidecar``."""
    node_arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """More arguments for the ``vipd sidecar`` of a node, by the node's name."""
    outage_s: float = 60.0
    """How long a service is away, in the scenarios in which one is."""

    @property
    def vips(self) -> tuple[Address, ...]:
        """What is probed."""
        return self.targets or tuple(VIP4 if family == 4 else VIP6 for family in self.families)

    @property
    def vpc(self) -> bool:
        return self.fabric == "vpc"

    @property
    def by_lease(self) -> bool:
        """Whether nothing but the Lease tells two bearers apart: no ENI, or ``--fence lease``."""
        return not self.vpc or ("--fence", "lease") in itertools.pairwise(self.arguments)


@dataclass(slots=True)
class Node:
    """One node with one pod on it."""

    name: str
    number: int
    space: Namespace
    mac: str
    eni: EniRecord | None = None
    """Of net1."""
    further_enis: dict[str, EniRecord] = field(default_factory=dict)
    """By interface: net2 ..."""
    imds: Imds | None = None
    health: Health | None = None
    powered: bool = True
    worker: Worker | None = None
    """What Kubernetes has on it, where ``vipd host`` runs."""
    vipd: Process | None = None
    application: Process | None = None
    uid: str = ""
    token: str = ""
    log: Path = field(default_factory=Path)

    @property
    def pod(self) -> str:
        return f"vipd-{self.name}"

    @property
    def identity(self) -> str:
        return f"{self.pod}_{self.uid}"

    @property
    def management(self) -> str:
        return f"10.99.0.{10 + self.number}"

    @property
    def enis(self) -> dict[str, EniRecord]:
        """By interface."""
        return ({"net1": self.eni} if self.eni else {}) | self.further_enis

    @property
    def alive(self) -> bool:
        return self.vipd is not None and self.vipd.returncode is None
