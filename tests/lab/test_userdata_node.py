"""The scripts of ``vipd userdata`` where they are to work: in a network namespace with links, routes and an IMDS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from aws_clients import eni, eni_id
from botocore import xform_name

from vipd.config.flags import Parser, add_arguments
from vipd.config.settings_userdata import load_userdata
from vipd.config.table_userdata import CONFIG, USERDATA_OPTIONS
from vipd.lab.imds import ADDRESS, Imds
from vipd.lab.netns import Namespace
from vipd.lab.vpc import Vpc
from vipd.userdata.contents import node_files

VIP = "10.0.1.100"
OWN = "10.0.1.11"
VIP6 = "fd00:10:0:1::100"
PROGRAMS = "/usr/local/sbin/"


@dataclass
class Node:
    """A node whose primary ENI is ens5 and whose default route leads elsewhere, so that only IMDS knows better."""

    space: Namespace
    imds: Imds
    folder: Path

    def program(self, name: str, *argv: str, **replaced: str) -> Path:
        """A script that user data leaves on a node; in it, the values of ``replaced`` stand in place of the keys."""
        parser = Parser(prog="vipd userdata", add_help=False)
        add_arguments(parser, (*USERDATA_OPTIONS, CONFIG))
        files = {file.path: file.content for file in node_files(load_userdata(parser.parse_args(list(argv)), {}))}
        return self.put(name, files[PROGRAMS + name], **replaced)

    def put(self, name: str, content: str, **replaced: str) -> Path:
        """An executable, which other scripts find first."""
        for old, new in replaced.items():
            assert old in content
            content = content.replace(old, new)
        file = self.folder / name
        file.write_text(content)
        file.chmod(0o755)
        return file

    async def start(self, program: Path, *argv: str, **environ: str) -> asyncio.subprocess.Process:
        return await self.space.spawn(
            ["sh", str(program), *argv],
            env={"PATH": f"{self.folder}:/usr/sbin:/usr/bin:/sbin:/bin", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def run(self, program: Path, *argv: str, **environ: str) -> tuple[int, str]:
        """Exit code, and what it said on stderr."""
        process = await self.start(program, *argv, **environ)
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def ip(self, *argv: str) -> str:
        process = await self.space.spawn(["ip", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        return out.decode()

    async def addresses(self, interface: str) -> dict[str, dict[str, Any]]:
        """By ADDR/PREFIX."""
        (link,) = json.loads(await self.ip("-json", "address", "show", "dev", interface))
        return {f"{a['local']}/{a['prefixlen']}": a for a in link["addr_info"] if a["scope"] == "global"}


@pytest.fixture
async def node(vpc: Vpc, tmp_path: Path) -> AsyncIterator[Node]:
    space = await Namespace("node").start()
    imds = Imds(vpc, eni("a").instance_id, hop_limit=1)
    node = Node(space, imds, tmp_path)
    for name, mac, own in (("ens5", eni("a").mac, OWN), ("eth0", "02:00:00:00:99:01", "192.168.7.7")):
        # A bridge is a link without a parent, as an ENI's is. Its port gives it a carrier, and the port's other end
        # has its MAC and comes before it, as a child's could.
        await node.ip("link", "add", f"{name}-child", "address", mac, "type", "veth", "peer", "name", f"{name}-port")
        await node.ip("link", "add", name, "address", mac, "type", "bridge")
        await node.ip("link", "set", f"{name}-port", "master", name)
        for link in (f"{name}-child", f"{name}-port", name):
            await node.ip("link", "set", link, "up")
        await node.ip("address", "add", f"{own}/24", "dev", name)
    await node.ip("route", "add", "default", "via", "192.168.7.1", "dev", "eth0")
    await node.ip("address", "add", f"{ADDRESS}/32", "dev", "lo")
    await imds.start(space.listen(ADDRESS, 80))
    try:
        yield node
    finally:
        await imds.stop()
        await space.close()


async def eventually(node: Node, address: str, *, interface: str = "ens5") -> None:
    async with asyncio.timeout(20):
        while address not in await node.addresses(interface):
            await asyncio.sleep(0.1)


@asynccontextmanager
async def keeping(node: Node, program: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The script as its unit runs it, with pauses of 0.1 s."""
    node.put("sleep", "#!/bin/sh\nexec /bin/sleep 0.1\n")
    process = await node.start(program, "keep")
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        await process.communicate()


async def test_the_address_goes_to_the_primary_eni_by_whatever_name_and_once(node: Node) -> None:
    script = node.program("vipd-address", "--vip", f"{VIP}/32")
    assert await node.run(script, "once") == (0, f"vipd-address: ens5 bears {VIP}/32\n")
    first = await node.addresses("ens5")
    assert set(first) == {f"{OWN}/24", f"{VIP}/32"}
    assert await node.run(script, "once") == (0, "")
    assert await node.addresses("ens5") == first
    assert set(await node.addresses("eth0")) == {"192.168.7.7/24"}


@pytest.mark.parametrize("fault", ["refuses", "404", "other MAC"])
async def test_the_default_route_tells_where_imds_does_not(node: Node, vpc: Vpc, fault: str) -> None:
    if fault == "refuses":
        await node.imds.refuse()
    elif fault == "404":
        node.imds.faults.status = 404
    else:
        await node.ip("link", "set", "ens5", "address", "02:00:00:00:99:02")
    script = node.program("vipd-address", "--vip", f"{VIP}/32")
    code, said = await node.run(script, "once")
    assert (code, said) == (0, f"vipd-address: eth0 bears {VIP}/32\n")


async def test_a_named_interface_is_taken_without_asking(node: Node) -> None:
    script = node.program("vipd-address", "--vip", f"{VIP}/24", "--vip", f"{VIP6}/64", "--interface", "eth0")
    assert (await node.run(script, "once"))[0] == 0
    assert {f"{VIP}/24", f"{VIP6}/64"} <= set(await node.addresses("eth0"))
    assert node.imds.requests == 0


async def test_the_vip_is_never_the_source_of_what_the_node_sends(node: Node) -> None:
    await node.ip("address", "add", "fd00:10:0:1::b/64", "dev", "ens5", "nodad")
    node.space.sysctl({"net/ipv6/conf/ens5/accept_dad": 1, "net/ipv6/conf/ens5/dad_transmits": 5})
    script = node.program("vipd-address", "--vip", f"{VIP}/16", "--vip", f"{VIP6}/64")
    assert (await node.run(script, "once"))[0] == 0
    six = (await node.addresses("ens5"))[f"{VIP6}/64"]
    assert (six.get("deprecated"), six.get("tentative"), six["valid_life_time"]) == (True, None, 2**32 - 1)
    for to, source in (("10.0.1.1", OWN), ("fd00:10:0:1::1", "fd00:10:0:1::b")):
        (route,) = json.loads(await node.ip("-json", "route", "get", to))
        assert (route["dev"], route["prefsrc"]) == ("ens5", source)
    routes = json.loads(await node.ip("-json", "route", "show"))
    assert "10.0.0.0/16" not in [route["dst"] for route in routes]


async def test_the_vip_waits_for_the_nodes_own_address(node: Node) -> None:
    await node.ip("address", "flush", "dev", "ens5")
    script = node.program("vipd-address", "--vip", f"{VIP}/32")
    async with keeping(node, script) as process:
        assert process.stderr is not None
        said = await asyncio.wait_for(process.stderr.readline(), 20)
        assert said == b"vipd-address: ens5 has no IPv4 address of its own yet, or is not there\n"
        # Said once, however often it is tried.
        await asyncio.sleep(1)
        assert await node.addresses("ens5") == {}
        await node.ip("address", "add", f"{OWN}/24", "dev", "ens5")
        await eventually(node, f"{VIP}/32")
        assert await process.stderr.readline() == f"vipd-address: ens5 bears {VIP}/32\n".encode()


async def test_an_address_that_was_dropped_comes_back(node: Node) -> None:
    script = node.program("vipd-address", "--vip", f"{VIP}/32", "--vip", f"{VIP6}/128")
    async with keeping(node, script):
        for _ in range(2):
            await eventually(node, f"{VIP}/32")
            await eventually(node, f"{VIP6}/128")
            await node.ip("address", "del", f"{VIP}/32", "dev", "ens5")
            await node.ip("-6", "address", "flush", "dev", "ens5")
        asked = node.imds.requests
        await eventually(node, f"{VIP}/32")
        assert node.imds.requests == asked
        # The ENI under another name, as after a driver's reset.
        await node.ip("link", "set", "ens5", "down")
        await node.ip("link", "set", "ens5", "name", "ens34")
        await node.ip("link", "set", "ens34", "up")
        await eventually(node, f"{VIP6}/128", interface="ens34")


async def test_without_an_interface_it_says_so_and_fails(node: Node) -> None:
    await node.imds.refuse()
    await node.ip("route", "del", "default")
    node.put("sleep", "#!/bin/sh\nexit 0\n")
    script = node.program("vipd-address", "--vip", f"{VIP}/32")
    code, said = await node.run(script, "once")
    assert code == 1
    assert said.count("no interface found") == 1


# ------------------------------------------------------------------------------- option 2 without vipd


def fake(node: Node, name: str, body: str = "exit 0") -> Path:
    """A program that notes its arguments, one call a line as JSON; the file of notes."""
    notes = node.folder / f"{name}.calls"
    note = f"import json, sys; open({str(notes)!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))"
    node.put(name, f'#!/bin/sh\n{sys.executable} -c "{note}" "$@"\n{body}\n')
    return notes


def calls(notes: Path) -> list[list[str]]:
    return [json.loads(line) for line in notes.read_text().splitlines()]


def as_the_aws_command_has_it(argv: Sequence[str]) -> dict[str, Any]:
    """The request that ``aws ec2 COMMAND FLAGS`` makes.  Its commands and flags are made from botocore's model.

    KeyError for a command or flag that is none.
    """
    service, command, *rest = argv
    model = botocore.session.get_session().get_service_model(service)
    operation = {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}[command]
    assert operation.input_shape is not None
    members = {f"--{xform_name(name, '-')}": (name, shape) for name, shape in operation.input_shape.members.items()}
    request: dict[str, Any] = {}
    words = list(rest)
    while words:
        flag = words.pop(0)
        values = []
        while words and not words[0].startswith("--"):
            values.append(words.pop(0))
        if flag == "--region":
            request["region"] = values[0]
            continue
        name, shape = members[flag]
        request[name] = values if shape.type_name == "list" else True if shape.type_name == "boolean" else values[0]
    return request


@pytest.mark.parametrize("region", [(), ("--region", "eu-central-1")])
async def test_a_node_that_boots_takes_the_mapping(node: Node, region: tuple[str, ...]) -> None:
    notes = fake(node, "aws")
    script = node.program("vipd-mapping", "--option", "2", "--vip", f"{VIP}/32", "--vip", "10.0.1.101/32", *region)
    code, said = await node.run(script)
    assert (code, said) == (0, f"vipd-mapping: {eni_id('a')} (ens5) has {VIP} 10.0.1.101\n")
    (argv,) = calls(notes)
    assert as_the_aws_command_has_it(argv) == {
        "region": region[-1] if region else "us-east-2",
        "NetworkInterfaceId": eni_id("a"),
        "AllowReassignment": True,
        "PrivateIpAddresses": [VIP, "10.0.1.101"],
    }


def test_the_check_of_the_aws_command_knows_what_is_no_command() -> None:
    with pytest.raises(KeyError):
        as_the_aws_command_has_it(["ec2", "assignprivateaddresses", "--private-ip-addresses", VIP])


async def test_the_mapping_is_tried_again_and_given_up(node: Node) -> None:
    node.put("sleep", "#!/bin/sh\nexit 0\n")
    failing = node.folder / "failing"
    failing.touch()
    notes = fake(
        node, "aws", f"if [ $(wc -l <{node.folder}/aws.calls) -ge 3 ]; then rm -f {failing}; fi; test ! -e {failing}"
    )
    script = node.program("vipd-mapping", "--option", "2", "--vip", f"{VIP}/32")
    assert (await node.run(script))[0] == 0
    assert len(calls(notes)) == 3
    notes.unlink()
    await node.imds.refuse()
    code, said = await node.run(script)
    assert code == 1
    assert not notes.exists()
    assert said.splitlines()[-1] == "vipd-mapping: given up: systemctl restart vipd-mapping tries again"


# ---------------------------------------------------------------------------------- option 2 with vipd

SERVICE = ("--option", "2", "--vip", f"{VIP}/32", "--lease", "nodeport-vip")
ARGUMENTS = ["host", "--vip", f"{VIP}/32", "--lease", "nodeport-vip", "--namespace", "vipd"]
ARGUMENTS += ["--address-mode", "managed", "--interface", "auto"]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@asynccontextmanager
async def kubelet(node: Node, *argv: str) -> AsyncIterator[None]:
    """A process of that name with these arguments."""
    program = node.put("kubelet", "#!/bin/sh\nread -r forever\n")
    process = await node.space.spawn([str(program), *argv], stdin=subprocess.PIPE)
    try:
        async with asyncio.timeout(10):
            while _command(process.pid) != "kubelet":
                await asyncio.sleep(0.05)
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["--v=2", "--hostname-override=ip-10-0-1-11.ec2.internal"], "ip-10-0-1-11.ec2.internal"),
        (["--hostname-override", "i-0a", "--v=2"], "i-0a"),
        (["--v=2"], None),
    ],
)
async def test_vipd_runs_as_the_node_and_as_the_role(node: Node, argv: list[str], name: str | None) -> None:
    aws = fake(node, "aws", 'echo "$AWS_REGION" >>"$0.region"')
    vipd = fake(node, "vipd", 'echo "$NODE_NAME $KUBECONFIG" >>"$0.environ"')
    script = node.program(
        "vipd-host",
        *SERVICE,
        *("--vipd-wheel", "vipd==0.1.0"),
        *("--kubeconfig-role", "arn:aws:iam::111122223333:role/vipd", "--kubeconfig-cluster", "prod"),
        **{"/opt/vipd/bin/vipd": str(node.folder / "vipd")},
    )
    async with kubelet(node, *argv):
        assert await node.run(script) == (0, "")
    assert calls(vipd) == [ARGUMENTS]
    called_as = name or os.uname().nodename.lower()
    assert (node.folder / "vipd.environ").read_text() == f"{called_as} /run/vipd/kubeconfig\n"
    assert calls(aws) == [
        [
            *("eks", "update-kubeconfig", "--name", "prod"),
            *("--role-arn", "arn:aws:iam::111122223333:role/vipd", "--kubeconfig", "/run/vipd/kubeconfig"),
        ]
    ]
    assert (node.folder / "aws.region").read_text() == "us-east-2\n"


async def test_vipd_waits_for_the_kubelet_and_for_its_kubeconfig(node: Node) -> None:
    vipd = fake(node, "vipd")
    script = node.program(
        "vipd-host",
        *SERVICE,
        *("--vipd-wheel", "vipd==0.1.0", "--kubeconfig", str(node.folder / "kubeconfig")),
        **{"/opt/vipd/bin/vipd": str(node.folder / "vipd")},
    )
    assert await node.run(script) == (1, "vipd-host: no kubelet runs yet\n")
    async with kubelet(node, "--hostname-override=n"):
        assert await node.run(script) == (1, f"vipd-host: {node.folder}/kubeconfig is not there yet\n")
        (node.folder / "kubeconfig").touch()
        assert (await node.run(script))[0] == 0
    assert calls(vipd) == [ARGUMENTS]


async def test_an_image_is_pulled_once_and_run_in_the_hosts_network(node: Node) -> None:
    image = "111122223333.dkr.ecr.us-east-2.amazonaws.com/vipd:0.1.0"
    (node.folder / "kubeconfig").touch()
    aws = fake(node, "aws", "echo secret")
    ctr = fake(
        node,
        "ctr",
        'case "$*" in *"images pull"*) touch "$0.pulled" ;;\n'
        f'*"images list"*) [ ! -e "$0.pulled" ] || echo {image} ;; esac',
    )
    script = node.program("vipd-host", *SERVICE, "--vipd-image", image, "--kubeconfig", str(node.folder / "kubeconfig"))
    async with kubelet(node, "--hostname-override=n"):
        assert await node.run(script) == (0, "")
        first = calls(ctr)
        ctr.unlink()
        assert await node.run(script) == (0, "")
    assert all(call[:2] == ["--namespace", "vipd"] for call in first)
    pulls = [call[2:] for call in first if "pull" in call]
    assert pulls == [["images", "pull", "--user", "AWS:secret", image]]
    assert not [call for call in calls(ctr) if "pull" in call]
    assert calls(aws) == [["ecr", "get-login-password", "--region", "us-east-2"]]
    ran = first[-1][2:]
    assert ran[0] == "run"
    assert ran[ran.index(image) :] == [image, "vipd-host", "vipd", *ARGUMENTS]
    options = ran[: ran.index(image)]
    assert {"--rm", "--net-host", "CAP_NET_ADMIN", "CAP_NET_RAW", "NODE_NAME=n"} <= set(options)
    mount = f"type=bind,src={node.folder}/kubeconfig,dst=/run/vipd/kubeconfig,options=rbind:ro"
    assert mount in options


@pytest.mark.parametrize("wheel", ["vipd==0.1.0", "s3://bucket/w/vipd-0.1.0-py3-none-any.whl"])
async def test_a_wheel_is_installed_once(node: Node, wheel: str) -> None:
    home = node.folder / "opt-vipd"
    aws, pip = fake(node, "aws"), fake(node, "pip")
    node.put(
        "python3.11",
        f'#!/bin/sh\n[ "$*" = "-m venv --clear {home}" ] || exit 9\nmkdir -p {home}/bin\ncp "$0" {home}/p\n'
        f"ln -sf {node.folder}/pip {home}/bin/pip\n",
    )
    script = node.program(
        "vipd-install", *SERVICE, "--vipd-wheel", wheel, "--kubeconfig", "/etc/k", **{"/opt/vipd": str(home)}
    )
    for _ in range(2):
        assert await node.run(script) == (0, "")
    ((*_, installed),) = calls(pip)
    if wheel.startswith("s3:"):
        assert installed == f"{home}/vipd-0.1.0-py3-none-any.whl"
        assert calls(aws) == [["s3", "cp", "--no-progress", wheel, installed]]
    else:
        assert installed == wheel
        assert not aws.exists()
