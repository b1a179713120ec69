"""The status document and readiness, state by state."""

import json
from ipaddress import ip_interface

import pytest
from world import VIP, World

from vipd.core import messages as m
from vipd.core.model import AssignVerdict, Vip
from vipd.observe.status import ready, status_document

VIPS = [Vip(VIP, 32, "net1")]


def document(world: World, name: str) -> dict:
    state = world.members[name].state
    return json.loads(json.dumps(status_document(state, VIPS, namespace="ns", name="vip", now=world.now)))


def test_before_anything_is_known_it_is_a_document_all_the_same_and_not_ready():
    world = World("a")
    seen = document(world, "a")
    assert seen["state"] == "standby"
    assert seen["lease"]["known"] is False
    assert ready(world.members["a"].state, world.now) == (False, "the Lease could not be read yet")


def test_the_owner_tells_lease_vips_and_mapping():
    world = World("a").run(5)
    seen = document(world, "a")
    assert seen["state"] == "active"
    assert seen["lease"]["holder"] == "a"
    assert 0 < seen["right_ends_in_s"] <= 3
    assert seen["vips"] == [
        {"address": "10.0.1.100", "prefix": 32, "interface": "net1", "borne": True, "mapped": "mine"}
    ]
    assert seen["mapping"]["moved"]
    assert ready(world.members["a"].state, world.now)[0]


@pytest.mark.parametrize("verdict", [AssignVerdict.RETRY, AssignVerdict.NO_ROOM, AssignVerdict.NOT_ALLOWED])
def test_an_owner_that_ec2_does_not_serve_is_not_ready_and_says_why(verdict):
    world = World("a")
    world.members["a"].ec2 = verdict
    world.run(5)
    fine, why = ready(world.members["a"].state, world.now)
    assert not fine
    assert "EC2 does not map the VIP here" in why
    assert document(world, "a")["mapping"]["failing"].startswith("eni-")


def test_a_standby_that_hears_nothing_for_two_durations_is_not_ready():
    world = World("a", "b").run(15)
    (name,) = [n for n in world.members if n not in world.active()]
    assert ready(world.members[name].state, world.now) == (True, "standby")
    for member in world.members.values():
        member.api = False
    world.run(8)
    fine, why = ready(world.members[name].state, world.now)
    assert not fine
    assert "nothing was heard" in why


def test_a_fault_is_not_ready_and_names_the_link():
    world = World("a").run(5)
    world.tell(world.members["a"], m.LinkSeen(up=False, detail="interface net1 is down"))
    world.run(15)
    fine, why = ready(world.members["a"].state, world.now)
    assert not fine
    assert document(world, "a")["link"] == {"up": False, "detail": "interface net1 is down"}
    assert "net1" in why


def test_addresses_are_texts_in_the_document():
    assert str(ip_interface("10.0.1.100/32").ip) == document(World("a"), "a")["vips"][0]["address"]
