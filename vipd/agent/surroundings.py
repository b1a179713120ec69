"""What a pod bears on its secondary interfaces, kept up to date by netlink events: what is to be followed.

Left out is what is not for an ENI, or not ours to follow: link-local, temporary and tentative addresses, vipd's own
(IFA_PROTO 0x56: a Lease elects who maps them), VIPs under election whoever added them, and what the operator ignores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from vipd.core.model import Address, LinkState, LocalAddress, Network
from vipd.core.ports import AddressCame, AddressGone, LinkChanged
from vipd.link.kernel import VIPD_PROTO
from vipd.link.primary import DefaultRoutes, secondary_interfaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the operator said of it."""

    interfaces: tuple[str, ...] = ()
    """These and no others; empty: all secondary ones."""
    pod_ips: frozenset[Address] = frozenset()
    """Whoever bears one of them is the pod's primary interface."""
    skip: frozenset[Address] = frozenset()
    """VIPs under election."""
    ignore: tuple[Network, ...] = ()


class Surroundings:
    """The table of links and addresses of this network namespace."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.links: dict[str, LinkState] = {}
        self._there: dict[tuple[str, Address], LocalAddress] = {}
        self._routes = DefaultRoutes()
        self._secondary: frozenset[str] = frozenset()

    def reset(self, links: Iterable[LinkState], addresses: Iterable[LocalAddress], routes: DefaultRoutes) -> None:
        """Everything anew, as the kernel lists it."""
        self.links = {link.name: link for link in links}
        self._there = {(a.interface, a.address): a for a in addresses}
        self._routes = routes
        self._choose()

    def take_in(self, event: AddressCame | AddressGone | LinkChanged) -> bool:
        """One change; whether it can be of importance here."""
        match event:
            case AddressCame(local=local):
                if self._there.get((local.interface, local.address)) == local:
                    return False
                self._there[local.interface, local.address] = local
                primary = local.address in self.choice.pod_ips
                if primary:
                    self._choose()
                return primary or local.interface in self.interfaces
            case AddressGone(address=address, interface=interface):
                self._there.pop((interface, address), None)
                return interface in self.interfaces
            case LinkChanged(name=name, link=link):
                self._link_changed(name, link)
                return True

    def _link_changed(self, name: str, link: LinkState | None) -> None:
        if link is None:
            self.links.pop(name, None)
            self._there = {key: local for key, local in self._there.items() if key[0] != name}
        else:
            self.links[name] = link
        self._choose()

    def _choose(self) -> None:
        self._secondary = frozenset(
            secondary_interfaces(
                list(self.links.values()), list(self._there.values()), self._routes, pod_ips=self.choice.pod_ips
            )
        )

    @property
    def interfaces(self) -> Collection[str]:
        """Those that are followed: the named ones, whether they are there or not, or all secondary ones."""
        return self.choice.interfaces or self._secondary

    def candidates(self) -> Sequence[LocalAddress]:
        """Addresses for an ENI on the followed interfaces, usable or not."""
        return [local for local in self._there.values() if local.interface in self.interfaces and self._meant(local)]

    def usable(self) -> Sequence[LocalAddress]:
        """Those of them that are to be mapped now."""
        return [local for local in self.candidates() if local.usable]

    def _meant(self, local: LocalAddress) -> bool:
        return local.universe and not local.temporary and local.proto != VIPD_PROTO and self.meant(local.address)

    def meant(self, address: Address) -> bool:
        """Whether an address may be for an ENI, and is not left to others."""
        special = address.is_link_local or address.is_multicast or address.is_loopback or address.is_unspecified
        if special or address in self.choice.skip:
            return False
        return not any(address in network for network in self.choice.ignore)
