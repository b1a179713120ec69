"""Plays scenarios: builds a lab, sets the stage, brings about the fault, measures, and judges the promise.

One lab serves all rounds of a scenario: after each round what was broken is put back, and the next one starts
from whoever serves by then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from vipd.core.model import Address
from vipd.lab.hoststage import HostStage
from vipd.lab.measure import Phases, RoundResult, Take, Timeline, takeover_phases, two_owners_s
from vipd.lab.podstage import PodStage
from vipd.lab.promise import Promise, Scenario
from vipd.lab.setting import Setting
from vipd.lab.stage import SceneFailed, Stage
from vipd.lab.topology import Lab

LEAD_S = 0.3
"""A window begins this long before the fault: what was true before it can be seen."""

ANSWERS_IN_S = 1.2
"""The prober gives up on a probe after a second; a window is complete after that."""

Teller = Callable[[str], None]


def stage_of(lab: Lab) -> Stage:
    """The stage for what the lab is to show: an election of pods or of hosts, or addresses that are followed."""
    if lab.setting.host:
        return HostStage(lab)
    return PodStage(lab) if lab.setting.targets else Stage(lab)


@asynccontextmanager
async def staged(setting: Setting, *, folder: Path | None = None) -> AsyncIterator[Stage]:
    """A running lab with everything in place."""
    async with Lab(setting, folder=folder) as lab:
        stage = stage_of(lab)
        await stage.set()
        yield stage


async def play(scenario: Scenario, stage: Stage, number: int) -> Timeline:
    """One round, and all that was seen of it."""
    begun_at = stage.fault_at = stage.now()
    failure = ""
    try:
        await stage.set()
        # Faults come at any moment between two renewals.
        await stage.pause(random.uniform(0, stage.duration_s / 3))
        stage.fault()
        begun_at = stage.fault_at
        await scenario.act(stage)
    except SceneFailed as error:
        failure = str(error)
    end = stage.now()
    await stage.pause(ANSWERS_IN_S)
    stage.lab.require_well()
    result = _result(scenario, stage, number, begun_at=begun_at, end=end, failure=failure)
    return _timeline(scenario, stage, result, end)


async def run_scenario(
    scenario: Scenario, *, rounds: int, setting: Setting, folder: Path | None, tell: Teller
) -> AsyncIterator[Timeline]:
    """All rounds of one scenario, each as it ends."""
    tell(f"{scenario.name}: {scenario.summary}")
    # Each round sets the stage itself: what does not come about then is that round's failure, not the run's.
    async with Lab(setting, folder=folder) as lab:
        stage = stage_of(lab)
        for number in range(1, rounds + 1):
            timeline = await play(scenario, stage, number)
            for note in stage.notes:
                tell(f"  {note}")
            yield timeline


def setting_for(
    scenario: Scenario, *, duration_s: float | None, ec2_s: float | None, fence: str | None, kube: str = "embedded"
) -> Setting:
    """The scenario's setting with the command line's wishes."""
    setting = replace(scenario.setting, kube=kube)
    if duration_s is not None:
        setting = replace(setting, duration_s=duration_s)
    if ec2_s is not None:
        setting = replace(setting, ec2_s=ec2_s)
    if fence is not None and not setting.targets:
        setting = replace(setting, arguments=(*setting.arguments, "--fence", fence))
    return setting


# --------------------------------------------------------------------------------------------- judging


def _result(scenario: Scenario, stage: Stage, number: int, *, begun_at: float, end: float, failure: str) -> RoundResult:
    start = stage.fault_at - LEAD_S
    windows = [log.window(start, end) for log in stage.lab.probes.values()]
    worst = max(windows, key=lambda w: w.gap_s)
    result = RoundResult(
        scenario=scenario.name,
        round=number,
        sent=sum(w.sent for w in windows),
        lost=sum(w.lost for w in windows),
        gap_ms=round(worst.gap_s * 1000, 1),
        owner_before=stage.owner_before,
        owner_after=worst.last_who,
        two_owners_ms=round(_two_owners_s(stage, start, end) * 1000, 1),
        lease_transitions=_transitions(stage),
        phases=_phases(stage),
    )
    wrong = [failure, *stage.complaints, *_broken(scenario.promise, stage, result)]
    wrong += stage.foreign_ec2_writes(begun_at)
    reasons = [reason for reason in wrong if reason]
    return replace(result, ok=not reasons, reason="; ".join(reasons))


def _transitions(stage: Stage) -> int:
    """How often the Lease was taken since the fault."""
    before = [w.transitions for w in stage.lab.api.lease_writes if w.at < stage.fault_at]
    after = {w.transitions for w in stage.lease_writes() if w.holder}
    return len(after - set(before[-1:]))


def _two_owners_s(stage: Stage, start: float, end: float) -> float:
    ports = None if stage.lab.setting.by_lease else {name: name for name in stage.lab.nodes}
    return two_owners_s(stage.lab.observer.bearings, start, end, delivered_to=ports)


def _broken(promise: Promise, stage: Stage, result: RoundResult) -> list[str]:
    """What of the promise this round did not keep."""
    broken = []
    if promise.lost is not None and result.lost > promise.lost:
        broken.append(f"{result.lost} probes lost, promised {promise.lost}")
    limit = promise.limit_ms(stage.duration_s, result.phases.eni_ms)
    if limit is not None and result.gap_ms > limit:
        broken.append(f"gap {result.gap_ms:.0f} ms, promised {limit:.0f} ms")
    detected_ms = result.phases.detect_ms
    if promise.detect_ms is not None and (detected_ms is None or detected_ms > promise.detect_ms):
        broken.append(f"{detected_ms} ms until EC2 was called, promised {promise.detect_ms:g} ms")
    changed = result.owner_after != result.owner_before
    if promise.owner_changes is not None and changed != promise.owner_changes:
        broken.append(f"owner {result.owner_before} -> {result.owner_after}")
    if stage.duration_s >= 2 and result.two_owners_ms > 0:
        broken.append(f"two owners for {result.two_owners_ms:.1f} ms")
    return broken


def _phases(stage: Stage) -> Phases:
    """The takeover since the fault, as API, kernel, EC2 and wire saw it."""
    fault_at, lab = stage.fault_at, stage.lab
    own = stage.phases()
    if own is not None:
        return own
    writes = list(lab.api.lease_writes)
    known = [w.transitions for w in writes if w.at < fault_at]
    names = {node.identity: node.name for node in lab.nodes.values()}
    takes = (
        Take(names[w.holder], w.began_at, w.at)
        for w in writes
        if w.at >= fault_at and w.holder in names and (not known or w.transitions > known[-1])
    )
    return takeover_phases(
        fault_at=fault_at,
        take=next(takes, None),
        bearings=lab.observer.bearings,
        calls=lab.ec2.log,
        announcements=lab.observer.announcements,
    )


def _timeline(scenario: Scenario, stage: Stage, result: RoundResult, end: float) -> Timeline:
    lab, start = stage.lab, stage.fault_at - LEAD_S
    names = {node.identity: node.name for node in lab.nodes.values()}
    holders: list[tuple[float, str]] = []
    for write in lab.api.lease_writes:
        who = names.get(write.holder, "")
        if not holders or holders[-1][1] != who:
            holders.append((write.at, who))
    mapped: dict[Address, list[tuple[float, str]]] = {}
    if lab.setting.vpc:
        for vip in lab.setting.vips:
            mapped[vip] = [(r.at, lab.node_of(r.eni) or "") for r in lab.vpc.delivered if r.address == vip]
    return Timeline(
        title=f"{scenario.name}: {scenario.summary}",
        fault_at=stage.fault_at,
        start=start,
        end=end,
        result=result,
        probes={vip: log.between(start, end) for vip, log in lab.probes.items()},
        holders=holders,
        mapped=mapped,
        bearings=[replace(b) for b in lab.observer.bearings if b.until is None or b.until >= start],
        calls=[c for c in lab.ec2.log if c.ended_at >= start],
        announcements=[a for a in lab.observer.announcements if a.at >= start],
        nodes=list(lab.nodes),
    )


async def run_all(
    scenarios: list[Scenario],
    *,
    rounds: int,
    wishes: Callable[[Scenario], Setting],
    folder: Path,
    tell: Teller,
) -> AsyncIterator[Timeline]:
    """Scenario after scenario, each in a lab of its own."""
    for scenario in scenarios:
        async for timeline in run_scenario(
            scenario, rounds=rounds, setting=wishes(scenario), folder=folder / scenario.name, tell=tell
        ):
            yield timeline
            await asyncio.sleep(0)
