"""Maps addresses to an ENI: one unconditional attempt, bounded by the right to act.

Guarantees
1. No request of an attempt is sent after ``right_until()``, nor after the attempt was given up or cancelled.
2. Nobody waits beyond ``right_until()``.  A request under way then may still be applied: RIGHT_OVER says so.
3. A hung call blocks neither the next attempt nor the end of the process.
4. IPv4 and IPv6 move at the same time; one bad address does not sink the rest.
5. No release overtakes a later assignment of the same address: that waits for its end.  Nor is an address released
   while an assignment of it is under way.
"""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vipd.aws.batch import split
from vipd.aws.calls import Calls
from vipd.aws.ec2 import Ec2
from vipd.aws.gate import Gate
from vipd.aws.ipv6 import Ipv6Move, Memory
from vipd.aws.release import release
from vipd.aws.threads import in_daemon_thread
from vipd.core.model import Address, Assigned, AssignVerdict, Eni

LOOK_S = 0.05
"""How often a wait looks at the right again: it may move on, and it may be voided at once."""

MAX_OPEN = 16
"""Worker threads that may be stuck at once.  Each ends by its own timeouts; only name resolution has none."""


Report = Callable[[Assigned], None]
Work = Callable[[Calls, Sequence[Address], Report], None]
"""Blocks; reports each address exactly once."""


class _Kind(enum.StrEnum):
    ASSIGN = "assign"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker thread is at."""

    gate: Gate
    kind: _Kind
    addresses: frozenset[Address]


class Ec2Mover:
    """The ``Mover`` and the ``Releaser`` of ``vipd.core.ports`` on EC2."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2
        self._memory = Memory()
        self._open: dict[asyncio.Future[None], _Job] = {}

    async def warm(self, *, timeout_s: float = 30.0) -> None:
        """Prepare client and credentials ahead of need; again every minute or so.  Raises AwsError."""
        await self._ec2.warm(timeout_s=timeout_s)

    async def check_credentials(self, *, timeout_s: float = 10.0) -> None:
        """Raises AwsError where there are no AWS credentials, with what was looked at and what to do."""
        await self._ec2.check_credentials(timeout_s=timeout_s)

    async def assign(
        self,
        eni: Eni,
        addresses: Sequence[Address],
        *,
        right_until: Callable[[], float],
        previous: frozenset[str] = frozenset(),
    ) -> Sequence[Assigned]:
        """See ``Mover.assign``.  ``right_until`` is called from worker threads too: it only reads.

        Where several addresses are given the outcomes come together, in their order.
        """

        def ipv4(calls: Calls, part: Sequence[Address], report: Report) -> None:
            _move_ipv4(calls, eni.id, part, report)

        def ipv6(calls: Calls, part: Sequence[Address], report: Report) -> None:
            Ipv6Move(calls, self._memory, to=eni.id, hints=previous, report=report).run(part)

        return await self._attempt(addresses, Gate(right_until), {4: ipv4, 6: ipv6}, wait_for=_Kind.RELEASE)

    async def release(
        self, eni: Eni, addresses: Sequence[Address], *, right_until: Callable[[], float]
    ) -> Sequence[Assigned]:
        """See ``Releaser.release``."""

        def work(calls: Calls, part: Sequence[Address], report: Report) -> None:
            release(calls, eni.id, part, report)

        return await self._attempt(addresses, Gate(right_until), {4: work, 6: work}, wait_for=_Kind.ASSIGN)

    async def close(self) -> None:
        """Nothing more is sent; requests under way are left to themselves."""
        for job in self._open.values():
            job.gate.close()
        self._ec2.close()

    async def _attempt(
        self, addresses: Sequence[Address], gate: Gate, work: Mapping[int, Work], *, wait_for: _Kind
    ) -> list[Assigned]:
        """One attempt, both families at the same time, after calls of the other kind for the same addresses."""
        if gate.remaining_s() <= 0:
            return [_right_over(a, "nothing was sent") for a in addresses]
        await _while_right_lasts(self._in_the_way(addresses, wait_for), gate)
        results: dict[Address, Assigned] = {}

        def report(outcome: Assigned) -> None:
            results[outcome.address] = outcome

        if len(self._open) + 2 > MAX_OPEN:
            return [_too_many(a) for a in addresses]
        kind = _Kind.ASSIGN if wait_for is _Kind.RELEASE else _Kind.RELEASE
        jobs, calls = [], {4: Calls(self._ec2, gate), 6: Calls(self._ec2, gate)}
        for version in (4, 6):
            part = [a for a in addresses if a.version == version]
            begin = functools.partial(work[version], calls[version], part, report)
            try:
                if part:
                    jobs.append(self._start(begin, _Job(gate, kind, frozenset(part)), name=f"{kind}-ipv{version}"))
            except OSError as error:
                results.update((a, Assigned(a, AssignVerdict.RETRY, "no-thread", str(error))) for a in part)
        try:
            await _while_right_lasts(jobs, gate)
        finally:
            under_way = {version: each.under_way for version, each in calls.items()}
            gate.close()
        return [results.get(a) or _right_over(a, _open_call(under_way[a.version])) for a in addresses]

    def _start(self, begin: Callable[[], None], what: _Job, *, name: str) -> asyncio.Future[None]:
        job = in_daemon_thread(begin, name=name)
        self._open[job] = what
        job.add_done_callback(lambda done: self._open.pop(done, None))
        return job

    def _in_the_way(self, addresses: Sequence[Address], kind: _Kind) -> list[asyncio.Future[None]]:
        return [f for f, job in self._open.items() if job.kind is kind and not job.addresses.isdisjoint(addresses)]


async def _while_right_lasts(jobs: Sequence[asyncio.Future[None]], gate: Gate) -> None:
    """Wait for the jobs, no longer than the right; raises what a job raised (a bug, not an answer of EC2)."""
    pending: set[asyncio.Future[Any]] = set(jobs)
    while pending and (left := gate.remaining_s()) > 0:
        done, pending = await asyncio.wait(pending, timeout=min(left, LOOK_S))
        for job in done:
            job.result()


def _move_ipv4(calls: Calls, eni: str, addresses: Sequence[Address], report: Report) -> None:
    for address, refusal in split(lambda part: calls.assign_ipv4(eni, part), addresses).items():
        if refusal is None:
            report(Assigned(address, AssignVerdict.OK))
        else:
            report(Assigned(address, refusal.verdict, refusal.code, refusal.detail))


def _open_call(operation: str) -> str:
    return f"{operation} is under way and may still be applied" if operation else "no request was under way"


def _right_over(address: Address, detail: str) -> Assigned:
    return Assigned(address, AssignVerdict.RIGHT_OVER, "right-over", f"the right to act ended: {detail}")


def _too_many(address: Address) -> Assigned:
    detail = f"{MAX_OPEN} earlier calls to EC2 have not ended (name resolution hangs?)"
    return Assigned(address, AssignVerdict.RETRY, "too-many-open-calls", detail)
