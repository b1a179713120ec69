"""``vipd status`` and ``vipd handover`` with an operator's rights, at the lab's API and at a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from commands import ended, vipd
from lease_players import B, Players

LEASE = "web-vip"


async def standby(either: Any) -> str:
    """A Pod that bears a ready standby's labels; its identity."""
    labels = {"vipd.io/lease": LEASE, "vipd.io/role": "standby"}
    made = await either.put_pod({"metadata": {"name": "web-1", "labels": labels}})
    return f"web-1_{made['metadata']['uid']}"


async def test_a_handover_is_followed_to_the_move(either: Any, client: Any, tmp_path: Path) -> None:
    players = Players(client)
    await players.begin()
    heir = await standby(either)
    config = either.kubeconfig(tmp_path / "ops", token=await either.operator_token())

    async def give_way(them: Players) -> None:
        offered = await them.offer(await them.requested())
        await them.moved(await them.take(offered, heir))

    async with players.acting(give_way):
        code, out, err = await ended(await vipd(config, "handover", LEASE, "--to", "web-1"))
    assert code == 0, err
    assert heir in out
    assert (await players.seen()).request is None


async def test_status_tells_the_holder_and_the_members(either: Any, client: Any, tmp_path: Path) -> None:
    players = Players(client)
    await players.begin(B)
    heir = await standby(either)
    config = either.kubeconfig(tmp_path / "ops", token=await either.operator_token())
    code, out, err = await ended(await vipd(config, "status", "-o", "json"))
    assert code == 0, err
    (told,) = json.loads(out)
    assert (told["name"], told["holder"], told["vips"]) == (LEASE, B, ["10.0.1.100"])
    assert [member["identity"] for member in told["members"]] == [heir]


async def test_who_may_not_look_is_told_the_right_that_is_missing(either: Any, tmp_path: Path) -> None:
    config = either.kubeconfig(tmp_path / "member", token=await either.member_token())
    code, _, err = await ended(await vipd(config, "status"))
    assert code == 1
    assert "list" in err
    assert "leases" in err
