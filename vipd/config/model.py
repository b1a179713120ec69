"""The settings as values: what ``vipd sidecar``, ``vipd host`` or ``vipd init`` was told, complete and checked."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from vipd.config.checkspec import CheckSpec, HttpSpec
from vipd.config.values import Listen
from vipd.core import timing
from vipd.core.model import Address, Network, Vip


class FenceChoice(enum.StrEnum):
    """``--fence``: as ``vipd.core.model.Fence``, or left to what is found."""

    AUTO = "auto"
    """``eni`` where an ENI is managed, ``lease`` otherwise."""
    ENI = "eni"
    LEASE = "lease"


class EniMode(enum.StrEnum):
    """Who tells which ENI stands behind an interface."""

    AUTO = "auto"
    """IMDS."""
    NONE = "none"
    """No ENI is managed."""
    GIVEN = "given"
    """The flags."""


class AddressMode(enum.StrEnum):
    """Who puts the VIP on the interface of a node."""

    MANAGED = "managed"
    """vipd, on the owner's alone."""
    STATIC = "static"
    """User data, on every node's: vipd neither adds nor removes it."""


class LogFormat(enum.StrEnum):
    """How log lines look."""

    AUTO = "auto"
    """Text on a terminal, JSON elsewhere."""
    JSON = "json"
    TEXT = "text"


class LogLevel(enum.StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class PodInfo:
    """What the Downward API tells about this pod; empty outside of one."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    ip: Address | None = None
    node: str = ""
    ips: frozenset[Address] = frozenset()
    """POD_IP and POD_IPS: whichever interface bears one of them is the pod's primary one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings:
    """What every member of an election was told; every value is possible and fits the others."""

    vips: tuple[Vip, ...]
    """No address twice; empty (sidecar only): nothing is elected, addresses are only followed."""
    lease: str
    """Empty where there are no VIPs."""
    namespace: str
    identity: str
    interface: str
    """Where VIPs and ENIs that name none belong; ``auto`` (host only): where the ENI in their subnet is."""
    lease_duration_s: int
    """1..3600."""
    renew_interval_s: float
    """At least 0.1; leaves room for one attempt before the right to act ends."""
    priority: int
    """0..255; more is preferred."""
    preempt: bool
    """Ask a holder of lower priority to hand over."""
    fence: FenceChoice
    eni_mode: EniMode
    eni_ids: Mapping[str, str]
    """ENI id by interface; empty unless ``eni_mode`` is GIVEN."""
    region: str | None
    """None: AWS_REGION, AWS_DEFAULT_REGION, then IMDS tell."""
    subnet_cidrs: tuple[Network, ...]
    checks: tuple[CheckSpec, ...]
    """Health checks; no spec twice."""
    check_interval_s: float
    """0.1..60."""
    check_timeout_s: float
    """0.1..60; may be longer than the interval: runs of one check never overlap."""
    check_rise: int
    """1..100: so many successes in a row make a check healthy."""
    check_fall: int
    """1..100: so many failures in a row make it unhealthy."""
    listen: Listen | None
    """None: no HTTP endpoint."""
    grace_s: float
    """3..3600: the pod's terminationGracePeriodSeconds."""
    interface_timeout_s: float
    """0..3600: how long to wait for an interface that is not there yet."""
    log_format: LogFormat
    log_level: LogLevel
    pod: PodInfo

    def notes(self) -> tuple[str, ...]:
        """Sentences about values that are possible but poor, to be logged as warnings."""
        found: list[str] = []
        if self.renew_interval_s > self.lease_duration_s / 2:
            found.append(
                f"renew-interval {self.renew_interval_s:g}s is more than half of lease-duration "
                f"{self.lease_duration_s}s: one lost renewal may cost the Lease; a third of it is better"
            )
        if self.lease_duration_s > 30:
            found.append(f"lease-duration {self.lease_duration_s}s: a lost node is replaced only after that long")
        if self.grace_s < timing.LEAVE_WHEN_FREE_S + timing.LEAVE_BEFORE_GRACE_S:
            found.append(
                f"grace {self.grace_s:g}s is short: a handover may need "
                f"{timing.LEAVE_WHEN_FREE_S + timing.LEAVE_BEFORE_GRACE_S:g}s"
            )
        if self.pod.name and not self.pod.uid and self.identity == self.pod.name:
            found.append(
                "POD_UID is not set: a pod of a StatefulSet that is replaced looks like the one before it; "
                "take it from metadata.uid"
            )
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings(MemberSettings):
    """Everything ``vipd sidecar`` was told."""

    follow: bool
    """Map the pod's own addresses; not without ENIs."""
    follow_interfaces: tuple[str, ...]
    """Empty: all secondary ones."""
    ignore: tuple[Network, ...]
    release: bool
    release_after_s: float
    """1..3600."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings(MemberSettings):
    """Everything ``vipd host`` was told."""

    address_mode: AddressMode
    announce: bool
    node: str
    """This node's name in Kubernetes."""
    node_gate: bool
    """Whether the Node object decides about candidacy."""
    kube_proxy: HttpSpec | None
    """What kube-proxy must answer; None: it is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitSettings:
    """Everything ``vipd init`` was told."""

    interfaces: tuple[str, ...]
    """Empty: those that Multus names, else all secondary ones."""
    network_status: str | None
    """A file that must come to be there; None: none is waited for."""
    timeout_s: float
    """1..3600."""
    allow_none: bool
    ignore: tuple[Network, ...]
    skip: frozenset[Address]
    """VIPs under election."""
    eni_ids: Mapping[str, str]
    """ENI id by interface; IMDS tells for all others."""
    region: str | None
    subnet_cidrs: tuple[Network, ...]
    log_format: LogFormat
    log_level: LogLevel
    pod: PodInfo
