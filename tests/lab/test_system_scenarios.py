"""Every scenario of the lab, once, with real processes, packets and clients: each keeps its promise."""

from __future__ import annotations

import pytest

from vipd.lab.run import play, staged
from vipd.lab.scenarios import SCENARIOS


@pytest.mark.parametrize("name", list(SCENARIOS))
async def test_it_keeps_its_promise(name, tmp_path):
    scenario = SCENARIOS[name]
    async with staged(scenario.setting, folder=tmp_path) as stage:
        timeline = await play(scenario, stage, 1)
    assert timeline.result.ok, timeline.result.reason
    assert timeline.result.sent > 100
