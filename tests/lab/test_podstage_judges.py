"""What is judged of ``vipd init`` and of following: judges complain of what breaks a promise, and of nothing else."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from aws_clients import eni

from vipd.lab.ec2 import Call
from vipd.lab.podstage import Init, PodStage
from vipd.lab.run import setting_for, stage_of
from vipd.lab.scenarios import SCENARIOS
from vipd.lab.setting import Node, Setting
from vipd.lab.stage import Stage
from vipd.lab.topology import Lab

HOME = ip_address("10.0.1.80")
SINCE = 100.0


@pytest.fixture
def stage(tmp_path: Any) -> PodStage:
    """Nodes a and b with their ENIs; nothing of the lab runs."""
    stage = PodStage(Lab(Setting(targets=(HOME,)), folder=tmp_path))
    for number, name in enumerate(("a", "b"), 1):
        unused: Any = None
        node = Node(name, number, unused, mac="")
        node.eni = stage.lab.vpc.add(eni(name))
        stage.lab.nodes[name] = node
    stage.fault_at = SINCE
    return stage


def called(stage: PodStage, action: str, address: str, *, by: str = "a", on: str = "a", at: float = SINCE) -> None:
    record = stage.node(on).eni
    assert record is not None
    stage.lab.ec2.log.append(Call(at, at + 0.4, action, by, record.id, (ip_address(address),), "OK"))


def test_a_lab_with_targets_is_a_stage_of_pods(tmp_path: Any) -> None:
    assert isinstance(stage_of(Lab(Setting(targets=(HOME,)), folder=tmp_path)), PodStage)
    assert type(stage_of(Lab(Setting(), folder=tmp_path))) is Stage


def test_a_fence_is_for_elections_only() -> None:
    chosen = {
        name: setting_for(SCENARIOS[name], duration_s=None, ec2_s=None, fence="lease").arguments
        for name in ("follow", "sigterm")
    }
    assert chosen == {"follow": (), "sigterm": ("--fence", "lease")}


def test_assigning_what_the_pod_bears_is_no_fault(stage: PodStage) -> None:
    called(stage, "AssignPrivateIpAddresses", str(HOME))
    assert stage.foreign_ec2_writes(SINCE) == []


def test_a_call_for_the_own_primary_address_is_one(stage: PodStage) -> None:
    primary = stage.node("a").enis["net1"].primary
    called(stage, "AssignPrivateIpAddresses", str(primary))
    assert stage.foreign_ec2_writes(SINCE) == [
        "a called AssignPrivateIpAddresses for the primary address of its own ENI"
    ]


def test_a_call_for_anothers_primary_address_is_none(stage: PodStage) -> None:
    """EC2 refuses it, as ``init-one-bad`` shows."""
    called(stage, "AssignPrivateIpAddresses", str(stage.node("b").enis["net1"].primary))
    assert stage.foreign_ec2_writes(SINCE) == []


def test_unassigning_is_one_from_oneself_alone(stage: PodStage) -> None:
    called(stage, "UnassignIpv6Addresses", "fd00::80", on="b")
    assert stage.foreign_ec2_writes(SINCE) == []
    called(stage, "UnassignIpv6Addresses", "fd00::80", on="a")
    assert stage.foreign_ec2_writes(SINCE) == ["a unassigned fd00::80 from itself"]


def test_describing_is_one_unless_the_scenario_needs_it(stage: PodStage) -> None:
    called(stage, "DescribeNetworkInterfaces", str(HOME))
    assert stage.foreign_ec2_writes(SINCE) == ["a called DescribeNetworkInterfaces"]
    stage.may_describe = True
    assert stage.foreign_ec2_writes(SINCE) == []


def test_only_what_was_called_since_then_counts(stage: PodStage) -> None:
    called(stage, "DescribeNetworkInterfaces", str(HOME), at=SINCE - 1)
    assert stage.foreign_ec2_writes(SINCE) == []
    stage.require_calls(SINCE)
    assert stage.complaints == []


def test_exactly_the_expected_calls_are_to_be_made(stage: PodStage) -> None:
    called(stage, "AssignPrivateIpAddresses", str(HOME))
    stage.require_calls(SINCE, "AssignPrivateIpAddresses")
    assert stage.complaints == []
    stage.require_calls(SINCE, "AssignPrivateIpAddresses", "AssignPrivateIpAddresses")
    assert stage.complaints == ["EC2 calls: AssignPrivateIpAddresses"]


def test_an_init_is_judged_by_its_code_and_its_last_word(stage: PodStage) -> None:
    init = Init(1, "10.0.1.12 on net1 is refused: primary", 100.0, 101.5)
    stage.require_exit(init, 1, "10.0.1.12", "primary")
    assert stage.complaints == []
    stage.require_exit(init, 0, "throttled")
    assert stage.complaints == [
        "vipd init ended with 1, not with 0: 10.0.1.12 on net1 is refused: primary",
        "vipd init did not say 'throttled', but '10.0.1.12 on net1 is refused: primary'",
    ]


def test_the_time_of_an_init_is_told_apart_from_its_ec2_calls(stage: PodStage) -> None:
    called(stage, "AssignPrivateIpAddresses", str(HOME), at=100.5)
    called(stage, "AssignIpv6Addresses", "fd00::80", at=100.6)
    stage.measure(Init(0, "done", 100.0, 101.5))
    phases = stage.phases()
    assert phases is not None
    assert (phases.detect_ms, phases.eni_ms) == (1000.0, 500.0)
    assert stage.notes == ["vipd init took 1.00 s besides 2 EC2 calls of 0.50 s in all"]


def test_imds_is_to_show_every_address(stage: PodStage) -> None:
    stage.require_in_imds("a", [HOME])
    assert stage.complaints == ["IMDS of node a does not show 10.0.1.80"]
    record = stage.node("a").enis["net1"]
    stage.lab.vpc.assign_v4(record.id, [HOME], by="a")
    stage.complaints.clear()
    stage.require_in_imds("a", [HOME])
    assert stage.complaints == []
