"""The faults that a campaign draws from: those of the lab's scenarios, each with its beginning and its end.

What two faults cannot share (a node without power has no process to freeze) is said by claims: each fault claims the
parts that it needs for itself, and two go together when their claims are disjoint.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from vipd.lab.campaign import acts
from vipd.lab.campaign.scene import Scene

VPC, BRIDGE = "vpc", "bridge"
BOTH = frozenset({VPC, BRIDGE})

Act = Callable[[Scene, str], Awaitable[None]]
"""On a node by name; the name is empty where the fault is a service's."""


class Target(Enum):
    """Whom a fault hits: by the roles at the beginning of the episode."""

    ACTIVE = "active"
    STANDBY = "standby"
    EVERYBODY = "everybody"
    SERVICE = "service"


class Part(Enum):
    """What a fault needs for itself as long as it lasts."""

    PROCESS = "vipd's process"
    LINK = "the VIP interface's cable"
    KERNEL = "the addresses in the kernel"
    HEALTH = "the application's health"
    API_PATH = "the way to the Kubernetes API"
    EC2_PATH = "the way to EC2"
    EC2_WRITES = "the EC2 writes of a node"
    API = "the Kubernetes API"
    EC2 = "EC2's answers"
    IMDS = "IMDS"
    MAPPING = "the EC2 mapping"
    LEASE = "the Lease"
    OPERATOR = "the operator"
    SEGMENT = "the network segment"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong for a while."""

    name: str
    summary: str
    targets: tuple[Target, ...]
    claims: frozenset[Part]
    begin: Act
    end: Act
    longest_s: float
    """How long it lasts at the most, on top of one Lease duration; 0: it is over at once, and shorter than a second."""
    fabrics: frozenset[str] = BOTH
    moves: bool = True
    """Whether it changes anything by itself; EC2 that is down, say, is not noticed before somebody calls it."""
    bars: bool = False
    """Whether a member may rightly sit out a hold-down after it."""
    bars_start: bool = False
    """Whether a vipd that starts meanwhile may rightly end: it cannot find its ENI, and says so."""

    def claimed(self, target: Target) -> frozenset[tuple[Part, Target]]:
        """What it keeps from others when it hits this target."""
        hit = (Target.ACTIVE, Target.STANDBY) if target is Target.EVERYBODY else (target,)
        return frozenset((part, one) for part in self.claims for one in hit)


def compatible(one: Fault, its: Target, other: Fault, others: Target) -> bool:
    """Whether the two can go on at the same time."""
    return not one.claimed(its) & other.claimed(others)


_NODES = (Target.ACTIVE, Target.STANDBY)
_ALL = (*_NODES, Target.EVERYBODY)
_SERVICE = (Target.SERVICE,)
_AWS = frozenset({VPC})
_PROCESS = frozenset({Part.PROCESS})

FAULTS: dict[str, Fault] = {
    f.name: f
    for f in (
        Fault(
            "sigterm",
            "vipd is told to stop, and started anew",
            _ALL,
            _PROCESS,
            acts.terminate,
            acts.start_after_end,
            4.0,
        ),
        Fault("kill", "SIGKILL to vipd; started anew after a while", _ALL, _PROCESS, Scene.kill, Scene.start_vipd, 8.0),
        Fault("freeze", "vipd is stopped with SIGSTOP, and thawed", _ALL, _PROCESS, acts.freeze, acts.thaw, 12.0),
        Fault(
            "power-off",
            "the node loses power, and boots",
            _NODES,
            frozenset({Part.PROCESS, Part.LINK, Part.KERNEL, Part.HEALTH}),
            Scene.power_off,
            Scene.power_on,
            10.0,
        ),
        Fault(
            "api-cut",
            "the node is cut off from the Kubernetes API alone",
            _NODES,
            frozenset({Part.API_PATH}),
            acts.cut_from_api,
            acts.join_api,
            12.0,
        ),
        Fault(
            "api-outage",
            "the Kubernetes API is away for everybody",
            _SERVICE,
            frozenset({Part.API}),
            acts.api_away,
            acts.api_back,
            12.0,
        ),
        Fault(
            "lease-deleted",
            "somebody deletes the Lease",
            _SERVICE,
            frozenset({Part.LEASE}),
            acts.delete_lease,
            acts.nothing,
            0.0,
        ),
        Fault(
            "link-down",
            "the VIP interface loses its carrier",
            _NODES,
            frozenset({Part.LINK}),
            Scene.unplug,
            Scene.plug,
            8.0,
            bars=True,
        ),
        Fault(
            "address-deleted",
            "somebody deletes the VIP from the interface",
            (Target.ACTIVE,),
            frozenset({Part.KERNEL}),
            Scene.delete_addresses,
            acts.nothing,
            0.0,
        ),
        Fault(
            "check-fails",
            "the node's application fails its health check",
            _NODES,
            frozenset({Part.HEALTH}),
            acts.sicken,
            acts.cure,
            8.0,
            bars=True,
        ),
        Fault(
            "handover",
            "an operator runs 'vipd handover'",
            _SERVICE,
            frozenset({Part.OPERATOR}),
            acts.hand_over,
            acts.nothing,
            0.0,
        ),
        Fault(
            "eni-stolen",
            "somebody else maps the VIP to another ENI",
            _SERVICE,
            frozenset({Part.MAPPING}),
            acts.steal,
            acts.nothing,
            0.0,
            _AWS,
        ),
        Fault(
            "ec2-throttled",
            "EC2 throttles four calls",
            _SERVICE,
            frozenset({Part.EC2}),
            acts.throttle,
            acts.ec2_back,
            8.0,
            _AWS,
            moves=False,
            bars=True,
        ),
        Fault(
            "ec2-down",
            "EC2 answers every call with 503",
            _SERVICE,
            frozenset({Part.EC2}),
            acts.ec2_away,
            acts.ec2_back,
            10.0,
            _AWS,
            moves=False,
            bars=True,
        ),
        Fault(
            "ec2-hangs",
            "EC2 accepts every call and answers none",
            _SERVICE,
            frozenset({Part.EC2}),
            acts.ec2_hangs,
            acts.ec2_answers,
            10.0,
            _AWS,
            moves=False,
            bars=True,
        ),
        Fault(
            "ec2-cut",
            "the node is cut off from EC2 alone",
            _NODES,
            frozenset({Part.EC2_PATH}),
            acts.cut_from_ec2,
            acts.join_ec2,
            10.0,
            _AWS,
            moves=False,
            bars=True,
        ),
        Fault(
            "ec2-late",
            "the node's EC2 writes stay on their way, and are applied at the end, whoever holds the Lease by then",
            _NODES,
            frozenset({Part.EC2_WRITES}),
            acts.hold_writes,
            acts.release_writes,
            6.0,
            _AWS,
            moves=False,
            bars=True,
        ),
        Fault(
            "imds-refuses",
            "IMDS refuses connections on every node",
            _SERVICE,
            frozenset({Part.IMDS}),
            acts.imds_refuses,
            acts.imds_back,
            10.0,
            _AWS,
            moves=False,
            bars_start=True,
        ),
        Fault(
            "imds-silent",
            "IMDS answers nothing on every node",
            _SERVICE,
            frozenset({Part.IMDS}),
            acts.imds_silent,
            acts.imds_back,
            10.0,
            _AWS,
            moves=False,
            bars_start=True,
        ),
        Fault(
            "conflict",
            "for 5 s a host that is no member claims the VIP by gratuitous ARP",
            _SERVICE,
            frozenset({Part.SEGMENT}),
            acts.claim,
            acts.nothing,
            0.0,
            frozenset({BRIDGE}),
        ),
    )
}


def faults_on(fabric: str, *, families: tuple[int, ...]) -> list[Fault]:
    """Those that make sense on a fabric with these address families."""
    return [f for f in FAULTS.values() if fabric in f.fabrics and (f.name != "conflict" or 4 in families)]
