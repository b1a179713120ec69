"""Members elect one owner at the lab's API and at a real one, through all that API servers do.

Every test ends with ``judge``: never two owners, no write lost, none doubled.  Tokens are those of a ServiceAccount
with nothing but the rights that the examples grant.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from live_members import VIP, Group, Member, Witness, group_at

from vipd.core.model import CallFailure

Watched = tuple[Group, Witness]


@pytest.fixture
async def watched(either: Any, tmp_path: Path) -> AsyncIterator[Watched]:
    """A group whose requests suffer the API's faults; the witness's do not."""
    config = either.faulty_kubeconfig(tmp_path / "member", token=await either.member_token())
    async with group_at(config, witness_at=either.kubeconfig(tmp_path / "witness")) as pair:
        yield pair


async def owner_and_standby(group: Group) -> tuple[Member, Member]:
    """Two members, the first of which owns the VIP."""
    await group.start("a")
    owner = await group.owned_by("a")
    standby = await group.start("b")
    await group.until("b stands by", lambda: standby.changes[-1:] != [] or standby.agent.state.lease.view, within_s=5)
    return owner, standby


async def test_one_takes_and_renews_and_the_standby_sends_nothing(watched: Watched, either: Any) -> None:
    group, witness = watched
    owner, standby = await owner_and_standby(group)
    await asyncio.sleep(4)
    assert owner.loud
    assert not standby.store.written
    assert {each.holder for each in witness.seen} == {"a"}
    # An idle owner writes once an interval; an idle standby reads once and opens one watch.
    assert 4 <= len(witness.seen) <= 10


async def test_who_leaves_hands_over(watched: Watched) -> None:
    group, witness = watched
    owner, _ = await owner_and_standby(group)
    leaving = asyncio.create_task(owner.leave())
    await group.owned_by("b", within_s=5)
    assert await leaving == 0
    assert VIP not in owner.kernel.there
    assert [holder for _, holder in witness.tenures] == ["a", "b"]


async def test_who_dies_is_followed_when_its_lease_is_over(watched: Watched) -> None:
    group, witness = watched
    owner, standby = await owner_and_standby(group)
    await owner.die()
    died_at = asyncio.get_running_loop().time()
    await group.owned_by("b", within_s=8)
    # The last renewal is at most an interval old when the owner dies.
    assert asyncio.get_running_loop().time() - died_at > group.duration_s - group.duration_s / 3 - 0.3
    assert standby.changes[-1][0] == "active"
    assert [holder for _, holder in witness.tenures] == ["a", "b"]


async def test_of_many_that_start_at_once_one_takes(watched: Watched) -> None:
    group, witness = watched
    names = [f"m{number}" for number in range(5)]
    await asyncio.gather(*(group.start(name) for name in names))
    await group.until("one owns the VIP", lambda: any(m.loud for m in group.members.values()), within_s=10)
    await asyncio.sleep(2)
    assert len(witness.tenures) == 1


FAULTS: dict[str, dict[str, Any]] = {
    "throttled": {"status": 429, "retry_after_s": 1},
    "internal": {"status": 500},
    "timeout": {"status": 504},
    "unanswered": {"drop": True},
    "late-answers": {"after_s": 0.7},
    "late-writes": {"before_s": 0.7},
}


async def test_requests_that_fail_now_and_then_cost_nobody_the_lease(either: Any, tmp_path: Path) -> None:
    """Each fault hits four in ten of the requests about one Lease; all Leases at the same time."""
    await asyncio.gather(*(_suffer(either, tmp_path, name, fault) for name, fault in FAULTS.items()))


async def _suffer(either: Any, folder: Path, name: str, fault: dict[str, Any]) -> None:
    config = either.faulty_kubeconfig(folder / f"{name}-member", token=await either.member_token())
    witness_at = either.kubeconfig(folder / f"{name}-witness")
    async with group_at(config, witness_at=witness_at, lease=name) as (group, witness):
        owner, _ = await owner_and_standby(group)
        if "status" in fault:
            # These are refused before anything is carried out: not one write may be doubled.
            group.refusals |= {CallFailure.SERVER}
        before = len(witness.seen)
        verbs = {"get", "update", "create", "patch"}
        with either.faults.during(verbs=verbs, names={name}, chance=0.4, **fault):
            await asyncio.sleep(8)
        await asyncio.sleep(1.5)
        assert owner.loud
        assert len(witness.tenures) == 1
        assert len(witness.seen) - before >= 5


async def test_an_api_server_that_restarts_costs_nobody_the_lease(watched: Watched, either: Any) -> None:
    """It is away for longer than the Lease lasts, and has forgotten the past of all watches when it is back."""
    group, witness = watched
    owner, standby = await owner_and_standby(group)
    await either.restart()
    await group.owned_by("a", within_s=10)
    await asyncio.sleep(group.duration_s + 1)
    assert {holder for _, holder in witness.tenures} == {"a"}, (owner.changes, standby.changes)
    assert not standby.store.written
    # A loop that a busy machine stalled is quiet until it has renewed: soon, not at every instant.
    await group.owned_by("a", within_s=group.duration_s)
    await owner.die()
    await group.owned_by("b", within_s=8)


async def test_watches_that_end_or_break_hide_no_death(watched: Watched, either: Any) -> None:
    """410 for each watch from a version that is gone, then streams that never open; reads go on."""
    group, _ = watched
    owner, _ = await owner_and_standby(group)
    with either.faults.during(verbs={"watch"}, status=410):
        group.members["b"].store.rewatch()
        await asyncio.sleep(1)
        await owner.die()
        await group.owned_by("b", within_s=8)


async def test_a_token_is_replaced_before_and_after_it_is_worth_nothing(
    either: Any, tmp_path: Path, watched: Watched
) -> None:
    group, witness = watched
    first, token_file = await either.member_token(), tmp_path / "token"
    token_file.write_text(first)
    document = json.loads(either.kubeconfig(tmp_path / "rotating", token=first).read_text())
    document["users"][0]["user"] = {"tokenFile": str(token_file)}
    (tmp_path / "rotating").write_text(json.dumps(document))
    await group.start("a", kubeconfig=tmp_path / "rotating")
    owner = await group.owned_by("a")
    second = await either.member_token()
    token_file.write_text(second)
    await asyncio.sleep(1.2)
    await either.revoke(first)
    await asyncio.sleep(1.2)
    assert not _refused(owner)
    await either.revoke(second)
    await group.until("its token is refused", lambda: _refused(owner), within_s=15)
    token_file.write_text(await either.member_token())
    count = len(witness.seen)
    await group.until("it renews again", lambda: len(witness.seen) > count + 1, within_s=5)
    assert owner.loud
    assert len(witness.tenures) == 1


def _refused(member: Member) -> bool:
    """Whether a write was refused for its token; on a busy machine others may time out."""
    return any(failed.failure is CallFailure.UNAUTHORIZED for failed in member.store.failures)
