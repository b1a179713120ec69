"""What the faults of one episode act upon: the stage, and what has to be remembered of what was done to it."""

from __future__ import annotations

import signal as signals

from vipd.lab.measure import Away
from vipd.lab.operator import run_vipd
from vipd.lab.stage import Stage
from vipd.lab.topology import LEASE, NAMESPACE

GRACE_S = 30.0
"""A pod's default termination grace: a vipd that was told to stop has ended by then."""

START_FAILED = (1, 3)
"""Exit codes of a vipd that could not begin: failed at run time, or ran out of time."""

NOT_DONE = (1, 3)
"""Exit codes of a ``vipd handover`` that was refused, not taken, or ran out of time."""


class Scene:
    """One episode on a stage.  ``notes``: what is worth telling, though it is no fault of vipd's."""

    def __init__(self, stage: Stage, *, alone: bool) -> None:
        self.stage = stage
        self.alone = alone
        """Whether one fault plays by itself: then an operator's command has to succeed."""
        self.notes: list[str] = []
        self._again: set[str] = set()
        self._unplugged: dict[str, float] = {}
        self._away: list[Away] = []

    @property
    def away(self) -> list[Away]:
        """When which node was unplugged."""
        return [*self._away, *(Away(name, since) for name, since in self._unplugged.items())]

    async def start_vipd(self, name: str) -> None:
        await self.stage.lab.start_vipd(self.stage.node(name))

    def may_start_again(self, name: str) -> bool:
        """Whether a vipd that ended at its start may have: once, with the exit code of what it could not reach."""
        process = self.stage.node(name).vipd
        return name not in self._again and process is not None and process.returncode in START_FAILED

    async def start_again(self, name: str) -> None:
        """As a kubelet does with a container that ended; told, since the reader should know."""
        self._again.add(name)
        process = self.stage.node(name).vipd
        self.notes.append(
            f"vipd on node {name} ended with exit code {process.returncode if process else None} at start"
        )
        await self.start_vipd(name)

    async def kill(self, name: str) -> None:
        """SIGKILL, as the kernel does when memory runs out; returns when it is gone."""
        process = self.stage.node(name).vipd
        self.stage.signal(name, signals.SIGKILL)
        if process is not None:
            await process.wait()

    async def until_stopped(self, name: str) -> None:
        """After SIGTERM.  Raises SceneFailed when it takes longer than a pod's grace; complains of an exit code."""
        await self.stage.until_exit(name, within_s=GRACE_S)

    async def power_off(self, name: str) -> None:
        process = self.stage.node(name).vipd
        if process is not None and process.returncode is not None:
            self.stage.complaints.append(f"vipd on node {name} ended with exit code {process.returncode}")
        await self.stage.power_off(name)

    async def power_on(self, name: str) -> None:
        """The node boots, and its vipd starts."""
        await self.stage.lab.power_on(self.stage.node(name))
        await self.start_vipd(name)

    async def unplug(self, name: str) -> None:
        await self.stage.link(name, up=False)
        self._unplugged[name] = self.stage.now()

    async def plug(self, name: str) -> None:
        self._away.append(Away(name, self._unplugged.pop(name), self.stage.now()))
        await self.stage.link(name, up=True)

    async def delete_addresses(self, name: str) -> None:
        """Of a node that bears none (its partner in a pair was quicker) nothing is deleted."""
        lab = self.stage.lab
        gone = [await lab.delete_address(lab.nodes[name], vip) for vip in self.stage.vips]
        if not all(gone):
            self.notes.append(f"node {name} bore no VIP when it was to be deleted")

    async def cut_from_ec2(self, name: str, *, cut: bool) -> None:
        await self.stage.lab.partition(self.stage.node(name), "ec2", cut=cut)

    async def hand_over(self) -> None:
        """An operator's ``vipd handover``; in a pair it may be refused, or run out of time."""
        try:
            said = await run_vipd(self.stage.lab, "handover", LEASE, "-n", NAMESPACE, "--wait", "10s")
        except TimeoutError:
            self.stage.complaints.append("vipd handover --wait 10s did not end within 30 s")
            return
        told = f"vipd handover ended with exit code {said.code}: {_last(said.err or said.out)}"
        if said.code == 0:
            return
        expected = said.code in NOT_DONE and "Traceback" not in said.err and not self.alone
        (self.notes if expected else self.stage.complaints).append(told)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
