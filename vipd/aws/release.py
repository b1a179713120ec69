"""Giving addresses back: unassigned from the ENI that an address left, so that its slot is free for another.

"Not there" is as good as done.  EC2 says it under a general code, with words that it does not document; where the words
are others the ENI is looked at.  A primary address is refused in the same way, and stays.

Limit: a call whose answer was lost may be applied later, even after a new assignment; only IMDS will tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vipd.aws.batch import split
from vipd.aws.calls import Calls
from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, Assigned, AssignVerdict

NOT_THERE = ("not assigned to interface", "not mapped to interface")
"""IPv4: amazon-vpc-cni-k8s, pkg/awsutils; IPv6: EC2's text for an address of another interface."""


def release(calls: Calls, eni: str, addresses: Sequence[Address], report: Callable[[Assigned], None]) -> None:
    """Unassign addresses of one family.  Blocks; reports each address exactly once."""
    unassign = calls.unassign_ipv4 if addresses[0].version == 4 else calls.unassign_ipv6
    outcomes = split(lambda part: unassign(eni, part), addresses)
    unclear = [a for a, r in outcomes.items() if r is not None and r.verdict is AssignVerdict.NEVER and not _gone(r)]
    there = calls.addresses(eni) if unclear else frozenset()
    for address, refusal in outcomes.items():
        looked_up = not isinstance(there, Refusal) and address not in there
        if refusal is None or _gone(refusal) or (address in unclear and looked_up):
            report(Assigned(address, AssignVerdict.OK))
        else:
            report(Assigned(address, refusal.verdict, refusal.code, refusal.detail))


def _gone(refusal: Refusal) -> bool:
    return refusal.verdict is AssignVerdict.NEVER and any(words in refusal.detail for words in NOT_THERE)
