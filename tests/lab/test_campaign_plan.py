"""The plan of a campaign: the same for the same seed, every fault in it, and no pair that cannot be."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from vipd.lab.campaign.faults import FAULTS, Part, Target, compatible, faults_on
from vipd.lab.campaign.plan import Step, steps
from vipd.lab.scenarios import SCENARIOS

VPC = faults_on("vpc", families=(4,))
SEEDS = range(5)


def plan(seed: int, count: int, *, fabric: str = "vpc", duration_s: float = 3) -> list[Step]:
    faults = faults_on(fabric, families=(4,))
    return list(itertools.islice(steps(seed, duration_s=duration_s, faults=faults), count))


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert plan(7, 200) == plan(7, 200)
    assert [s.kind for s in plan(7, 60)] != [s.kind for s in plan(8, 60)]


def test_another_lease_duration_changes_times_alone() -> None:
    def acts(step: Step) -> list[tuple[str, Target]]:
        return [(p.fault.name, p.target) for p in step.placed]

    assert list(map(acts, plan(7, 200))) == list(map(acts, plan(7, 200, duration_s=1)))


@pytest.mark.parametrize("fabric", ["vpc", "bridge"])
def test_every_fault_is_played_once_by_itself_before_any_pair(fabric: str) -> None:
    faults = faults_on(fabric, families=(4,))
    played = plan(3, len(faults) + 50, fabric=fabric)
    singles, pairs = played[: len(faults)], played[len(faults) :]
    assert sorted(s.kind for s in singles) == sorted(f.name for f in faults)
    assert {len(s.placed) for s in pairs} == {2}
    assert [s.number for s in played] == list(range(1, len(played) + 1))


def test_every_two_faults_that_can_meet_do_so_about_equally_often() -> None:
    played = [tuple(p.fault.name for p in s.placed) for s in plan(1, 6000) if len(s.placed) == 2]
    counts = [played.count(kind) for kind in set(played)]
    assert len(counts) > 200
    assert min(counts) > 0.3 * len(played) / len(counts)
    assert max(counts) < 3 * len(played) / len(counts)


def test_every_fault_meets_every_one_of_its_targets_in_pairs() -> None:
    met = {(p.fault.name, p.target) for s in plan(1, 3000) if len(s.placed) == 2 for p in s.placed}
    assert met == {(f.name, target) for f in VPC for target in f.targets}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_two_faults_cannot_share_they_never_share(seed: int) -> None:
    for step in plan(seed, 1000):
        if len(step.placed) == 2:
            one, other = step.placed
            assert compatible(one.fault, one.target, other.fault, other.target), str(step)
            assert other.fault.moves
            assert 0 <= other.begins_s <= one.lasts_s
        assert all(0.2 <= p.lasts_s <= 3 + p.fault.longest_s for p in step.placed)


@pytest.mark.parametrize(
    ("one", "its", "other", "others", "together"),
    [
        ("power-off", Target.ACTIVE, "freeze", Target.ACTIVE, False),
        ("power-off", Target.ACTIVE, "freeze", Target.EVERYBODY, False),
        ("power-off", Target.ACTIVE, "link-down", Target.ACTIVE, False),
        ("power-off", Target.ACTIVE, "freeze", Target.STANDBY, True),
        ("power-off", Target.ACTIVE, "power-off", Target.STANDBY, True),
        ("kill", Target.STANDBY, "sigterm", Target.STANDBY, False),
        ("kill", Target.STANDBY, "api-cut", Target.STANDBY, True),
        ("ec2-down", Target.SERVICE, "ec2-throttled", Target.SERVICE, False),
        ("imds-silent", Target.SERVICE, "imds-refuses", Target.SERVICE, False),
        ("api-outage", Target.SERVICE, "imds-silent", Target.SERVICE, True),
    ],
)
def test_a_node_without_power_has_nothing_to_freeze(
    one: str, its: Target, other: str, others: Target, together: bool
) -> None:
    assert compatible(FAULTS[one], its, FAULTS[other], others) is together
    assert compatible(FAULTS[other], others, FAULTS[one], its) is together


def test_both_can_lose_their_process_at_once() -> None:
    assert FAULTS["kill"].claimed(Target.EVERYBODY) == {
        (Part.PROCESS, Target.ACTIVE),
        (Part.PROCESS, Target.STANDBY),
    }


def test_on_a_plain_segment_there_is_no_aws_and_in_a_vpc_no_claim_is_heard() -> None:
    bridge = {f.name for f in faults_on("bridge", families=(4,))}
    assert not {name for name in bridge if name.startswith(("ec2", "eni", "imds"))}
    assert "conflict" in bridge
    assert "conflict" not in {f.name for f in VPC}
    assert "conflict" not in {f.name for f in faults_on("bridge", families=(6,))}


def test_every_kind_of_scenario_has_its_fault() -> None:
    other_words = {
        "vipd-kill": "kill",
        "vipd-freeze": "freeze",
        "node-loss": "power-off",
        "node-partition": "api-cut",
        "both-start": "kill",
        "ipv6": "power-off",
        "dual-stack": "power-off",
        "sigterm-l2": "sigterm",
        "vipd-kill-l2": "kill",
        "handover-ipv6": "handover",
        "handover-l2": "handover",
        "api-blip": "api-outage",
        "api-outage-and-node-loss": "api-outage",
        "imds-down": "imds-silent",
        "late-write": "ec2-late",
        "ec2-way-back": "ec2-cut",
    }
    # Hosts are elected as pods are.
    elections = [
        name for name, scenario in SCENARIOS.items() if not scenario.setting.targets and not scenario.setting.host
    ]
    # Its trigger is half a minute of readiness, not a fault.
    missing = {name for name in elections if other_words.get(name, name) not in FAULTS} - {"preempt"}
    assert not missing


def test_faults_that_change_nothing_make_no_campaign() -> None:
    with pytest.raises(ValueError, match="changes something"):
        next(steps(1, duration_s=3, faults=[replace(FAULTS["ec2-down"])]))
