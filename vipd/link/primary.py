"""Which of a pod's interfaces are its secondary ones: those whose addresses are ours to take to their ENIs.

The primary interface is the cluster network's.  Its address was given to the pod, and is mapped to an ENI, by the
cluster's own CNI; to assign it elsewhere would cut the pod off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vipd.core.model import Address, LinkState, LocalAddress


@dataclass(frozen=True, slots=True)
class DefaultRoutes:
    """The names of the interfaces that default routes lead out of, for each family."""

    ipv4: frozenset[str] = frozenset()
    ipv6: frozenset[str] = frozenset()


def secondary_interfaces(
    links: Iterable[LinkState],
    addresses: Iterable[LocalAddress],
    routes: DefaultRoutes,
    *,
    pod_ips: Collection[Address] = (),
) -> frozenset[str]:
    """All interfaces but the loopback ones and the pod's primary: the first of these rules that finds one.

    1. The bearer of one of ``pod_ips`` (the pod's own addresses as Kubernetes tells them, of both families).  Nothing
       else is certain: Multus puts the default route on net1 where the pod's annotation says so (key
       ``default-route``), and the routes alone would then make eth0 a secondary one, whose address belongs to the
       cluster CNI's ENI.
    2. The interfaces of the IPv4 default routes.  All of them: none that might be the primary is touched.
    3. The interfaces of the IPv6 default routes.  Only without an IPv4 one, because a secondary network of IPv6 alone
       may well have a router that advertises itself, and its interface would be left out.

    Where none finds one the pod has no primary interface, and all are secondary.
    """
    names = {link.name for link in links if not link.loopback}
    bearers = {local.interface for local in addresses if local.address in pod_ips}
    for primary in (bearers, routes.ipv4, routes.ipv6):
        if primary & names:
            return frozenset(names - primary)
    return frozenset(names)
