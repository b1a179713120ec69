"""examples/nodeport/userdata: each file is what its command in the README prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from manifests import EXAMPLES
from userdata_nodes import settings

from vipd.lab.topology import HOST_RIGHTS
from vipd.userdata import render

FOLDER = EXAMPLES / "nodeport" / "userdata"
README = FOLDER / "README.md"
COMMANDS = dict(re.findall(r"^\| `([^`]+)` \| `vipd userdata ([^`]+)` \|$", README.read_text(), re.MULTILINE))


def test_the_readme_names_every_file_and_no_other() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {*COMMANDS, "README.md"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_is_what_its_command_prints(name: str) -> None:
    """To make them anew: python tests/unit/test_examples_userdata.py"""
    assert (FOLDER / name).read_text() == printed(name)


def test_every_system_and_option_that_can_be_is_there() -> None:
    told = [settings(*shlex.split(command)) for command in COMMANDS.values()]
    assert {(str(one.os), str(one.option)) for one in told} == {
        (system, option)
        for system in ("al2023", "al2", "ubuntu", "bottlerocket")
        for option in ("1", "2")
        if (system, option) != ("bottlerocket", "2")
    }


def test_the_role_is_for_the_lease_and_namespace_of_the_commands() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    role, binding, of_nodes, for_nodes = yaml.safe_load_all(shown)
    service = settings(*shlex.split(COMMANDS["al2023-option-2-wheel.txt"])).service
    assert service is not None
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == service.namespace
    assert role["rules"][0]["resourceNames"] == [service.lease]
    assert (binding["roleRef"]["name"], for_nodes["roleRef"]["name"]) == (
        role["metadata"]["name"],
        of_nodes["metadata"]["name"],
    )
    assert binding["subjects"] == for_nodes["subjects"]


def test_the_rights_are_what_vipd_host_asks_for_without_a_pod() -> None:
    """On a bare host the Node bears the labels that elsewhere the pod bears."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    granted = {
        (verb, what)
        for document in yaml.safe_load_all(shown)
        for rule in document.get("rules", ())
        for what in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == HOST_RIGHTS - {("patch", "pods")} | {("patch", "nodes")}


def printed(name: str) -> str:
    return render(settings(*shlex.split(COMMANDS[name])))


if __name__ == "__main__":
    for name in COMMANDS:
        Path(FOLDER / name).write_text(printed(name))
