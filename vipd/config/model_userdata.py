"""The settings of ``vipd userdata`` as values: complete, and each fitting the others."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vipd.config.model import AddressMode
from vipd.core.model import Address, Network


class NodeOs(enum.StrEnum):
    """``--os``: what the nodes run."""

    AL2023 = "al2023"
    AL2 = "al2"
    UBUNTU = "ubuntu"
    BOTTLEROCKET = "bottlerocket"


class NodeOption(enum.StrEnum):
    """``--option``: who moves the mapping of the address to an ENI."""

    ADDRESS = "1"
    """Somebody else: the node only bears the address."""
    NO_CONTAINER = "2"
    """The node itself, by a systemd unit."""


class WheelFrom(enum.Enum):
    """Where a wheel comes from."""

    INDEX = "a pinned name, for pip's index"
    URL = "an https URL, for pip"
    S3 = "an S3 object, for the aws command"
    FILE = "a file that is on the node already"


@dataclass(frozen=True, slots=True)
class StaticAddress:
    """One VIP."""

    address: Address
    prefixlen: int

    def __str__(self) -> str:
        return f"{self.address}/{self.prefixlen}"


@dataclass(frozen=True, slots=True)
class Wheel:
    """vipd as a Python package."""

    text: str
    """As pip takes it: NAME==VERSION, an https URL, an s3 URL or an absolute path."""
    source: WheelFrom


@dataclass(frozen=True, slots=True)
class Image:
    """vipd as a container image, pinned by tag or digest."""

    reference: str

    @property
    def ecr_region(self) -> str | None:
        """The Region of the private ECR registry, or None where it is another registry."""
        labels = self.reference.partition("/")[0].split(".")
        is_ecr = len(labels) >= 6 and labels[1:3] == ["dkr", "ecr"] and labels[4] == "amazonaws"
        return labels[3] if is_ecr else None


@dataclass(frozen=True, slots=True)
class KubeconfigFile:
    """A kubeconfig that is on the node already."""

    path: str


@dataclass(frozen=True, slots=True)
class KubeconfigRole:
    """A kubeconfig that the aws command writes on the node: an EKS cluster, seen as an IAM role."""

    cluster: str
    role_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostService:
    """``vipd host`` as a systemd unit."""

    program: Wheel | Image
    lease: str
    namespace: str
    address_mode: AddressMode
    kubeconfig: KubeconfigFile | KubeconfigRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What a node needs to join by itself.  Nodes of a managed node group are told by EKS."""

    name: str
    endpoint: str
    certificate_authority: str
    """PEM in base64, as EKS gives it."""
    service_cidr: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class UserdataSettings:
    """Everything ``vipd userdata`` was told."""

    vips: tuple[StaticAddress, ...]
    """At least one, no address twice."""
    option: NodeOption
    os: NodeOs
    interface: str | None
    """None: the primary ENI's, whatever its name is."""
    region: str | None
    """None: IMDS tells."""
    service: HostService | None
    """Only with NO_CONTAINER; None there: the mapping is moved without vipd."""
    cluster: Cluster | None
    bootstrap_image: str | None
    """Only, and always, on Bottlerocket."""

    @property
    def bears_address(self) -> bool:
        """Whether user data puts the address on the interface; else vipd does."""
        return self.service is None or self.service.address_mode is AddressMode.STATIC
