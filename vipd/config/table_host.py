"""The options of ``vipd host``: what ``vipd sidecar`` has not, or has with another meaning, and the whole list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vipd.config import table, values
from vipd.config.checkspec import HttpSpec, http_spec
from vipd.config.model import AddressMode
from vipd.config.option import Option
from vipd.config.values import VipText

NODE_GROUP = "the node"

KUBE_PROXY_HEALTH = "http://127.0.0.1:10256/healthz"
"""kube-proxy's own default (healthzBindAddress, KubeProxyConfiguration v1alpha1); EKS leaves it."""

AUTO = "auto"


def _host_interface(text: str) -> str:
    return text if text == AUTO else values.interface(text)


def _kube_proxy(text: str) -> HttpSpec | None:
    return None if text == "off" else http_spec(text)


VIP: Option[VipText] = replace(
    table.VIP,
    help="a secondary address of one node's ENI, to which NodePort traffic is sent; repeatable, all move together",
)
ADDRESS_MODE = Option[AddressMode](
    name="address-mode",
    metavar="managed|static",
    help="managed: vipd puts the address on the owner's interface and takes it off; static: user data has put it on "
    "every node, and vipd moves nothing but the mapping to the ENI",
    allowed="managed or static",
    parse=values.OneOf(AddressMode),
    default="managed",
    group=table.ELECTION,
    fields=("address_mode",),
)
INTERFACE: Option[str] = replace(
    table.INTERFACE,
    metavar="auto|IF",
    help="the interface of VIPs and ENIs that name none; auto: the one with the MAC of the ENI in the VIPs' subnet, of "
    "several the one with the lowest device number",
    allowed="auto, or an interface name of at most 15 characters, without '/', ':', '%' and blanks",
    parse=_host_interface,
    default=AUTO,
)
ANNOUNCE = Option[bool](
    name="announce",
    metavar="true|false",
    help="announce the VIPs by gratuitous ARP and unsolicited neighbour advertisements",
    allowed="true or false (as flags --announce and --no-announce)",
    parse=values.boolean,
    default="true with --address-mode managed, false with static",
    group=table.ELECTION,
    boolean=True,
    fields=("announce",),
)
NODE = Option[str](
    name="node",
    metavar="NAME",
    help="this node's name in Kubernetes",
    allowed="an RFC 1123 name: lower-case letters, digits, '-' and '.', at most 253 characters",
    parse=values.subdomain,
    default="NODE_NAME, else the host name",
    group=NODE_GROUP,
    fields=("node",),
)
NODE_GATE = Option[bool](
    name="node-gate",
    metavar="true|false",
    help="a node that is not Ready, cordoned, or about to be removed is no candidate, and hands over; --no-node-gate: "
    "its Node object is not looked at",
    allowed="true or false (as flags --node-gate and --no-node-gate)",
    parse=values.boolean,
    default="true",
    group=NODE_GROUP,
    boolean=True,
    fields=("node_gate",),
)
KUBE_PROXY = Option[HttpSpec | None](
    name="kube-proxy",
    metavar="URL|off",
    help="where kube-proxy says that it is healthy (200 to 399); checked like a --check",
    allowed="http://HOST:PORT/PATH, https://HOST:PORT/PATH, or off",
    parse=_kube_proxy,
    default=KUBE_PROXY_HEALTH,
    group=NODE_GROUP,
    fields=("kube_proxy",),
)

HOST_OPTIONS: tuple[Option[Any], ...] = (
    VIP,
    INTERFACE,
    ADDRESS_MODE,
    ANNOUNCE,
    table.LEASE,
    table.NAMESPACE,
    table.IDENTITY,
    table.LEASE_DURATION,
    table.RENEW_INTERVAL,
    table.PRIORITY,
    table.PREEMPT,
    table.FENCE,
    NODE,
    NODE_GATE,
    KUBE_PROXY,
    table.ENI,
    table.REGION,
    table.SUBNET_CIDR,
    table.CHECK,
    table.CHECK_INTERVAL,
    table.CHECK_TIMEOUT,
    table.CHECK_RISE,
    table.CHECK_FALL,
    table.LISTEN,
    table.GRACE,
    table.INTERFACE_TIMEOUT,
    table.LOG_FORMAT,
    table.LOG_LEVEL,
)
"""All but ``--config``, which only says where more of them are."""
