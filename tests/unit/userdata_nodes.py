"""``vipd userdata`` as tests use it: settings from flags, and what a node makes of the text."""

from __future__ import annotations

import argparse
import base64
import email
import re
import tomllib
from email.message import Message
from typing import NamedTuple

import yaml

from vipd.config.flags import Parser, add_arguments
from vipd.config.model_userdata import NodeOs, UserdataSettings
from vipd.config.settings_userdata import load_userdata
from vipd.config.table_userdata import CONFIG, USERDATA_OPTIONS
from vipd.userdata import render
from vipd.userdata.install import END

VIP = "10.0.1.100/32"
IMAGE = "registry.example.com/vipd:0.1.0"
ROLE = "arn:aws:iam::111122223333:role/vipd"
CA = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()
JOIN = (
    *("--cluster", "prod"),
    *("--api-server-endpoint", "https://ABCD.gr7.us-east-2.eks.amazonaws.com"),
    *("--certificate-authority", CA),
    *("--service-cidr", "10.100.0.0/16"),
)
WITH_VIPD = ("--option", "2", "--lease", "nodeport-vip")
BY_WHEEL = (*WITH_VIPD, "--vipd-wheel", "vipd==0.1.0", "--kubeconfig-role", ROLE, "--kubeconfig-cluster", "prod")
BY_IMAGE = (*WITH_VIPD, "--vipd-image", IMAGE, "--kubeconfig", "/etc/vipd/kubeconfig")
ON_BOTTLEROCKET = ("--os", "bottlerocket", "--bootstrap-image", "registry.example.com/script-runner:1.0")

EVERY: dict[str, tuple[str, ...]] = {
    "al2023-1": (),
    "al2023-1-join": JOIN,
    "al2023-2": ("--option", "2"),
    "al2023-2-wheel": BY_WHEEL,
    "al2023-2-wheel-static": (*BY_WHEEL, "--address-mode", "static", "--region", "us-east-2"),
    "al2023-2-image": BY_IMAGE,
    "al2-1": ("--os", "al2"),
    "al2-1-join": ("--os", "al2", *JOIN),
    "al2-2": ("--os", "al2", "--option", "2"),
    "al2-2-image": ("--os", "al2", *BY_IMAGE),
    "ubuntu-1": ("--os", "ubuntu"),
    "ubuntu-1-join": ("--os", "ubuntu", *JOIN),
    "ubuntu-2": ("--os", "ubuntu", "--option", "2"),
    "ubuntu-2-wheel": ("--os", "ubuntu", *BY_WHEEL),
    "ubuntu-2-image": ("--os", "ubuntu", *BY_IMAGE),
    "bottlerocket-1": ON_BOTTLEROCKET,
    "bottlerocket-1-join": (*ON_BOTTLEROCKET, *JOIN),
}
"""Flags (beside --vip) for everything that can be made."""


class Found(NamedTuple):
    """A file that user data leaves on a node."""

    mode: str
    content: str


class Node(NamedTuple):
    """What a node makes of user data."""

    scripts: dict[str, str]
    """What cloud-init, or a bootstrap container, runs by itself: the shell parts, in their order."""
    files: dict[str, Found]
    commands: list[list[str]]
    """runcmd."""


def flags(*argv: str) -> argparse.Namespace:
    parser = Parser(prog="vipd userdata", add_help=False)
    add_arguments(parser, (*USERDATA_OPTIONS, CONFIG))
    return parser.parse_args(list(argv))


def settings(*argv: str, **environ: str) -> UserdataSettings:
    """As ``vipd userdata ARGV`` has them."""
    return load_userdata(flags(*argv), environ)


def text(*argv: str) -> str:
    return render(settings("--vip", VIP, *argv))


def parts(document: str) -> list[Message]:
    """The parts of a MIME document, as Python's own parser sees them."""
    message = email.message_from_string(document)
    assert message.get_content_type() == "multipart/mixed"
    assert message.defects == []
    found = message.get_payload()
    assert isinstance(found, list)
    assert all(isinstance(part, Message) and part.defects == [] for part in found)
    return [part for part in found if isinstance(part, Message)]


def payload(part: Message) -> str:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode("ascii")


def node(told: UserdataSettings) -> Node:
    """Reads user data as its distribution does."""
    document = render(told)
    if told.os is NodeOs.BOTTLEROCKET:
        container = tomllib.loads(document)["settings"]["bootstrap-containers"]["vipd-address"]
        return Node({"bootstrap": base64.b64decode(container["user-data"], validate=True).decode()}, {}, [])
    if told.os is NodeOs.UBUNTU:
        config = yaml.safe_load(document)
        files = {f["path"]: Found(f["permissions"], f["content"]) for f in config["write_files"]}
        return Node({}, files, config["runcmd"])
    shell = [payload(part) for part in parts(document) if part.get_content_type() == "text/x-shellscript"]
    scripts = {f"part-{number}": script for number, script in enumerate(shell, 1)}
    return Node(scripts, _here_documents(shell[0]), [])


def _here_documents(script: str) -> dict[str, Found]:
    found = re.findall(rf"^cat >(\S+) <<'{END}'\n(.*?)^{END}\nchmod (\d+) (\S+)$", script, re.DOTALL | re.MULTILINE)
    assert all(path == again for path, _, _, again in found)
    return {path: Found(mode, content) for path, content, mode, _ in found}
