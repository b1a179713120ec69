"""Which ENI of this node an address of the pod belongs to, as IMDS or the operator's word tell.

IMDS is asked once for all ENIs, and again, with growing pauses, while there is something that it did not explain: a
hot-plugged interface may be there before its ENI is listed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vipd.aws.discovery import Nobody, Outside, Reserved, already_there, eni_for
from vipd.aws.imds import Imds, ImdsError
from vipd.core.following import Standing, Target
from vipd.core.model import Address, Eni, LinkState, Network

log = logging.getLogger("vipd.follow")


class Enis:
    """The ENIs of this node, and what they are for."""

    def __init__(self, imds: Imds, *, eni_ids: Mapping[str, str], subnet_cidrs: Sequence[Network]) -> None:
        """``eni_ids``: the operator's word, by interface: for these IMDS need not answer."""
        self._imds = imds
        self._given = dict(eni_ids)
        self._cidrs = tuple(subnet_cidrs)
        self._known: tuple[Eni, ...] | None = None
        self.problem = "IMDS has not answered yet"
        """Why the ENIs are not known; empty where they are."""

    async def refresh(self) -> bool:
        """Ask IMDS; whether anything is known now that was not before.  A failure leaves what was known."""
        try:
            found = tuple((await self._imds.enis()).values())
        except ImdsError as error:
            if self._known is None:
                self.problem = str(error)
            return False
        changed, self._known, self.problem = found != self._known, found, ""
        return changed

    def by_id(self, eni_id: str) -> Eni | None:
        """The ENI of a target."""
        return next((eni for eni in self._known or () if eni.id == eni_id), None)

    def target(self, link: LinkState, address: Address, *, named: bool) -> Target | None:
        """Where an address on this interface belongs; None: not to the VPC, so it is nobody's business.

        ``named``: the operator named the interface, so that an address without an ENI is a mistake.
        """
        if link.name in self._given:
            return self._given_target(link, address)
        if self._known is None:
            return Target(link.name, "", Standing.CHECKING, self.problem)
        found = eni_for(self._known, mac=link.mac, address=address)
        if isinstance(found, Eni):
            why = already_there(found, address)
            return Target(link.name, found.id, Standing.CONFIRMED if why else None, why)
        if isinstance(found, Nobody):
            return Target(link.name, "", Standing.REFUSED, found.detail) if named else None
        standing = Standing.OUTSIDE if isinstance(found, Outside | Reserved) else Standing.REFUSED
        return Target(link.name, "", standing, found.detail)

    def eni(self, target_eni: str, link: LinkState | None) -> Eni:
        """The whole ENI for a call."""
        known = self.by_id(target_eni)
        return known or Eni(id=target_eni, mac=link.mac if link else "", subnet_cidrs=self._cidrs)

    def _given_target(self, link: LinkState, address: Address) -> Target:
        eni_id = self._given[link.name]
        known = self.by_id(eni_id)
        if self._known is not None and known is None:
            listed = ", ".join(eni.id for eni in self._known) or "none"
            return Target(link.name, "", Standing.REFUSED, f"--eni {eni_id}: not of this node; IMDS lists {listed}")
        eni = replace(known or self.eni(eni_id, link), mac=link.mac)
        why = already_there(eni, address)
        if why:
            return Target(link.name, eni_id, Standing.CONFIRMED, why)
        found = eni_for([eni], mac=link.mac, address=address)
        if isinstance(found, Outside | Reserved):
            return Target(link.name, eni_id, Standing.OUTSIDE, found.detail)
        return Target(link.name, eni_id)
