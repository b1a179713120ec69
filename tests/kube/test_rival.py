"""vipd and client-go's own leader election want the same Lease: each respects the other's tenure.

"Inside its right" means what ``tenures`` says: the rival by its own word, cut at its Lease's duration and at its
release; vipd by the kernel's word, which is whether the VIP is on the interface.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import rivals
from api_server import RunningApi
from real_api import RealApi
from rival_faults import Campaign
from rival_program import program
from rivals import DURATION_S, VIPD, Contest, never, until
from tenures import Life, Span, Write, changes, early_takes, overlaps, rights

from vipd.errors import VipdError
from vipd.lab.sandbox import in_sandbox

CHANGES = int(os.environ.get("VIPD_RIVAL_CHANGES", "8"))
SEED = int(os.environ.get("VIPD_RIVAL_SEED", "1"))


@pytest.fixture(scope="session")
def rival_program() -> Path:
    """Skipped where it is not there and cannot be built."""
    try:
        return program()
    except VipdError as error:
        pytest.skip(str(error))


@pytest.fixture
async def contest(
    rival_program: Path, either: RunningApi | RealApi, client: Any, tmp_path: Path
) -> AsyncIterator[Contest]:
    """Both candidates have the rights of a member, and no others."""
    if not in_sandbox():
        pytest.skip("adds interfaces: run it by `make test`, in a sandbox")
    kubeconfig = either.kubeconfig(tmp_path / "contest", token=await either.member_token())
    async with rivals.contest(rival_program, kubeconfig, tmp_path, client) as players:
        yield players


def in_their_rights(contest: Contest) -> None:
    """No two holders inside their right so far, and nobody took before the other's duration was over."""
    assert overlaps(rights(contest.lives, contest.witness.writes), contest.bearings()) == []
    assert early_takes(contest.witness.writes, vipd=VIPD) == []


def taken_at_once(contest: Contest, *, by: str) -> None:
    """A Lease that was given up was taken without waiting for its duration."""
    writes = contest.witness.writes
    released = next(w for w in writes if not w.holder)
    take = next(w for w in writes if w.holder == by)
    assert 0 < take.seen_at - released.seen_at < DURATION_S - 1


async def test_vipd_does_not_take_from_a_rival_that_renews_and_takes_after_its_death(contest: Contest) -> None:
    rival = await contest.new_rival()
    await until(lambda: rival.leads, "the rival leads")
    await contest.vipd.start()
    await until(lambda: contest.vipd.said("ready to take part"), "vipd is a candidate")
    await never(lambda: contest.bears() or contest.witness.holder == VIPD, "vipd took", for_s=2 * DURATION_S)
    assert rival.leads

    rival.send(signal.SIGKILL)
    await rival.ended()
    await until(contest.bears, "vipd bears the VIP", within_s=DURATION_S + 5)
    last = [w for w in contest.witness.writes if w.holder == rival.life.identity][-1]
    take = next(w for w in contest.witness.writes if w.holder == VIPD)
    assert take.renewed_at - last.renewed_at >= DURATION_S
    assert take.transitions == last.transitions + 1
    in_their_rights(contest)


async def test_vipd_takes_at_once_what_a_rival_released(contest: Contest) -> None:
    rival = await contest.new_rival()
    await until(lambda: rival.leads, "the rival leads")
    await contest.vipd.start()
    await until(lambda: contest.vipd.said("ready to take part"), "vipd is a candidate")
    await asyncio.sleep(0.5)
    rival.send(signal.SIGTERM)
    await until(contest.bears, "vipd bears the VIP")
    taken_at_once(contest, by=VIPD)
    assert await rival.ended() == 0
    in_their_rights(contest)


async def test_a_rival_does_not_take_from_a_vipd_that_renews_and_takes_after_its_death(contest: Contest) -> None:
    await contest.vipd.start()
    await until(contest.bears, "vipd bears the VIP")
    rival = await contest.new_rival()
    await until(lambda: VIPD in rival.leaders, "the rival sees vipd lead")
    await never(lambda: rival.leads or contest.witness.holder != VIPD, "the rival took", for_s=2 * DURATION_S)
    assert contest.bears()

    contest.vipd.send(signal.SIGKILL)
    await contest.vipd.ended()
    await until(lambda: rival.leads, "the rival leads", within_s=DURATION_S + 5)
    assert not contest.bears(), "the kernel still bears the VIP of a dead vipd"
    in_their_rights(contest)


async def test_a_rival_takes_at_its_next_retry_what_vipd_released(contest: Contest) -> None:
    await contest.vipd.start()
    await until(contest.bears, "vipd bears the VIP")
    rival = await contest.new_rival()
    await until(lambda: VIPD in rival.leaders, "the rival sees vipd lead")
    contest.vipd.send(signal.SIGTERM)
    await until(lambda: rival.leads, "the rival leads")
    taken_at_once(contest, by=rival.life.identity)
    assert await contest.vipd.ended() == 0
    in_their_rights(contest)


async def test_never_two_holders_inside_their_right_whatever_becomes_of_them(contest: Contest) -> None:
    """Seeded faults (``rival_faults``) until the tenure has changed often enough.

    8 changes by default; VIPD_RIVAL_CHANGES and VIPD_RIVAL_SEED say otherwise.
    """
    campaign = Campaign(contest, Random(SEED))
    await campaign.run(CHANGES)
    print(campaign.report())
    in_their_rights(contest)
    assert changes(contest.witness.writes) >= CHANGES


# ------------------------------------------------------------------------------- the judge itself


def written(at: float, holder: str, *, transitions: int = 0) -> Write:
    return Write(at, at, int(at), holder, transitions, DURATION_S if holder else 1)


def test_the_judge_sees_two_holders() -> None:
    writes = [written(10.0, "r"), written(11.0, "r")]
    (right,) = rights([Life("r", [10.1])], writes)
    assert right == Span("r", 10.1, 14.0)
    assert [o[2] for o in overlaps([right], [Span(VIPD, 13.5, 20.0)])] == [0.5]
    assert overlaps([right], [Span(VIPD, 14.0, 20.0)]) == []


def test_the_judge_ends_a_right_at_word_death_and_release() -> None:
    writes = [written(10.0, "r"), written(11.0, "r"), written(11.5, "")]
    assert rights([Life("r", [10.1], [10.7])], writes[:2]) == [Span("r", 10.1, 10.7)]
    assert rights([Life("r", [10.1], died_at=10.5)], writes[:2]) == [Span("r", 10.1, 10.5)]
    assert rights([Life("r", [10.1], [11.6])], writes) == [Span("r", 10.1, 11.5)]


def test_the_judge_sees_a_take_that_came_too_early() -> None:
    held = [written(10.0, VIPD), written(11.2, VIPD), written(11.9, VIPD)]
    assert early_takes([*held, written(14.1, "r", transitions=1)], vipd=VIPD)
    assert early_takes([*held, written(14.3, "r", transitions=1)], vipd=VIPD) == []
    assert early_takes([*held, written(12.0, ""), written(12.1, "r", transitions=1)], vipd=VIPD) == []
    foreign = [written(11.2, "r"), written(11.9, "r")]
    assert early_takes([*foreign, written(14.3, VIPD, transitions=1)], vipd=VIPD)
