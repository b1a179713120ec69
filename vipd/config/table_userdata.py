"""The options of ``vipd userdata``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from vipd.config import table, table_host, values
from vipd.config.model import AddressMode, NodeOs
from vipd.config.option import Option
from vipd.config.values import VipText
from vipd.core.model import Network

WHAT, VIPD, CLUSTER = "what", "vipd on the node (option 2)", "joining the cluster (self-managed nodes)"

_IMAGE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._:/]{0,300}(:[A-Za-z0-9_][-A-Za-z0-9._]{0,127}|@sha256:[0-9a-f]{64})")
_WHEEL = re.compile(r"vipd==[0-9][0-9a-z.+!-]{0,40}|(https://|/)[-A-Za-z0-9._~/:%+@]{1,400}\.whl")
_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_]{0,99}")
_ENDPOINT = re.compile(r"https://[-A-Za-z0-9.]{1,250}(:[0-9]{1,5})?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{4,8000}={0,2}")
_PATH = re.compile(r"/[-A-Za-z0-9._/]{1,200}")


def _like(pattern: re.Pattern[str]) -> values.TextParser:
    """A parser of what the pattern describes as a whole."""

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return parse


def _vip(text: str) -> VipText:
    found = values.vip(text)
    if found.interface is not None:
        raise ValueError("names an interface; --interface does that here")
    return found


VIP: Option[VipText] = replace(
    table.VIP,
    metavar="ADDR[/PREFIX]",
    help="a NodePort VIP; put on the interface as /32 or /128 whatever its prefix, to make no route; repeatable",
    allowed="ADDR[/PREFIX] with an address that an ENI can have, like 10.0.1.100",
    parse=_vip,
    default="",
    group=WHAT,
)
OPTION = Option[int](
    name="option",
    metavar="1|2",
    help="1: the address on every node, for 'vipd host --address-mode static'; 2: no pod at all: vipd by "
    "systemd (--wheel, --image), else the mapping to the ENI once at boot",
    allowed="1 or 2",
    parse=values.WholeNumber(1, 2),
    default="1",
    group=WHAT,
    fields=("option",),
)
OS = Option[NodeOs](
    name="os",
    metavar="NAME",
    help="the nodes' operating system: al2023, al2, ubuntu or bottlerocket",
    allowed="al2023, al2, ubuntu or bottlerocket",
    parse=values.OneOf(NodeOs),
    default="al2023",
    group=WHAT,
    fields=("os",),
)
INTERFACE: Option[str] = replace(
    table_host.INTERFACE,
    help="the interface; auto: that of the default route, which is the primary ENI's, whatever its name (for vipd: as "
    "'vipd host' has it)",
    group=WHAT,
    fields=("interface",),
)
WHEEL = Option[str](
    name="wheel",
    metavar="SPEC",
    help="install vipd into a virtual environment and run it by systemd",
    allowed="vipd==VERSION, or the https URL or the path of a .whl file",
    parse=_like(_WHEEL),
    default="",
    group=VIPD,
    fields=("wheel",),
)
IMAGE = Option[str](
    name="image",
    metavar="IMAGE",
    help="run vipd from this image with containerd's ctr by systemd; needs --kubeconfig",
    allowed="an image with a tag or a digest, like registry.example/vipd:0.1.0 or ...@sha256:...",
    parse=_like(_IMAGE),
    default="",
    group=VIPD,
    fields=("image",),
)
LEASE = replace(table.LEASE, help="the Lease that elects the owner; needed with --wheel or --image", group=VIPD)
NAMESPACE = replace(table.NAMESPACE, default="vipd", group=VIPD)
ADDRESS_MODE: Option[AddressMode] = replace(
    table_host.ADDRESS_MODE,
    default="managed; static on al2, whose kernel (5.10) cannot tell vipd's addresses from others",
    group=VIPD,
)
KUBECONFIG = Option[str](
    name="kubeconfig",
    metavar="FILE",
    help="what vipd reaches the Kubernetes API with",
    allowed="an absolute path of letters, digits, '-', '.', '_' and '/'",
    parse=_like(_PATH),
    default="/var/lib/kubelet/kubeconfig, the node's own; none with --image, in which its credential plugin is not",
    group=VIPD,
    fields=("kubeconfig",),
)
CLUSTER_NAME = Option[str](
    name="cluster",
    metavar="NAME",
    help="the EKS cluster to join; managed node groups do that by themselves",
    allowed="1 to 100 letters, digits, '-' and '_'",
    parse=_like(_NAME),
    default="",
    group=CLUSTER,
    fields=("cluster",),
)
ENDPOINT = Option[str](
    name="api-server-endpoint",
    metavar="URL",
    help="its API server",
    allowed="https://HOST or https://HOST:PORT",
    parse=_like(_ENDPOINT),
    default="",
    group=CLUSTER,
)
AUTHORITY = Option[str](
    name="certificate-authority",
    metavar="BASE64",
    help="its certificate authority, as EKS tells it",
    allowed="base64",
    parse=_like(_BASE64),
    default="",
    group=CLUSTER,
)
SERVICE_CIDR = Option[Network](
    name="service-cidr",
    metavar="CIDR",
    help="its Services' addresses; for al2023",
    allowed="a CIDR block like 172.20.0.0/16",
    parse=values.cidr,
    default="",
    group=CLUSTER,
)
BOOTSTRAP_IMAGE = Option[str](
    name="bootstrap-image",
    metavar="IMAGE",
    help="bottlerocket: the image of the bootstrap container, which runs its user data with sh and has ip and awk",
    allowed=IMAGE.allowed,
    parse=_like(_IMAGE),
    default="",
    group=WHAT,
    fields=("bootstrap_image",),
)

USERDATA_OPTIONS: tuple[Option[Any], ...] = (
    VIP,
    OPTION,
    OS,
    INTERFACE,
    BOOTSTRAP_IMAGE,
    WHEEL,
    IMAGE,
    LEASE,
    NAMESPACE,
    ADDRESS_MODE,
    KUBECONFIG,
    CLUSTER_NAME,
    ENDPOINT,
    AUTHORITY,
    SERVICE_CIDR,
)
"""All but ``--config``."""
