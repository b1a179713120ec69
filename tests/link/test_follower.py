"""Following on a real kernel: what is followed is what is there, and each address at its own ENI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest_asyncio
from link_lan import MAC, Lan

from vipd.agent.clock import SystemClock
from vipd.agent.enis import Enis
from vipd.agent.follower import Follower
from vipd.agent.surroundings import Choice
from vipd.core.following import Assign, FollowConfig
from vipd.core.model import Eni
from vipd.errors import AwsError
from vipd.link.kernel import KernelLink

OURS = ip_address("10.0.1.80")
ENI = Eni(id="eni-1", mac=MAC, subnet_cidrs=(ip_network("10.0.1.0/24"),))
TWIN = replace(ENI, id="eni-2", mac="02:00:00:00:01:1a")
"""In the same subnet, behind another interface."""


class Aws:
    """IMDS that lists ``known``, and ``later`` too from the question ``late`` on; and no EC2."""

    def __init__(self) -> None:
        self.known: list[Eni] = [ENI]
        self.later: list[Eni] = []
        self.late = 0
        self.asked = 0

    async def enis(self) -> dict[str, Eni]:
        self.asked += 1
        listed = [*self.known, *(self.later if self.asked >= self.late else [])]
        return {eni.mac: eni for eni in listed}

    async def mover(self) -> Any:
        raise AwsError("no EC2 here")

    reader = mover

    async def warm(self) -> str:
        return ""


class Witness:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Following:
    """A follower of ``net1``; ``assigned`` is which ENI EC2 was to be called for, and how often."""

    def __init__(self, kernel: KernelLink) -> None:
        self.aws = Aws()
        self.assigned: list[str] = []
        self.follower = Follower(
            FollowConfig(),
            Choice(interfaces=("net1",)),
            kernel=kernel,
            clock=SystemClock(),
            aws=self.aws,  # type: ignore[arg-type]
            enis=Enis(self.aws, eni_ids={}, subnet_cidrs=()),  # type: ignore[arg-type]
            witness=Witness(),
        )
        carry_out = self.follower._carry_out

        def noting(effect: Any) -> None:
            if isinstance(effect, Assign):
                self.assigned.append(effect.eni)
            carry_out(effect)

        self.follower._carry_out = noting  # type: ignore[method-assign]

    @property
    def targets(self) -> dict[str, str]:
        """Each followed address, with its ENI."""
        return {str(a): f.target.eni for a, f in self.follower.state.followed.items()}

    async def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def following(lan: Lan, kernel: KernelLink) -> AsyncIterator[Following]:
    it = Following(kernel)
    running = asyncio.create_task(it.follower.run())
    await it.until(lambda: it.follower.began)
    yield it
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_address_with_two_prefix_lengths_is_followed_until_both_are_gone(
    lan: Lan, following: Following
) -> None:
    await lan.add_address(str(OURS), 32)
    await following.until(lambda: str(OURS) in following.targets)
    await lan.add_address(str(OURS), 24)
    await lan.delete_address(str(OURS), 32)
    await lan.add_address("10.0.1.81", 32)
    await following.until(lambda: "10.0.1.81" in following.targets)  # the events before it have been taken in
    assert following.targets == {str(OURS): ENI.id, "10.0.1.81": ENI.id}
    await lan.delete_address(str(OURS), 24)
    await following.until(lambda: str(OURS) not in following.targets)


async def test_an_interface_that_is_there_before_its_eni_is_listed_does_not_get_another_one_of_its_subnet(
    lan: Lan, following: Following
) -> None:
    aws = following.aws
    aws.known, aws.later, aws.late = [TWIN], [ENI], 2
    await lan.add_address(str(OURS), 24)
    await following.until(lambda: bool(following.assigned))
    assert set(following.assigned) == {ENI.id}


async def test_an_eni_that_is_listed_much_later_gets_its_addresses_back(lan: Lan, following: Following) -> None:
    aws = following.aws
    aws.known, aws.later, aws.late = [TWIN], [ENI], 4
    await lan.add_address(str(OURS), 24)
    await following.until(lambda: following.targets == {str(OURS): TWIN.id})
    await following.until(lambda: ENI.id in following.assigned[-1:])
    assert following.targets == {str(OURS): ENI.id}


async def test_a_mac_that_imds_never_lists_is_that_of_the_only_eni_in_the_subnet_after_a_second_question(
    lan: Lan, following: Following
) -> None:
    following.aws.known = [TWIN]
    before = asyncio.get_running_loop().time()
    await lan.add_address(str(OURS), 24)
    await following.until(lambda: bool(following.assigned))
    assert following.assigned == [TWIN.id]
    assert following.aws.asked >= 2
    assert asyncio.get_running_loop().time() - before < 0.5
