"""``vipd status`` and ``vipd handover`` against running members: what an operator sees and does in a planned move."""

from __future__ import annotations

import json

from vipd.lab.operator import run_vipd
from vipd.lab.run import staged
from vipd.lab.setting import Setting
from vipd.lab.topology import LEASE


async def test_an_operator_sees_the_lease_and_hands_it_over_without_a_lost_probe(tmp_path):
    async with staged(Setting(), folder=tmp_path) as stage:
        before, after = stage.node(stage.active), stage.node(stage.standby)
        code, out, err = await run_vipd(stage.lab, "status", "-o", "json")
        assert (code, err) == (0, "")
        [found] = json.loads(out)
        assert (found["name"], found["holder"], found["state"]) == (LEASE, before.identity, "held")
        assert (found["vips"], found["moved"]) == ([str(vip) for vip in stage.vips], True)
        assert {(member["identity"], member["role"]) for member in found["members"]} == {
            (before.identity, "active"),
            (after.identity, "standby"),
        }
        stage.fault()
        code, out, err = await run_vipd(stage.lab, "handover", LEASE, "--to", after.pod, "-o", "json")
        assert (code, err) == (0, ""), out
        done = json.loads(out)
        assert (done["from"], done["to"], done["result"]) == (before.identity, after.identity, "done")
        assert 0 < done["offered_s"] <= done["taken_s"] <= done["moved_s"] < 5
        await stage.until_owner(after.name, within_s=5)
        code, out, _ = await run_vipd(stage.lab, "status", "--lease", LEASE, "-o", "json")
        found = json.loads(out)
        assert (code, found["holder"], found["reason"]) == (0, after.identity, "offered")
        # A probe counts as lost after a second.
        await stage.pause(1.5)
        windows = [log.window(stage.fault_at, stage.now() - 1.2) for log in stage.lab.probes.values()]
        assert [(window.lost, window.last_who) for window in windows] == [(0, after.name)]
