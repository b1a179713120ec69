"""How a handover that was asked for goes on, told by what becomes of the Lease.

    asked ──▶ offered ──▶ taken ──▶ moved: done
      │          └──▶ withdrawn: not taken
      ├──▶ the request is gone: declined
      └──▶ another holder, another tenure, deleted: it happened for another reason

Pure: views and the moments at which they were seen go in, lines for people come out.  The watch may skip steps (it
begins anew after a failure), so each view is judged by itself.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vipd.core.model import CallFailed, LeaseAbsent, LeaseView, ReadOutcome, Request
from vipd.core.reasons import Reason


class Result(enum.StrEnum):
    """How it ended."""

    DONE = "done"
    NOT_TAKEN = "not-taken"
    """Offered, and taken back by the holder since nobody took it."""
    DECLINED = "declined"
    """The request is gone without an offer."""
    OTHERWISE = "otherwise"
    """The Lease changed hands for another reason."""
    TIME_UP = "time-up"
    INTERRUPTED = "interrupted"
    REFUSED = "refused"
    """Never asked for: it could not have gone well."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end.  Times are in seconds since the request was sent; None: it did not come to that."""

    result: Result
    reason: str
    """One sentence."""
    successor: str = ""
    offered_s: float | None = None
    taken_s: float | None = None
    moved_s: float | None = None
    """None also where no ENI is managed."""


class Progress:
    """One request.  ``asked``: the Lease as it was once the request stood in it; ``asked_at``: when that was sent."""

    def __init__(self, request: Request, asked: LeaseView, *, subject: str, asked_at: float) -> None:
        self.outcome: Outcome | None = None
        """Once it is decided."""
        self._request = request
        self._subject = subject
        self.asked_at = asked_at
        self._last = asked
        self._successor = ""
        self._taken_n = 0
        self._offered_s: float | None = None
        self._taken_s: float | None = None
        self._moved_s: float | None = None
        self._told: set[str] = set()

    @property
    def answered(self) -> bool:
        """Whether the holder has answered: there is no request any more that could be taken back."""
        return self._offered_s is not None or bool(self._successor)

    def see(self, seen: ReadOutcome, at: float) -> list[str]:
        """What is new, as lines.  ``at``: when it was seen, on the clock of ``asked_at``."""
        if self.outcome is not None:
            return []
        if isinstance(seen, CallFailed):
            return self._once(f"the Kubernetes API gives no answer, still watching: {seen.detail}")
        if isinstance(seen, LeaseAbsent):
            return self._once("the Lease was deleted; waiting for its holder to make it anew")
        if not seen.newer_than(self._last):
            return []
        self._last = seen
        if self._successor:
            return self._after_take(seen, at)
        if not seen.holder:
            return self._once(f"{self._request.holder} released it, nobody holds it")
        if (seen.holder, seen.transitions) == (self._request.holder, self._request.transitions):
            return self._before_take(seen, at)
        return self._taken(seen, at)

    def time_up(self, wait_s: float, *, note: str = "") -> Outcome:
        """The end where no more time is given.  ``note``: what became of the request."""
        return self._end(Result.TIME_UP, f"{self._standing()} after {wait_s:g} s{note}")

    def interrupted(self, *, note: str = "") -> Outcome:
        """The end where the operator stops waiting."""
        return self._end(Result.INTERRUPTED, f"interrupted: {self._standing()}{note}")

    def _before_take(self, view: LeaseView, at: float) -> list[str]:
        request, offer = self._request, view.offer
        if offer and offer.id == request.id:
            if self._offered_s is not None:
                return []
            self._offered_s = at - self.asked_at
            return [f"offered by {view.holder} after {self._offered_s:.2f} s"]
        if offer:
            return self._once(f"{view.holder} offers it already, for another reason: {offer.why or 'none told'}")
        if self._offered_s is not None:
            quiet_s = at - self.asked_at - self._offered_s
            self._end(Result.NOT_TAKEN, f"nobody took it within {quiet_s:.1f} s; {view.holder} holds it still")
        elif view.request is None:
            self._end(Result.DECLINED, f"{view.holder} holds it still, and the request is gone without an offer")
        elif view.request.id != request.id:
            self._end(Result.DECLINED, f"a request of {view.request.by} has replaced this one; {view.holder} holds it")
        return []

    def _taken(self, view: LeaseView, at: float) -> list[str]:
        request, tenure = self._request, view.tenure
        why = tenure.why if tenure else ""
        if view.holder == request.holder:
            self._end(Result.OTHERWISE, f"{view.holder} began a new tenure{_because(why)}, which ended the request")
            return []
        by_offer = self._offered_s is not None or why == Reason.OFFERED
        next_tenure = view.transitions == request.transitions + 1
        if tenure is None or not by_offer or not next_tenure or request.to not in ("", view.holder):
            kind = "" if tenure else ", which is no vipd,"
            self._end(Result.OTHERWISE, f"{view.holder}{kind} holds it now{_because(why)}, not by this request")
            return []
        self._successor, self._taken_n = view.holder, view.transitions
        self._taken_s = at - self.asked_at
        return [f"taken by {view.holder} after {self._taken_s:.2f} s", *self._after_take(view, at)]

    def _after_take(self, view: LeaseView, at: float) -> list[str]:
        if (view.holder, view.transitions) != (self._successor, self._taken_n):
            now = view.holder or "nobody"
            self._end(Result.OTHERWISE, f"{self._successor} took it, but {now} holds it now")
            return []
        if view.tenure is None or not view.tenure.moved:
            return []
        total_s, lines = at - self.asked_at, []
        if view.tenure.eni:
            self._moved_s = total_s
            lines.append(f"moved to {view.tenure.eni} after {total_s:.2f} s")
        was = self._request.holder
        self._end(Result.DONE, f"{self._subject}: now held by {self._successor} (was {was}), {total_s:.2f} s")
        return lines

    def _standing(self) -> str:
        """How far it has come."""
        holder = self._request.holder
        if self._successor:
            return f"{self._successor} has taken it, but EC2 has not mapped the VIPs to its ENI yet"
        if not self._last.holder:
            return f"{holder} released it, and nobody has taken it yet"
        if self._offered_s is not None:
            return f"{holder} offers it, and nobody has taken it yet"
        tenure = self._last.tenure
        unmoved = ": it cannot before EC2 has mapped the VIPs to its own ENI" if tenure and not tenure.moved else ""
        return f"{holder} has not offered it{unmoved}"

    def _once(self, line: str) -> list[str]:
        if line in self._told:
            return []
        self._told.add(line)
        return [line]

    def _end(self, result: Result, reason: str) -> Outcome:
        self.outcome = Outcome(result, reason, self._successor, self._offered_s, self._taken_s, self._moved_s)
        return self.outcome


def _because(why: str) -> str:
    return f" ({why})" if why else ""
