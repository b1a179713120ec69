"""Every scenario of the lab, once, with real processes, packets and clients: each keeps its promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vipd.errors import VipdError
from vipd.lab.controlplane.binaries import find
from vipd.lab.run import play, staged
from vipd.lab.scenarios import SCENARIOS

OUTAGES_S = {"api-outage": 8.0, "api-outage-and-node-loss": 6.0, "imds-down": 4.0}
"""Shorter than in the scenario, and still longer than a Lease, or than IMDS may be silent unnoticed."""


PODS = 8
"""In place of a hundred; EC2's buckets are smaller in the same measure."""

SLACK_MS = 2000.0
"""On top of promised gaps: a busy machine is no broken promise.  `vipd lab run` judges by the promise itself."""

START_SLACK_MS = 20_000.0
"""On top of what a process takes that is started, and reads all its libraries first."""


MAIN = ("sigterm", "node-loss", "handover")
"""Those that are played with a real kube-apiserver, too."""


@pytest.mark.parametrize("name", list(SCENARIOS))
async def test_it_keeps_its_promise(name, tmp_path):
    await keeps_its_promise(name, tmp_path, kube="embedded")


@pytest.mark.parametrize("name", MAIN)
async def test_it_keeps_its_promise_with_a_real_kube_apiserver(name, tmp_path):
    try:
        find()
    except VipdError as error:
        pytest.skip(str(error))
    await keeps_its_promise(name, tmp_path, kube="real")


async def keeps_its_promise(name, tmp_path, *, kube):
    scenario = SCENARIOS[name]
    setting = replace(scenario.setting, outage_s=OUTAGES_S.get(name, scenario.setting.outage_s), kube=kube)
    setting = replace(setting, pods=min(PODS, setting.pods))
    promise = scenario.promise
    if promise.gap_ms is not None:
        promise = replace(promise, gap_ms=promise.gap_ms + SLACK_MS)
    if promise.detect_ms is not None:
        slack_ms = SLACK_MS if setting.sidecars else START_SLACK_MS
        promise = replace(promise, detect_ms=promise.detect_ms + slack_ms)
    scenario = replace(scenario, promise=promise)
    async with staged(setting, folder=tmp_path) as stage:
        timeline = await play(scenario, stage, 1)
    assert timeline.result.ok, timeline.result.reason
    assert timeline.result.sent > 100
