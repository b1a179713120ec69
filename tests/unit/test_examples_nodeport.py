"""``examples/nodeport``: manifests that Kubernetes takes and vipd understands, with the rights that the lab grants."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
import yaml
from manifests import EXAMPLES, HOST, documents, of_kind, settings, template, variables, vipd_container
from test_examples import names, read

from vipd import __version__
from vipd.config import AddressMode, HostSettings
from vipd.config.settings import DEFAULT_LISTEN
from vipd.lab import topology
from vipd.lab.nodeports import NODEPORTS

README = EXAMPLES.parent / "README.md"


def understood() -> HostSettings:
    found = settings(vipd_container(HOST).spec)
    assert isinstance(found, HostSettings)
    return found


def service_named(name: str) -> dict[str, Any]:
    (found,) = [service for service in of_kind(HOST, "Service") if service["metadata"]["name"] == name]
    return found


def test_kubernetes_knows_every_field() -> None:
    assert {document["kind"] for document in documents(HOST)} == {
        "DaemonSet",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
        "Service",
    }
    for document in documents(HOST):
        read(document)


def test_its_rights_are_those_of_the_lab() -> None:
    granted = {
        (verb, what)
        for kind in ("Role", "ClusterRole")
        for document in of_kind(HOST, kind)
        for rule in document["rules"]
        for what in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == topology.HOST_RIGHTS


def test_the_bindings_are_for_its_account() -> None:
    account = template(HOST)["spec"]["serviceAccountName"]
    assert names(HOST, "ServiceAccount") == {account}
    for kind, role in (("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")):
        (binding,) = of_kind(HOST, kind)
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (role, account)
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "vipd"}]
        assert names(HOST, role) == {account}


def test_vipd_takes_part_as_the_pod_on_its_node() -> None:
    host, names_ = understood(), variables(vipd_container(HOST).spec)
    assert host.address_mode is AddressMode.MANAGED
    assert host.node == names_["NODE_NAME"]
    assert host.identity == f"{names_['POD_NAME']}_{names_['POD_UID']}"
    assert (host.lease, host.interface) == ("nodeport-vip", "auto")
    assert host.grace_s == template(HOST)["spec"]["terminationGracePeriodSeconds"]


def test_it_is_in_the_hosts_network_with_the_capabilities_that_it_needs() -> None:
    spec, container = template(HOST)["spec"], vipd_container(HOST).spec
    assert spec["hostNetwork"] is True
    assert container["image"] == f"vipd:{__version__}"
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    assert (security["runAsUser"], security["readOnlyRootFilesystem"]) == (0, True)
    assert "privileged" not in security
    assert {port["containerPort"] for port in container["ports"]} == {DEFAULT_LISTEN.port}
    assert {port["hostPort"] for port in container["ports"]} == {DEFAULT_LISTEN.port}


def test_it_stays_on_a_node_that_is_drained() -> None:
    assert {"operator": "Exists", "effect": "NoSchedule"} in template(HOST)["spec"]["tolerations"]


def test_the_check_of_a_local_service_asks_its_health_check_node_port() -> None:
    service = service_named("nodeport-sample-local")["spec"]
    assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    text = (EXAMPLES / HOST / "daemonset.yaml").read_text()
    (url,) = re.findall(r'--check, "(http://\$\(HOST_IP\):\d+/healthz)"', text)
    assert f":{service['healthCheckNodePort']}/" in url
    container = vipd_container(HOST).spec
    address = variables(container)["HOST_IP"]
    ipaddress.ip_address(address)
    found = settings({**container, "args": [*container["args"], "--check", url.replace("$(HOST_IP)", address)]})
    assert isinstance(found, HostSettings)
    assert len(found.checks) == 1


def test_the_services_choose_the_sample_and_the_readme_names_their_port() -> None:
    (sample,) = of_kind(HOST, "Deployment")
    for service in of_kind(HOST, "Service"):
        assert service["spec"]["selector"] == sample["spec"]["template"]["metadata"]["labels"]
    port = service_named("nodeport-sample")["spec"]["ports"][0]["nodePort"]
    vip = understood().vips[0].address
    assert f"{vip}:{port}" in (EXAMPLES / HOST / "README.md").read_text()


def test_the_readme_tells_what_the_old_manifests_need_beside_the_rights() -> None:
    (role,) = of_kind(HOST, "Role")
    (lease,) = role["rules"][0]["resourceNames"]
    text = (EXAMPLES / HOST / "README.md").read_text()
    assert f"set `VIPD_LEASE={lease}`" in text
    assert "takes `patch` on `nodes`" in text


def test_the_flags_for_an_eni_of_its_own_are_understood_on_every_node() -> None:
    (flags,) = re.findall(r"`vipd host (--interface IF)`", (EXAMPLES / HOST / "README.md").read_text())
    container = vipd_container(HOST).spec
    settings({**container, "args": [*container["args"], *flags.split()]})


@pytest.mark.parametrize("name", [scenario.name for scenario in NODEPORTS])
def test_the_readme_tells_of_every_scenario(name: str) -> None:
    assert f"`{name}`" in README.read_text()


def test_the_files_are_yaml_and_nothing_is_there_twice() -> None:
    found = [
        (document["kind"], document["metadata"]["name"])
        for file in (EXAMPLES / HOST).glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
    ]
    assert len(found) == len(set(found))
