"""Seeded chaos on the core: whatever happens, one owner at a time, and one owner in the end."""

import pytest
from world import World

from vipd.core import messages as m
from vipd.core.annotations import REQUEST, render_request
from vipd.core.model import OPERATOR_PRIORITY, AssignVerdict, Fence, Request
from vipd.core.reasons import Phase

NAMES = ("a", "b", "c")


def check_promises(world: World) -> None:
    """The promises that hold at every single step."""
    assert len(world.loud()) <= 1, f"two loud members at {world.now}: {world.loud()}"
    if world.fence is Fence.LEASE:
        bearers = [n for n, mm in world.members.items() if world.bears(mm)]
        assert len(bearers) <= 1, f"two bearers at {world.now}: {bearers}"
    for at, name in world.writers:
        holder = next((v.holder for t, v in reversed(world.lease.history) if v is not None and t <= at), None)
        assert holder == name, f"{name} wrote EC2 at {at}, held by {holder}"
    world.writers.clear()


def disturb(world: World) -> None:
    """One random fault, or the end of one."""
    name = world.rng.choice(NAMES)
    member = world.members[name]
    match world.rng.randrange(14):
        case 0:
            world.kill(name)
        case 1 | 2:
            if not member.alive:
                world.join(name, left_over=True)
        case 3:
            member.api = not member.api
        case 4:
            world.freeze(name) if not member.frozen else world.thaw(name)
        case 5:
            world.tell(member, m.StopAsked())
        case 6:
            member.imds = not member.imds
        case 7:
            member.ec2 = world.rng.choice(list(AssignVerdict))
        case 8:
            world.tell(member, m.LinkSeen(up=world.rng.random() < 0.6))
        case 9:
            world.map_to(world.rng.choice([None, "eni-thief"]))
        case 10:
            if world.lease.view is not None and world.rng.random() < 0.3:
                world.lease.delete(world.now)
                world._watchers()
        case 11 | 12:
            view = world.lease.view
            if view is not None and view.holder:
                to = world.rng.choice(["", *NAMES])
                asked = Request(view.holder, view.transitions, "r", by="ops", to=to, priority=OPERATOR_PRIORITY)
                world.lease.annotate(world.now, view, {REQUEST: render_request(asked)})
                world._watchers()
        case 13:
            world.tell(member, m.HealthSeen(healthy=world.rng.random() < 0.6, detail="chaos"))


def heal(world: World) -> None:
    world.lost_replies = 0.0
    for name in NAMES:
        member = world.members[name]
        member.api = member.imds = True
        member.ec2 = AssignVerdict.OK
        if member.frozen:
            world.thaw(name)
        if not member.alive or member.state.leaving:
            world.kill(name)
            world.join(name, left_over=True)
        world.tell(world.members[name], m.LinkSeen(up=True))
        world.tell(world.members[name], m.HealthSeen(healthy=True))
    # Watches that were cut come back with a read.
    world._watchers()


@pytest.mark.parametrize("fence", list(Fence))
@pytest.mark.parametrize("seed", range(20))
def test_one_owner_at_every_step_and_one_owner_in_the_end(seed, fence):
    world = World(*NAMES, seed=seed, fence=fence, duration_s=2 + seed % 3, interval_s=0.7)
    world.on_step.append(lambda: check_promises(world))
    world.lost_replies = 0.1
    world.run(5)
    for _ in range(25):
        disturb(world)
        world.run(world.rng.uniform(0.05, 4.0))
    heal(world)
    # A hold-down bars for one duration where nobody holds; a repair waits ten seconds, an EC2 pause 60 s at most.
    world.run(700)
    (owner,) = world.active()
    member = world.members[owner]
    assert world.lease.view.holder == owner
    assert world.bears(member)
    assert fence is Fence.LEASE or world.mapping == member.eni
    others = [mm for n, mm in world.members.items() if n != owner]
    assert all(mm.state.phase in (Phase.STANDBY, Phase.FAULT) and not world.bears(mm) for mm in others)
