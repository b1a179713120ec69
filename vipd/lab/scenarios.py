"""The faults the lab can show, and what vipd promises for each.

Here are the sudden ones, and the list of all; planned moves are in ``handovers``, services that fail in ``outages``,
pods without an election in ``followings``, NodePort VIPs of hosts in ``nodeports``.
"""

from __future__ import annotations

import signal

from vipd.lab.followings import FOLLOWINGS
from vipd.lab.handovers import LAGGING, PLANNED
from vipd.lab.nodeports import NODEPORTS
from vipd.lab.outages import OUTAGES
from vipd.lab.promise import Promise, Scenario
from vipd.lab.setting import Setting
from vipd.lab.stage import Stage


async def _sigterm(stage: Stage) -> None:
    leaver, heir = stage.active, stage.standby
    stage.fault()
    stage.signal(leaver, signal.SIGTERM)
    await stage.until_owner(heir, within_s=5)
    await stage.until_exit(leaver, within_s=28)


async def _vipd_kill(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.fault()
    stage.signal(victim, signal.SIGKILL)
    await stage.until_owner(heir, within_s=stage.duration_s + 5)
    # Longer than the kernel lifetime of the address that the dead vipd left behind.
    await stage.until_withdrawn(victim, within_s=12)


async def _vipd_freeze(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.fault()
    stage.signal(victim, signal.SIGSTOP)
    await stage.until_owner(heir, within_s=stage.duration_s + 5)
    await stage.pause(1.0)
    thawed_at = stage.now()
    stage.signal(victim, signal.SIGCONT)
    await stage.until_withdrawn(victim, within_s=15)
    stage.forbid_acts(victim, since=thawed_at)


async def _node_loss(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.fault()
    await stage.power_off(victim)
    await stage.until_owner(heir, within_s=stage.duration_s + 8)


async def _node_partition(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.fault()
    await stage.partition(victim, api=True)
    await stage.until_owner(heir, within_s=stage.duration_s + 5)
    await stage.until_withdrawn(victim, within_s=15)
    await stage.partition(victim, api=False)
    await stage.pause(1.0)


async def _link_down(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.fault()
    await stage.link(victim, up=False)
    await stage.until_owner(heir, within_s=5)
    await stage.until_withdrawn(victim, within_s=15)
    await stage.link(victim, up=True)
    await stage.restart(victim)


async def _address_deleted(stage: Stage) -> None:
    stage.fault()
    for address in stage.vips:
        await stage.delete_address(stage.active, address)
    await stage.pause(1.0)


async def _eni_stolen(stage: Stage) -> None:
    await stage.until_quiet_ec2(10.5)
    stage.fault()
    for address in stage.vips:
        stage.steal(address)
    await stage.until_owner(stage.active, within_s=12)


async def _ec2_throttled(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.ec2_error("RequestLimitExceeded", calls=4)
    stage.fault()
    await stage.power_off(victim)
    await stage.until_owner(heir, within_s=stage.duration_s + 12)


async def _ec2_down(stage: Stage) -> None:
    victim, heir = stage.active, stage.standby
    stage.ec2_error("Unavailable", calls=None)
    await stage.power_off(victim)
    await stage.until_holder(heir, within_s=stage.duration_s + 3)
    await stage.pause(6.0)
    # What counts is how soon the VIP answers once EC2 does.
    stage.fault()
    stage.ec2_error(None, calls=None)
    await stage.until_owner(heir, within_s=8)


async def _both_start(stage: Stage) -> None:
    await stage.stop_all()
    await stage.delete_lease()
    stage.fault()
    await stage.start_all()
    await stage.until_any_owner(within_s=25)
    await stage.pause(2.0)
    stage.require_one_take()


async def _api_blip(stage: Stage) -> None:
    stage.fault()
    await stage.api_outage(True)
    await stage.pause(min(2.0, stage.duration_s * 0.66))
    await stage.api_outage(False)
    await stage.pause(stage.duration_s + 1.0)


_TAKEOVER = "gap ≤ Lease duration + the EC2 calls"
SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(
            "sigterm",
            "the active vipd is told to stop (a rollout, a drain); the VPC delivers up to 1 s late",
            Promise("0 probes lost", lost=0, owner_changes=True),
            _sigterm,
            LAGGING,
        ),
        Scenario(
            "vipd-kill",
            "the active vipd is killed with SIGKILL, its pod lives on",
            Promise("0 probes lost", lost=0, owner_changes=True),
            _vipd_kill,
        ),
        Scenario(
            "vipd-freeze",
            "the active vipd is stopped with SIGSTOP, and thawed after the takeover",
            Promise("0 probes lost; thawed, it writes and announces nothing", lost=0, owner_changes=True),
            _vipd_freeze,
        ),
        Scenario(
            "node-loss",
            "the active node loses power",
            Promise(_TAKEOVER, gap_ms=0.0, durations=1.0, owner_changes=True),
            _node_loss,
        ),
        Scenario(
            "node-partition",
            "the active node is cut off from the Kubernetes API alone",
            Promise("0 probes lost", lost=0, owner_changes=True),
            _node_partition,
        ),
        Scenario(
            "link-down",
            "the active node's VIP interface loses its carrier",
            Promise("gap ≤ 0.5 s + the EC2 call", gap_ms=500.0, owner_changes=True),
            _link_down,
        ),
        Scenario(
            "address-deleted",
            "somebody deletes the VIP from the active interface",
            Promise("gap ≤ 50 ms, owner unchanged", gap_ms=50.0, owner_changes=False),
            _address_deleted,
        ),
        Scenario(
            "eni-stolen",
            "somebody else's EC2 call maps the VIP to another ENI",
            Promise("gap ≤ 6 s + the EC2 call, owner unchanged", gap_ms=6000.0, owner_changes=False),
            _eni_stolen,
        ),
        Scenario(
            "ec2-throttled",
            "the active node loses power while EC2 throttles four calls",
            Promise("gap ≤ Lease duration + 4 s + the EC2 calls", gap_ms=4000.0, durations=1.0, owner_changes=True),
            _ec2_throttled,
        ),
        Scenario(
            "ec2-down",
            "the active node loses power while EC2 is down for 6 s more; the gap counts from the return of EC2",
            Promise("gap after its return ≤ 4 s + the EC2 calls", gap_ms=4000.0),
            _ec2_down,
        ),
        Scenario(
            "both-start",
            "two candidates start at once, with no Lease yet",
            Promise("one takes, the other stands by"),
            _both_start,
        ),
        Scenario(
            "ipv6",
            "an IPv6 VIP (no atomic move in EC2), the active node loses power",
            Promise(_TAKEOVER, gap_ms=0.0, durations=1.0, owner_changes=True),
            _node_loss,
            Setting(families=(6,)),
        ),
        Scenario(
            "dual-stack",
            "an IPv4 and an IPv6 VIP in one Lease, the active node loses power",
            Promise(_TAKEOVER, gap_ms=0.0, durations=1.0, owner_changes=True),
            _node_loss,
            Setting(families=(4, 6)),
        ),
        Scenario(
            "sigterm-l2",
            "no ENI, a plain L2 segment: the active vipd is told to stop",
            Promise("gap ≤ 60 ms", gap_ms=60.0, owner_changes=True),
            _sigterm,
            Setting(fabric="bridge"),
        ),
        Scenario(
            "vipd-kill-l2",
            "no ENI, a plain L2 segment: the active vipd is killed with SIGKILL",
            Promise("gap ≤ 2 s, never two owners", gap_ms=2000.0, owner_changes=True),
            _vipd_kill,
            Setting(fabric="bridge"),
        ),
        Scenario(
            "api-blip",
            "the Kubernetes API is away for 2 s, less than the Lease",
            Promise("0 probes lost, owner unchanged", lost=0, owner_changes=False),
            _api_blip,
        ),
        *PLANNED,
        *OUTAGES,
        *FOLLOWINGS,
        *NODEPORTS,
    )
}
