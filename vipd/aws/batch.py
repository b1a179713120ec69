"""One call for many addresses, where EC2 refuses all for the sake of one.

An ENI bears up to 50 addresses, and the token buckets of a whole account make calls dear when many pods start at once.
So the good ones go in the first call, and a bad one costs a few calls more: many are halved until it is found, few are
asked for one by one.  What cannot be the fault of an address, and what holds for all of them once it holds for one
(no room), is not asked again: the rest is told the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, AssignVerdict

ONE_BY_ONE = 4
"""So many at most are asked for one by one: halving them would cost as many calls."""

Call = Callable[[Sequence[Address]], Refusal | None]
Outcomes = dict[Address, Refusal | None]


def split(call: Call, addresses: Sequence[Address], *, known: Refusal | None = None) -> Outcomes:
    """The outcome for each address, None for done.  ``known``: how the call for all of them has just been refused."""
    batch = _Batch(call)
    if known is not None:
        batch.judge(addresses, known)
    elif addresses:
        batch.run(addresses)
    return batch.outcomes


class _Batch:
    def __init__(self, call: Call) -> None:
        self._call = call
        self._for_all: Refusal | None = None
        """What the rest would hear, too."""
        self.outcomes: Outcomes = {}

    def run(self, part: Sequence[Address]) -> None:
        """Ask for these."""
        if self._for_all is not None:
            self._note(part, self._for_all)
        else:
            self.judge(part, self._call(part))

    def judge(self, part: Sequence[Address], refusal: Refusal | None) -> None:
        """Take the answer for these as final, or ask for parts of them."""
        if refusal is None:
            self._note(part, None)
        elif not refusal.may_concern_one_address:
            self._for_all = refusal
            self._note(part, refusal)
        elif len(part) == 1:
            if refusal.verdict is AssignVerdict.NO_ROOM:
                self._for_all = refusal
            self._note(part, refusal)
        elif len(part) <= ONE_BY_ONE:
            for address in part:
                self.run([address])
        else:
            self._halve(part, refusal)

    def _halve(self, part: Sequence[Address], refusal: Refusal) -> None:
        left, right = part[: len(part) // 2], part[len(part) // 2 :]
        self.run(left)
        if any(self.outcomes[address] is not None for address in left):
            self.run(right)
        else:
            # The reason is in the other half, then: asking for the whole of it would tell nothing new.
            self.judge(right, refusal)

    def _note(self, part: Sequence[Address], refusal: Refusal | None) -> None:
        self.outcomes.update(dict.fromkeys(part, refusal))
