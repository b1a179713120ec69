"""``vipd handover``: asks the holder of a Lease to hand it over, and follows what becomes of it.

The Lease is watched before anything is asked, so that no step is missed and each is timed when it arrives, all on
one monotonic clock.  A request that was not answered is taken back; nothing is left behind but a changed holder.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vipd.core.annotations import REQUEST, render_request
from vipd.core.model import (
    OPERATOR_PRIORITY,
    CallFailed,
    CallFailure,
    Conflict,
    LeaseAbsent,
    LeaseView,
    ReadOutcome,
    Request,
    Tenure,
    Written,
)
from vipd.errors import KubeError, TimeUp, VipdError
from vipd.kube.leases import KubeLeases
from vipd.kube.preflight import explain
from vipd.kube.roster import read_roster
from vipd.operate.candidates import successor, willing
from vipd.operate.lease_status import LeaseState, lease_status
from vipd.operate.progress import Outcome, Progress, Result

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

CALL_S = 2.0
"""Time limit of one call, in seconds."""

RETRY_S = 0.1

TAKE_BACK_S = 5.0
"""How long it is tried to take a request back."""

PATIENCE_S = 10.0
"""The longest wait for a renewal of a holder whose Lease seems expired."""

FINAL = frozenset({CallFailure.FORBIDDEN, CallFailure.UNAUTHORIZED, CallFailure.INVALID})
"""Refusals: asking again would not help."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator asks for."""

    namespace: str
    lease: str
    by: str
    """Who asks."""
    to: str = ""
    """An identity, the name of a Pod or of a Node; empty: any ready standby."""
    wait_s: float = 10.0
    force: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    outcome: ReadOutcome
    at: float


class _Stop:
    """The operator does not want to wait any longer."""


class Handover:
    """One handover; ``run`` may be called once.  ``say`` is given each step as a line."""

    def __init__(self, client: ApiClient, wish: Wish, *, say: Say) -> None:
        self.holder = ""
        """Who held it when it was asked for."""
        self.asked_for = ""
        """The identity that the request names."""
        self.vips: tuple[str, ...] = ()
        self.request_id = uuid.uuid4().hex[:12]
        self._client = client
        self._host = str(client.configuration.host)
        self._wish = wish
        self._say = say
        self._store = KubeLeases(client, namespace=wish.namespace, name=wish.lease)
        self._inbox: asyncio.Queue[_Seen | _Stop] = asyncio.Queue()
        self._stopped = False

    def stop(self) -> None:
        """Do not wait any longer: take the request back and end."""
        self._inbox.put_nowait(_Stop())

    async def run(self) -> Outcome:
        """From the first look to the end.  Raises VipdError where nothing was asked for, with why."""
        pump = asyncio.create_task(self._pump())
        try:
            view = await self._judged()
            if view is None or self._stopped:
                return Outcome(Result.INTERRUPTED, "interrupted before anything was asked for")
            return await self._follow(await self._ask(view))
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self) -> None:
        async with aclosing(self._store.watch()) as seen:
            async for outcome in seen:
                self._inbox.put_nowait(_Seen(outcome, time.monotonic()))

    async def _next(self, deadline: float) -> _Seen | None:
        """What is seen next; None at the deadline, and once the operator does not want to wait any longer."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                item = await self._inbox.get()
        except TimeoutError:
            return None
        if isinstance(item, _Stop):
            self._stopped = True
            return None
        return item

    # ------------------------------------------------------------------------------- before asking

    async def _judged(self) -> LeaseView | None:
        """The Lease, once nothing speaks against asking its holder; None once told to stop.  Raises VipdError."""
        view = await self._first()
        if view is None:
            return None
        tenure = willing(view, named=self._named(), by=self._wish.by)
        self.holder, self.vips = view.holder, tenure.vips
        view = await self._alive(view, tenure)
        roster = await read_roster(
            self._client, namespace=self._wish.namespace, lease=self._wish.lease, timeout_s=CALL_S
        )
        self.asked_for, note = successor(
            tenure,
            roster,
            namespace=self._wish.namespace,
            lease=self._wish.lease,
            wish=self._wish.to,
            force=self._wish.force,
        )
        if note:
            self._say(note)
        return view

    async def _first(self) -> LeaseView | None:
        item = await self._next(time.monotonic() + 2 * CALL_S)
        if item is not None:
            return self._present(item.outcome)
        if self._stopped:
            return None
        raise KubeError(f"The Kubernetes API at {self._host} does not answer in time.")

    def _present(self, found: ReadOutcome) -> LeaseView:
        """Raises KubeError where there is no Lease, or it cannot be read."""
        if isinstance(found, LeaseAbsent):
            raise KubeError(f"{self._named()} does not exist")
        if isinstance(found, CallFailed):
            raise KubeError(explain(self._host, found))
        return found

    async def _alive(self, view: LeaseView, tenure: Tenure) -> LeaseView:
        """The Lease, once its holder is known to renew: where the clocks deny it, a renewal must be seen."""
        status = lease_status(view, None, wall=datetime.now(UTC))
        if status.state is not LeaseState.EXPIRED and not status.skew_s:
            return view
        patience_s = min(2 * tenure.interval_s + 0.5, PATIENCE_S)
        deadline = time.monotonic() + patience_s
        while (item := await self._next(deadline)) is not None:
            if isinstance(item.outcome, LeaseView) and item.outcome.content != view.content:
                self._same(item.outcome)
                return item.outcome
        if self._stopped:
            return view
        raise VipdError(
            f"nobody holds {self._named()}: {view.holder} does not renew it (not within {patience_s:g} s, "
            f"though it should every {tenure.interval_s:g} s)"
        )

    def _same(self, view: LeaseView) -> None:
        """Raises VipdError where another one holds it by now: whom the operator saw is not asked any more."""
        if view.holder != self.holder:
            raise VipdError(
                f"{self.holder} held it a moment ago, {view.holder or 'nobody'} does now; nothing was asked"
            )

    # -------------------------------------------------------------------------------------- asking

    async def _ask(self, view: LeaseView) -> Progress:
        """Write the request.  Raises TimeUp where that does not succeed in time, VipdError where it cannot."""
        sent_at, unsure = time.monotonic(), ""
        deadline = sent_at + self._wish.wait_s
        while True:
            request = Request(
                view.holder,
                view.transitions,
                id=self.request_id,
                by=self._wish.by,
                to=self.asked_for,
                priority=OPERATOR_PRIORITY,
            )
            # A write of unknown fate may be the one that is answered.
            sent_at = sent_at if unsure else time.monotonic()
            wrote = await self._store.annotate(view, {REQUEST: render_request(request)}, timeout_s=CALL_S)
            if isinstance(wrote, Written):
                return self._progress(request, wrote.view, sent_at)
            if isinstance(wrote, CallFailed):
                if wrote.failure in FINAL:
                    raise self._not_written(wrote)
                unsure = wrote.detail
                await asyncio.sleep(RETRY_S)
            if time.monotonic() >= deadline:
                doubt = f"; it may stand in the Lease all the same: {unsure}" if unsure else ""
                raise TimeUp(f"the request could not be written within {self._wish.wait_s:g} s{doubt}")
            found = await self._store.read(timeout_s=CALL_S)
            if isinstance(found, CallFailed):
                await asyncio.sleep(RETRY_S)
                continue
            found = self._present(found)
            if unsure and self._moved_on(view, found):
                # The watch has seen it step by step.
                return self._progress(request, view, sent_at)
            self._same(found)
            willing(found, named=self._named(), by=self._wish.by)
            view = found

    def _progress(self, request: Request, asked: LeaseView, sent_at: float) -> Progress:
        self._say(f"asked {request.holder} to hand over to {request.to or 'any ready standby'}")
        return Progress(request, asked, subject=", ".join(self.vips) or self._wish.lease, asked_at=sent_at)

    def _moved_on(self, base: LeaseView, view: LeaseView) -> bool:
        """Whether a write of unknown fate may have been applied: it stands there, or has been answered since."""
        mine = self.request_id in (view.request and view.request.id, view.offer and view.offer.id)
        return mine or (base.holder, base.transitions) != (view.holder, view.transitions)

    def _not_written(self, failed: CallFailed) -> KubeError:
        if failed.failure is not CallFailure.FORBIDDEN:
            return KubeError(f"the request cannot be written into {self._named()}: {failed.detail}")
        rule = '{apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["patch"]}'
        return KubeError(f"Not allowed to patch {self._named()} ({failed.detail}): your Role needs the rule {rule}")

    def _named(self) -> str:
        return f"the Lease {self._wish.namespace}/{self._wish.lease}"

    # ----------------------------------------------------------------------------------- following

    async def _follow(self, progress: Progress) -> Outcome:
        deadline = progress.asked_at + self._wish.wait_s
        while progress.outcome is None:
            item = await self._next(deadline)
            if item is None:
                return await self._give_up(progress)
            self._tell(progress, item.outcome, item.at)
        return progress.outcome

    async def _give_up(self, progress: Progress) -> Outcome:
        note = "" if progress.answered else await self._take_back(progress)
        if progress.outcome is not None:
            return progress.outcome
        return progress.interrupted(note=note) if self._stopped else progress.time_up(self._wish.wait_s, note=note)

    async def _take_back(self, progress: Progress) -> str:
        """Remove the own request, unless the Lease has moved on.  What became of it."""
        deadline = time.monotonic() + TAKE_BACK_S
        while time.monotonic() < deadline:
            found = await self._store.read(timeout_s=CALL_S)
            self._tell(progress, found, time.monotonic())
            if isinstance(found, LeaseView):
                if found.request is None or found.request.id != self.request_id:
                    return ""
                wrote = await self._store.annotate(found, {REQUEST: None}, timeout_s=CALL_S)
                if isinstance(wrote, Written):
                    return "; the request is taken back"
                if isinstance(wrote, Conflict):
                    continue
            elif isinstance(found, LeaseAbsent):
                return ""
            await asyncio.sleep(RETRY_S)
        return "; the request could not be taken back and may be answered yet"

    def _tell(self, progress: Progress, seen: ReadOutcome, at: float) -> None:
        for line in progress.see(seen, at):
            self._say(line)
