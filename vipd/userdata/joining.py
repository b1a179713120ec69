"""How a self-managed node is told its cluster: NodeConfig for AL2023, bootstrap.sh for AL2 and Ubuntu; Bottlerocket has
settings of its own.

Nodes of a managed node group must not be told: EKS adds that itself.
"""

from __future__ import annotations

from vipd.config.model_userdata import Cluster


def node_config(cluster: Cluster) -> str:
    """nodeadm's YAML (amazon-eks-ami, nodeadm/doc/api.md)."""
    import yaml

    spec = {
        "name": cluster.name,
        "apiServerEndpoint": cluster.endpoint,
        "certificateAuthority": cluster.certificate_authority,
        "cidr": str(cluster.service_cidr),
    }
    document = {"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": {"cluster": spec}}
    return yaml.safe_dump(document, sort_keys=False, explicit_start=True, width=10**6)


def bootstrap_command(cluster: Cluster) -> tuple[str, ...]:
    """The EKS AMIs' script.  Told everything, it asks the EKS API for nothing."""
    service_flags = (
        ("--dns-cluster-ip", dns_address(cluster))
        if cluster.service_cidr.version == 4
        else ("--ip-family", "ipv6", "--service-ipv6-cidr", str(cluster.service_cidr))
    )
    return (
        "/etc/eks/bootstrap.sh",
        cluster.name,
        *("--apiserver-endpoint", cluster.endpoint),
        *("--b64-cluster-ca", cluster.certificate_authority),
        *service_flags,
    )


def dns_address(cluster: Cluster) -> str:
    """The DNS Service: EKS gives it the tenth address."""
    return str(cluster.service_cidr[10])
