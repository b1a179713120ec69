"""Joining the cluster, for self-managed nodes: what a managed node group adds by itself."""

from __future__ import annotations

from vipd.config.model import ClusterInfo
from vipd.userdata.mime import Part

BOOTSTRAP = "/etc/eks/bootstrap.sh"


def node_config(cluster: ClusterInfo) -> Part:
    """For nodeadm (AL2023): a NodeConfig of node.eks.aws/v1alpha1."""
    import yaml

    document = {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "cluster": {
                "name": cluster.name,
                "apiServerEndpoint": cluster.endpoint,
                "certificateAuthority": cluster.authority,
                "cidr": str(cluster.service_cidr),
            }
        },
    }
    return Part("application/node.eks.aws", yaml.safe_dump(document, sort_keys=False, width=10_000))


def bootstrap(cluster: ClusterInfo) -> tuple[str, ...]:
    """For AL2 and Ubuntu."""
    return (
        BOOTSTRAP,
        cluster.name,
        "--apiserver-endpoint",
        cluster.endpoint,
        "--b64-cluster-ca",
        cluster.authority,
    )


def toml(cluster: ClusterInfo) -> dict[str, str]:
    """For Bottlerocket: settings.kubernetes."""
    return {
        "cluster-name": cluster.name,
        "api-server": cluster.endpoint,
        "cluster-certificate": cluster.authority,
    }
