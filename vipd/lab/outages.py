"""Others that fail or interfere: the Kubernetes API, IMDS, a late EC2 call, a host that claims the VIP."""

from __future__ import annotations

import signal

from vipd.lab.promise import Promise, Scenario
from vipd.lab.setting import Setting
from vipd.lab.stage import Stage
from vipd.lab.stagecraft import ImdsState

CLAIMS, CLAIM_EVERY_S = 16, 0.3
"""The conflict: five seconds of claims, closer to each other than the owner may answer them ..."""
PAIR, PAIR_EVERY_S, PAIR_AFTER_S = 2, 0.1, 1.5
"""... and then, when all is quiet, two in a row: the second one is the last, and falls right after an answer."""


async def _api_outage(stage: Stage) -> None:
    stage.fault()
    await stage.api_outage(True)
    await stage.pause(stage.outage_s)
    await stage.api_outage(False)
    await stage.pause(10.0)
    stage.require_no_take()


async def _api_outage_and_node_loss(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    await stage.api_outage(True)
    await stage.pause(stage.outage_s / 2)
    await stage.power_off(victim)
    # More than five seconds: the silence before the fault is not to count.
    await stage.pause(max(6.0, stage.outage_s / 2))
    # What counts is how soon the VIP answers once the API does.
    stage.fault()
    await stage.api_outage(False)
    await stage.until_owner(heir, within_s=stage.duration_s + 8)


async def _imds_down(stage: Stage) -> None:
    leaver, heir = stage.active, stage.standby
    stage.fault()
    for state in (ImdsState.REFUSES, ImdsState.SILENT):
        await stage.imds(state)
        await stage.pause(stage.outage_s)
    stage.require_no_take()
    await stage.hand_over("--wait", "10s")
    await stage.until_owner(heir, within_s=5)
    # Without IMDS it is the successor's word that lets the old owner withdraw.
    await stage.until_withdrawn(leaver, within_s=20)
    await stage.imds(ImdsState.WELL)


async def _late_write(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    held = stage.hold_ec2(victim)
    for address in stage.vips:
        stage.steal(address)
    await stage.until("the active node's repair is on its way to EC2", lambda: held.waiting > 0, within_s=12)
    stage.signal(victim, signal.SIGSTOP)
    await stage.until_owner(heir, within_s=stage.duration_s + 5)
    # Frozen, it cannot refresh its address: nobody answers where the late call sends the packets.
    await stage.until_withdrawn(victim, within_s=12)
    stage.recast(heir)
    stage.fault()
    stage.release_ec2(victim)
    await stage.until_mapped(victim, within_s=1)
    await stage.until_owner(heir, within_s=8)
    thawed_at = stage.now()
    stage.signal(victim, signal.SIGCONT)
    await stage.pause(2.0)
    stage.forbid_acts(victim, since=thawed_at)
    stage.require_no_take()


async def _ec2_way_back(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    # It called EC2 for this tenure: the connection is kept, and takes the next tenure's requests although it is cut.
    await stage.hand_over("--wait", "10s")
    await stage.until_owner(heir, within_s=10)
    await stage.until_standby(victim, within_s=20)
    await stage.lab.partition(stage.node(victim), "ec2", cut=True)
    await stage.power_off(heir)
    await stage.until_holder(victim, within_s=stage.duration_s + 5)
    await stage.lab.power_on(stage.node(heir))
    await stage.lab.start_vipd(stage.node(heir))
    await stage.until_owner(heir, within_s=40)
    stage.recast(heir)
    stage.fault()
    await stage.lab.partition(stage.node(victim), "ec2", cut=False)
    # The kernel sends again what was not acknowledged: after 0.2 s, and then each time twice as long after.
    await stage.pause(15.0)
    stage.require_no_take()


async def _conflict(stage: Stage) -> None:
    # An owner repeats its first announcement for three seconds: those are no answers.
    await stage.until_silent(stage.active, 1.6, within_s=8)
    stage.fault()
    await stage.claim(times=CLAIMS, every_s=CLAIM_EVERY_S)
    await stage.pause(PAIR_AFTER_S)
    await stage.claim(times=PAIR, every_s=PAIR_EVERY_S)
    await stage.until_owner(stage.active, within_s=12)
    await stage.pause(2.0)
    stage.require_few_announcements(stage.active, most=2, in_s=1.0)
    stage.require_no_take()


OUTAGES = (
    Scenario(
        "api-outage",
        "the Kubernetes API is away for a minute",
        Promise("0 probes lost, owner unchanged, also after it", lost=0, owner_changes=False),
        _api_outage,
    ),
    Scenario(
        "api-outage-and-node-loss",
        "the active node loses power while the Kubernetes API is away; the gap counts from the return of the API",
        Promise(
            "gap after its return ≤ Lease duration + 1.5 s + the EC2 calls",
            gap_ms=1500.0,
            durations=1.0,
        ),
        _api_outage_and_node_loss,
        Setting(outage_s=12.0),
    ),
    Scenario(
        "imds-down",
        "IMDS refuses connections on every node, then answers nothing; during that an operator hands over",
        Promise("0 probes lost; nothing happens before the handover", lost=0, owner_changes=True),
        _imds_down,
        Setting(outage_s=20.0),
    ),
    Scenario(
        "late-write",
        "EC2 applies a frozen node's call only after the standby has taken over; the gap counts from then",
        Promise("gap ≤ 3 s + the EC2 call, owner unchanged", gap_ms=3000.0, owner_changes=False),
        _late_write,
    ),
    Scenario(
        "ec2-way-back",
        "a node cut off from EC2 takes, gets no answer and hands over; the gap counts from when its way is back",
        Promise("0 probes lost, owner unchanged: what it sent in vain never arrives", lost=0, owner_changes=False),
        _ec2_way_back,
    ),
    Scenario(
        "conflict",
        "a plain L2 segment: for 5 s a host that is no member claims the VIP by gratuitous ARP",
        Promise("gap ≤ 1.2 s, owner unchanged, ≤ 2 announcements a second", gap_ms=1200.0, owner_changes=False),
        _conflict,
        Setting(fabric="bridge"),
    ),
)
