"""What a scenario judges beside probes: each judge complains of what breaks its promise, and of nothing else."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from vipd.lab.kubeapi.records import LeaseWrite
from vipd.lab.observer import Announcement
from vipd.lab.setting import Node, Setting
from vipd.lab.stage import Stage
from vipd.lab.topology import Lab

VIP = ip_address("10.0.1.100")
FAULT_AT = 100.0


@pytest.fixture
def stage(tmp_path: Any) -> Stage:
    """A stage on which a is active and b stands by; nothing of the lab runs."""
    stage = Stage(Lab(Setting(), folder=tmp_path))
    for number, name in enumerate(("a", "b"), 1):
        unused: Any = None
        stage.lab.nodes[name] = Node(name, number, unused, mac="", uid=f"uid-{name}")
    stage.recast("a")
    stage.fault_at = FAULT_AT
    return stage


def wrote(stage: Stage, name: str, transitions: int, *, at: float) -> None:
    """The Lease named this node from that moment on."""
    spec = {"holderIdentity": stage.node(name).identity, "leaseTransitions": transitions}
    stage.lab.api.lease_writes.append(LeaseWrite(at, at, name, "update", {"spec": spec}))


def announced(stage: Stage, *times: float) -> None:
    """Node a announced the VIP at these moments, by a request and a reply."""
    for at in times:
        for kind in ("garp-request", "garp-reply"):
            stage.lab.observer.announcements.append(Announcement(FAULT_AT + at, "a", VIP, kind, ""))


def test_a_tenure_that_goes_on_is_no_take(stage: Stage) -> None:
    for at in (99.0, 100.5, 101.5):
        wrote(stage, "a", 4, at=at)
    stage.require_no_take()
    assert stage.complaints == []


@pytest.mark.parametrize(("name", "transitions"), [("b", 5), ("a", 5)])
def test_another_holder_and_a_new_tenure_are_takes(stage: Stage, name: str, transitions: int) -> None:
    wrote(stage, "a", 4, at=99.0)
    wrote(stage, name, transitions, at=101.5)
    stage.require_no_take()
    [said] = stage.complaints
    assert said.startswith("1.5 s after the fault the Lease was taken for 'vipd-" + name)


def test_a_take_counts_as_early_up_to_its_moment(stage: Stage) -> None:
    wrote(stage, "b", 5, at=129.9)
    stage.require_no_take_before("b", 129.9)
    assert stage.complaints == []
    stage.require_no_take_before("b", 131.0)
    assert stage.complaints == ["node b took the Lease 1.1 s too early"]


def test_announcements_are_counted_by_rounds_of_frames_since_the_fault(stage: Stage) -> None:
    announced(stage, -0.2, -0.1, 0.1, 0.9, 1.2, 2.0)
    stage.require_few_announcements("a", most=2, in_s=1.0)
    assert stage.complaints == []
    announced(stage, 2.1)
    stage.require_few_announcements("a", most=2, in_s=1.0)
    assert stage.complaints == ["node a announced more than 2 times within 0.90 s"]


def test_an_owner_that_announces_nothing_is_complained_of(stage: Stage) -> None:
    announced(stage, -1.0)
    stage.require_few_announcements("a", most=2, in_s=1.0)
    assert stage.complaints == ["node a announced nothing"]


def test_after_a_recast_the_other_node_is_the_owner_before_the_fault(stage: Stage) -> None:
    stage.recast("b")
    stage.fault()
    assert (stage.active, stage.standby, stage.owner_before) == ("b", "a", "b")
