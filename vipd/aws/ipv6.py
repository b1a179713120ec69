"""Moving IPv6 addresses, for which EC2 has no AllowReassignment: find the owner, unassign there, assign here.

            freed by an attempt that broke off ─────────────────────────────────────┐
            one previous ENI ── Unassign there ── done ─────────────────────────────┤
                                     │ "not there"                                  ▼
            several ──────────── Describe: owner? ── mine, nobody ──────────▶ Assign here ── OK
                                  ▲  │ another ENI                                  │ refused for good
                                  │  └── room here? ── Unassign there ──────────────▶  Assign back, report
            none ── Assign here ──┤
                                  └ OK

- A pod's address is nobody's, or here already, as a rule: without a hint Assign comes first, and nothing is described.
- Between Unassign and Assign the address belongs to nobody.  The two follow each other without anything in
  between, in one thread, on one connection.  What breaks off there is repaired by the next attempt: here by memory,
  elsewhere because the owner is then nobody.
- It never unassigns from the ENI it moves to: that would open a gap in order to close it.
- A refusal of Assign after Unassign gives the address back to the ENI it came from.
- EC2 tells no limit for an ENI without further permissions.  So the first refusal for lack of room is
  remembered with the number of addresses there were, and until there are fewer nothing is unassigned any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vipd.aws.calls import Calls
from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, Assigned, AssignVerdict

FREED_FOR_S = 30.0
"""How long "I unassigned it and did not come to assign it" is believed: beyond it others will have acted."""

FEW = 4
"""So many addresses are tried one by one where a call for all was refused."""

Report = Callable[[Assigned], None]


@dataclass(frozen=True, slots=True)
class Freed:
    """An address that we took from ``eni`` and have not assigned since."""

    eni: str
    at: float


@dataclass(slots=True)
class Memory:
    """What one attempt leaves for the next.  Single dictionary operations only, so that threads may share it."""

    freed: dict[Address, Freed] = field(default_factory=dict)
    full_at: dict[str, int] = field(default_factory=dict)
    """ENI id -> the number of IPv6 addresses at which EC2 said that it is full."""

    def freed_from(self, address: Address) -> str | None:
        """The ENI that it was taken from lately by an attempt that broke off."""
        freed = self.freed.get(address)
        if freed is None:
            return None
        if time.clock_gettime(time.CLOCK_BOOTTIME) - freed.at > FREED_FOR_S:
            self.freed.pop(address, None)
            return None
        return freed.eni

    def free(self, addresses: Sequence[Address], eni: str) -> None:
        """Note that ``addresses`` were taken from ``eni``."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for address in addresses:
            self.freed[address] = Freed(eni, now)


class Ipv6Move:
    """One attempt to move ``addresses`` to the ENI ``to``.  Blocks; reports each address exactly once."""

    def __init__(self, calls: Calls, memory: Memory, *, to: str, hints: frozenset[str], report: Report) -> None:
        self._calls = calls
        self._memory = memory
        self._to = to
        self._hints = hints - {to}
        self._report = report
        self._unfound: Refusal | None = None
        """Why the owner could not be looked up."""
        self._taken_now: set[Address] = set()

    def run(self, addresses: Sequence[Address]) -> None:
        """Free what is elsewhere, then assign."""
        ready = [a for a in addresses if self._memory.freed_from(a)]
        elsewhere = [a for a in addresses if a not in ready]
        if elsewhere and not self._hints:
            elsewhere = self._assign_what_is_free(elsewhere)
        if elsewhere:
            ready += self._free(elsewhere)
        for address, refusal in self._assign(ready).items():
            if refusal is None:
                self._memory.freed.pop(address, None)
                self._report(Assigned(address, AssignVerdict.OK))
            elif refusal.for_good:
                self._refused(address, refusal)
            else:
                self._tell(address, refusal)

    def _assign_what_is_free(self, addresses: Sequence[Address]) -> list[Address]:
        """Assign without looking; returns what another ENI may have."""
        elsewhere = []
        for address, refusal in self._assign(addresses).items():
            if refusal is None:
                self._report(Assigned(address, AssignVerdict.OK))
            elif refusal.verdict is AssignVerdict.NEVER:
                elsewhere.append(address)
            else:
                self._tell(address, refusal)
        return elsewhere

    def _free(self, addresses: Sequence[Address]) -> list[Address]:
        """Take the addresses from whoever has them; returns those that can now be assigned."""
        # With several ENIs to try, asking is cheaper than trying them in turn.
        if len(self._hints) == 1 and self._to not in self._memory.full_at:
            (hint,) = self._hints
            refusal = self._take(addresses, hint)
            if refusal is None:
                return list(addresses)
            if not refusal.for_good:
                return self._tell_all(addresses, refusal)
        owners = self._calls.ipv6_owners(addresses)
        if isinstance(owners, Refusal):
            if owners.verdict is AssignVerdict.RIGHT_OVER:
                return self._tell_all(addresses, owners)
            # Unconditional all the same: it succeeds where the address is nobody's or ours.
            self._unfound = owners
            return list(addresses)
        full = self._still_full()
        if full is not None:
            ours = [a for a in addresses if owners.get(a) == self._to]
            self._tell_all([a for a in addresses if a not in ours], full)
            return ours
        return self._take_from_owners(addresses, owners)

    def _take_from_owners(self, addresses: Sequence[Address], owners: dict[Address, str]) -> list[Address]:
        ready = [a for a in addresses if owners.get(a, self._to) == self._to]
        for owner in sorted(set(owners.values()) - {self._to}):
            theirs = [a for a in addresses if owners.get(a) == owner]
            refusal = self._take(theirs, owner)
            # "Not there": Describe lagged; Assign will tell.
            if refusal is None or refusal.verdict is AssignVerdict.NEVER:
                ready += theirs
            else:
                self._tell_all(theirs, refusal)
        return ready

    def _take(self, addresses: Sequence[Address], owner: str) -> Refusal | None:
        refusal = self._calls.unassign_ipv6(owner, addresses)
        if refusal is None:
            self._memory.free(addresses, owner)
            self._taken_now.update(addresses)
        return refusal

    def _assign(self, addresses: Sequence[Address]) -> dict[Address, Refusal | None]:
        if not addresses:
            return {}
        return split(lambda part: self._calls.assign_ipv6(self._to, part), addresses)

    def _still_full(self) -> Refusal | None:
        limit = self._memory.full_at.get(self._to)
        if limit is None:
            return None
        count = self._count()
        if count is not None and count < limit:
            self._memory.full_at.pop(self._to, None)
            return None
        return Refusal(
            AssignVerdict.NO_ROOM,
            "PrivateIpAddressLimitExceeded",
            f"{self._to} was full with {limit} IPv6 addresses and still is; nothing was taken from the other ENI",
        )

    def _count(self) -> int | None:
        found = self._calls.addresses(self._to)
        return None if isinstance(found, Refusal) else sum(1 for a in found if a.version == 6)

    def _refused(self, address: Address, refusal: Refusal) -> None:
        """EC2 will not assign it here: whose is it, and is it to be given back?"""
        source = self._memory.freed_from(address)
        if address in self._taken_now and source is not None:
            # No look-up in between: it would lengthen the gap, and right after Unassign it may still lag.
            self._give_back(address, source, refusal)
        elif refusal.verdict is AssignVerdict.NEVER:
            self._explain(address, refusal, source)
        elif source is not None:
            self._give_back(address, source, refusal)
        else:
            self._tell(address, refusal)

    def _explain(self, address: Address, refusal: Refusal, source: str | None) -> None:
        owners = self._unfound or self._calls.ipv6_owners([address])
        if isinstance(owners, Refusal):
            detail = f"{refusal.code}: {refusal.detail}; its owner cannot be looked up: {owners.code}: {owners.detail}"
            self._tell(address, Refusal(owners.verdict, owners.code, detail))
            return
        owner = owners.get(address)
        if owner == self._to:
            self._memory.freed.pop(address, None)
            self._report(Assigned(address, AssignVerdict.OK))
        elif source is not None and owner is None:
            self._give_back(address, source, refusal)
        elif owner is not None:
            # Also where that is whom we took it from: it has taken it back, and is to be asked for it anew.
            self._memory.freed.pop(address, None)
            detail = f"it came to {owner} in the meantime ({refusal.detail})"
            self._tell(address, Refusal(AssignVerdict.RETRY, refusal.code, detail))
        else:
            self._tell(address, refusal)

    def _give_back(self, address: Address, source: str, refusal: Refusal) -> None:
        back = self._calls.assign_ipv6(source, [address])
        if back is None or back.for_good:
            self._memory.freed.pop(address, None)
        if refusal.verdict is AssignVerdict.NO_ROOM and (count := self._count()) is not None:
            self._memory.full_at[self._to] = count
        fate = "given back to" if back is None else f"not given back ({back.code}: {back.detail}) to"
        self._tell(address, Refusal(refusal.verdict, refusal.code, f"{refusal.detail}; {fate} {source}"))

    def _tell(self, address: Address, refusal: Refusal) -> None:
        self._report(Assigned(address, refusal.verdict, refusal.code, refusal.detail))

    def _tell_all(self, addresses: Sequence[Address], refusal: Refusal) -> list[Address]:
        for address in addresses:
            self._tell(address, refusal)
        return []


def split(
    call: Callable[[Sequence[Address]], Refusal | None], addresses: Sequence[Address]
) -> dict[Address, Refusal | None]:
    """One call for all; when it may have failed for the sake of one address, calls for parts of them.

    Few are tried one by one, many by halves.  Once a single one finds no room the rest is not tried: the ENI is full.
    """
    outcomes: dict[Address, Refusal | None] = {}
    to_do: list[Sequence[Address]] = [addresses]
    full: Refusal | None = None
    while to_do:
        part = to_do.pop(0)
        refusal = full or call(part)
        if refusal is None or len(part) == 1 or full or not refusal.may_concern_one_address:
            outcomes |= dict.fromkeys(part, refusal)
            if len(part) == 1 and refusal is not None and refusal.verdict is AssignVerdict.NO_ROOM:
                full = refusal
            continue
        size = 1 if len(part) <= FEW else (len(part) + 1) // 2
        to_do[:0] = [part[at : at + size] for at in range(0, len(part), size)]
    return outcomes
