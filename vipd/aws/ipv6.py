"""Moving IPv6 addresses, for which EC2 has no AllowReassignment: where one is another ENI's, unassign there first.

    freed by an attempt that broke off ───▶ Assign here ─── OK
    no previous ENI                              │ refused, and it may be another ENI's
                                                 ▼
    several previous ENIs ───────────────▶ Describe: owner? ─── mine, nobody ─────────▶ Assign here ─── OK
                                                 ▲    │ another ENI                      ▲    │ refused for good
                                     "not there" │    └── room here? ── Unassign there ──┤    └──▶ Assign back, report
                                                 │                                       │
    one previous ENI ────────────────────▶ Unassign there ─── done ──────────────────────┘

- A pod's address is nobody's or ours already: one call then, and no look-up.  A takeover knows whose the address was
  and spares itself the call that would be refused.
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

from vipd.aws.batch import Outcomes, split
from vipd.aws.calls import Calls
from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, Assigned, AssignVerdict

FREED_FOR_S = 30.0
"""How long "I unassigned it and did not come to assign it" is believed: beyond it others will have acted."""

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
        self._owners: dict[Address, str | None] = {}
        """Whose each address is, as far as it was looked up after a refusal."""
        self._full_now: Refusal | None = None
        """How this attempt learned that there is no room for all of its addresses."""
        self._taken_now: set[Address] = set()

    def run(self, addresses: Sequence[Address]) -> None:
        """Free what is elsewhere, then assign; without a hint of where that is, assign, and free what is refused."""
        ready = [a for a in addresses if self._memory.freed_from(a)]
        elsewhere = [a for a in addresses if a not in ready]
        if elsewhere and not self._hints:
            self._assign_first(ready, elsewhere)
            return
        if elsewhere:
            ready += self._free(elsewhere)
        self._settle(self._assign(ready))

    def _assign_first(self, ready: list[Address], elsewhere: list[Address]) -> None:
        everything = [*ready, *elsewhere]
        refusal = self._calls.assign_ipv6(self._to, everything)
        if refusal is None or not refusal.may_concern_one_address:
            self._settle(dict.fromkeys(everything, refusal))
        elif refusal.verdict is AssignVerdict.NEVER:
            # One look-up for all of them tells more than asking for each.
            ready += self._free(elsewhere)
            nothing_changed = not self._taken_now and len(ready) == len(everything)
            self._settle(self._assign(ready, known=refusal if nothing_changed else None))
        else:
            # It cannot take all of these, so this attempt takes nothing from another ENI.
            self._full_now = refusal
            outcomes = self._assign(everything, known=refusal)
            others = [a for a in elsewhere if (r := outcomes[a]) is not None and r.verdict is AssignVerdict.NEVER]
            ready = self._free(others) if others else []
            self._settle({a: r for a, r in outcomes.items() if a not in others} | self._assign(ready))

    def _settle(self, outcomes: Outcomes) -> None:
        for address, refusal in outcomes.items():
            if refusal is None:
                self._memory.freed.pop(address, None)
                self._report(Assigned(address, AssignVerdict.OK))
            elif refusal.for_good:
                self._refused(address, refusal)
            else:
                self._tell(address, refusal)

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
        if not self._hints:
            self._owners = {a: owners.get(a) for a in addresses}
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

    def _assign(self, addresses: Sequence[Address], *, known: Refusal | None = None) -> Outcomes:
        return split(lambda part: self._calls.assign_ipv6(self._to, part), addresses, known=known)

    def _still_full(self) -> Refusal | None:
        if self._full_now is not None:
            return self._full_now
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
        elif refusal.verdict is AssignVerdict.NEVER and refusal.may_concern_one_address:
            self._explain(address, refusal, source)
        elif source is not None:
            self._give_back(address, source, refusal)
        else:
            self._tell(address, refusal)

    def _explain(self, address: Address, refusal: Refusal, source: str | None) -> None:
        owner = self._owner_after_refusal(address)
        if isinstance(owner, Refusal):
            detail = f"{refusal.code}: {refusal.detail}; its owner cannot be looked up: {owner.code}: {owner.detail}"
            self._tell(address, Refusal(owner.verdict, owner.code, detail))
            return
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

    def _owner_after_refusal(self, address: Address) -> str | Refusal | None:
        if self._unfound is not None:
            return self._unfound
        if address in self._owners:
            return self._owners[address]
        owners = self._calls.ipv6_owners([address])
        return owners if isinstance(owners, Refusal) else owners.get(address)

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
