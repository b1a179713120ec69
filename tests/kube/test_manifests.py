"""A real kube-apiserver accepts the manifests of the examples, with unknown fields and impossible values for errors."""

from __future__ import annotations

import pytest
import yaml
from control_plane_clients import connected
from rbac import EXAMPLE

from vipd.lab.controlplane.controlplane import ControlPlane

EXAMPLES = EXAMPLE.parent
FILES = sorted(f.relative_to(EXAMPLES).as_posix() for f in EXAMPLES.glob("*/*.yaml") if f.name != "network.yaml")
"""A NetworkAttachmentDefinition is not built in: its own definition comes with Multus."""
PLACES = {
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Role": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "DaemonSet": "apis/apps/v1/namespaces/{}/daemonsets",
    "Service": "api/v1/namespaces/{}/services",
    "ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


@pytest.mark.parametrize("file", FILES)
async def test_each_document_is_accepted(control_plane: ControlPlane, file: str) -> None:
    for document in yaml.safe_load_all((EXAMPLES / file).read_text()):
        assert await applied(control_plane, document) == (201, "")


async def test_what_the_models_of_the_client_cannot_know_is_seen_here(control_plane: ControlPlane) -> None:
    documents = yaml.safe_load_all((EXAMPLES / "sidecar-follow" / "deployment.yaml").read_text())
    (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["initContainers"][0]["restartPolicy"] = "Sometimes"
    code, message = await applied(control_plane, deployment)
    assert code == 422
    assert "restartPolicy" in message


async def applied(control_plane: ControlPlane, document: dict[str, dict[str, str]]) -> tuple[int, str]:
    """As kubectl apply --server-side --dry-run=server does it; the status, and what is wrong."""
    metadata, kind = document["metadata"], str(document["kind"])
    namespace = metadata.get("namespace", "default")
    control_plane.admin.namespace(namespace)
    url = f"{control_plane.url}/{PLACES[kind].format(namespace)}/{metadata['name']}"
    query = {"fieldManager": "test", "fieldValidation": "Strict", "dryRun": "All", "force": "true"}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    async with (
        connected(control_plane) as session,
        session.patch(url, data=yaml.safe_dump(document), params=query, headers=headers) as answer,
    ):
        return answer.status, "" if answer.status == 201 else await answer.text()
