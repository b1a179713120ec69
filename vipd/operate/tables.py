"""``vipd status`` for people: one Lease a row, as kubectl prints tables, or one Lease in detail.

Cells bear no blanks, so that the columns can be cut by awk: ``-`` is nothing, ``?`` not known, ``~`` an estimate by
the holder's clock.  Names come from whoever wrote the Lease and are shown without control characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vipd.kube.codec import format_micro_time
from vipd.operate.lease_status import CountedBy, LeaseState, LeaseStatus

NOTHING, UNKNOWN = "-", "?"
HEADER = (
    "NAMESPACE",
    "LEASE",
    "VIPS",
    "HOLDER",
    "STATE",
    "AGE",
    "EXPIRES",
    "TRANSITIONS",
    "REASON",
    "HANDOVER",
    "MEMBERS",
)


def table(statuses: Sequence[LeaseStatus]) -> list[str]:
    """The header and one line for each Lease."""
    return aligned([HEADER, *(_row(status) for status in statuses)])


def detail(status: LeaseStatus) -> list[str]:
    """One Lease, one fact a line."""
    view, tenure = status.view, status.view.tenure
    facts = [
        ("Lease", f"{clean(status.namespace)}/{clean(status.name)}"),
        ("VIPs", ", ".join(map(clean, status.vips)) or NOTHING),
        ("State", status.state.value),
        ("Holder", clean(view.holder) or _nobody(status)),
    ]
    if view.holder:
        facts += [("Tenure", _tenure(status)), ("Renewed", _renewed(status)), ("Expires", _expires(status))]
    facts.append(("Transitions", str(view.transitions)))
    if tenure:
        facts += [
            ("ENI", _eni(status)),
            ("Fence", tenure.fence.value),
            ("Priority", str(tenure.priority)),
            ("Offer", _offer(status)),
            ("Request", _request(status)),
        ]
    elif view.holder:
        facts.append(("vipd", "no: the holder is another program" if status.ours else "no: never written by vipd"))
    width = max(len(name) for name, _ in facts) + 2
    return [*(f"{name:{width}}{text}" for name, text in facts), *_members(status, width)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns three blanks apart, without blanks at the ends of lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def duration(seconds: float) -> str:
    """A length of time in at most two units, as kubectl shows ages; below ten seconds with a tenth."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for unit_s, unit, part_s, part, until_s in (
        (1, "s", 0, "", 120),
        (60, "m", 1, "s", 600),
        (60, "m", 0, "", 3 * 3600),
        (3600, "h", 60, "m", 8 * 3600),
        (3600, "h", 0, "", 48 * 3600),
        (86_400, "d", 3600, "h", 8 * 86_400),
    ):
        if whole < until_s:
            rest = whole % unit_s // part_s if part_s else 0
            return f"{whole // unit_s}{unit}{f'{rest}{part}' if rest else ''}"
    return f"{whole // 86_400}d"


def clean(text: str) -> str:
    """Text of others for a terminal: no control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _row(status: LeaseStatus) -> tuple[str, ...]:
    tenure = status.view.tenure
    return tuple(
        clean(cell).replace(" ", "_") or NOTHING
        for cell in (
            status.namespace,
            status.name,
            ",".join(status.vips),
            status.view.holder,
            status.state.value,
            _span(status.age_s, known=bool(status.view.holder)),
            _expiry(status),
            str(status.view.transitions),
            tenure.why if tenure else "",
            _handover(status),
            _count(status),
        )
    )


def _span(seconds: float | None, *, known: bool) -> str:
    if not known:
        return NOTHING
    return UNKNOWN if seconds is None else duration(seconds)


def _expiry(status: LeaseStatus) -> str:
    left_s = status.expires_in_s
    if not status.view.holder:
        return NOTHING
    if left_s is None:
        return UNKNOWN
    return f"{_about(status)}{duration(left_s)}" if left_s > 0 else f"{_about(status)}-{duration(-left_s)}"


def _about(status: LeaseStatus) -> str:
    return "~" if status.counted_by is CountedBy.WALL_CLOCK else ""


def _handover(status: LeaseStatus) -> str:
    """The furthest step of a handover that is under way."""
    view = status.view
    if view.offer:
        return f"offered:{view.offer.to or 'any'}({view.offer.why})"
    if view.request:
        return f"requested:{view.request.to or 'any'}({view.request.by})"
    return "moving" if view.tenure and not view.tenure.moved else ""


def _count(status: LeaseStatus) -> str:
    if status.members is None:
        return UNKNOWN
    roles = Counter(member.role or "unlabelled" for member in status.members)
    return ",".join(f"{role}:{number}" for role, number in roles.items())


def _nobody(status: LeaseStatus) -> str:
    return f"nobody (last: {clean(status.last_holder)})" if status.last_holder else "nobody"


def _tenure(status: LeaseStatus) -> str:
    view = status.view
    since = f" (since {format_micro_time(view.acquire_time)})" if view.acquire_time else ""
    why = f", taken for the reason {clean(view.tenure.why)}" if view.tenure and view.tenure.why else ""
    return f"{_span(status.age_s, known=True)}{since}{why}"


def _renewed(status: LeaseStatus) -> str:
    every = f"; every {status.view.tenure.interval_s:g} s" if status.view.tenure else ""
    if status.skew_s:
        return f"{status.skew_s:.1f} s in the future: the clocks of the holder and of this machine disagree{every}"
    if status.renewed_s_ago is None:
        return f"{UNKNOWN}: no renewTime{every}"
    by = " by the holder's clock" if status.counted_by is CountedBy.WALL_CLOCK else ", as seen here"
    return f"{_about(status)}{duration(status.renewed_s_ago)} ago{by}{every}"


def _expires(status: LeaseStatus) -> str:
    lasts = f"; lasts {status.view.duration_s} s" if status.view.duration_s else ""
    left_s = status.expires_in_s
    if left_s is None:
        return f"{UNKNOWN}{lasts}{'; --watch counts renewals as they are seen' if status.skew_s else ''}"
    if left_s > 0:
        return f"in {_about(status)}{duration(left_s)}{lasts}"
    doubt = "; if the clocks agree: --watch counts for itself" if status.state is LeaseState.EXPIRED else ""
    return f"{_about(status)}{duration(-left_s)} ago{lasts}{doubt if _about(status) else ''}"


def _eni(status: LeaseStatus) -> str:
    tenure = status.view.tenure
    if tenure is None or not tenure.eni:
        return "none is managed"
    shared = f", shared with a candidate ({status.view.shared_eni})" if status.view.shared_eni else ""
    moved = "the VIPs are mapped to it" if tenure.moved else "EC2 has not yet mapped the VIPs to it"
    return f"{tenure.eni.replace(',', ', ')}: {moved}{shared}"


def _offer(status: LeaseStatus) -> str:
    offer = status.view.offer
    return f"to {clean(offer.to) or 'any standby'} ({clean(offer.why)}), id {clean(offer.id)}" if offer else "none"


def _request(status: LeaseStatus) -> str:
    asked = status.view.request
    if asked is None:
        return "none"
    return (
        f"by {clean(asked.by)}, to {clean(asked.to) or 'any standby'}, priority {asked.priority}, id {clean(asked.id)}"
    )


def _members(status: LeaseStatus, width: int) -> list[str]:
    if not status.members:
        return [f"{'Members':{width}}{'not known' if status.members is None else 'none are labelled'}"]
    rows = [("ROLE", "KIND", "NAME", "NODE", "IDENTITY")]
    for member in status.members:
        role = (member.role or NOTHING) + (",leaving" if member.leaving else "")
        rows.append((clean(role), member.kind.value, member.name, member.node or NOTHING, member.identity))
    lines = aligned(rows)
    return [f"{'Members' if number == 0 else '':{width}}{line}" for number, line in enumerate(lines)]
