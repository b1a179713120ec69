"""The options of ``vipd userdata``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vipd.config import table, values
from vipd.config import values_userdata as v
from vipd.config.model import AddressMode
from vipd.config.model_userdata import Image, NodeOption, NodeOs, StaticAddress, Wheel
from vipd.config.option import Option
from vipd.core.model import Network

NODE = "the node and its address"
SERVICE = "option 2: vipd host as a systemd unit"
JOINING = "joining the cluster (self-managed nodes; all four or none)"

VIP = Option[StaticAddress](
    name="vip",
    metavar="ADDR/PREFIX",
    help="the NodePort VIP; repeatable; IPv6 is not possible with option 2 without vipd",
    allowed="ADDR/PREFIX with an address that an ENI can have, like 10.0.1.100/32 or fd00:10:0:1::100/128",
    parse=v.vip,
    default="",
    group=NODE,
    repeatable=True,
    fields=("vips",),
)
OPTION = Option[NodeOption](
    name="option",
    metavar="1|2",
    help="1: every node bears the address, and a pod of vipd host (--address-mode static) moves the mapping; 2: no "
    "container of Kubernetes at all, a systemd unit moves it",
    allowed="1 or 2",
    parse=values.OneOf(NodeOption),
    default="1",
    group=NODE,
    fields=("option",),
)
OS = Option[NodeOs](
    name="os",
    metavar="OS",
    help="what the nodes run: al2023, al2, ubuntu or bottlerocket",
    allowed="al2023, al2, ubuntu or bottlerocket",
    parse=values.OneOf(NodeOs),
    default="al2023",
    group=NODE,
    fields=("os",),
)
INTERFACE = Option[str | None](
    name="interface",
    metavar="auto|IF",
    help="where the address belongs; auto: the primary ENI's interface, found at boot whatever its name is",
    allowed="auto, or an interface name of at most 15 characters, without '/', ':', '%' and blanks",
    parse=v.interface,
    default="auto",
    group=NODE,
    fields=("interface",),
)
BOOTSTRAP_IMAGE = Option[str](
    name="bootstrap-image",
    metavar="IMAGE",
    help="Bottlerocket: an image with sh, awk, sed and iproute2 that runs the script it is given as user data",
    allowed="REGISTRY/PATH:TAG or REGISTRY/PATH@sha256:..., not :latest",
    parse=v.bootstrap_image,
    default="",
    group=NODE,
    fields=("bootstrap_image",),
)
REGION: Option[str] = replace(table.REGION, help="option 2: the AWS Region", default="IMDS tells", group=SERVICE)
VIPD_WHEEL = Option[Wheel](
    name="vipd-wheel",
    metavar="WHEEL",
    help="install vipd into /opt/vipd from this; it needs Python 3.11, which al2 has not",
    allowed="NAME==VERSION, https://HOST/....whl[#sha256=...], s3://BUCKET/....whl or the absolute path of a .whl",
    parse=v.wheel,
    default="",
    group=SERVICE,
    fields=("service",),
)
VIPD_IMAGE = Option[Image](
    name="vipd-image",
    metavar="IMAGE",
    help="run vipd from this image by containerd itself, unseen by Kubernetes. Neither a wheel nor an image: every "
    "node that boots takes the address by the aws command, and nobody fails over",
    allowed="REGISTRY/PATH:TAG or REGISTRY/PATH@sha256:..., not :latest",
    parse=v.image,
    default="",
    group=SERVICE,
    fields=("service",),
)
LEASE: Option[str] = replace(
    table.LEASE, help="the Lease that elects the owner; needed with vipd", group=SERVICE, fields=("service",)
)
NAMESPACE: Option[str] = replace(table.NAMESPACE, default="vipd", group=SERVICE, fields=("service",))
ADDRESS_MODE = Option[AddressMode](
    name="address-mode",
    metavar="managed|static",
    help="managed: vipd puts the address on the elected node alone; static: user data puts it on every node",
    allowed="managed or static",
    parse=values.OneOf(AddressMode),
    default="managed; on al2, whose kernel is too old for it, static",
    group=SERVICE,
    fields=("service",),
)
KUBECONFIG = Option[str](
    name="kubeconfig",
    metavar="PATH",
    help="a kubeconfig on the node that may write the Lease; the kubelet's own may not",
    allowed="an absolute path of letters, digits, '.', '_', '-' and '/'",
    parse=v.absolute_path,
    default="",
    group=SERVICE,
    fields=("service",),
)
KUBECONFIG_ROLE = Option[str](
    name="kubeconfig-role",
    metavar="ARN",
    help="instead, with a wheel: an IAM role with an EKS access entry, which the instance role may assume; the aws "
    "command writes the kubeconfig",
    allowed="arn:aws:iam::ACCOUNT:role/NAME",
    parse=v.role_arn,
    default="",
    group=SERVICE,
    fields=("service",),
)
KUBECONFIG_CLUSTER = Option[str](
    name="kubeconfig-cluster",
    metavar="NAME",
    help="the EKS cluster of --kubeconfig-role",
    allowed="1 to 100 letters, digits, '-' and '_'",
    parse=v.cluster,
    default="",
    group=SERVICE,
    fields=("service",),
)
CLUSTER = Option[str](
    name="cluster",
    metavar="NAME",
    help="the cluster to join; managed node groups are told by EKS, leave it out there",
    allowed="1 to 100 letters, digits, '-' and '_'",
    parse=v.cluster,
    default="",
    group=JOINING,
    fields=("cluster",),
)
API_SERVER_ENDPOINT = Option[str](
    name="api-server-endpoint",
    metavar="URL",
    help="the cluster's API server",
    allowed="https://HOST[:PORT]",
    parse=v.endpoint,
    default="",
    group=JOINING,
    fields=("cluster",),
)
CERTIFICATE_AUTHORITY = Option[str](
    name="certificate-authority",
    metavar="B64",
    help="the cluster's CA, as aws eks describe-cluster gives it",
    allowed="a PEM certificate in base64, on one line",
    parse=v.certificate_authority,
    default="",
    group=JOINING,
    fields=("cluster",),
)
SERVICE_CIDR = Option[Network](
    name="service-cidr",
    metavar="CIDR",
    help="the cluster's block of Service addresses",
    allowed="a CIDR block like 10.100.0.0/16 or fd00:ec2::/108",
    parse=v.service_cidr,
    default="",
    group=JOINING,
    fields=("cluster",),
)

JOIN_OPTIONS: tuple[Option[Any], ...] = (CLUSTER, API_SERVER_ENDPOINT, CERTIFICATE_AUTHORITY, SERVICE_CIDR)

VIPD_OPTIONS: tuple[Option[Any], ...] = (
    LEASE,
    NAMESPACE,
    ADDRESS_MODE,
    KUBECONFIG,
    KUBECONFIG_ROLE,
    KUBECONFIG_CLUSTER,
)
"""What only vipd needs."""

SERVICE_OPTIONS: tuple[Option[Any], ...] = (REGION, VIPD_WHEEL, VIPD_IMAGE, *VIPD_OPTIONS)
"""What option 1 has no use for."""

USERDATA_OPTIONS: tuple[Option[Any], ...] = (
    VIP,
    OPTION,
    OS,
    INTERFACE,
    BOOTSTRAP_IMAGE,
    *SERVICE_OPTIONS,
    *JOIN_OPTIONS,
)
"""All but ``--config``, which only says where more of them are."""

CONFIG: Option[str] = replace(
    table.CONFIG, help="a YAML file with the same options, named as the flags without '--'", group=NODE
)
