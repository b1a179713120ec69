"""The examples as they are read: documents, containers, and what vipd makes of a container's command and variables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vipd.config import HostSettings, InitSettings, SidecarSettings, load_host, load_init, load_sidecar, table
from vipd.config.flags import Parser, add_arguments
from vipd.config.table_init import INIT_OPTIONS

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MODES = ("init", "sidecar-follow", "active-standby")
"""The folders with manifests of pods, each to be applied as a whole."""

HOST = "nodeport"
WORKLOADS = {**dict.fromkeys(MODES, ("Deployment",)), HOST: ("DaemonSet",)}
"""What runs vipd in each folder."""

DOWNWARD = {
    "metadata.name": "web-7676bf4bb7-45f7z",
    "metadata.namespace": "multus",
    "metadata.uid": "65e2436e-c913-4ef0-93bc-1683149cef91",
    "spec.nodeName": "ip-10-10-12-248.us-east-2.compute.internal",
    "status.hostIP": "10.0.0.11",
    "status.podIP": "10.10.12.12",
    "status.podIPs": "10.10.12.12,fd00:10:0:1::12",
}
"""What the kubelet puts in place of these fields (those that variables may refer to)."""


class Container(NamedTuple):
    """One container of a pod template, and where it stands there: "initContainers" or "containers"."""

    place: str
    spec: dict[str, Any]


def documents(folder: str) -> list[dict[str, Any]]:
    """Every document of every YAML file in a folder of examples."""
    files = sorted((EXAMPLES / folder).glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def of_kind(folder: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(folder) if document["kind"] == kind]


def template(folder: str) -> dict[str, Any]:
    """The one pod template of the folder."""
    (workload,) = [document for document in documents(folder) if document["kind"] in WORKLOADS[folder]]
    found: dict[str, Any] = workload["spec"]["template"]
    return found


def containers(folder: str) -> list[Container]:
    spec = template(folder)["spec"]
    return [Container(place, each) for place in ("initContainers", "containers") for each in spec.get(place, [])]


def vipd_container(folder: str) -> Container:
    """The one container of the folder that runs vipd."""
    (found,) = [each for each in containers(folder) if each.spec["name"] == "vipd"]
    return found


def command_line(container: dict[str, Any]) -> list[str]:
    return [*container.get("command", []), *container.get("args", [])]


def variables(container: dict[str, Any]) -> dict[str, str]:
    """The environment as the kubelet makes it.  KeyError for a field that no variable may refer to."""
    found = {}
    for each in container.get("env", []):
        found[each["name"]] = each["value"] if "value" in each else DOWNWARD[each["valueFrom"]["fieldRef"]["fieldPath"]]
    return found


def settings(container: dict[str, Any]) -> InitSettings | SidecarSettings | HostSettings:
    """What vipd itself understands.  Raises ConfigError."""
    program, mode, *argv = command_line(container)
    assert program == "vipd"
    environ = variables(container)
    if mode == "host":
        return load_host(argv, environ, namespace_file=Path("/nonexistent"))
    if mode == "sidecar":
        return load_sidecar(argv, environ, namespace_file=Path("/nonexistent"))
    assert mode == "init"
    return load_init(_init_flags(argv), environ)


def _init_flags(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="vipd init", add_help=False)
    add_arguments(parser, (*INIT_OPTIONS, table.CONFIG))
    return parser.parse_args(argv)
