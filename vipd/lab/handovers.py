"""Planned moves: somebody, or vipd itself, wants the VIP elsewhere while it serves; no probe is to be lost.

With an ENI the VPC goes on delivering to the old one for a while after EC2 has said OK (up to 1 s here): the old
owner must answer until then.
"""

from __future__ import annotations

import signal

from vipd.lab.promise import Promise, Scenario
from vipd.lab.setting import CHECK_PORT, Setting
from vipd.lab.stage import Stage

LAGGING = Setting(remap_lag_s=1.0)
LOW, HIGH = "a", "b"
"""The nodes by priority, in the scenario about preemption."""

PREEMPT_AFTER_S = 30.0
"""Nobody preempts before it has been ready for so long."""


async def _hand_over(stage: Stage) -> None:
    leaver, heir = stage.active, stage.standby
    stage.fault()
    await stage.hand_over("--wait", "10s")
    await stage.until_owner(heir, within_s=5)
    # IMDS may lag by 10 s, so its "gone" is believed only then.
    await stage.until_withdrawn(leaver, within_s=15)


async def _hand_over_ipv6(stage: Stage) -> None:
    heir = stage.standby
    stage.fault()
    await stage.hand_over("--wait", "10s")
    await stage.until_owner(heir, within_s=5)


async def _preempt(stage: Stage) -> None:
    if stage.active == HIGH:
        stage.signal(HIGH, signal.SIGTERM)
        await stage.until_owner(LOW, within_s=5)
        await stage.until_exit(HIGH, within_s=28)
    started_at = stage.now()
    await stage.restart(HIGH)
    await stage.until_standby(HIGH, within_s=15)
    stage.recast(LOW)
    stage.fault()
    await stage.until_owner(HIGH, within_s=PREEMPT_AFTER_S + 10)
    stage.require_no_take_before(HIGH, started_at + PREEMPT_AFTER_S)
    await stage.until_withdrawn(LOW, within_s=15)


async def _check_fails(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.fault()
    stage.set_health(victim, well=False)
    await stage.until_owner(heir, within_s=12)
    await stage.until_withdrawn(victim, within_s=15)
    stage.set_health(victim, well=True)
    await stage.restart(victim)


PLANNED = (
    Scenario(
        "handover",
        "an operator hands over with 'vipd handover'; the VPC delivers up to 1 s late",
        Promise("0 probes lost", lost=0, owner_changes=True),
        _hand_over,
        LAGGING,
    ),
    Scenario(
        "handover-ipv6",
        "the same with an IPv6 VIP (no atomic move in EC2)",
        Promise("gap ≤ the EC2 calls + the VPC's lag (1 s)", gap_ms=1000.0, owner_changes=True),
        _hand_over_ipv6,
        Setting(families=(6,), remap_lag_s=1.0),
    ),
    Scenario(
        "handover-l2",
        "the same without an ENI, on a plain L2 segment",
        Promise("gap ≤ 30 ms, never two owners", gap_ms=30.0, owner_changes=True),
        _hand_over,
        Setting(fabric="bridge"),
    ),
    Scenario(
        "preempt",
        "a standby of higher priority with --preempt has become ready; the VPC delivers up to 1 s late",
        Promise("0 probes lost; not before 30 s of readiness", lost=0, owner_changes=True),
        _preempt,
        Setting(remap_lag_s=1.0, node_arguments={HIGH: ("--priority", "200", "--preempt")}),
    ),
    Scenario(
        "check-fails",
        "the active node's application fails its health check, but answers still; the VPC delivers up to 1 s late",
        Promise("0 probes lost", lost=0, owner_changes=True),
        _check_fails,
        Setting(remap_lag_s=1.0, arguments=("--check", f"http://127.0.0.1:{CHECK_PORT}/")),
    ),
)
