"""Which ENI of this node an address of the pod belongs to, as IMDS or the operator's word tell.

IMDS is asked once for all ENIs, and again, with growing pauses, while there is something that it did not explain: a
hot-plugged interface may be there before its ENI is listed.  So the subnet decides for a MAC that IMDS does not list
only once IMDS did not list it a while after it was seen, and IMDS goes on being asked for a minute: where it lists the
MAC then, the address moves to the right ENI.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vipd.aws.discovery import Nobody, Outside, Reserved, already_there, by_mac, eni_for
from vipd.aws.imds import Imds, ImdsError
from vipd.core.following import Standing, Target
from vipd.core.model import Address, Eni, LinkState, Network

log = logging.getLogger("vipd.follow")

GUESS_AFTER_S, SURE_AFTER_S = 0.15, 60.0
"""IMDS that is asked so long after a MAC was seen, and does not list it, leaves it to the subnet, and for good."""


class Enis:
    """The ENIs of this node, and what they are for."""

    def __init__(self, imds: Imds, *, eni_ids: Mapping[str, str], subnet_cidrs: Sequence[Network]) -> None:
        """``eni_ids``: the operator's word, by interface: for these IMDS need not answer."""
        self._imds = imds
        self._given = dict(eni_ids)
        self._cidrs = tuple(subnet_cidrs)
        self._known: tuple[Eni, ...] | None = None
        self._asked_at = float("-inf")
        """When the last question that was answered was asked (``time.monotonic``)."""
        self._seen_at: dict[str, float] = {}
        """When each MAC that IMDS does not list was first seen."""
        self.problem = "IMDS has not answered yet"
        """Why the ENIs are not known; empty where they are."""

    async def refresh(self) -> bool:
        """Ask IMDS; whether anything is known now that was not before.  A failure leaves what was known."""
        asked_at = time.monotonic()
        try:
            found = tuple((await self._imds.enis()).values())
        except ImdsError as error:
            if self._known is None:
                self.problem = str(error)
            return False
        changed, self._known, self.problem = found != self._known, found, ""
        self._asked_at = asked_at
        return changed

    def settled(self, link: LinkState) -> bool:
        """Whether IMDS need not be asked any more for whose this MAC is."""
        return link.name in self._given or self._unlisted_for_s(link.mac) >= SURE_AFTER_S

    def _unlisted_for_s(self, mac: str) -> float:
        """How long after it was first seen IMDS still did not list the MAC; without end where it does list it."""
        if self._known is not None and by_mac(self._known, mac):
            self._seen_at.pop(mac, None)
            return float("inf")
        return self._asked_at - self._seen_at.setdefault(mac, time.monotonic())

    def by_id(self, eni_id: str) -> Eni | None:
        """The ENI of a target."""
        return next((eni for eni in self._known or () if eni.id == eni_id), None)

    def target(self, link: LinkState, address: Address, *, named: bool) -> Target | None:
        """Where an address on this interface belongs; None: not to the VPC, so it is nobody's business.

        ``named``: the operator named the interface, so that an address without an ENI is a mistake.
        """
        if link.name in self._given:
            return self._given_target(link, address)
        unlisted = self._unlisted_for_s(link.mac) < GUESS_AFTER_S
        if self._known is None:
            return Target(link.name, "", Standing.CHECKING, self.problem)
        found = eni_for(self._known, mac=link.mac, address=address)
        if unlisted and (named or not isinstance(found, Nobody)):
            detail = f"IMDS does not list the MAC {link.mac} of {link.name} yet; it is asked again"
            return Target(link.name, "", Standing.CHECKING, detail)
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
