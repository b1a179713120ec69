"""The agent hears claims of its VIPs on a real link, whatever becomes of that, and asks for them when told to."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from link_lan import MAC, V4, V6, Lan

from vipd.agent import agent as agent_module
from vipd.agent.agent import Agent
from vipd.agent.clock import SystemClock
from vipd.agent.hands import Hands
from vipd.announce.claims import PacketClaims
from vipd.announce.frames import announcement
from vipd.announce.packet import PacketAnnouncer
from vipd.core import messages as m
from vipd.core.model import AddressClaim, Conflict, LeaseView
from vipd.core.reasons import WriteKind
from vipd.core.settings import ElectionConfig
from vipd.link.kernel import KernelLink
from vipd.observe.metrics import Metrics

OTHER_MAC, NEW_MAC = "02:00:00:00:01:0b", "02:00:00:00:01:0c"


class Store:
    """Remembers annotations; somebody else was always faster."""

    def __init__(self) -> None:
        self.asked: list[tuple[LeaseView, Mapping[str, str | None], float]] = []

    async def annotate(self, base: LeaseView, annotations: Mapping[str, str | None], *, timeout_s: float) -> Conflict:
        self.asked.append((base, annotations, timeout_s))
        return Conflict("too late")


class Shell:
    """An agent's hands and ears on ``net1``; the election does not run."""

    def __init__(self, lan: Lan, kernel: KernelLink) -> None:
        self.lan, self.store, self.events = lan, Store(), asyncio.Queue[m.Event]()
        self.hands = Hands(
            [V4, V6],
            clock=SystemClock(),
            store=self.store,  # type: ignore[arg-type]
            kernel=kernel,
            announcer=PacketAnnouncer(),
            metrics=Metrics(namespace="ns", lease="vip"),
            claims=PacketClaims(),
        )
        config = ElectionConfig(identity="a", incarnation="1", addresses=(V4.address, V6.address))
        self.agent = Agent(config, self.hands, witness=None)  # type: ignore[arg-type]
        self.agent._events = self.events  # type: ignore[assignment]
        self.voice = lan.neighbour.open(socket.AF_PACKET, socket.SOCK_RAW)

    async def look(self) -> None:
        """What the agent does on a link event, without the warming."""
        self.hands.links["net1"] = await self.hands.kernel.link("net1")

    def say(self, mac: str) -> None:
        self.voice.sendto(announcement(V4.address, mac)[0], ("net1", 0))

    async def hears(self, mac: str) -> AddressClaim:
        """The first claim that is heard while the neighbour goes on announcing the VIP at this MAC."""
        async with asyncio.timeout(5):
            while self.events.empty():
                self.say(mac)
                await asyncio.sleep(0.05)
        event = self.events.get_nowait()
        assert isinstance(event, m.ClaimSeen)
        return event.claim


@pytest_asyncio.fixture
async def shell(lan: Lan, kernel: KernelLink, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    monkeypatch.setattr(agent_module, "LISTEN_AGAIN_S", 0.05)
    it = Shell(lan, kernel)
    await it.look()
    it.hands.start(it.events.put_nowait, lambda: 0.0, it.events.put_nowait)  # type: ignore[arg-type]
    following = asyncio.create_task(it.agent._follow_claims("net1"))
    yield it
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    await it.hands.close()
    it.voice.close()


def claimed_by(mac: str) -> AddressClaim:
    return AddressClaim(address=V4.address, interface="net1", mac=mac)


async def test_a_claim_reaches_the_election(shell: Shell) -> None:
    assert await shell.hears(OTHER_MAC) == claimed_by(OTHER_MAC)


async def test_a_mac_that_has_become_the_links_own_claims_nothing_and_the_former_one_does(shell: Shell) -> None:
    await shell.hears(OTHER_MAC)
    await shell.lan.set("net1", address=NEW_MAC)
    await shell.look()
    for _ in range(10):
        shell.say(NEW_MAC)
        await asyncio.sleep(0.03)
    claims = [shell.events.get_nowait().claim for _ in range(shell.events.qsize())]  # type: ignore[union-attr]
    assert claimed_by(NEW_MAC) not in claims
    assert await shell.hears(MAC) == claimed_by(MAC)


async def test_a_link_that_was_down_is_listened_on_again_and_that_is_told_once(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    await shell.hears(OTHER_MAC)
    with caplog.at_level(logging.WARNING, "vipd.agent"):
        await shell.lan.set("net1", state="down")
        await asyncio.sleep(6 * agent_module.LISTEN_AGAIN_S)  # the agent has not been told: each attempt fails
        await shell.look()
        await shell.lan.set("net1", state="up")
        await shell.look()
        while not shell.events.empty():
            shell.events.get_nowait()
        assert await shell.hears(OTHER_MAC) == claimed_by(OTHER_MAC)
    assert caplog.text.count("go unnoticed for now") == 1


async def probed(shell: Shell) -> m.Probed:
    shell.hands.probe_addresses()
    async with asyncio.timeout(5):
        while not isinstance(event := await shell.events.get(), m.Probed):
            assert isinstance(event, m.ClaimSeen)  # an answer to the question is a claim as well
    return event


async def test_one_vip_that_is_answered_for_is_enough(shell: Shell) -> None:
    assert await probed(shell) == m.Probed(answered=False)
    index = await shell.lan.neighbour.index("net1")
    await shell.lan.neighbour.ipr.link("set", index=index, address=MAC)
    await shell.lan.neighbour.ipr.addr("add", index=index, address=str(V6.address), prefixlen=128, flags=0x02)
    assert await probed(shell) == m.Probed(answered=True)


async def test_a_link_that_cannot_be_asked_may_have_a_bearer_and_is_told(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    link: Any = shell.hands.links["net1"]
    shell.hands.links["net1"] = replace(link, index=link.index + 40)
    with caplog.at_level(logging.WARNING, "vipd.hands"):
        assert await probed(shell) == m.Probed(answered=False, asked=False)
    assert f"could not ask whether anybody bears {V4}" in caplog.text
    shell.hands.links["net1"] = None
    assert await probed(shell) == m.Probed(answered=False)


async def test_the_answer_to_an_annotation_bears_what_it_was_for(shell: Shell) -> None:
    base = LeaseView("uid", "7", "b", 3, 1, None, None, None)
    before = shell.hands.clock.now()
    shell.hands.annotate_lease(m.AnnotateLease(WriteKind.SHARED, base, {"vipd.io/shared": "{}"}, timeout_s=0.5))
    event = await shell.events.get()
    assert isinstance(event, m.LeaseWrote)
    assert (event.kind, event.outcome) == (WriteKind.SHARED, Conflict("too late"))
    assert event.sent_at >= before
    assert shell.store.asked == [(base, {"vipd.io/shared": "{}"}, 0.5)]
