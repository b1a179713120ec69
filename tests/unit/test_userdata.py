"""``vipd userdata``: what each system gets, that tools accept it, and that no input gets out of its quotes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from userdata_reading import parts, scripts, toml, userdata, written

from vipd.cli import main as cli
from vipd.config import values
from vipd.config.flags import Parser, add_arguments
from vipd.config.settings_userdata import load_userdata
from vipd.config.table import CONFIG
from vipd.config.table_userdata import USERDATA_OPTIONS
from vipd.core.model import Vip
from vipd.userdata import address, mapping
from vipd.userdata.render import LIMIT

ADDRESS, MAPPING, SERVICE = "vipd-nodeport-address", "vipd-nodeport-mapping", "vipd-nodeport"
ONE = ("--vip", "10.0.1.100/24")
CLUSTER = (
    "--cluster=prod",
    "--api-server-endpoint=https://ABC.gr7.us-east-2.eks.amazonaws.com",
    "--certificate-authority=Q0VSVElGSUNBVEU=",
    "--service-cidr=172.20.0.0/16",
)
WHEEL = ("--option=2", "--wheel=vipd==0.1.0", "--lease=nodeport-vip")
IMAGE = (
    "--option=2",
    "--image=111122223333.dkr.ecr.us-east-2.amazonaws.com/vipd:0.1.0",
    "--lease=nodeport-vip",
    "--kubeconfig=/etc/vipd/kubeconfig",
)
BOTTLEROCKET = ("--os=bottlerocket", "--bootstrap-image=registry.example/bootstrap:1")
EVERY = {
    "al2023-1": ("--os=al2023",),
    "al2023-2": ("--os=al2023", "--option=2"),
    "al2023-2-wheel": ("--os=al2023", *WHEEL),
    "al2023-2-wheel-static": ("--os=al2023", *WHEEL, "--address-mode=static"),
    "al2023-2-image": ("--os=al2023", *IMAGE),
    "al2023-1-join": ("--os=al2023", *CLUSTER),
    "al2-1": ("--os=al2",),
    "al2-2": ("--os=al2", "--option=2"),
    "al2-2-image": ("--os=al2", *IMAGE),
    "al2-1-join": ("--os=al2", *CLUSTER),
    "ubuntu-1": ("--os=ubuntu",),
    "ubuntu-2": ("--os=ubuntu", "--option=2"),
    "ubuntu-2-wheel": ("--os=ubuntu", *WHEEL),
    "ubuntu-2-image": ("--os=ubuntu", *IMAGE),
    "ubuntu-1-join": ("--os=ubuntu", *CLUSTER),
    "bottlerocket-1": BOTTLEROCKET,
    "bottlerocket-1-join": (*BOTTLEROCKET, *CLUSTER),
}
each = pytest.mark.parametrize("flags", EVERY.values(), ids=EVERY)


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")
    return found


def names(text: str) -> set[str]:
    """The files, without their folders."""
    return {path.rpartition("/")[2] for path in written(text)}


# ------------------------------------------------------------------------------------ what is in it


@pytest.mark.parametrize("os", ["al2023", "al2", "ubuntu"])
def test_option_1_puts_the_address_there_and_goes_on_doing_so(capsys: pytest.CaptureFixture[str], os: str) -> None:
    text = userdata(capsys, *ONE, f"--os={os}")
    assert names(text) == {ADDRESS, f"{ADDRESS}.service", f"{ADDRESS}.timer"}
    assert "systemctl" in text
    assert "rc.local" not in text


@pytest.mark.parametrize("os", ["al2023", "al2", "ubuntu"])
def test_option_2_without_vipd_maps_it_once_at_boot_and_says_what_it_cannot(
    capsys: pytest.CaptureFixture[str], os: str
) -> None:
    text = userdata(capsys, *ONE, f"--os={os}", "--option=2")
    assert names(text) >= {ADDRESS, MAPPING, f"{MAPPING}.service"}
    (script,) = [content for path, content in written(text).items() if path.endswith(MAPPING)]
    assert "assign-private-ip-addresses" in script
    assert "nobody takes it over when that node dies" in script


@pytest.mark.parametrize(("flags", "bears"), [((), False), (("--address-mode=static",), True)])
def test_with_vipd_the_address_is_user_datas_in_static_mode_alone(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], bears: bool
) -> None:
    text = userdata(capsys, *ONE, *WHEEL, *flags)
    assert names(text) >= {SERVICE, f"{SERVICE}.service", f"{SERVICE}-install"}
    assert (ADDRESS in names(text)) is bears


def test_what_runs_vipd_is_a_command_that_vipd_understands(capsys: pytest.CaptureFixture[str]) -> None:
    from vipd.config import load_host

    text = userdata(
        capsys, "--vip=10.0.1.100/24", "--vip=fd00:10::100/64", *WHEEL, "--interface=ens5", "--namespace=edge"
    )
    (script,) = [content for path, content in written(text).items() if path.endswith(f"sbin/{SERVICE}")]
    command = script.splitlines()[-1].split()
    assert command[:3] == ["exec", "/opt/vipd/bin/vipd", "host"]
    host = load_host(command[3:], {}, namespace_file=Path("/nonexistent"))
    assert [str(vip) for vip in host.vips] == ["10.0.1.100/24%ens5", "fd00:10::100/64%ens5"]
    assert (host.lease, host.namespace) == ("nodeport-vip", "edge")


def test_a_node_of_al2023_joins_by_nodeadm(capsys: pytest.CaptureFixture[str]) -> None:
    found = parts(userdata(capsys, *ONE, *CLUSTER))
    assert list(found) == ["application/node.eks.aws", "text/x-shellscript"]
    assert yaml.safe_load(found["application/node.eks.aws"]) == {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "cluster": {
                "name": "prod",
                "apiServerEndpoint": "https://ABC.gr7.us-east-2.eks.amazonaws.com",
                "certificateAuthority": "Q0VSVElGSUNBVEU=",
                "cidr": "172.20.0.0/16",
            }
        },
    }


def test_without_a_cluster_the_joining_is_left_to_the_managed_node_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(parts(userdata(capsys, *ONE))) == ["text/x-shellscript"]


@pytest.mark.parametrize("os", ["al2", "ubuntu"])
def test_others_join_by_bootstrap_sh(capsys: pytest.CaptureFixture[str], os: str) -> None:
    text = userdata(capsys, *ONE, f"--os={os}", *CLUSTER[:3])
    wanted = ["/etc/eks/bootstrap.sh", "prod", "--apiserver-endpoint", CLUSTER[1].partition("=")[2]]
    wanted += ["--b64-cluster-ca", "Q0VSVElGSUNBVEU="]
    if os == "ubuntu":
        assert yaml.safe_load(text)["runcmd"][-1] == wanted
    else:
        assert parts(text)["text/x-shellscript"].splitlines()[-1].split() == wanted


def test_bottlerocket_gets_a_bootstrap_container(capsys: pytest.CaptureFixture[str]) -> None:
    told = toml(userdata(capsys, *ONE, *BOTTLEROCKET, *CLUSTER))
    container = told["bootstrap-containers"][ADDRESS]
    assert (container["source"], container["mode"], container["essential"]) == (
        "registry.example/bootstrap:1",
        "always",
        False,
    )
    assert told["kubernetes"]["cluster-name"] == "prod"


@each
def test_the_same_flags_give_the_same_text_within_ec2s_limit(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    text = userdata(capsys, *ONE, *flags)
    assert text == userdata(capsys, *ONE, *flags)
    assert text.isascii()
    assert len(text) < LIMIT


# ------------------------------------------------------------------------------------ tools accept it


@each
def test_shells_and_shellcheck_accept_every_script(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    shellcheck = installed("shellcheck")
    for number, content in enumerate(scripts(userdata(capsys, *ONE, *flags)).values()):
        file = tmp_path / f"{number}.sh"
        file.write_text(content)
        shell = "bash" if content.startswith("#!/bin/bash") else "sh"
        assert subprocess.run([shell, "-n", file], capture_output=True, check=False).stderr == b""
        done = subprocess.run([shellcheck, file], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("flags", [f for f in EVERY.values() if "--os=ubuntu" in f])
def test_cloud_init_knows_every_key(capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: tuple[str, ...]) -> None:
    cloud_init = installed("cloud-init")
    file = tmp_path / "user-data"
    file.write_text(userdata(capsys, *ONE, *flags))
    done = subprocess.run([cloud_init, "schema", "-c", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_key_is_seen_by_cloud_init(tmp_path: Path) -> None:
    cloud_init = installed("cloud-init")
    file = tmp_path / "user-data"
    file.write_text("#cloud-config\nwrite_files: 7\n")
    assert subprocess.run([cloud_init, "schema", "-c", file], capture_output=True, check=False).returncode != 0


@each
def test_systemd_understands_every_unit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    analyze = installed("systemd-analyze")
    units = []
    for path, content in written(userdata(capsys, *ONE, *flags)).items():
        if path.startswith("/etc/systemd/system/"):
            file = tmp_path / path.rpartition("/")[2]
            # The programs are on the nodes, not here.
            file.write_text(re.sub(r"=/usr/local/sbin/\S+", "=/bin/true", content))
            units.append(file)
    if units:
        done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
        complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
        assert (done.returncode, complaints) == (0, [])


# -------------------------------------------------------------------------------------- what it does


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., list[list[str]]]:
    """Runs a script with fake programs on its PATH; the calls of those whose arguments count, word by word."""
    programs = tmp_path / "bin"
    programs.mkdir()

    def fake(name: str, body: str) -> None:
        path = programs / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run(script: str, told: str, **fakes: str) -> list[list[str]]:
        calls = tmp_path / "calls"
        calls.write_bytes(b"")
        fake(told, f'printf "%s\\0" "$@" >> {calls}; printf "\\n" >> {calls}; {fakes.pop(told, ":")}')
        for name, body in fakes.items():
            fake(name, body)
        file = tmp_path / "script"
        file.write_text(script)
        environ = {"PATH": f"{programs}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", file], env=environ, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split("\0")[:-1] for line in calls.read_text().split("\n")[:-1]]

    return run


ROUTES = 'case "$*" in *route*) echo "default via 10.0.1.1 dev ens5 proto dhcp src 10.0.1.11 metric 512" ;; esac'


def test_the_address_goes_to_the_interface_of_the_default_route(stage: Callable[..., list[list[str]]]) -> None:
    vips = [Vip(ip_address("10.0.1.100"), 24, ""), Vip(ip_address("fd00::100"), 64, "")]
    calls = stage(address.script(vips, "auto"), "ip", ip=ROUTES)
    assert calls == [
        ["-o", "route", "show", "default"],
        ["-4", "address", "replace", "10.0.1.100/32", "dev", "ens5"],
        ["-6", "address", "replace", "fd00::100/128", "dev", "ens5", "nodad"],
    ]


def test_the_mapping_goes_to_the_eni_behind_it(stage: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    script = mapping.script([Vip(ip_address("10.0.1.100"), 24, ""), Vip(ip_address("10.0.1.101"), 24, "")], "auto")
    net = tmp_path / "net" / "ens5"
    net.mkdir(parents=True)
    (net / "address").write_text("02:00:00:00:01:0a\n")
    curl = (
        'case "$*" in *api/token*) echo token ;; '
        '*"X-aws-ec2-metadata-token: token"*macs/02:00:00:00:01:0a/interface-id) echo eni-a ;; '
        "*placement/region) echo us-east-2 ;; *) exit 22 ;; esac"
    )
    calls = stage(script.replace("/sys/class/net", str(tmp_path / "net")), "aws", ip=ROUTES, curl=curl)
    assert calls == [
        [
            *("ec2", "assign-private-ip-addresses", "--region", "us-east-2", "--network-interface-id", "eni-a"),
            *("--private-ip-addresses", "10.0.1.100", "10.0.1.101", "--allow-reassignment"),
        ]
    ]


def test_without_a_default_route_it_fails_and_says_so(tmp_path: Path) -> None:
    fake = tmp_path / "ip"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    script = address.script([Vip(ip_address("10.0.1.100"), 24, "")], "auto")
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "no default route" in done.stderr


def possible(name: str) -> bool:
    try:
        return values.interface(name) == name and name != "auto"
    except ValueError:
        return False


@given(st.text(alphabet="$`'\"\\;&|<>(){}[]*?!#~=-a0", min_size=1, max_size=15).filter(possible))
@hypothesis_settings(max_examples=50)
def test_no_interface_name_gets_out_of_its_quotes(name: str) -> None:
    script = address.script([Vip(ip_address("10.0.1.100"), 24, "")], name)
    fake = 'ip() { printf "%s\\0" "$@"; printf "\\n"; }\n'
    done = subprocess.run(["sh", "-c", fake + script], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\0")[:-1] == ["-4", "address", "replace", "10.0.1.100/32", "dev", name]


# ---------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "--vip: not given; allowed: ADDR[/PREFIX]"),
        (["--vip=10.0.1.100/24%ens5"], "--interface does that here"),
        (["--vip=127.0.0.1/8"], "flag --vip: '127.0.0.1/8'"),
        ([*ONE, "--vip=10.0.1.100/32"], "10.0.1.100' is there twice"),
        ([*ONE, "--os=windows"], "flag --os: 'windows' is not possible; allowed: al2023, al2, ubuntu or bottlerocket"),
        ([*ONE, "--option=3"], "flag --option: '3' is out of range; allowed: 1 or 2"),
        ([*ONE, "--interface=a b"], "flag --interface:"),
        ([*ONE, "--lease=x"], "flag --lease: goes with --option 2"),
        ([*ONE, "--option=2", "--lease=x"], "flag --lease: goes with --wheel or --image"),
        ([*ONE, "--option=2", "--wheel=vipd==0.1.0"], "--lease: not given"),
        ([*ONE, "--option=2", "--wheel=vipd"], "flag --wheel: 'vipd' is not possible; allowed: vipd==VERSION"),
        ([*ONE, "--option=2", "--wheel=vipd==1;reboot", "--lease=x"], "flag --wheel:"),
        ([*ONE, *WHEEL, "--image=r.example/v:1"], "excludes flag --wheel"),
        ([*ONE, "--option=2", "--image=r.example/v", "--lease=x"], "flag --image: 'r.example/v' is not possible"),
        ([*ONE, "--option=2", "--image=r.example/v:1", "--lease=x"], "--kubeconfig: not given"),
        ([*ONE, *WHEEL, "--kubeconfig=relative"], "flag --kubeconfig:"),
        ([*ONE, "--os=al2", *WHEEL], "al2, which has no Python 3.11"),
        ([*ONE, "--os=al2", *IMAGE, "--address-mode=managed"], "its kernel (5.10) does not keep"),
        (["--vip=fd00::100/64", "--option=2"], "cannot be reassigned in one call"),
        ([*ONE, "--os=bottlerocket"], "--bootstrap-image: not given"),
        ([*ONE, *BOTTLEROCKET, "--option=2"], "cannot be on bottlerocket"),
        ([*ONE, "--bootstrap-image=r.example/b:1"], "goes with --os bottlerocket"),
        ([*ONE, "--cluster=prod"], "needs --api-server-endpoint, --certificate-authority, --service-cidr, too"),
        ([*ONE, *CLUSTER[:3]], "needs --service-cidr, too"),
        ([*ONE, "--cluster=$(reboot)"], "flag --cluster:"),
        ([*ONE, "--leas=x"], "flag '--leas': unknown"),
    ],
)
def test_what_does_not_go_together_is_one_error(capfd: pytest.CaptureFixture[str], argv: list[str], told: str) -> None:
    assert cli.main(["userdata", *argv]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told in err


def test_more_than_ec2_takes_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    many = [f"--vip=fd00:10:0:1:{number:x}::{number:x}/64" for number in range(1, 600)]
    assert cli.main(["userdata", *many]) == 2
    assert "allowed: 16384" in capfd.readouterr().err


def test_variables_and_a_file_are_read_too(tmp_path: Path) -> None:
    file = tmp_path / "vipd.yaml"
    file.write_text("vip: [10.0.1.100/24]\nos: ubuntu\n")
    parser = Parser(prog="vipd userdata", add_help=False)
    add_arguments(parser, (*USERDATA_OPTIONS, CONFIG))
    settings = load_userdata(parser.parse_args([f"--config={file}"]), {"VIPD_INTERFACE": "ens5"})
    assert (str(settings.os), settings.interface) == ("ubuntu", "ens5")
