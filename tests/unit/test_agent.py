"""The shell round the core: effects in order, undone when too late, and clocks that are not believed blindly."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from vipd.agent.clock import JumpDetector, SystemClock
from vipd.agent.hands import Hands
from vipd.agent.member import _own_macs
from vipd.agent.witness import role_of
from vipd.core import messages as m
from vipd.core.model import Assigned, AssignVerdict, BorneAddress, Eni, LinkState, Mapped, Vip
from vipd.core.reasons import Phase, Reason
from vipd.errors import AnnounceError, LinkError
from vipd.kube.members import Role
from vipd.observe.metrics import Metrics

A = Vip(ip_address("10.0.1.100"), 32, "net1")
B = Vip(ip_address("10.0.2.100"), 32, "net2")
ENIS = {"net1": Eni(id="eni-1", mac="02:00:00:00:00:01"), "net2": Eni(id="eni-2", mac="02:00:00:00:00:02")}


class Kernel:
    """Remembers what was asked of it; ``slow_s`` is how long an addition takes on the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.done: list[str] = []
        self.slow_s = 0.0
        self.refuses: Vip | None = None
        self.removals_refused = 0
        self.there: set[Vip] = set()

    async def borne(self) -> list[BorneAddress]:
        return [BorneAddress(vip, 5) for vip in self.there]

    async def put(self, vip: Vip, *, valid_s: int) -> None:
        await asyncio.sleep(0)
        if vip == self.refuses:
            raise LinkError(f"cannot add {vip}")
        self.clock.at += self.slow_s
        self.done.append(f"put {vip.address} {valid_s}")
        self.there.add(vip)

    async def remove(self, vip: Vip) -> bool:
        await asyncio.sleep(0)
        if self.removals_refused:
            self.removals_refused -= 1
            raise LinkError(f"cannot remove {vip}")
        self.done.append(f"remove {vip.address}")
        self.there.discard(vip)
        return True


class Clock:
    at = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> datetime:
        return datetime.now(UTC)


class Announcer:
    def __init__(self) -> None:
        self.sent: list[Vip] = []
        self.warmed = 0

    async def warm(self, vips: object, links: object) -> None:
        self.warmed += 1

    def announce(self, vip: Vip, link: LinkState) -> None:
        if vip == A:
            raise AnnounceError("network is down")
        self.sent.append(vip)


class Aws:
    """Mover and reader in one; remembers which addresses went to which ENI."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    async def assign(self, eni: Eni, addresses, *, right_until, previous) -> list[Assigned]:
        self.calls.append((eni.id, [str(a) for a in addresses]))
        return [Assigned(a, AssignVerdict.OK) for a in addresses]

    async def read(self, eni: Eni, addresses, *, timeout_s: float) -> dict:
        return dict.fromkeys(addresses, Mapped.MINE if eni.id == "eni-1" else Mapped.GONE)


class Shell:
    """Hands with everything about them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kernel = Kernel(self.clock)
        self.announcer = Announcer()
        self.aws = Aws()
        self.events: list[m.Event] = []
        self.hands = Hands(
            [A, B],
            clock=self.clock,
            store=None,  # type: ignore[arg-type]
            kernel=self.kernel,  # type: ignore[arg-type]
            announcer=self.announcer,
            metrics=Metrics(namespace="ns", lease="vip"),
            enis=ENIS,
            macs={"net1": ENIS["net1"].mac},
            reader=self.aws,  # type: ignore[arg-type]
            mover=self.aws,  # type: ignore[arg-type]
        )
        self.broken: list[BaseException] = []
        self.hands.start(self.events.append, lambda: 200.0, self.broken.append)

    async def settle(self) -> list[m.Event]:
        for _ in range(30):
            await asyncio.sleep(0)
        return self.events


async def test_kernel_operations_are_done_in_the_order_asked():
    shell = Shell()
    shell.hands.put_addresses(m.PutAddresses(valid_s=10, not_after=None))
    shell.hands.remove_addresses(m.RemoveAddresses(Reason.STOPPING))
    await shell.settle()
    assert [what.split()[0] for what in shell.kernel.done] == ["put", "put", "remove", "remove"]
    assert shell.events == [m.AddressesPut(frozenset({A.address, B.address})), m.AddressesRemoved()]
    await shell.hands.close()


async def test_an_address_that_was_added_after_the_right_had_ended_is_taken_off_again():
    shell = Shell()
    shell.kernel.slow_s = 5.0
    shell.hands.put_addresses(m.PutAddresses(valid_s=2, not_after=shell.clock.at + 6.0))
    (event,) = await shell.settle()
    assert isinstance(event, m.AddressesPut)
    assert event.borne == {A.address}
    assert "right to bear it ended" in event.failure
    assert shell.kernel.done[-1] == f"remove {B.address}"


async def test_an_addition_that_stalls_within_the_right_is_made_again_with_a_shorter_lifetime():
    shell = Shell()
    shell.kernel.slow_s = 0.1
    shell.hands.put_addresses(m.PutAddresses(valid_s=2, not_after=shell.clock.at + 2.0, in_time=shell.clock.at + 0.05))
    (event,) = await shell.settle()
    assert event == m.AddressesPut(frozenset({A.address, B.address}))
    assert shell.kernel.done == [
        f"put {A.address} 2",
        f"put {A.address} 1",
        f"put {B.address} 1",
    ]


async def test_an_addition_too_late_for_any_lifetime_is_taken_off_again():
    shell = Shell()
    shell.kernel.slow_s = 0.7
    shell.hands.put_addresses(m.PutAddresses(valid_s=2, not_after=shell.clock.at + 9.0, in_time=shell.clock.at + 0.05))
    (event,) = await shell.settle()
    assert isinstance(event, m.AddressesPut)
    assert event.borne == frozenset()
    assert shell.kernel.there == set()


async def test_a_removal_that_fails_is_tried_once_more():
    shell = Shell()
    shell.hands.put_addresses(m.PutAddresses(valid_s=10, not_after=None))
    await shell.settle()
    shell.kernel.removals_refused = 1
    shell.hands.remove_addresses(m.RemoveAddresses(Reason.STOPPING))
    assert (await shell.settle())[-1] == m.AddressesRemoved()
    assert shell.kernel.there == set()


async def test_one_address_that_cannot_be_added_does_not_sink_the_others():
    shell = Shell()
    shell.kernel.refuses = A
    shell.hands.put_addresses(m.PutAddresses(valid_s=10, not_after=None))
    (event,) = await shell.settle()
    assert isinstance(event, m.AddressesPut)
    assert event.borne == {B.address}
    assert str(A) in event.failure


async def test_a_refused_refresh_leaves_the_address_there():
    shell = Shell()
    shell.hands.put_addresses(m.PutAddresses(valid_s=10, not_after=None))
    await shell.settle()
    shell.kernel.refuses = A
    shell.hands.put_addresses(m.PutAddresses(valid_s=10, not_after=None))
    _, event = await shell.settle()
    assert isinstance(event, m.AddressesPut)
    assert event.borne == {A.address, B.address}
    assert str(A) in event.failure


async def test_each_vip_goes_to_the_eni_of_its_interface_and_all_answers_are_one_event():
    shell = Shell()
    shell.hands.assign_eni(m.AssignEni(key=("u", 3), addresses=(A.address, B.address), previous=frozenset()))
    shell.hands.read_mapping()
    events = await shell.settle()
    assert sorted(shell.aws.calls) == [("eni-1", ["10.0.1.100"]), ("eni-2", ["10.0.2.100"])]
    answered = next(e for e in events if isinstance(e, m.EniAnswered))
    assert answered.key == ("u", 3)
    assert {r.address for r in answered.results} == {A.address, B.address}
    seen = next(e for e in events if isinstance(e, m.MappingSeen))
    assert seen.mapping == {A.address: Mapped.MINE, B.address: Mapped.GONE}
    assert seen.asked_at == shell.clock.at


async def test_an_announcement_that_fails_is_told_and_the_others_go_out(caplog):
    shell = Shell()
    for vip in (A, B):
        shell.hands.link_changed(vip.interface, LinkState(vip.interface, 1, True, ENIS[vip.interface].mac))
    shell.hands.announce()
    assert shell.announcer.sent == [B]
    assert "network is down" in caplog.text


async def test_frames_are_built_anew_only_when_a_mac_changes():
    shell = Shell()
    for mac in ("02:00:00:00:00:01", "02:00:00:00:00:01", "02:00:00:00:00:09"):
        shell.hands.link_changed("net1", LinkState("net1", 1, True, mac))
        await shell.settle()
    shell.hands.link_changed("net1", None)
    assert shell.announcer.warmed == 2


async def test_an_interface_that_came_back_in_front_of_another_eni_is_not_up_until_it_has_its_own_again():
    shell = Shell()
    other = LinkState("net1", 1, True, "02:00:00:00:00:09")
    shell.hands.link_changed("net1", replace(other, mac=ENIS["net1"].mac))
    assert shell.hands.link_seen() == m.LinkSeen(up=True)
    shell.hands.link_changed("net1", None)
    assert shell.hands.link_seen() == m.LinkSeen(up=False, detail="interface net1 is gone")
    shell.hands.link_changed("net1", other)
    detail = "net1 now bears another MAC (02:00:00:00:00:09) than eni-1; restart vipd"
    assert shell.hands.link_seen() == m.LinkSeen(up=False, detail=detail)
    shell.hands.link_changed("net1", replace(other, mac=ENIS["net1"].mac))
    assert shell.hands.link_seen() == m.LinkSeen(up=True)
    await shell.settle()


async def test_a_mac_that_never_was_the_enis_may_become_another():
    shell = Shell()
    for mac in ("06:00:00:00:00:01", "06:00:00:00:00:02"):
        shell.hands.link_changed("net2", LinkState("net2", 2, True, mac))
        assert shell.hands.link_seen() == m.LinkSeen(up=True)
    await shell.settle()


def test_a_mac_counts_as_the_enis_where_imds_told_it_and_the_interface_bears_it():
    own, child = ENIS["net1"], replace(ENIS["net2"], primary=ip_address("10.0.2.11"))
    enis = {"net1": own, "net2": child, "net3": replace(own, primary=ip_address("10.0.1.11"))}
    links = {name: LinkState(name, 1, True, own.mac) for name in enis}
    assert _own_macs(SimpleNamespace(enis=enis), links) == {"net3": own.mac}  # type: ignore[arg-type]


async def test_what_must_never_happen_is_told_and_not_swallowed():
    shell = Shell()

    async def impossible(vip: Vip, *, valid_s: int) -> None:
        raise RuntimeError("netlink spoke in tongues")

    shell.kernel.put = impossible  # type: ignore[method-assign]
    shell.hands.put_addresses(m.PutAddresses(valid_s=10, not_after=None))
    await shell.settle()
    assert [str(error) for error in shell.broken] == ["netlink spoke in tongues"]
    assert shell.events == []


def test_clocks_that_disagree_about_the_time_gone_by_are_noticed_once():
    clocks = Clocks()
    detector = JumpDetector(tolerance_s=1.0)
    assert not detector.jumped(clocks.go(10.0, 10.0))
    assert not detector.jumped(clocks.go(10.0, 10.5))
    assert detector.jumped(clocks.go(1.0, 51.0))
    assert not detector.jumped(clocks.go(1.0, 1.0))


def test_a_process_that_is_stopped_between_the_two_readings_has_seen_no_jump():
    clocks = Clocks()
    detector = JumpDetector(tolerance_s=0.1)
    assert not detector.jumped(clocks.go(10.0, 10.0))
    clocks.stalls = [0.3]
    assert not detector.jumped(clocks.go(1.0, 1.0))


class Clocks:
    """Two clocks that go as told; ``stalls`` are pauses between a reading of the first and one of the second."""

    def __init__(self) -> None:
        self.at, self.wall_at = 0.0, datetime(2026, 1, 1, tzinfo=UTC)
        self.stalls: list[float] = []

    def go(self, boot_s: float, wall_s: float) -> Clocks:
        self.at += boot_s
        self.wall_at += timedelta(seconds=wall_s)
        return self

    def now(self) -> float:
        return self.at

    def wall(self) -> datetime:
        stall = self.stalls.pop() if self.stalls else 0.0
        self.at += stall
        self.wall_at += timedelta(seconds=stall)
        return self.wall_at


def test_the_system_clock_grows_and_the_wall_clock_is_utc():
    clock = SystemClock()
    assert clock.now() <= clock.now()
    assert clock.wall().utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("phase", "reason", "role"),
    [
        (Phase.ACTIVE, Reason.LEASE_FREE, Role.ACTIVE),
        (Phase.STANDBY, Reason.MAPPING_GONE, Role.STANDBY),
        (Phase.YIELDING, Reason.OTHER_HOLDER, Role.STANDBY),
        (Phase.YIELDING, Reason.LINK_DOWN, Role.FAULT),
        (Phase.FAULT, Reason.MAPPING_GONE, Role.FAULT),
        (Phase.STOPPED, Reason.STILL_FREE, None),
    ],
)
def test_the_label_tells_who_could_take_over(phase, reason, role):
    assert role_of(phase, reason) is role
