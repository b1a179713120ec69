"""The options of ``vipd init``: what ``vipd sidecar`` has not, or has with another meaning, and the whole list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vipd.config import table, values
from vipd.config.option import Option
from vipd.config.values import VipText

WAITING = "what is waited for"

NETWORK_STATUS_FILE = "/etc/podinfo/network-status"
"""Where the examples mount what Multus wrote."""

INTERFACE = Option[str](
    name="interface",
    metavar="IF",
    help="these interfaces and no others; repeatable",
    allowed="an interface name of at most 15 characters, without '/', ':', '%' and blanks",
    parse=values.interface,
    default="those in --network-status, else every interface but lo and the pod's primary one",
    group=WAITING,
    repeatable=True,
    fields=("interfaces",),
)
NETWORK_STATUS = Option[str](
    name="network-status",
    metavar="FILE",
    help="the annotation k8s.v1.cni.cncf.io/network-status, mounted by a downward API volume: names the interfaces and "
    "addresses that Multus made",
    allowed="the path of a file",
    parse=values.path,
    default=f"{NETWORK_STATUS_FILE}, where it is there",
    group=WAITING,
    fields=("network_status",),
)
TIMEOUT = Option[float](
    name="timeout",
    metavar="TIME",
    help="how long it may take until every address is mapped; then exit code 3",
    allowed="1s to 3600s, like 60, 60s or 1m",
    parse=values.Duration(1, 3600),
    default="60s",
    group=WAITING,
    fields=("timeout_s",),
)
ALLOW_NONE = Option[bool](
    name="allow-none",
    metavar="true|false",
    help="an interface without an address is no failure",
    allowed="true or false (as flags --allow-none and --no-allow-none)",
    parse=values.boolean,
    default="false",
    group=WAITING,
    boolean=True,
    fields=("allow_none",),
)
VIP: Option[VipText] = replace(
    table.VIP,
    help="a floating IP that a sidecar elects the owner of: it is left alone; repeatable",
    default="none",
    group=WAITING,
    fields=("skip",),
)

INIT_OPTIONS: tuple[Option[Any], ...] = (
    INTERFACE,
    NETWORK_STATUS,
    TIMEOUT,
    ALLOW_NONE,
    table.IGNORE,
    VIP,
    table.ENI,
    table.REGION,
    table.SUBNET_CIDR,
    table.LOG_FORMAT,
    table.LOG_LEVEL,
)
"""All but ``--config``, which only says where more of them are."""

CONFIG: Option[str] = replace(table.CONFIG, help="a YAML file with the same options, named as the flags without '--'")
