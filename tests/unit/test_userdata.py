"""``vipd userdata``: what it is told, what it refuses, and the documents that come out."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from userdata_nodes import (
    BY_IMAGE,
    BY_WHEEL,
    CA,
    EVERY,
    IMAGE,
    JOIN,
    ON_BOTTLEROCKET,
    ROLE,
    VIP,
    WITH_VIPD,
    node,
    parts,
    payload,
    settings,
    text,
)

from vipd.cli import main as cli
from vipd.config import load_host
from vipd.config.model import AddressMode
from vipd.config.model_userdata import KubeconfigRole, NodeOption, NodeOs, Wheel, WheelFrom
from vipd.errors import ConfigError
from vipd.userdata import mime, render
from vipd.userdata.bottlerocket import basic_string
from vipd.userdata.document import LIMIT
from vipd.userdata.install import END, install_script
from vipd.userdata.nodefile import NodeFile

PROGRAMS = "/usr/local/sbin"


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        render(settings(*argv, **environ))
    (line,) = str(refused.value).splitlines()
    assert "allowed: " in line
    return line


def test_a_vip_is_enough_and_the_rest_has_defaults() -> None:
    told = settings("--vip", VIP)
    assert ([str(vip) for vip in told.vips], told.option, told.os) == ([VIP], NodeOption.ADDRESS, NodeOs.AL2023)
    assert (told.interface, told.service, told.cluster, told.region) == (None, None, None, None)
    assert told.bears_address


def test_option_2_with_vipd_has_defaults_of_its_own() -> None:
    service = settings("--vip", VIP, *BY_WHEEL).service
    assert service is not None
    assert service.program == Wheel("vipd==0.1.0", WheelFrom.INDEX)
    assert (service.lease, service.namespace, service.address_mode) == (
        "nodeport-vip",
        "vipd",
        AddressMode.MANAGED,
    )
    assert service.kubeconfig == KubeconfigRole("prod", ROLE)


def test_variables_and_the_file_tell_as_flags_do_and_what_is_for_others_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "vipd.yaml"
    file.write_text("vip: [10.0.1.100/32, 'fd00::100/64']\nos: al2\nlease-duration: 3s\n")
    told = settings(f"--config={file}", VIPD_OS="ubuntu", VIPD_TIMEOUT="5s", VIPD_INTERFACE="ens6")
    assert (len(told.vips), told.os, told.interface) == (2, NodeOs.UBUNTU, "ens6")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--vip: not given"),
        (["--vip", "10.0.1.100"], "flag --vip: '10.0.1.100' has no prefix"),
        (["--vip", "10.0.1.100/33"], "has a prefix that does not fit: IPv4 takes 1 to 32"),
        (["--vip", "10.0.1.100/0"], "has a prefix that does not fit"),
        (["--vip", "fd00::1/129"], "IPv6 takes 1 to 128"),
        (["--vip", "10.0.1.100/32%ens5"], "names an interface, which --interface does"),
        (["--vip", "127.0.0.1/8"], "is a loopback address"),
        (["--vip", "224.0.0.9/32"], "is a multicast address"),
        (["--vip", "169.254.1.1/32"], "is a link-local address"),
        (["--vip", "0.0.0.0/32"], "is an unspecified address"),
        (["--vip", "$(reboot)/32"], "is not an IP address"),
        (["--vip", "10.0.1.100/32;reboot"], "has a prefix that does not fit"),
        (["--vip", VIP, "--vip", "10.0.1.100/24"], "flag --vip: '10.0.1.100' is there twice"),
        (["--vip", VIP, "--option", "3"], "flag --option: '3' is not possible; allowed: 1 or 2"),
        (["--vip", VIP, "--os", "windows"], "flag --os: 'windows' is not possible"),
        (["--vip", VIP, "--interface", "ens5.1/2"], "has an interface name that the kernel cannot have"),
        (["--vip", VIP, "--interface", "a" * 16], "more than 15 characters"),
        (["--vip", VIP, "--interface", "e th"], "has an interface name that the kernel cannot have"),
        (["--vip", VIP, "--lease", "vip"], "flag --lease: 'vip' goes with option 2 alone"),
        (["--vip", VIP, "--vipd-image", IMAGE], f"flag --vipd-image: '{IMAGE}' goes with option 2 alone"),
        (["--vip", VIP, "--vipd-wheel", "vipd==0.1.0"], "flag --vipd-wheel: 'vipd==0.1.0' goes with option 2 alone"),
        (["--vip", VIP, "--region", "us-east-2"], "goes with option 2 alone"),
        (["--vip", VIP, "--address-mode", "static"], "goes with option 2 alone"),
        (["--vip", VIP, "--bootstrap-image", IMAGE], "is for Bottlerocket"),
        (["--vip", VIP, "--os", "bottlerocket"], "--bootstrap-image: not given, and Bottlerocket's host has no shell"),
        (["--vip", VIP, *ON_BOTTLEROCKET, "--option", "2"], "flag --option: '2' cannot be on Bottlerocket"),
        (["--vip", VIP, "--option", "2", "--lease", "vip"], "is for vipd, which is not there"),
        (["--vip", VIP, "--option", "2", "--kubeconfig", "/k"], "is for vipd, which is not there"),
        (["--vip", "fd00::1/128", "--option", "2"], "is IPv6, which EC2 does not reassign in one call"),
        (["--vip", VIP, *BY_IMAGE, "--vipd-wheel", "vipd==1"], "is there beside a wheel"),
        (["--vip", VIP, *BY_WHEEL, "--os", "al2"], "needs Python 3.11, which Amazon Linux 2 has not"),
        (
            ["--vip", VIP, *BY_IMAGE, "--os", "al2", "--address-mode", "managed"],
            "flag --address-mode: 'managed' cannot be on al2: its kernel (5.10)",
        ),
        (["--vip", VIP, "--option", "2", "--vipd-image", IMAGE, "--kubeconfig", "/k"], "--lease: not given"),
        (["--vip", VIP, *WITH_VIPD, "--vipd-image", IMAGE], "--kubeconfig: not given, and the kubelet's own may not"),
        (
            ["--vip", VIP, *WITH_VIPD, "--vipd-image", IMAGE, "--kubeconfig", "/var/lib/kubelet/kubeconfig"],
            "is the kubelet's own, and the NodeRestriction admission plugin",
        ),
        (
            ["--vip", VIP, *WITH_VIPD, "--vipd-image", IMAGE, "--kubeconfig", "//var/lib/x/../kubelet/kubeconfig"],
            "flag --kubeconfig: '//var/lib/x/../kubelet/kubeconfig' is the kubelet's own",
        ),
        (["--vip", VIP, *BY_WHEEL, "--kubeconfig", "/k"], "is there beside --kubeconfig"),
        (
            ["--vip", VIP, *WITH_VIPD, "--vipd-wheel", "vipd==1", "--kubeconfig-role", ROLE],
            "--kubeconfig-cluster: not given",
        ),
        (
            ["--vip", VIP, *WITH_VIPD, "--vipd-wheel", "vipd==1", "--kubeconfig-cluster", "prod"],
            "--kubeconfig-role: not given",
        ),
        (
            [
                *("--vip", VIP, *WITH_VIPD, "--vipd-image", IMAGE),
                *("--kubeconfig-role", ROLE, "--kubeconfig-cluster", "prod"),
            ],
            "needs the aws command beside vipd, which the image has not",
        ),
        (["--vip", VIP, *JOIN[:4]], "--certificate-authority: not given, but flag --cluster is ('prod')"),
        (["--vip", VIP, *JOIN[2:]], "--cluster: not given, but flag --api-server-endpoint is"),
    ],
)
def test_what_cannot_be_is_one_sentence(argv: list[str], said: str) -> None:
    assert said in refusal(*argv)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("vipd-wheel", "vipd"),
        ("vipd-wheel", "vipd>=1"),
        ("vipd-wheel", "http://example.com/vipd.whl"),
        ("vipd-wheel", "vipd.whl"),
        ("vipd-wheel", "https://example.com/a b.whl"),
        ("vipd-wheel", "https://example.com/vipd-ü.whl"),
        ("vipd-wheel", "s3://bucket/vipd-ü.whl"),
        ("vipd-wheel", "https://example.com:65536/vipd.whl"),
        ("vipd-wheel", "https://example.com/" + "a" * 2000 + ".whl"),
        ("vipd-image", "vipd"),
        ("vipd-image", "vipd:1.0"),
        ("vipd-image", "registry.example.com/vipd"),
        ("vipd-image", "registry.example.com:65536/vipd:1.0"),
        ("vipd-image", "registry.example.com:0/vipd:1.0"),
        ("vipd-image", "registry.example.com/vipd:latest"),
        ("vipd-image", "registry.example.com/vipd@sha256:abc"),
        ("kubeconfig", "etc/kubeconfig"),
        ("kubeconfig", "/etc/a,b"),
        ("kubeconfig", "/etc/$(reboot)"),
        ("kubeconfig-role", "arn:aws:iam::1:role/vipd"),
        ("kubeconfig-role", "vipd"),
        ("kubeconfig-cluster", "-x"),
        ("cluster", "a b"),
        ("api-server-endpoint", "http://example.com"),
        ("api-server-endpoint", "https://example.com:65536"),
        ("api-server-endpoint", "https://example.com/$(reboot)"),
        ("certificate-authority", "-----BEGIN CERTIFICATE-----"),
        ("certificate-authority", base64.b64encode(b"hello").decode()),
        ("service-cidr", "10.100.0.0/30"),
        ("service-cidr", "10.100.0.0"),
        ("bootstrap-image", "alpine"),
        ("bootstrap-image", "registry.example.com:70000/alpine:1.0"),
        ("region", "home"),
        ("lease", "Nodeport"),
        ("namespace", "kube.system"),
        ("address-mode", "both"),
    ],
)
def test_an_impossible_value_is_refused(option: str, value: str) -> None:
    argv = {
        "bootstrap-image": ("--os", "bottlerocket"),
        **dict.fromkeys(("vipd-wheel", "vipd-image"), (*WITH_VIPD, "--kubeconfig", "/k")),
        **dict.fromkeys(("region", "namespace", "address-mode"), BY_IMAGE),
        "lease": ("--option", "2", "--vipd-image", IMAGE),
        **dict.fromkeys(
            ("kubeconfig", "kubeconfig-role", "kubeconfig-cluster"), (*WITH_VIPD, "--vipd-wheel", "vipd==1")
        ),
    }.get(option, ())
    said = refusal("--vip", VIP, *argv, f"--{option}={value}")
    assert said.startswith(f"flag --{option}: ")


@pytest.mark.parametrize(
    "wheel",
    [
        ("vipd==0.1.0", WheelFrom.INDEX),
        ("https://example.com/w/vipd-0.1.0-py3-none-any.whl", WheelFrom.URL),
        ("https://example.com/vipd-0.1.0-py3-none-any.whl#sha256=" + "0" * 64, WheelFrom.URL),
        ("s3://bucket/vipd-0.1.0-py3-none-any.whl", WheelFrom.S3),
        ("/opt/vipd-0.1.0-py3-none-any.whl", WheelFrom.FILE),
    ],
)
def test_a_wheel_comes_from_an_index_the_web_s3_or_the_node(wheel: tuple[str, WheelFrom]) -> None:
    service = settings("--vip", VIP, *WITH_VIPD, "--vipd-wheel", wheel[0], "--kubeconfig", "/etc/vipd/config").service
    assert service is not None
    assert service.program == Wheel(*wheel)


@pytest.mark.parametrize(
    ("image", "region"),
    [
        (f"registry.example.com/vipd@sha256:{'0' * 64}", ""),
        ("localhost:5000/vipd:1", ""),
        ("111122223333.dkr.ecr.us-east-2.amazonaws.com/vipd:0.1.0", "us-east-2"),
        ("111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/vipd:0.1.0", "cn-north-1"),
        ("ecr.example.com/vipd:1", ""),
    ],
)
def test_a_private_ecr_registry_is_logged_in_to(image: str, region: str) -> None:
    told = settings("--vip", VIP, *WITH_VIPD, "--vipd-image", image, "--kubeconfig", "/etc/vipd/config")
    assert f"\nECR_REGION={region or repr('')}\n" in node(told).files[f"{PROGRAMS}/vipd-host"].content


@pytest.mark.parametrize("argv", EVERY.values(), ids=EVERY)
def test_the_same_settings_make_the_same_text_within_the_limit_and_in_ascii(argv: tuple[str, ...]) -> None:
    document = text(*argv)
    assert document == text(*argv)
    assert document.isascii()
    assert document.endswith("\n")
    assert len(document) < LIMIT


def test_more_than_ec2_takes_is_refused() -> None:
    vips = [f"--vip=10.0.{high}.{low}/32" for high in range(8) for low in range(1, 150)]
    assert f"allowed: {LIMIT} bytes" in refusal(*vips)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("al2023-1", ["text/x-shellscript"]),
        ("al2023-1-join", ["application/node.eks.aws", "text/x-shellscript"]),
        ("al2023-2-wheel", ["text/x-shellscript"]),
        ("al2-1", ["text/x-shellscript"]),
        ("al2-1-join", ["text/x-shellscript", "text/x-shellscript"]),
    ],
)
def test_mime_has_the_parts_that_the_distribution_reads(name: str, kinds: list[str]) -> None:
    found = parts(text(*EVERY[name]))
    assert [part.get_content_type() for part in found] == kinds
    assert all(payload(part).startswith("#!/bin/sh\n") for part in found if part.get_content_type() == kinds[-1])


def test_nodeadm_is_told_the_cluster() -> None:
    config = yaml.safe_load(payload(parts(text(*JOIN))[0]))
    assert (config["apiVersion"], config["kind"]) == ("node.eks.aws/v1alpha1", "NodeConfig")
    assert config["spec"]["cluster"] == {
        "name": "prod",
        "apiServerEndpoint": JOIN[3],
        "certificateAuthority": CA,
        "cidr": "10.100.0.0/16",
    }


def test_bootstrap_sh_is_told_the_cluster() -> None:
    last = payload(parts(text("--os", "al2", *JOIN))[-1]).splitlines()[-1]
    want = f"/etc/eks/bootstrap.sh prod --apiserver-endpoint {JOIN[3]} --b64-cluster-ca {CA}"
    assert last == f"{want} --dns-cluster-ip 10.100.0.10"
    six = ("--service-cidr", "fd00:ec2::/108")
    last = payload(parts(text("--os", "al2", *JOIN[:6], *six))[-1]).splitlines()[-1]
    assert last == f"{want} --ip-family ipv6 --service-ipv6-cidr fd00:ec2::/108"
    assert node(settings("--vip", VIP, "--os", "ubuntu", *JOIN)).commands[-1] == [
        *want.split(),
        "--dns-cluster-ip",
        "10.100.0.10",
    ]


def test_ubuntu_gets_one_cloud_config_in_which_the_units_are_started() -> None:
    document = text("--os", "ubuntu", "--option", "2")
    assert document.startswith("#cloud-config\n")
    found = node(settings("--vip", VIP, "--os", "ubuntu", "--option", "2"))
    assert found.commands[0] == ["systemctl", "daemon-reload"]
    assert found.commands[1] == ["systemctl", "enable", "vipd-address.service", "vipd-mapping.service"]
    assert found.commands[2] == ["systemctl", "start", "--no-block", *found.commands[1][2:]]


def test_bottlerocket_gets_a_bootstrap_container_for_each_boot() -> None:
    told = tomllib.loads(text(*ON_BOTTLEROCKET, *JOIN))["settings"]
    container = told["bootstrap-containers"]["vipd-address"]
    assert (container["source"], container["mode"], container["essential"]) == (ON_BOTTLEROCKET[3], "always", True)
    assert b"\nset -- once\n" in base64.b64decode(container["user-data"])
    assert told["kubernetes"] == {
        "cluster-name": "prod",
        "api-server": JOIN[3],
        "cluster-certificate": CA,
        "cluster-dns-ip": "10.100.0.10",
    }


@pytest.mark.parametrize("string", ["", "a", '"', "\\", 'a"b\\c', "\n\t\r", "\0\x7f", "ä€😀", "$(x) `y` '''"])
def test_toml_strings_come_back(string: str) -> None:
    assert tomllib.loads(f"a = {basic_string(string)}")["a"] == string


ADDRESS = (f"{PROGRAMS}/vipd-address", "/etc/systemd/system/vipd-address.service")
MAPPING = (f"{PROGRAMS}/vipd-mapping", "/etc/systemd/system/vipd-mapping.service")
HOST = (f"{PROGRAMS}/vipd-host", "/etc/systemd/system/vipd-host.service")
INSTALL = (f"{PROGRAMS}/vipd-install",)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("al2023-1", {*ADDRESS}),
        ("al2-1", {*ADDRESS}),
        ("ubuntu-1", {*ADDRESS}),
        ("al2023-2", {*ADDRESS, *MAPPING}),
        ("al2023-2-wheel", {*INSTALL, *HOST}),
        ("al2023-2-wheel-static", {*ADDRESS, *INSTALL, *HOST}),
        ("al2023-2-image", {*HOST}),
        ("al2-2-image", {*ADDRESS, *HOST}),
        ("ubuntu-2-wheel", {*INSTALL, *HOST}),
    ],
)
def test_a_node_gets_what_its_option_needs_and_nothing_else(name: str, files: set[str]) -> None:
    found = node(settings("--vip", VIP, *EVERY[name])).files
    assert set(found) == files
    assert {file.mode for path, file in found.items() if path.startswith(PROGRAMS)} == {"0755"}
    assert {file.mode for path, file in found.items() if path.endswith(".service")} == {"0644"}


@pytest.mark.parametrize("argv", EVERY.values(), ids=EVERY)
def test_the_mistakes_of_the_past_are_not_made_again(argv: tuple[str, ...]) -> None:
    told = settings("--vip", VIP, *argv)
    found = node(told)
    everything = "\n".join([*found.scripts.values(), *(file.content for file in found.files.values())])
    assert "rc.local" not in everything
    assert "assignprivateaddresses" not in everything
    assert "dev eth0" not in everything
    started = [line for line in everything.splitlines() if line.startswith("systemctl start")]
    assert all("--no-block" in line for line in started)


def test_a_text_that_would_end_its_frame_early_is_refused() -> None:
    with pytest.raises(ValueError, match="here-document"):
        install_script([NodeFile("/a", "0644", f"x\n{END}\nreboot\n")])
    with pytest.raises(ValueError, match="here-document"):
        install_script([NodeFile("/a", "0644", "no line end")])
    with pytest.raises(ValueError, match="boundary"):
        mime.multipart([mime.Part(mime.SHELL, f"x\n--{mime.BOUNDARY}\n")])
    with pytest.raises(ValueError, match="ASCII"):
        mime.multipart([mime.Part(mime.SHELL, "ä\n")])


def test_the_command_prints_the_document_and_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [name for name in os.environ if name.startswith("VIPD_")]:
        monkeypatch.delenv(variable)
    assert cli.main(["userdata", "--vip", VIP]) == 0
    assert capsys.readouterr() == (text(), "")
    assert cli.main(["userdata", "--vip", "10.0.1.100"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("vipd: error: flag --vip: '10.0.1.100' has no prefix; allowed: ADDR/PREFIX")


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys; from vipd.cli import main; main.main(['userdata', '--vip', '10.0.1.100/32']);"
        "print(sorted({'botocore', 'aiohttp', 'kubernetes', 'scapy', 'pyroute2'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("os", ["al2023", "ubuntu"])
def test_what_runs_vipd_host_is_a_command_that_vipd_understands(capsys: pytest.CaptureFixture[str], os: str) -> None:
    flags = ["--vip=10.0.1.100/24", "--vip=fd00:10::100/64", f"--os={os}", "--option=2", "--vipd-wheel=vipd==0.1.0"]
    flags += ["--lease=nodeport-vip", "--kubeconfig=/etc/vipd/kubeconfig", "--interface=ens5", "--namespace=edge"]
    assert cli.main(["userdata", *flags]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("set -- host ")]
    host = load_host(shlex.split(line)[3:], {}, namespace_file=Path("/nonexistent"))
    assert [str(vip) for vip in host.vips] == ["10.0.1.100/24%ens5", "fd00:10::100/64%ens5"]
    assert (host.lease, host.namespace, host.interface) == ("nodeport-vip", "edge", "ens5")
