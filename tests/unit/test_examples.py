"""The examples: the rights in them, in the README and in the lab are the same; the manifests are what Kubernetes takes
and what vipd understands."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import models
from manifests import (
    EXAMPLES,
    MODES,
    command_line,
    containers,
    documents,
    of_kind,
    settings,
    template,
    variables,
    vipd_container,
)
from rbac import rights, rules

from vipd import __version__
from vipd.config import InitSettings, SidecarSettings
from vipd.config.settings import DEFAULT_LISTEN
from vipd.config.table_init import NETWORK_STATUS_FILE
from vipd.core import timing
from vipd.errors import ConfigError
from vipd.lab import operator, topology
from vipd.link.network_status import ANNOTATION

ROOT = EXAMPLES.parent
README = ROOT / "README.md"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
"""The annotation that asks Multus for networks."""

every_mode = pytest.mark.parametrize("folder", MODES)


def test_the_readme_shows_the_rules_of_the_examples() -> None:
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(rules:.*?)```", README.read_text(), re.DOTALL)]
    assert [block["rules"] for block in shown] == [rules("Role"), rules("ClusterRole")]


def test_the_lab_grants_nothing_else() -> None:
    assert rights("Role") == topology.RIGHTS
    assert rights("ClusterRole") == operator.RIGHTS


def test_a_member_of_the_active_standby_example_has_the_same_rules() -> None:
    (role,) = of_kind("active-standby", "Role")
    assert role["rules"] == rules("Role")


@pytest.mark.parametrize("folder", ["init", "sidecar-follow"])
def test_without_an_election_no_right_is_granted_and_no_token_mounted(folder: str) -> None:
    kinds = {document["kind"] for document in documents(folder)}
    assert kinds == {"NetworkAttachmentDefinition", "ServiceAccount", "Deployment"}
    (account,) = of_kind(folder, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("folder", [*MODES, "."])
def test_kubernetes_knows_every_field(folder: str) -> None:
    for document in documents(folder):
        if document["kind"] != "NetworkAttachmentDefinition":
            read(document)


def test_a_misspelt_field_and_a_wrong_type_are_seen() -> None:
    (deployment,) = of_kind("init", "Deployment")
    read(deployment)
    for wrong in ({"replicas": "3"}, {"minReadySecond": 1}, {"min_ready_seconds": 1}):
        with pytest.raises(ValueError, match=r"Input should be|Extra inputs|otherwise"):
            read({**deployment, "spec": {**deployment["spec"], **wrong}})


@every_mode
def test_all_of_a_folder_is_in_one_namespace_and_refers_to_what_is_there(folder: str) -> None:
    assert {document["metadata"]["namespace"] for document in documents(folder)} == {"multus"}
    spec = template(folder)["spec"]
    assert spec["serviceAccountName"] in names(folder, "ServiceAccount")
    asked = template(folder)["metadata"]["annotations"][NETWORKS].split(",")
    assert set(asked) == names(folder, "NetworkAttachmentDefinition")
    volumes = {each["name"] for each in spec.get("volumes", [])}
    mounted = {each["name"] for _, one in containers(folder) for each in one.get("volumeMounts", [])}
    assert mounted == volumes
    for binding in of_kind(folder, "RoleBinding"):
        assert binding["roleRef"]["name"] in names(folder, "Role")
        assert [(s["kind"], s["name"], s["namespace"]) for s in binding["subjects"]] == [
            ("ServiceAccount", spec["serviceAccountName"], "multus")
        ]


@every_mode
def test_selectors_choose_the_folders_own_pods(folder: str) -> None:
    labels = template(folder)["metadata"]["labels"]
    chosen = [d["spec"]["selector"]["matchLabels"] for kind in CHOOSERS for d in of_kind(folder, kind)]
    assert chosen
    assert all(each == labels for each in chosen)


@every_mode
def test_the_network_is_one_that_the_cni_understands(folder: str) -> None:
    assert network(folder)["cniVersion"] == "0.3.1"
    assert (network(folder)["type"], network(folder)["mode"]) == ("ipvlan", "l2")
    assert network(folder)["ipam"]["type"] == "whereabouts"
    first, last, subnet = ipam_range(folder)
    assert first in subnet
    assert last in subnet
    assert first <= last


@every_mode
def test_the_three_networks_are_the_same(folder: str) -> None:
    assert (EXAMPLES / folder / "network.yaml").read_text() == (EXAMPLES / "init" / "network.yaml").read_text()


@every_mode
def test_vipd_understands_its_command_and_variables(folder: str) -> None:
    understood = settings(vipd_container(folder).spec)
    assert isinstance(understood, InitSettings if folder == "init" else SidecarSettings)
    assert understood.pod.ips == {ipaddress.ip_address("10.10.12.12"), ipaddress.ip_address("fd00:10:0:1::12")}


def test_a_flag_or_variable_that_vipd_does_not_know_is_seen() -> None:
    container = vipd_container("sidecar-follow").spec
    with pytest.raises(ConfigError, match="'--folow': unknown"):
        settings({**container, "args": ["--folow"]})
    with pytest.raises(ConfigError, match="VIPD_FOLOW"):
        settings({**container, "env": [{"name": "VIPD_FOLOW", "value": "true"}]})


def test_the_samples_manifests_which_set_no_variable_are_enough() -> None:
    following = settings({"command": ["vipd", "sidecar"]})
    assert isinstance(following, SidecarSettings)
    assert (following.vips, following.follow) == ((), True)
    assert isinstance(settings({"command": ["vipd", "init"]}), InitSettings)


def test_each_example_does_what_its_name_says() -> None:
    follow, active = settings(vipd_container("sidecar-follow").spec), settings(vipd_container("active-standby").spec)
    assert isinstance(follow, SidecarSettings)
    assert isinstance(active, SidecarSettings)
    assert (follow.vips, follow.follow, follow.release) == ((), True, False)
    assert (len(active.vips), active.lease, len(active.checks), active.follow) == (1, "web-vip", 1, True)


@every_mode
def test_the_image_is_this_version_and_names_no_registry(folder: str) -> None:
    assert vipd_container(folder).spec["image"] == f"vipd:{__version__}"


@every_mode
def test_vipd_has_the_capabilities_that_it_needs_and_no_others(folder: str) -> None:
    security = vipd_container(folder).spec["securityContext"]
    elects = folder == "active-standby"
    assert security["capabilities"] == {"drop": ["ALL"], **({"add": ["NET_ADMIN", "NET_RAW"]} if elects else {})}
    # Added capabilities are in force for root alone: Kubernetes sets no ambient ones.
    assert (security["runAsUser"] == 0) is elects
    assert security.get("runAsNonRoot", False) is not elects
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert "privileged" not in security


@every_mode
def test_every_container_says_what_it_needs(folder: str) -> None:
    for _, container in containers(folder):
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        # A limit of CPU would hold up renewals.
        assert set(container["resources"]["limits"]) == {"memory"}


@pytest.mark.parametrize("folder", ["sidecar-follow", "active-standby"])
def test_probes_ask_what_vipd_serves(folder: str) -> None:
    container = vipd_container(folder).spec
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {ports[each["port"]] for each in asked.values()} == {DEFAULT_LISTEN.port}
    assert asked["readinessProbe"]["path"] == "/readyz"
    assert asked["livenessProbe"]["path"] == "/healthz"
    assert asked["startupProbe"]["path"] == ("/healthz" if folder == "active-standby" else "/readyz")


def test_init_is_given_what_multus_wrote() -> None:
    (volume,) = template("init")["spec"]["volumes"]
    (item,) = volume["downwardAPI"]["items"]
    (mount,) = vipd_container("init").spec["volumeMounts"]
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{ANNOTATION}']"
    assert Path(mount["mountPath"]) / item["path"] == Path(NETWORK_STATUS_FILE)


def test_following_outlives_the_application_and_starts_before_it() -> None:
    place, container = vipd_container("sidecar-follow")
    assert (place, container["restartPolicy"]) == ("initContainers", "Always")


def test_the_elected_pod_is_told_to_leave_while_its_application_answers() -> None:
    place, container = vipd_container("active-standby")
    understood = settings(container)
    assert isinstance(understood, SidecarSettings)
    assert place == "containers"
    grace_s = template("active-standby")["spec"]["terminationGracePeriodSeconds"]
    assert understood.grace_s == grace_s
    (web,) = [each for _, each in containers("active-standby") if each["name"] == "web"]
    program, seconds = web["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    # The README: a handover may take 14 s.
    assert 14 < int(seconds) <= grace_s - timing.LEAVE_BEFORE_GRACE_S


def test_members_are_told_apart() -> None:
    names = variables(vipd_container("active-standby").spec)
    assert set(names) >= {"POD_NAME", "POD_NAMESPACE", "POD_UID", "POD_IP", "NODE_NAME"}
    understood = settings(vipd_container("active-standby").spec)
    assert isinstance(understood, SidecarSettings)
    assert understood.identity == f"{names['POD_NAME']}_{names['POD_UID']}"
    assert understood.namespace == "multus"
    affinity = template("active-standby")["spec"]["affinity"]["podAntiAffinity"]
    (rule,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"]["matchLabels"] == template("active-standby")["metadata"]["labels"]


def test_the_vip_is_in_the_subnet_and_given_to_no_pod() -> None:
    understood = settings(vipd_container("active-standby").spec)
    assert isinstance(understood, SidecarSettings)
    first, last, subnet = ipam_range("active-standby")
    for vip in understood.vips:
        assert vip.address in subnet
        assert not first <= vip.address <= last  # type: ignore[operator]


@every_mode
def test_no_command_needs_an_entrypoint(folder: str) -> None:
    assert command_line(vipd_container(folder).spec)[0] == "vipd"


def test_what_the_readmes_link_to_is_there() -> None:
    found = [(file, link) for file in EXAMPLES.rglob("README.md") for link in links(file)]
    assert found
    for file, link in found:
        assert (file.parent / link).exists(), f"{file}: {link}"


def test_what_manifests_and_readmes_name_is_there() -> None:
    for file in [*EXAMPLES.rglob("*.yaml"), *EXAMPLES.rglob("*.md"), README]:
        for named in re.findall(r"examples/[-\w/.]+\w/?", file.read_text()):
            assert (ROOT / named).exists(), f"{file}: {named}"


CHOOSERS = ("Deployment", "PodDisruptionBudget")
"""Kinds with a selector of pods."""


def read(document: dict[str, Any]) -> None:
    """Raises ValueError for fields that the Kubernetes client's own models do not know, and for wrong types."""
    model = getattr(models, f"V1{document['kind']}").model_validate(document)
    # The models also take fields by their names in Python, which the API does not.
    if model.model_dump(by_alias=True, exclude_unset=True, mode="json") != document:
        raise ValueError(f"{document['kind']} is read otherwise than it is written")


def names(folder: str, kind: str) -> set[str]:
    return {document["metadata"]["name"] for document in of_kind(folder, kind)}


def network(folder: str) -> dict[str, Any]:
    """The CNI configuration of the folder's one network."""
    (definition,) = of_kind(folder, "NetworkAttachmentDefinition")
    assert definition["apiVersion"] == "k8s.cni.cncf.io/v1"
    found: dict[str, Any] = json.loads(definition["spec"]["config"])
    return found


def ipam_range(folder: str) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address, ipaddress.IPv4Network]:
    """The first and the last address that whereabouts gives out, and their subnet."""
    match = re.fullmatch(r"([\d.]+)-([\d.]+)/(\d+)", network(folder)["ipam"]["range"])
    assert match
    first, last = ipaddress.IPv4Address(match[1]), ipaddress.IPv4Address(match[2])
    return first, last, ipaddress.IPv4Network(f"{first}/{match[3]}", strict=False)


def links(file: Path) -> list[str]:
    return re.findall(r"\]\(([^)#:]+)\)", file.read_text())
