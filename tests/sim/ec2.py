"""EC2 and the VPC: which ENI each address is mapped to, and calls that change it, late, lost or refused.

An IPv4 assignment is unconditional when it is applied, whenever that is.  IPv6 has two steps and refuses what
another ENI has.  Delivery follows the mapping within a second; what IMDS shows follows within T_lag.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import vipd.aws.gate
import vipd.aws.ipv6
import vipd.aws.mover
from vipd.aws.gate import Gate, RightOver
from vipd.aws.mover import Ec2Mover
from vipd.aws.verdicts import Refusal
from vipd.core.model import Address, Assigned, AssignVerdict, Eni

from . import fibers
from .ec2noise import Ec2Noise
from .loop import ProcessLoop, Timeline, running

if TYPE_CHECKING:
    from .process import Process

READ_TIMEOUT_S = 5.0
"""The client's own (``vipd.aws.ec2``)."""

NOT_MINE = Refusal(AssignVerdict.NEVER, "InvalidParameterValue", "not assigned to this interface")
IN_USE = Refusal(AssignVerdict.NEVER, "InvalidParameterValue", "already assigned to another interface")
SILENT = Refusal(AssignVerdict.RETRY, "ReadTimeoutError", "no answer")
THROTTLED = Refusal(AssignVerdict.THROTTLED, "RequestLimitExceeded", "throttled")
FULL = Refusal(AssignVerdict.NO_ROOM, "PrivateIpAddressLimitExceeded", "full")
DENIED = Refusal(AssignVerdict.NOT_ALLOWED, "UnauthorizedOperation", "not authorized")
OUTSIDE = Refusal(AssignVerdict.NEVER, "InvalidParameterValue", "outside the subnet")
REFUSALS = {"throttled": THROTTLED, "full": FULL, "denied": DENIED, "outside": OUTSIDE}


class Vpc:
    """The mapping, its history, and where packets go."""

    def __init__(self, timeline: Timeline, rng: random.Random) -> None:
        self._timeline = timeline
        self._rng = rng
        self.owners: dict[Address, str | None] = {}
        self.delivered: dict[Address, str | None] = {}
        """Where the fabric delivers at this moment."""
        self._history: dict[Address, list[tuple[float, str | None]]] = {}
        self._delivery_due: dict[Address, float] = {}
        self.delivery_lag_s = 0.0
        self.noise = Ec2Noise()
        self.fast_s, self.slow_s = 0.2, 0.6
        self.writes = 0
        self.open_writes = 0
        """Calls that may still be applied."""
        self.changed: Callable[[], None] = lambda: None
        self.sent: Callable[[Process, str, Any], None] = lambda process, operation, key: None
        """Called for each call that changes the mapping, when it is sent."""
        self.say: Callable[..., None] = lambda *words: None

    def map(self, address: Address, eni: str | None) -> None:
        if self.owners.get(address) == eni:
            return
        now = self._timeline.now
        self.owners[address] = eni
        self._history.setdefault(address, []).append((now, eni))
        lag = self.delivery_lag_s * self._rng.random() if self.delivery_lag_s else 0.0
        due = max(now + lag, self._delivery_due.get(address, 0.0))
        self._delivery_due[address] = due
        self.say("mapping", f"{address} -> {eni}")
        if due <= now:
            self._deliver(address, eni)
        else:
            self._timeline.at(due, self._deliver, address, eni)

    def _deliver(self, address: Address, eni: str | None) -> None:
        self.delivered[address] = eni
        self.changed()

    def owner_at(self, address: Address, when: float) -> str | None:
        for at, eni in reversed(self._history.get(address, [])):
            if at <= when:
                return eni
        return None

    # ---------------------------------------------------------------------------------------- calls

    def call(
        self, process: Process, operation: str, key: Any, work: Callable[[], Any], wake: Callable[[Any], None]
    ) -> None:
        """Send one call; ``work`` is what EC2 does when it applies it, ``wake`` gets its answer."""
        loop, line, rng, noise = process.loop, process.member.line, self._rng, self.noise
        writes = operation != "Describe"
        if writes:
            self.writes += 1
            self.sent(process, operation, key)
        answer = Answer(loop, wake)
        draw = rng.random()
        latency = rng.uniform(self.fast_s, self.slow_s) * line.slowness
        if line.refusal is not None:
            self._timeline.after(latency, answer.give, line.refusal)
        elif not line.up or draw < noise.lost:
            answer.never()
        elif draw < noise.lost + noise.throttled:
            self._timeline.after(0.05, answer.give, THROTTLED)
        else:
            late = writes and draw > 1.0 - noise.late
            if late:
                latency = rng.uniform(0.5, noise.late_s)
            self.open_writes += writes
            silent = draw < noise.lost + noise.throttled + noise.unanswered
            self._timeline.after(latency, self._apply, process, work, answer, silent, writes)
            if writes:
                process.member.slowest_call_s = max(process.member.slowest_call_s, latency)
            if silent or latency >= READ_TIMEOUT_S:
                answer.never()

    def _apply(self, process: Process, work: Callable[[], Any], answer: Answer, silent: bool, writes: bool) -> None:
        self.open_writes -= writes
        outcome = work()
        if not silent:
            self._timeline.after(0.002, answer.give, outcome)

    def assign4(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        for address in addresses:
            self.map(address, eni)
        return None

    def assign6(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        if any(self.owners.get(a) not in (None, eni) for a in addresses):
            return IN_USE
        return self.assign4(eni, addresses)

    def unassign6(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        if any(self.owners.get(a) != eni for a in addresses):
            return NOT_MINE
        for address in addresses:
            self.map(address, None)
        return None


@dataclass(slots=True)
class Line:
    """One node's way to EC2."""

    up: bool = True
    refusal: Refusal | None = None
    slowness: float = 1.0
    no_room: bool = False
    """The node's ENI takes no IPv6 address more."""


class Answer:
    """What a client waits for: at most one answer, at most READ_TIMEOUT_S."""

    __slots__ = ("_given", "_loop", "_wake")

    def __init__(self, loop: ProcessLoop, wake: Callable[[Any], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._given = False

    def give(self, outcome: Any) -> None:
        if not self._given:
            self._given = True
            self._loop.call_soon(self._wake, outcome)

    def never(self) -> None:
        self._loop.call_later(READ_TIMEOUT_S, self.give, SILENT)


# ------------------------------------------------------------------ what production code finds in its place


class SimEc2:
    """In the place of ``vipd.aws.ec2.Ec2``."""

    def __init__(self, vpc: Vpc, process: Process) -> None:
        self.vpc = vpc
        self.process = process

    def close(self) -> None:
        """Nothing to give back."""


class SimCalls:
    """In the place of ``vipd.aws.calls.Calls``: the same methods, the same gate, no botocore."""

    def __init__(self, ec2: SimEc2, gate: Gate) -> None:
        self._ec2 = ec2
        self._gate = gate
        self._key = ec2.process.agent.state.holder.key
        self.under_way = ""

    def assign_ipv4(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        refusal = self._call("AssignIpv4", lambda: self._ec2.vpc.assign4(eni, addresses), eni)
        return self._confirmed(refusal, eni, addresses)

    def assign_ipv6(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        member = self._ec2.process.member
        full = eni == member.eni_id and member.line.no_room
        refusal = self._call("AssignIpv6", lambda: FULL if full else self._ec2.vpc.assign6(eni, addresses), eni)
        return self._confirmed(refusal, eni, addresses)

    def _confirmed(self, refusal: Refusal | None, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        process = self._ec2.process
        if refusal is None and eni == process.member.eni_id and self._key is not None:
            process.confirmed.update((self._key[1], address) for address in addresses)
        return refusal

    def unassign_ipv6(self, eni: str, addresses: Sequence[Address]) -> Refusal | None:
        return self._call("UnassignIpv6", lambda: self._ec2.vpc.unassign6(eni, addresses), eni)

    def ipv6_owners(self, addresses: Sequence[Address]) -> dict[Address, str] | Refusal:
        owners = self._ec2.vpc.owners
        found = self._call("Describe", lambda: {a: e for a in addresses if (e := owners.get(a)) is not None}, "")
        if not isinstance(found, Refusal):
            eni = self._ec2.process.member.eni_id
            self._confirmed(None, eni, [address for address, owner in found.items() if owner == eni])
        return found

    def addresses(self, eni: str) -> frozenset[Address] | Refusal:
        owners = self._ec2.vpc.owners
        return self._call("Describe", lambda: frozenset(a for a, owner in owners.items() if owner == eni), eni)

    def _call(self, operation: str, work: Callable[[], Any], eni: str) -> Any:
        try:
            self._gate.check()
        except RightOver:
            return Refusal(AssignVerdict.RIGHT_OVER, "right-over", f"the right ended before {operation}")
        self.under_way = operation
        ec2 = self._ec2
        word = f"{operation} {eni}".rstrip()
        answer = fibers.wait(lambda wake: ec2.vpc.call(ec2.process, word, self._key, work, wake))
        self.under_way = ""
        return answer


def _in_fiber(work: Callable[[], None], *, name: str) -> asyncio.Future[Any]:
    """In the place of ``vipd.aws.threads.in_daemon_thread``."""
    loop = running()
    future: asyncio.Future[Any] = loop.create_future()

    def done(error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)

    fiber = fibers.Fiber(work, done)
    loop.fibers.append(fiber)
    fiber.resume()
    return future


class _Time:
    """In the place of the module ``time``: the clock of the process that runs."""

    CLOCK_BOOTTIME = 0

    @staticmethod
    def clock_gettime(clock: int) -> float:
        return running().clock.now()


@contextmanager
def simulated_aws() -> Iterator[None]:
    """``vipd.aws`` runs on virtual time and on ``Vpc`` inside this block, and nothing else of it is replaced."""
    places: list[tuple[Any, str, Any]] = [
        (vipd.aws.gate, "time", _Time),
        (vipd.aws.ipv6, "time", _Time),
        (vipd.aws.mover, "Calls", SimCalls),
        (vipd.aws.mover, "in_daemon_thread", _in_fiber),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in places]
    for module, name, stand_in in places:
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for module, name, original in before:
            setattr(module, name, original)


class SimMover(Ec2Mover):
    """The production mover; attempts whose outcome is waited for are counted."""

    def __init__(self, vpc: Vpc, process: Process) -> None:
        super().__init__(SimEc2(vpc, process))  # type: ignore[arg-type]
        self._process = process

    async def assign(self, eni: Eni, addresses: Sequence[Address], **given: Any) -> Sequence[Assigned]:
        self._process.asking_ec2 += 1
        try:
            return await super().assign(eni, addresses, **given)
        finally:
            self._process.asking_ec2 -= 1


__all__ = ["REFUSALS", "Assigned", "Ec2Noise", "Eni", "Line", "SimMover", "Vpc", "simulated_aws"]
