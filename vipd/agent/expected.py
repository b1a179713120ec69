"""What ``vipd init`` waits for: the interfaces and addresses that the pod is to have.

Multus tells them exactly, where its annotation is mounted.  Without that, each interface that the operator named, or
each secondary one, is to have an address, and none may be tentative any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.agent.surroundings import Surroundings
from vipd.link.network_status import AttachedNetwork, read_network_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of it."""

    interfaces: tuple[str, ...]
    """Those that the operator named."""
    networks: tuple[AttachedNetwork, ...] | None
    """What Multus told; None: nothing (yet)."""
    allow_none: bool


class Networks:
    """The file of Multus' annotation.

    The kubelet mounts it before the networks are made, and brings it up to date a minute later: nothing is waited for
    that it does not say, because the CNI has made everything before the first container starts.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._found: tuple[AttachedNetwork, ...] | None = None

    def read(self) -> tuple[AttachedNetwork, ...] | None:
        """What it says; None as long as it says nothing.  Raises ConfigError where it makes no sense."""
        if self._path and self._found is None:
            self._found = read_network_status(self._path)
        return self._found


def missing(expected: Expected, there: Surroundings) -> list[str]:
    """What is still to come, each as a clause; empty: the pod's addresses are complete."""
    names = _names(expected, there)
    if not names and not expected.allow_none:
        others = ", ".join(sorted(there.links)) or "none"
        return [
            f"the pod has no secondary interface (it has {others}): check its annotation k8s.v1.cni.cncf.io/networks, "
            "or pass --allow-none"
        ]
    absent = [f"there is no interface {name}" for name in names if name not in there.links]
    return [*absent, *_without_address(expected, there, names), *_tentative(there), *_not_there(expected, there)]


def _names(expected: Expected, there: Surroundings) -> list[str]:
    if expected.interfaces or expected.networks is None:
        return sorted(there.interfaces)
    return [n.interface for n in expected.networks if not n.default and n.interface in there.interfaces]


def _without_address(expected: Expected, there: Surroundings, names: list[str]) -> list[str]:
    if expected.allow_none or (expected.networks is not None and not expected.interfaces):
        return []
    having = {local.interface for local in there.candidates()}
    return [
        f"interface {name} has no address: leave it out with --interface, or pass --allow-none"
        for name in names
        if name in there.links and name not in having
    ]


def _tentative(there: Surroundings) -> list[str]:
    return [
        f"{local.address} on {local.interface} is tentative: duplicate address detection has not ended"
        for local in there.candidates()
        if not local.usable and not local.duplicate
    ]


def _not_there(expected: Expected, there: Surroundings) -> list[str]:
    """Addresses that Multus told of and the kernel does not have."""
    present = {(local.interface, local.address) for local in there.candidates()}
    return [
        f"{address}, which Multus gave to {network.interface}, is not on it"
        for network in expected.networks or ()
        if not network.default and network.interface in there.interfaces
        for address in network.ips
        if (network.interface, address) not in present and there.meant(address)
    ]
