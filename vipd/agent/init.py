"""``vipd init``: maps the addresses that a pod was given to their ENIs, confirms it, and ends.

It is following (``vipd.agent.follower``) with an end: the pod's addresses are complete, and each is confirmed; or one
of them never will be (exit code 1); or the time is over (exit code 3).  What it says then is what is missing, why, and
what to do.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack

from vipd.agent.clock import SystemClock
from vipd.agent.enis import Enis
from vipd.agent.expected import Expected, Networks, missing
from vipd.agent.follow_aws import FollowAws
from vipd.agent.follow_lock import following_lock
from vipd.agent.follow_witness import FollowTeller
from vipd.agent.follower import Follower
from vipd.agent.surroundings import Choice
from vipd.config import InitSettings
from vipd.core.following import HOPELESS, FollowConfig, Followed, FollowState, Standing
from vipd.core.model import Address
from vipd.errors import TimeUp, VipdError
from vipd.link.kernel import KernelLink

log = logging.getLogger("vipd")

LOOK_S = 0.05
"""How often it is looked whether all is done, where no event says so (Multus' file has none)."""

NONE_S = 1.0
"""With --allow-none: how long addresses are waited for all the same."""

NOT_ALLOWED_TRIES = 2

ADVICE: Mapping[Standing, str] = {
    Standing.CHECKING: "let pods reach IMDS (hop limit 2), or pass --eni, --region and --subnet-cidr",
    Standing.ASSIGNING: "EC2 has not answered; see whether the pod reaches it, and the log above",
    Standing.ASSIGNED: "EC2 said OK, but IMDS does not show it; another pod may bear it too",
    Standing.DRIFTED: "another pod bears it too; give each pod addresses of its own",
    Standing.CONTENDED: "another pod bears it too; give each pod addresses of its own",
    Standing.THROTTLED: "the account's EC2 request rate is used up; give it more time with --timeout",
    Standing.RETRYING: "see whether the pod reaches EC2",
    Standing.FULL: "the ENI's limit of addresses is reached: unassign unused ones, or take a larger instance type",
    Standing.NOT_ALLOWED: "give the pod's role the policy for vipd init",
    Standing.REFUSED: "correct the address range of the network, or name the ENI with --eni",
    Standing.OUTSIDE: "correct the address range of the network, or leave the address out with --ignore",
}


def run(settings: InitSettings, environ: Mapping[str, str]) -> int:
    """Until all is done, failed, or the time is over; the exit code.  Raises VipdError."""
    return asyncio.run(_run(settings, environ))


async def _run(settings: InitSettings, environ: Mapping[str, str]) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        lock = following_lock(settings.interfaces)
        lock.acquire()
        stack.callback(lock.close)
        kernel = KernelLink()
        stack.push_async_callback(kernel.close)
        aws = FollowAws(region=settings.region, environ=environ, blind=bool(settings.eni_ids))
        stack.push_async_callback(aws.close)
        job = Init(settings, kernel=kernel, aws=aws)
        following = asyncio.create_task(job.follower.run())
        told = asyncio.create_task(stopping.wait())
        done = asyncio.create_task(job.wait())
        try:
            await asyncio.wait({following, told, done}, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                raise VipdError(f"told to stop before it was done: {job.sentence()}")
            if following.done():
                following.result()
            return done.result()
        finally:
            for task in (following, told, done):
                task.cancel()
            await asyncio.gather(following, told, done, return_exceptions=True)


class Init:
    """One run.  ``wait`` ends it."""

    def __init__(self, settings: InitSettings, *, kernel: KernelLink, aws: FollowAws) -> None:
        self._settings = settings
        self._networks = Networks(settings.network_status)
        self._began_at = asyncio.get_running_loop().time()
        self.follower = Follower(
            FollowConfig(always=True, repair_after_s=(1.0, 5.0, 30.0)),
            Choice(
                interfaces=settings.interfaces,
                pod_ips=settings.pod.ips,
                skip=settings.skip,
                ignore=settings.ignore,
            ),
            kernel=kernel,
            clock=SystemClock(),
            aws=aws,
            enis=Enis(aws.imds, eni_ids=settings.eni_ids, subnet_cidrs=settings.subnet_cidrs),
            witness=FollowTeller(),
        )

    async def wait(self) -> int:
        """0 once all is confirmed.  Raises VipdError for what will never be, TimeUp after the time given."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                while not self._finished():
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise TimeUp(f"not done within {self._settings.timeout_s:g} s (--timeout): {self.sentence()}") from None
        if _failed(self.follower.state) or self._duplicates():
            raise VipdError(self.sentence())
        done = ", ".join(f"{a} on {f.target.eni}" for a, f in self.follower.state.followed.items())
        log.info("done: %s", done or "there is no address, which --allow-none allows")
        return 0

    def _finished(self) -> bool:
        """Whether there is nothing left to wait for: all is well, or what is not will never be."""
        if not self.follower.began or self._missing():
            return False
        followed = self.follower.state.followed
        if not followed and asyncio.get_running_loop().time() < self._began_at + NONE_S:
            return False
        return all(f.standing is Standing.CONFIRMED or _hopeless(f) for f in followed.values())

    def _expected(self) -> Expected:
        settings = self._settings
        return Expected(
            interfaces=settings.interfaces,
            networks=self._networks.read(),
            allow_none=settings.allow_none,
        )

    def _missing(self) -> list[str]:
        return missing(self._expected(), self.follower.surroundings)

    def _duplicates(self) -> list[str]:
        return [
            f"{local.address} on {local.interface} is borne by another host on the link (duplicate address detection); "
            "give each pod addresses of its own"
            for local in self.follower.surroundings.candidates()
            if local.duplicate
        ]

    def sentence(self) -> str:
        """What is missing, why, and what to do."""
        if not self.follower.began:
            return "the kernel has not told its addresses yet"
        state = self.follower.state
        wrong = [_told(address, followed) for address, followed in _unfinished(state).items()]
        well = [str(a) for a, f in state.followed.items() if f.standing is Standing.CONFIRMED]
        parts = [*self._missing(), *self._duplicates(), *wrong]
        return "; ".join(parts) + (f". Mapped are {', '.join(well)}" if well else "")


def _unfinished(state: FollowState) -> dict[Address, Followed]:
    return {a: f for a, f in state.followed.items() if f.standing is not Standing.CONFIRMED}


def _failed(state: FollowState) -> bool:
    return any(f.standing in HOPELESS for f in state.followed.values())


def _hopeless(followed: Followed) -> bool:
    """Credentials may come a moment after the container has started: they are asked for twice."""
    again = followed.standing is Standing.NOT_ALLOWED and followed.failures < NOT_ALLOWED_TRIES
    return followed.standing in HOPELESS and not again


def _told(address: Address, followed: Followed) -> str:
    where = f"{followed.target.interface}, {followed.target.eni}" if followed.target.eni else followed.target.interface
    why = f" ({followed.detail})" if followed.detail else ""
    return f"{address} on {where} is {followed.standing.value}{why}: {ADVICE[followed.standing]}"
