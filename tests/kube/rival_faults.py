"""Faults that make the Lease change hands between vipd and a client-go rival, drawn from a seed.

Each step does something to the holder, gives the other time to take, and puts right what was done:

- "told": SIGTERM; it releases and ends, and is started again;
- "killed": SIGKILL; it is started again once the other holds;
- "restarted": SIGKILL and started again at once: vipd goes on with its tenure, or has lost it; the rival is a new
  candidate, and the other may be faster;
- "frozen": SIGSTOP for longer than the Lease lasts, then SIGCONT;
- "frozen, told": SIGSTOP, SIGTERM, and SIGCONT when it has lost the Lease.  client-go then releases what it believes to
  hold, without a look at whose it is: it clears vipd's tenure, and vipd has to take the Lease again.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from random import Random

from rivals import DURATION_S, VIPD, Contest, Rival, Vipd, until
from tenures import changes, overlaps, rights

TAKEN_S = DURATION_S + 12.0
FAULTS = {"told": 4, "killed": 3, "restarted": 2, "frozen": 3, "frozen, told": 1}


class Campaign:
    """``run`` until the tenure has changed so many times; ``report`` says what happened, in one line each."""

    def __init__(self, contest: Contest, random: Random) -> None:
        self._contest = contest
        self._random = random
        self._done: Counter[str] = Counter()
        self._steps = 0

    async def run(self, wanted: int) -> None:
        """Fails where the Lease does not change hands any more."""
        await self._contest.vipd.start()
        await self._contest.new_rival()
        await self._settled()
        while self._changed() < wanted:
            assert self._steps < 3 * wanted + 10, "the faults change nothing"
            self._steps += 1
            await self._step()
        await self._settled()

    def _changed(self) -> int:
        return changes(self._contest.witness.writes)

    async def _step(self) -> None:
        await asyncio.sleep(self._random.uniform(0, 1.2))
        fault = self._random.choices(list(FAULTS), list(FAULTS.values()))[0]
        victim = self._holder()
        self._done[f"{'vipd' if isinstance(victim, Vipd) else 'rival'} {fault}"] += 1
        match fault:
            case "told":
                victim.send(signal.SIGTERM)
                await self._taken_from(victim)
                assert await victim.ended() == 0
            case "killed":
                victim.send(signal.SIGKILL)
                await victim.ended()
                await self._taken_from(victim)
            case "restarted":
                victim.send(signal.SIGKILL)
                await victim.ended()
                await self._revive()
            case "frozen":
                victim.send(signal.SIGSTOP)
                await asyncio.sleep(DURATION_S + self._random.uniform(0.2, 1.0))
                await self._taken_from(victim)
                victim.send(signal.SIGCONT)
            case "frozen, told":
                victim.send(signal.SIGSTOP)
                victim.send(signal.SIGTERM)
                await self._taken_from(victim)
                victim.send(signal.SIGCONT)
                assert await victim.ended() == 0
        await self._settled()

    async def _taken_from(self, victim: Rival | Vipd) -> None:
        name = VIPD if isinstance(victim, Vipd) else victim.life.identity
        await until(lambda: self._contest.witness.holder not in ("", name), f"taken from {name}", within_s=TAKEN_S)

    async def _revive(self) -> None:
        """Whoever has ended is started again; a rival that lost the Lease ends by itself."""
        contest = self._contest
        if not contest.vipd.runs:
            await contest.vipd.start()
        if contest.rival is None or not contest.rival.runs:
            if contest.rival is not None:
                await contest.rival.ended()
            await contest.new_rival()

    def _holder(self) -> Rival | Vipd:
        contest = self._contest
        if contest.witness.holder == VIPD:
            return contest.vipd
        assert contest.rival is not None
        return contest.rival

    def _held(self) -> bool:
        """The Lease's holder runs and has what it holds: the VIP, or its word."""
        contest, rival = self._contest, self._contest.rival
        if contest.witness.holder == VIPD:
            return contest.vipd.ready and contest.bears()
        return rival is not None and rival.leads and contest.witness.holder == rival.life.identity

    async def _settled(self) -> None:
        """Somebody holds, and the other one is a candidate: a rival that lost the Lease ends once it finds out."""
        await self._revive()
        await until(self._held, "somebody holds", within_s=TAKEN_S)
        rival = self._contest.rival
        if self._contest.witness.holder == VIPD and rival is not None and rival.life.started_at:
            await rival.ended()
            await self._revive()

    def report(self) -> str:
        """What was done, and how long words outlived rights (which client-go does not exclude)."""
        contest = self._contest
        writes, bearings = contest.witness.writes, contest.bearings()
        words = [word for life in contest.lives if (word := life.word()) is not None]
        late = [length for _, _, length in overlaps(words, bearings)]
        longest = max(late, default=0)
        lines = [
            f"{self._changed()} changes of tenure in {self._steps} steps, {len(writes)} writes, "
            f"{len(contest.lives)} rivals, {len(bearings)} bearings of the VIP",
            *(f"  {count:4d}  {name}" for name, count in sorted(self._done.items())),
            f"two holders inside their right: {len(overlaps(rights(contest.lives, writes), bearings))}",
            f"the rival's word outlived its right while vipd bore: {len(late)} times, at most {longest:.3f} s",
        ]
        return "\n".join(lines)
