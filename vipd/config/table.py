"""Every option of ``vipd sidecar``: the one place that names it, says how it is written, and explains it."""

from __future__ import annotations

from typing import Any

from vipd.config import values
from vipd.config.checkspec import CheckSpec, check_spec
from vipd.config.model import FenceChoice, LogFormat, LogLevel
from vipd.config.option import Option
from vipd.config.values import EniText, Listen, VipText
from vipd.core.model import Network

ELECTION, AWS, HEALTH, RUNNING = "election", "AWS", "health checks", "running and looking"
FOLLOWING = "following the pod's own addresses"

VIP = Option[VipText](
    name="vip",
    metavar="ADDR[/PREFIX][%IF]",
    help="a floating IP; repeatable, all of them move together",
    allowed="ADDR[/PREFIX][%IF] with an address that an ENI can have, like 10.0.1.100 or fd00::100/64%net1",
    parse=values.vip,
    default="prefix /32 or /128, on --interface",
    group=ELECTION,
    repeatable=True,
    fields=("vips",),
)
INTERFACE = Option[str](
    name="interface",
    metavar="IF",
    help="the interface of VIPs and ENIs that name none",
    allowed="an interface name of at most 15 characters, without '/', ':', '%' and blanks",
    parse=values.interface,
    default="net1",
    group=ELECTION,
    fields=("interface",),
)
LEASE = Option[str](
    name="lease",
    metavar="NAME",
    help="the Lease that elects the owner; needed with --vip",
    allowed="an RFC 1123 name: lower-case letters, digits, '-' and '.', at most 253 characters",
    parse=values.subdomain,
    default="",
    group=ELECTION,
    fields=("lease",),
)
NAMESPACE = Option[str](
    name="namespace",
    metavar="NS",
    help="the namespace of the Lease",
    allowed="an RFC 1123 label: lower-case letters, digits and '-', at most 63 characters",
    parse=values.label,
    default="POD_NAMESPACE, the ServiceAccount's, default",
    group=ELECTION,
    fields=("namespace",),
)
IDENTITY = Option[str](
    name="identity",
    metavar="ID",
    help="this member's name in the Lease, unlike every other member's",
    allowed="1 to 300 visible ASCII characters",
    parse=values.identity,
    default="<POD_NAME>_<POD_UID> in a pod, else the host name",
    group=ELECTION,
    fields=("identity",),
)
LEASE_DURATION = Option[int](
    name="lease-duration",
    metavar="TIME",
    help="how long the Lease holds without a renewal",
    allowed="whole seconds from 1 to 3600, like 3, 3s, 3000ms or 1m",
    parse=values.WholeSeconds(1, 3600),
    default="3s",
    group=ELECTION,
    fields=("lease_duration_s",),
)
RENEW_INTERVAL = Option[float](
    name="renew-interval",
    metavar="TIME",
    help="how often the owner renews; a renewal must be answered before the Lease ends",
    allowed="0.1s or more, and well within lease-duration, like 1, 1s or 500ms",
    parse=values.Duration(0.1, 3600),
    default="a third of --lease-duration",
    group=ELECTION,
    fields=("renew_interval_s",),
)
PRIORITY = Option[int](
    name="priority",
    metavar="N",
    help="0 to 255; more is preferred at a takeover",
    allowed="a whole number from 0 to 255",
    parse=values.WholeNumber(0, 255),
    default="100",
    group=ELECTION,
    fields=("priority",),
)
PREEMPT = Option[bool](
    name="preempt",
    metavar="true|false",
    help="ask an owner of lower priority to hand over, after 30 s of readiness; --no-preempt: never",
    allowed="true or false (as flags --preempt and --no-preempt)",
    parse=values.boolean,
    default="false",
    group=ELECTION,
    boolean=True,
    fields=("preempt",),
)
FENCE = Option[FenceChoice](
    name="fence",
    metavar="auto|eni|lease",
    help="what tells two bearers of a VIP apart: the mapping to an ENI, or nothing but the Lease",
    allowed="auto, eni or lease",
    parse=values.OneOf(FenceChoice),
    default="auto: eni where an ENI is managed",
    group=ELECTION,
    fields=("fence",),
)
ENI = Option[EniText](
    name="eni",
    metavar="auto|none|eni-...[%IF]",
    help="the ENI behind an interface; auto: IMDS tells; none: no ENI is managed; repeatable",
    allowed="auto alone, none alone, or eni-xxxxxxxxxxxxxxxxx[%IF] (8 or 17 hex digits), one for each interface",
    parse=values.eni,
    default="auto",
    group=AWS,
    repeatable=True,
    fields=("eni_mode", "eni_ids"),
)
REGION = Option[str](
    name="region",
    metavar="REGION",
    help="the AWS Region",
    allowed="a Region like us-east-2",
    parse=values.region,
    default="AWS_REGION, AWS_DEFAULT_REGION, IMDS",
    group=AWS,
    fields=("region",),
)
SUBNET_CIDR = Option[Network](
    name="subnet-cidr",
    metavar="CIDR",
    help="a CIDR block of the ENI's subnet, where IMDS is blocked; repeatable",
    allowed="a CIDR block like 10.0.1.0/24 or fd00:10:0:1::/64",
    parse=values.cidr,
    default="IMDS tells",
    group=AWS,
    repeatable=True,
    fields=("subnet_cidrs",),
)
FOLLOW = Option[bool](
    name="follow",
    metavar="true|false",
    help="map the addresses of the pod's secondary interfaces to their ENIs as they come and come back; --no-follow: "
    "only the VIPs are cared for",
    allowed="true or false (as flags --follow and --no-follow)",
    parse=values.boolean,
    default="true, where ENIs are managed",
    group=FOLLOWING,
    boolean=True,
    fields=("follow",),
)
FOLLOW_INTERFACE = Option[str](
    name="follow-interface",
    metavar="IF",
    help="follow this interface and no others but those named likewise; repeatable",
    allowed="an interface name of at most 15 characters, without '/', ':', '%' and blanks",
    parse=values.interface,
    default="every interface but lo and the pod's primary one",
    group=FOLLOWING,
    repeatable=True,
    fields=("follow_interfaces",),
)
IGNORE = Option[Network](
    name="ignore",
    metavar="CIDR",
    help="leave addresses in this block alone; repeatable",
    allowed="a CIDR block like 192.168.0.0/16 or fd00::/8",
    parse=values.cidr,
    default="none",
    group=FOLLOWING,
    repeatable=True,
    fields=("ignore",),
)
RELEASE = Option[bool](
    name="release",
    metavar="true|false",
    help="unassign an address that has left the interface and is mapped to this ENI still; needs NET_RAW, to ask the "
    "link whether another pod bears it",
    allowed="true or false (as flags --release and --no-release)",
    parse=values.boolean,
    default="false",
    group=FOLLOWING,
    boolean=True,
    fields=("release",),
)
RELEASE_AFTER = Option[float](
    name="release-after",
    metavar="TIME",
    help="how long after an address has left it is released",
    allowed="1s to 3600s, like 30, 30s or 1m",
    parse=values.Duration(1, 3600),
    default="30s",
    group=FOLLOWING,
    fields=("release_after_s",),
)
CHECK = Option[CheckSpec](
    name="check",
    metavar="SPEC",
    help="what must work where the VIP is: http://HOST:PORT/PATH or https://... (200 to 399), tcp://HOST:PORT "
    "(accepts), or exec:COMMAND ARG... (exits with 0; no shell); repeatable, in a variable one a line",
    allowed="http://HOST:PORT/PATH, https://HOST:PORT/PATH, tcp://HOST:PORT (IPv6: [ADDR]:PORT), exec:COMMAND ARG...",
    parse=check_spec,
    default="none",
    group=HEALTH,
    repeatable=True,
    by_line=True,
    fields=("checks",),
)
CHECK_INTERVAL = Option[float](
    name="check-interval",
    metavar="TIME",
    help="how often each check runs",
    allowed="0.1s to 60s, like 1, 1s or 500ms",
    parse=values.Duration(0.1, 60),
    default="1s",
    group=HEALTH,
    fields=("check_interval_s",),
)
CHECK_TIMEOUT = Option[float](
    name="check-timeout",
    metavar="TIME",
    help="how long a check may take; then it has failed",
    allowed="0.1s to 60s, like 1, 1s or 500ms",
    parse=values.Duration(0.1, 60),
    default="1s",
    group=HEALTH,
    fields=("check_timeout_s",),
)
CHECK_RISE = Option[int](
    name="check-rise",
    metavar="N",
    help="so many successes in a row make a check healthy again",
    allowed="a whole number from 1 to 100",
    parse=values.WholeNumber(1, 100),
    default="2",
    group=HEALTH,
    fields=("check_rise",),
)
CHECK_FALL = Option[int](
    name="check-fall",
    metavar="N",
    help="so many failures in a row make a check unhealthy",
    allowed="a whole number from 1 to 100",
    parse=values.WholeNumber(1, 100),
    default="3",
    group=HEALTH,
    fields=("check_fall",),
)
LISTEN = Option[Listen | None](
    name="listen",
    metavar="ADDR:PORT|off",
    help="where /healthz, /readyz, /status and /metrics are served; [::]:PORT serves IPv4 too",
    allowed="ADDR:PORT, [IPV6]:PORT with a port from 1 to 65535, or off",
    parse=values.listen,
    default="0.0.0.0:9808",
    group=RUNNING,
    fields=("listen",),
)
GRACE = Option[float](
    name="grace",
    metavar="TIME",
    help="the pod's terminationGracePeriodSeconds: the handover ends before it does",
    allowed="3s to 3600s, like 30, 30s or 1m",
    parse=values.Duration(3, 3600),
    default="30s",
    group=RUNNING,
    fields=("grace_s",),
)
INTERFACE_TIMEOUT = Option[float](
    name="interface-timeout",
    metavar="TIME",
    help="how long to wait for an interface that is not there yet",
    allowed="0s to 3600s, like 60, 60s or 1m",
    parse=values.Duration(0, 3600),
    default="60s",
    group=RUNNING,
    fields=("interface_timeout_s",),
)
LOG_FORMAT = Option[LogFormat](
    name="log-format",
    metavar="auto|json|text",
    help="how log lines on stderr look",
    allowed="auto, json or text",
    parse=values.OneOf(LogFormat),
    default="auto: text on a terminal, else json",
    group=RUNNING,
    fields=("log_format",),
)
LOG_LEVEL = Option[LogLevel](
    name="log-level",
    metavar="LEVEL",
    help="the least that is logged: debug, info, warning or error",
    allowed="debug, info, warning or error",
    parse=values.OneOf(LogLevel),
    default="info",
    group=RUNNING,
    fields=("log_level",),
)
CONFIG = Option[str](
    name="config",
    metavar="FILE",
    help="a YAML file with the same options, named as the flags without '--'; read again on SIGHUP",
    allowed="the path of a readable YAML file",
    parse=values.path,
    default="",
    group=RUNNING,
)

SIDECAR_OPTIONS: tuple[Option[Any], ...] = (
    VIP,
    INTERFACE,
    LEASE,
    NAMESPACE,
    IDENTITY,
    LEASE_DURATION,
    RENEW_INTERVAL,
    PRIORITY,
    PREEMPT,
    FENCE,
    ENI,
    REGION,
    SUBNET_CIDR,
    FOLLOW,
    FOLLOW_INTERFACE,
    IGNORE,
    RELEASE,
    RELEASE_AFTER,
    CHECK,
    CHECK_INTERVAL,
    CHECK_TIMEOUT,
    CHECK_RISE,
    CHECK_FALL,
    LISTEN,
    GRACE,
    INTERFACE_TIMEOUT,
    LOG_FORMAT,
    LOG_LEVEL,
)
"""All but ``--config``, which only says where more of them are."""
