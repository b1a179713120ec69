"""Before a holder is asked to hand over: can it, and is there anybody to take it?

An offer that nobody takes costs two quiet seconds, in which the holder neither announces nor repairs; under fence
lease the address is off meanwhile, and packets are lost.  So the labels are asked first, by which the election itself
never decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vipd.core.model import CallFailed, Fence, LeaseView, Tenure
from vipd.errors import VipdError
from vipd.kube.roster import Member, Roster
from vipd.operate.lease_status import is_ours

HOW_TO_FORCE = "--force asks all the same"


def willing(view: LeaseView, *, named: str, by: str) -> Tenure:
    """The tenure of a holder that can be asked.  ``named``: the Lease, for messages.  Raises VipdError.

    ``by``: who asks; a request of his own that still stands is no obstacle.
    """
    if not is_ours(view):
        raise VipdError(f"{named} is not vipd's: vipd never wrote it")
    if not view.holder:
        raise VipdError(f"nobody holds {named}: there is nothing to hand over")
    if view.tenure is None:
        raise VipdError(f"{view.holder} holds {named}; it is no vipd and knows no handover")
    if view.offer:
        raise VipdError(f"{view.holder} is handing {named} over already ({view.offer.why or 'offered'})")
    if view.request and view.request.by_operator and view.request.by != by:
        raise VipdError(f"{view.request.by} has asked {view.holder} already to hand {named} over")
    return view.tenure


def successor(tenure: Tenure, roster: Roster, *, namespace: str, lease: str, wish: str, force: bool) -> tuple[str, str]:
    """The identity that the request names (empty: any standby), and a note for people (empty: none).

    ``wish``: an identity, the name of a Pod, of a Node, or empty.  Raises VipdError where nobody fit is known.
    """
    members = roster.of(namespace, lease)
    if members is None:
        refused = roster.pods if isinstance(roster.pods, CallFailed) else roster.nodes
        why = refused.detail if isinstance(refused, CallFailed) else ""
        if tenure.fence is Fence.LEASE and not force:
            raise VipdError(f"no ready standby is known, because members cannot be listed ({why}); {HOW_TO_FORCE}")
        return wish, f"members cannot be listed, so nobody knows whether a standby is ready: {why}"
    found = _resolve(wish, members, force=force) if wish else None
    identity = found.identity if found else wish
    if identity and identity == tenure.holder:
        raise VipdError(f"{identity} is the holder already")
    if force:
        return identity, ""
    if found and not found.ready:
        raise VipdError(f"{found.name} is no ready standby: {_state(found)}; {HOW_TO_FORCE}")
    if not found and not any(member.ready and member.identity != tenure.holder for member in members):
        raise VipdError(f"no standby is ready: {_known(members)}; {HOW_TO_FORCE}")
    return identity, ""


def _resolve(wish: str, members: Sequence[Member], *, force: bool) -> Member | None:
    """The member that is meant; None where none is, and that is to be no obstacle."""
    for names in (
        [member for member in members if member.identity == wish],
        [member for member in members if member.name == wish],
        [member for member in members if member.node == wish],
    ):
        if len(names) == 1:
            return names[0]
        if names:
            raise VipdError(f"{wish!r} may be any of {_list(member.identity for member in names)}: name one of them")
    if force:
        return None
    raise VipdError(f"{wish!r} is no member of this Lease: {_known(members)}; {HOW_TO_FORCE}")


def _known(members: Sequence[Member]) -> str:
    if not members:
        return "no Pod or Node bears its label"
    return f"known are {_list(f'{member.name} ({_state(member)})' for member in members)}"


def _state(member: Member) -> str:
    return f"{member.role or 'without a role'}{', being deleted' if member.leaving else ''}"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
