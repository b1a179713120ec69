"""The lab's networks: a VPC fabric that delivers by mapping, a plain L2 segment, and a management network.

The VPC fabric is a kernel router with one veth pair a port.  For each mapped address it has a host route to its
owner's port and a permanent neighbour entry with the ENI's MAC; it answers ARP and ND itself (proxies), forwards no
broadcast and no multicast, and drops packets whose source is not mapped to the port they came in on.  So does a VPC:
the hypervisor answers ARP from the mapping, drops broadcasts, and checks sources.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

from vipd.core.model import Address
from vipd.lab.jobs import Jobs
from vipd.lab.netns import Namespace, join

_MAIN, _LOCAL = 254, 255
_ALLOW, _LINK_LOCAL, _REFUSE = 100, 50, 1000
"""Priorities of policy rules: mapped sources pass; the rest of what comes in on a port does not."""

_NTF_PROXY = 0x08

SETTLE_S = 0.05
"""Answers to packets that were delivered before a move may still leave by the old port for this long."""


def family_of(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


class VpcFabric:
    """Ports by name, and where each address is delivered."""

    def __init__(self, space: Namespace) -> None:
        self.space = space
        self._ports: dict[str, tuple[int, str]] = {}
        self._owner: dict[Address, str] = {}
        self._allowed: set[tuple[Address, str]] = set()
        self._lock = asyncio.Lock()
        self.jobs = Jobs()

    async def start(self) -> VpcFabric:
        """Forward, answer for others, and drop what is mapped to nobody."""
        self.space.sysctl(
            {
                "net/ipv4/ip_forward": 1,
                "net/ipv6/conf/all/forwarding": 1,
                "net/ipv6/conf/all/proxy_ndp": 1,
                "net/ipv4/conf/all/rp_filter": 0,
                "net/ipv4/conf/default/rp_filter": 0,
            }
        )
        for family, everything in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
            await self.space.ipr.route("add", family=family, dst=everything, type="blackhole", table=_MAIN)
        await self._rule("add", family=socket.AF_INET6, priority=_LINK_LOCAL, src="fe80::", src_len=10, table=_MAIN)
        return self

    async def plug(self, name: str, node: Namespace, interface: str, mac: str) -> None:
        """Give a node an interface with this MAC on a port of this name."""
        port = f"p-{name}"
        index, _ = await join(self.space, port, node, interface, other_mac=mac)
        self._ports[name] = (index, mac)
        self.space.sysctl(
            {
                f"net/ipv4/conf/{port}/proxy_arp": 1,
                f"net/ipv4/neigh/{port}/proxy_delay": 0,
                f"net/ipv6/conf/{port}/proxy_ndp": 1,
                f"net/ipv6/neigh/{port}/proxy_delay": 0,
            }
        )
        for family in (socket.AF_INET, socket.AF_INET6):
            await self._rule("add", family=family, priority=_REFUSE, iifname=port, action="blackhole")
        for address in self._owner:
            if address.version == 6:
                await self._proxy("add", address, index)

    async def replug(self, name: str) -> None:
        """The port's link is back: the kernel dropped its routes and neighbours with the link."""
        async with self._lock:
            for address, owner in list(self._owner.items()):
                if owner == name:
                    await self._deliver(address, name)
                elif address.version == 6:
                    await self._proxy("replace", address, self._ports[name][0])

    async def set_mapping(self, address: Address, name: str | None) -> None:
        """Deliver ``address`` to this port from now on; None: to nobody."""
        async with self._lock:
            before = self._owner.get(address)
            if name is None:
                if before is not None:
                    await self._undeliver(address, before)
            else:
                await self._deliver(address, name)
            if address.version == 6:
                await self._proxies(address, name)
            if before is not None and before != name:
                self.jobs.start(f"have port {before} refuse {address}", self._forbid(address, before))

    async def _deliver(self, address: Address, name: str) -> None:
        """While the port's link is down nobody gets it: ``replug`` makes up for that."""
        from pyroute2.netlink.exceptions import NetlinkError

        index, mac = self._ports[name]
        before, self._owner[address] = self._owner.get(address), name
        await self.space.ipr.neigh(
            "replace", family=family_of(address), ifindex=index, dst=str(address), lladdr=mac, state="permanent"
        )
        if (address, name) not in self._allowed:
            self._allowed.add((address, name))
            await self._source("add", address, name)
        try:
            await self._route("replace", address, name)
        except NetlinkError as error:
            if error.code != 100:  # ENETDOWN
                raise
            if before is not None:
                await self._unroute(address, before)

    async def _undeliver(self, address: Address, name: str) -> None:
        self._owner.pop(address)
        await self._unroute(address, name)

    async def _unroute(self, address: Address, name: str) -> None:
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            await self._route("del", address, name)
        except NetlinkError as error:
            if error.code != 3:  # ESRCH: the route went with the port's link
                raise

    async def _forbid(self, address: Address, name: str) -> None:
        await asyncio.sleep(SETTLE_S)
        async with self._lock:
            if self._owner.get(address) != name and (address, name) in self._allowed:
                self._allowed.remove((address, name))
                await self._source("del", address, name)

    async def _route(self, verb: str, address: Address, name: str) -> None:
        await self.space.ipr.route(
            verb,
            family=family_of(address),
            dst=f"{address}/{address.max_prefixlen}",
            oif=self._ports[name][0],
            scope=253 if address.version == 4 else 0,
            table=_MAIN,
        )

    async def _source(self, verb: str, address: Address, name: str) -> None:
        await self._rule(
            verb,
            family=family_of(address),
            priority=_ALLOW,
            iifname=f"p-{name}",
            src=str(address),
            src_len=address.max_prefixlen,
            table=_MAIN,
        )

    async def _proxies(self, address: Address, owner: str | None) -> None:
        """Every port but the owner's answers solicitations for the address; none does when it is mapped to nobody."""
        for name, (index, _) in self._ports.items():
            await self._proxy("del" if owner is None or name == owner else "replace", address, index)

    async def _proxy(self, verb: str, address: Address, index: int) -> None:
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            await self.space.ipr.neigh(
                verb, family=socket.AF_INET6, ifindex=index, dst=str(address), flags=_NTF_PROXY, state="permanent"
            )
        except NetlinkError as error:
            if verb != "del" or error.code != 2:  # ENOENT: it was not there
                raise

    async def _rule(self, verb: str, **rule: Any) -> None:
        await self.space.ipr.rule(verb, **rule)

    async def close(self) -> None:
        """Stop what is under way."""
        await self.jobs.close()


class Bridge:
    """A plain L2 segment: the neighbours' caches decide where a packet goes."""

    def __init__(self, space: Namespace, name: str = "br0") -> None:
        self.space = space
        self.name = name
        self.index = 0

    async def start(self, addresses: Iterable[str] = ()) -> Bridge:
        """Make it, with these addresses (``ADDR/PREFIX``) on itself."""
        await self.space.ipr.link("add", ifname=self.name, kind="bridge", br_forward_delay=0, br_mcast_snooping=0)
        self.index = await self.space.index(self.name)
        await self.space.ipr.link("set", index=self.index, state="up")
        for address in addresses:
            await self.space.ipr.addr("add", index=self.index, address=address)
        return self

    async def plug(self, port: str, node: Namespace, interface: str, mac: str = "") -> None:
        """Give a node an interface on this segment."""
        index, _ = await join(self.space, port, node, interface, other_mac=mac)
        await self.space.ipr.link("set", index=index, master=self.index)


class Management:
    """The network of the API servers: never probed, and cut per node and service without a word (no RST, no ICMP)."""

    API = "10.99.0.1"
    EC2 = "10.99.0.2"
    _CUT = 10

    def __init__(self, space: Namespace) -> None:
        self.space = space
        self._bridge = Bridge(space, "mgmt")
        self._cuts: set[tuple[str, str]] = set()

    async def start(self) -> Management:
        """The segment with both servers' addresses."""
        await self._bridge.start([f"{self.API}/24", f"{self.EC2}/24"])
        # Local delivery normally comes before every rule; cuts must come before it.
        await self.space.ipr.rule("add", family=socket.AF_INET, priority=50, table=_LOCAL)
        await self.space.ipr.rule("del", family=socket.AF_INET, priority=0, table=_LOCAL)
        return self

    async def plug(self, name: str, node: Namespace, address: str) -> None:
        """Give a node its ``eth0`` with this address (``ADDR/PREFIX``)."""
        await self._bridge.plug(f"m-{name}", node, "eth0")
        await node.ipr.addr("add", index=await node.index("eth0"), address=address)

    def is_cut(self, node: str, service: str) -> bool:
        """Whether packets between the two are dropped."""
        return (node, service) in self._cuts

    async def cut(self, node: str, service: str, *, cut: bool) -> None:
        """Drop everything between a node's address (or ``10.99.0.0/24``) and a service, or stop doing so."""
        if ((node, service) in self._cuts) == cut:
            return
        verb = "add" if cut else "del"
        source, _, length = node.partition("/")
        bits = int(length or 32)
        for src, src_len, dst, dst_len in ((source, bits, service, 32), (service, 32, source, bits)):
            await self.space.ipr.rule(
                verb,
                family=socket.AF_INET,
                priority=self._CUT,
                src=src,
                src_len=src_len,
                dst=dst,
                dst_len=dst_len,
                action="blackhole",
            )
        self._cuts ^= {(node, service)}
