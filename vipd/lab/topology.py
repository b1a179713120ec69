"""The whole lab in one asyncio process: namespaces, fabric, servers, and the processes that run in the namespaces.

    client ── fabric (VPC, or a plain L2 segment) ── node a, node b ...
                 node x: net1 (its ENI), eth0 (management), lo (IMDS), an application, and vipd
    ctl: the management network with the Kubernetes API and EC2

Everything ends with the context, whatever ended it; and the sandbox round it ends the rest.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal as signals
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from pathlib import Path
from socket import AF_INET
from types import TracebackType
from typing import Any

from vipd.core.model import Address
from vipd.errors import VipdError
from vipd.lab import cluster
from vipd.lab import imds as metadata
from vipd.lab.ec2 import Ec2
from vipd.lab.fabric import Bridge, Management, VpcFabric
from vipd.lab.health import Health
from vipd.lab.imds import Imds
from vipd.lab.jobs import Jobs
from vipd.lab.netns import Namespace
from vipd.lab.observer import Observer
from vipd.lab.probes import ProbeLog
from vipd.lab.setting import CHECK_PORT, Node, Setting
from vipd.lab.vpc import LAB_SUBNET, EniRecord, Vpc
from vipd.lab.worker import NODE_PORT, Worker

NAMESPACE, LEASE = "lab", "vip"
API_PORT, EC2_PORT, APP_PORT, LISTEN_PORT = 6443, 8773, 7000, 9808
REGION = "us-east-2"
CLIENT = "client"
START_S = 20.0
NODAD = 0x02
"""IFA_F_NODAD (linux/if_addr.h): an address is usable at once."""

EVERYBODY = "10.99.0.0/24"
RIGHTS = {
    ("get", "leases"),
    ("patch", "leases"),
    ("watch", "leases"),
    ("create", "leases"),
    ("update", "leases"),
    ("patch", "pods"),
    ("create", "events"),
}
"""What a ServiceAccount for vipd needs; the lab's RBAC grants nothing else."""


HOST_RIGHTS = RIGHTS | {("get", "nodes"), ("watch", "nodes"), ("list", "servicecidrs")}
"""What ``vipd host`` needs."""

HTTP_INTERVAL_MS = 5


class Lab:
    """``async with Lab(setting) as lab: ...``"""

    def __init__(self, setting: Setting, *, folder: Path | None = None) -> None:
        self.setting = setting
        self.folder = folder or Path(tempfile.mkdtemp(prefix="vipd-lab-"))
        self.vpc = Vpc(remap_lag_s=setting.remap_lag_s, imds_lag_s=setting.imds_lag_s, remap_share=random.random)
        self.ec2 = Ec2(self.vpc, write_s=setting.ec2_s, describe_s=min(0.1, setting.ec2_s))
        self.api = cluster.make(setting.kube, self.folder)
        self.observer = Observer(setting.vips)
        self.probes = {vip: ProbeLog(str(vip)) for vip in setting.vips}
        self.nodes: dict[str, Node] = {}
        self._spaces: list[Namespace] = []
        self._spaces_by_eni: dict[str, str] = {}
        self._ports_by_eni: dict[str, str] = {}
        self._ruled: set[tuple[str, str]] = set()
        self._processes: list[Process] = []
        self.jobs = Jobs()

    async def __aenter__(self) -> Lab:
        try:
            await self._build()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    # -------------------------------------------------------------------------------------- building

    async def new_space(self, name: str) -> Namespace:
        """A namespace that lives as long as the lab."""
        space = Namespace(name)
        self._spaces.append(space)
        return await space.start()

    async def _build(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fabric_space = await self.new_space("fabric")
        self.fabric: VpcFabric | Bridge
        self.fabric = await (VpcFabric if self.setting.vpc else Bridge)(self.fabric_space).start()
        self.control = await Management(await self.new_space("ctl")).start()
        await self.api.begin(self.control.space.listen(Management.API, API_PORT))
        await self.ec2.start(self.control.space.listen(Management.EC2, EC2_PORT))
        self.client = await self.new_space(CLIENT)
        await self._plug(CLIENT, self.client, "02:00:00:00:01:c8", 200)
        for number, name in enumerate(self.setting.nodes, 1):
            await self._add_node(name, number)
        self.vpc.on_mapping(self._remap)
        for change in self.vpc.delivered:
            await self._deliver(change.address, change.eni)
        await self._start_prober()

    async def _plug(
        self, name: str, space: Namespace, mac: str, host: int, *, interface: str = "net1", device: int = 1
    ) -> None:
        port = name if device == 1 else f"{name}-{device}"
        if isinstance(self.fabric, VpcFabric):
            await self.fabric.plug(port, space, interface, mac)
        else:
            await self.fabric.plug(f"p-{port}", space, interface, mac)
        index = await space.index(interface)
        # The hypervisor answers ARP, and a node must not answer for what its other interfaces have.
        space.sysctl({"net/ipv4/conf/all/arp_ignore": 1, "net/ipv4/conf/all/arp_announce": 2})
        await space.ipr.addr("add", index=index, address=f"10.0.1.{host}", prefixlen=24)
        await space.ipr.addr("add", index=index, address=f"fd00:10:0:1::{host}", prefixlen=64, flags=NODAD)
        if self.setting.vpc:
            tail = "cccc" if name == CLIENT else f"{0xA + host - 11:x}"
            first = next((e.instance_id for e in self.vpc.enis.values() if self.node_of(e.id) == name), "")
            eni = EniRecord(
                id=f"eni-{tail:0>17}",
                mac=mac,
                subnet=LAB_SUBNET,
                primary=ip_address(f"10.0.1.{host}"),
                ipv6s=[ip_address(f"fd00:10:0:1::{host}")],
                instance_id=first or f"i-{tail:0>17}",
                device_number=device,
                limit4=self.setting.limit4,
            )
            self.vpc.add(eni)
            self._spaces_by_eni[eni.id] = name
            self._ports_by_eni[eni.id] = port

    async def _add_node(self, name: str, number: int) -> None:
        space = await self.new_space(name)
        node = Node(name, number, space, mac=f"02:00:00:00:01:{9 + number:02x}")
        await self._plug(name, space, node.mac, 10 + number)
        await self.control.plug(name, space, f"{node.management}/24")
        rights = HOST_RIGHTS if self.setting.host else RIGHTS
        node.token = await self.api.add_account(NAMESPACE, node.pod, rights)
        node.uid = await self.api.add_pod(NAMESPACE, node.pod, node=f"node-{name}")
        if self.setting.vpc:
            node.eni = next(e for e in self.vpc.enis.values() if e.mac == node.mac)
            for device in range(2, self.setting.enis + 1):
                await self._add_eni(node, device)
            access_key = f"AKIALAB{name.upper()}"
            self.ec2.credentials[access_key] = name
            await space.ipr.addr("add", index=1, address=metadata.ADDRESS, prefixlen=32)
            node.imds = Imds(self.vpc, node.eni.instance_id, region=REGION, access_key=access_key)
            await node.imds.start(space.listen(metadata.ADDRESS, 80))
        node.health = await Health().start(space.listen("127.0.0.1", CHECK_PORT))
        self.observer.watch_addresses(name, space)
        self.observer.sniff(name, self.fabric_space, f"p-{name}")
        self.write_kubeconfig(node.name, node.token)
        self.nodes[name] = node
        for home in self.setting.homes.get(name, ()):
            await self.add_address(node, home)
        await self._user_data(node)
        if self.setting.host:
            node.worker = await Worker(self, node).build()
        await self.start_application(node)

    async def _user_data(self, node: Node) -> None:
        """What user data does at every boot."""
        for vip in self.setting.vips if self.setting.static else ():
            await self.add_address(node, f"{vip}/{vip.max_prefixlen}")

    async def _add_eni(self, node: Node, device: int) -> None:
        """One more ENI in the same subnet.  What has an address of it answers by it, which takes a rule of its own."""
        interface, mac = f"net{device}", f"02:00:00:00:{device:02x}:{9 + node.number:02x}"
        host = 10 * device + node.number
        await self._plug(node.name, node.space, mac, host, interface=interface, device=device)
        node.further_enis[interface] = next(e for e in self.vpc.enis.values() if e.mac == mac)
        index = await node.space.index(interface)
        await node.space.ipr.route("add", dst=str(LAB_SUBNET.cidr4), oif=index, table=100 + device, scope=253)
        await self._answer_by(node, interface, f"10.0.1.{host}")
        self.observer.sniff(node.name, self.fabric_space, f"p-{node.name}-{device}")

    async def _answer_by(self, node: Node, interface: str, address: str) -> None:
        if (node.name, address) in self._ruled:
            return
        self._ruled.add((node.name, address))
        await node.space.ipr.rule(
            "add", family=AF_INET, src=address, src_len=32, table=100 + int(interface.removeprefix("net")), priority=100
        )

    async def add_stranger(self, name: str, mac: str, host: int) -> Namespace:
        """A host on the fabric that the lab's nodes know nothing of: neither vipd nor an application runs on it."""
        space = await self.new_space(name)
        await self._plug(name, space, mac, host)
        return space

    def write_kubeconfig(self, user: str, token: str) -> Path:
        """The kubeconfig of a user of the lab's API, in the lab's folder."""
        path = self.folder / f"kubeconfig-{user}"
        path.write_text(
            f"""apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "http://{Management.API}:{API_PORT}"}}}}]
users: [{{name: {user}, user: {{token: {token}}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: {user}, namespace: {NAMESPACE}}}}}]
current-context: lab
"""
        )
        return path

    def require_well(self) -> None:
        """Raises VipdError where the lab itself has failed: what it shows then is not vipd's doing."""
        self.jobs.require_well()
        if isinstance(self.fabric, VpcFabric):
            self.fabric.jobs.require_well()

    # -------------------------------------------------------------------------------------- mapping

    def _remap(self, address: Address, eni: str | None) -> None:
        self.jobs.start(f"deliver {address} to {self.node_of(eni)}", self._deliver(address, eni))

    async def _deliver(self, address: Address, eni: str | None) -> None:
        if isinstance(self.fabric, VpcFabric):
            await self.fabric.set_mapping(address, self._ports_by_eni[eni] if eni else None)

    def mapped_to(self, address: Address) -> str | None:
        """The node whose ENI the VPC maps the address to."""
        return self.node_of(self.vpc.owner(address))

    def node_of(self, eni: str | None) -> str | None:
        """The node (or the client) behind an ENI."""
        return self._spaces_by_eni.get(eni) if eni else None

    # ------------------------------------------------------------------------------------- processes

    async def _spawn(self, space: Namespace, module: str, *arguments: str, **options: Any) -> Process:
        return await self.keep(await space.spawn([sys.executable, "-m", module, *arguments], **options))

    async def keep(self, process: Process) -> Process:
        """Have a process end with the lab."""
        self._processes.append(process)
        return process

    async def start_application(self, node: Node) -> None:
        """The pod's application: an echo that answers for every address of its namespace."""
        node.application = await self.start_responder(node.space, node.name)

    async def start_responder(self, space: Namespace, name: str) -> Process:
        """An echo that answers with this name."""
        responder = await self._spawn(
            space,
            "vipd.lab.responder",
            "--name",
            name,
            "--port",
            str(APP_PORT),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert responder.stdout is not None
        await asyncio.wait_for(responder.stdout.readline(), START_S)
        return responder

    async def _start_prober(self) -> None:
        targets = [text for vip in self.setting.vips for text in ("--target", str(vip))]
        if self.setting.host:
            module, port, every = "vipd.lab.httpprober", NODE_PORT, ["--interval-ms", str(HTTP_INTERVAL_MS)]
        else:
            module, port, every = "vipd.lab.prober", APP_PORT, []
        prober = await self._spawn(
            self.client,
            module,
            *targets,
            "--port",
            str(port),
            *every,
            stdout=asyncio.subprocess.PIPE,
        )
        assert prober.stdout is not None
        self.jobs.start("read the probes", self._read_probes(prober.stdout))

    async def _read_probes(self, stream: asyncio.StreamReader) -> None:
        by_text = {log.target: log for log in self.probes.values()}
        # A line without its end is the last word of a prober that was killed.
        while (line := await stream.readline()).endswith(b"\n"):
            target, _, rest = line.decode().partition(" ")
            if target == "stall":
                for log in self.probes.values():
                    log.stalled(rest)
            elif target == "again":
                address, _, sent_at = rest.partition(" ")
                by_text[address].again.append(float(sent_at))
            else:
                by_text[target].add(rest)

    def vipd_command(self, node: Node) -> list[str]:
        """The command line of a node's vipd, without the interpreter."""
        command = ["host" if self.setting.host else "sidecar"]
        if self.setting.host:
            # Its interface is for vipd to find.
            command += ["--address-mode", "static" if self.setting.static else "managed"]
        if not self.setting.targets:
            command += ["--lease", LEASE, "--lease-duration", f"{self.setting.duration_s:g}s"]
            on = "" if self.setting.host else "%net1"
            command += [word for vip in self.setting.vips for word in ("--vip", f"{vip}{on}")]
        command += ["--listen", f"127.0.0.1:{LISTEN_PORT}", "--log-format", "json"]
        if not self.setting.vpc:
            command += ["--eni", "none"]
        return [*command, *self.setting.arguments, *self.setting.node_arguments.get(node.name, ())]

    def bare_environment(self) -> dict[str, str]:
        """What every program needs that is started in the lab."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV") if key in os.environ}
        return kept | {"HOME": str(self.folder)}

    def environment(self, node: Node) -> dict[str, str]:
        """The environment of a node's vipd, as the Downward API and EKS would set it."""
        return self.bare_environment() | {
            "POD_NAME": node.pod,
            "POD_NAMESPACE": NAMESPACE,
            "POD_UID": node.uid,
            "POD_IP": node.management,
            "NODE_NAME": f"node-{node.name}",
            "KUBECONFIG": str(self.folder / f"kubeconfig-{node.name}"),
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_EC2": f"http://{Management.EC2}:{EC2_PORT}",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    async def start_vipd(self, node: Node, *extra: str, env: Mapping[str, str] | None = None) -> None:
        """Start a node's vipd; its log goes on in the node's log file."""
        # What an earlier run said of itself must not be taken for this one's word.
        await self.api.unlabel(NAMESPACE, node.pod)
        node.log = self.folder / f"vipd-{node.name}.log"
        with node.log.open("ab") as log:
            node.vipd = await self._spawn(
                node.space,
                "vipd",
                *self.vipd_command(node),
                *extra,
                env=self.environment(node) | dict(env or {}),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
            )

    async def start_init(
        self, node: Node, *flags: str, space: Namespace | None = None, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start ``vipd init`` on a node (``space``: in another pod of it); its log goes on in the node's log file."""
        node.log = self.folder / f"vipd-{node.name}.log"
        with node.log.open("ab") as log:
            return await self._spawn(
                space or node.space,
                "vipd",
                "init",
                "--log-format",
                "json",
                *flags,
                env=self.environment(node) | dict(env or {}),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
            )

    def signal(self, node: Node, number: signals.Signals) -> None:
        """Signal a node's vipd.  Raises VipdError where none runs."""
        if node.vipd is None or node.vipd.returncode is not None:
            raise VipdError(f"no vipd runs on node {node.name}; its log: {node.log}")
        node.vipd.send_signal(number)

    # ---------------------------------------------------------------------------------------- faults

    async def power_off(self, node: Node) -> None:
        """The node is gone at once: every process on it first, so that none can say farewell, then its links."""
        node.powered = False
        processes = (node.vipd, node.application, node.worker.process if node.worker else None)
        doomed = [p for p in processes if p is not None and p.returncode is None]
        for process in doomed:
            process.kill()
        self.observer.lost_power(node.name)
        await self.control.space.ipr.link("set", index=await self.control.space.index(f"m-{node.name}"), state="down")
        await self.link(node, up=False)
        for process in doomed:
            await process.wait()

    async def power_on(self, node: Node) -> None:
        """The node boots: links, application; its kernel bears nothing of before.  vipd is started apart."""
        index = await node.space.index("net1")
        for vip in self.setting.vips:
            await self.delete_address(node, vip)
        await self.link(node, up=True)
        await self.control.space.ipr.link("set", index=await self.control.space.index(f"m-{node.name}"), state="up")
        await node.space.ipr.link("set", index=index, state="up")
        await self._user_data(node)
        await self.start_application(node)
        if node.worker is not None:
            await node.worker.start()
        node.powered = True

    async def link(self, node: Node, *, up: bool) -> None:
        """Plug the node's cable in or out on the fabric's side: the node loses its carrier."""
        index = await self.fabric_space.index(f"p-{node.name}")
        await self.fabric_space.ipr.link("set", index=index, state="up" if up else "down")
        if up and isinstance(self.fabric, VpcFabric):
            # The kernel dropped routes and neighbours of the port with its link.
            await self.fabric.replug(node.name)

    async def partition(self, node: Node | None, service: str, *, cut: bool) -> None:
        """Cut a node (None: everybody) off from "api" or "ec2" without a word, or heal it."""
        address = Management.API if service == "api" else Management.EC2
        await self.control.cut(node.management if node else EVERYBODY, address, cut=cut)

    def reaches_api(self, node: Node) -> bool:
        """Whether the node's packets get to the Kubernetes API."""
        cut = self.control.is_cut
        return node.powered and not cut(node.management, Management.API) and not cut(EVERYBODY, Management.API)

    async def add_address(self, node: Node, home: str) -> None:
        """The CNI, or the application, gives ADDR/PREFIX[%IF] (net1) to the pod."""
        address, _, interface = home.partition("%")
        local = ip_interface(address)
        flags = {"flags": NODAD} if local.version == 6 else {}
        index = await node.space.index(interface or "net1")
        await node.space.ipr.addr("add", index=index, address=str(local.ip), prefixlen=local.network.prefixlen, **flags)
        if interface in node.further_enis and local.version == 4:
            await self._answer_by(node, interface, str(local.ip))

    async def delete_address(self, node: Node, address: Address, *, prefixlen: int | None = None) -> bool:
        """Somebody deletes the address on the node; False where it is not there.  ``prefixlen`` None: /32 or /128."""
        from pyroute2.netlink.exceptions import NetlinkError

        length = address.max_prefixlen if prefixlen is None else prefixlen
        try:
            index = await node.space.index("net1")
            await node.space.ipr.addr("del", index=index, address=str(address), prefixlen=length)
        except NetlinkError as error:
            if error.code != 99:  # EADDRNOTAVAIL
                raise
            return False
        return True

    # --------------------------------------------------------------------------------------- the end

    async def _end(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(p.wait() for p in self._processes), return_exceptions=True)
        await self.jobs.close()
        await self.observer.close()
        for node in self.nodes.values():
            if node.imds is not None:
                await node.imds.stop()
            if node.health is not None:
                await node.health.stop()
            if node.worker is not None:
                await node.worker.stop()
        await self.api.end()
        await self.ec2.stop()
        if isinstance(getattr(self, "fabric", None), VpcFabric):
            await self.fabric.close()  # type: ignore[union-attr]
        for space in self._spaces:
            await space.close()
