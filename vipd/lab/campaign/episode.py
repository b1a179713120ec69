"""Plays one step of a plan on a running lab, and tells what was seen of it.

The lab's own eyes decide what happened: kernels, mapping, Lease and packets.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence

from vipd.errors import VipdError
from vipd.lab.campaign.eyes import Eyes
from vipd.lab.campaign.faults import Target
from vipd.lab.campaign.logs import LogReader
from vipd.lab.campaign.plan import Placed, Step
from vipd.lab.campaign.scene import Scene
from vipd.lab.campaign.verdict import EpisodeResult, Holding, Observed, judge
from vipd.lab.stage import SceneFailed, Stage

STARTS_IN_S = 10.0
"""A process that was started anew has so long to say what it is: that is the machine's speed, not vipd's."""

CONVERGES_IN_S = 20.0
"""From the last fault's end, and on top of one Lease duration and one EC2 call: IMDS is believed after 10 s, a drain
takes 2 s."""

HOLD_DOWN_S = 130.0
"""A hold-down of three faults in a row, and some time to come back."""

SETTLED_FOR_S = 1.5
"""So long it has to stay as it is, and one Lease duration at the least: what a fault began may come out only then.
Longer than the VPC's data plane follows late, and than the prober waits for an answer."""

LEAD_S = 0.3
POLL_S = 0.02

Teller = Callable[[str], None]


class Episodes:
    """Episodes on one lab, one after the other."""

    def __init__(self, stage: Stage, eyes: Eyes) -> None:
        self._stage = stage
        self._eyes = eyes
        self._tell: Teller = print
        self._logs = LogReader()
        self._judged_until = stage.now()
        """Everything before this moment has been judged: nothing between two episodes is overlooked."""

    async def play(self, step: Step, *, tell: Teller) -> EpisodeResult:
        """One episode, from a lab where one node serves to one where a node serves again.

        Raises SceneFailed where the lab is not ready to begin with: nothing was tried then.
        """
        stage, self._tell = self._stage, tell
        await self._ready(patient=step.patient)
        stage.lab.vpc.imds_lag_s = step.imds_lag_s
        await stage.pause(step.pause_s)
        stage.fault()
        roles = {Target.ACTIVE: [stage.active], Target.STANDBY: [stage.standby], Target.SERVICE: [""]}
        roles[Target.EVERYBODY] = list(stage.lab.nodes)
        scene = Scene(stage, alone=len(step.placed) == 1)
        said = [
            f"{p} ({', '.join(roles[p.target])})" if p.target is not Target.SERVICE else str(p) for p in step.placed
        ]
        failed = await self._bring_about(scene, step.placed, roles)
        healed_at = stage.now()
        await self._started(scene, may_end=any(p.fault.bars_start for p in step.placed))
        missing, settled_at = await self._settle(healed_at)
        owner = "" if missing else stage.holder() or ""
        stage.complaints[:0] = failed
        stage.complaints += self._logs.crashes(node.log for node in stage.lab.nodes.values())
        everybody = roles[Target.EVERYBODY]
        barring = [everybody if p.target is Target.SERVICE else roles[p.target] for p in step.placed if p.fault.bars]
        barred = frozenset(name for names in barring for name in names)
        times = (healed_at, settled_at)
        seen = await self._observed(scene, times, owner=owner, missing=missing, barred=barred)
        logs = str(stage.lab.folder)
        return judge(seen, episode=step.number, kind=step.kind, faults=said, notes=scene.notes, logs=logs)

    # -------------------------------------------------------------------------------------- the acts

    async def _ready(self, *, patient: bool) -> None:
        """One serves, the others stand by: a hold-down is waited out, or ended with its process.

        Raises SceneFailed where a vipd ended since the last look.
        """
        stage = self._stage
        for name, node in stage.lab.nodes.items():
            if node.vipd is not None and not node.alive:
                raise SceneFailed(
                    f"vipd on node {name} ended with exit code {node.vipd.returncode}; its log: {node.log}"
                )
            if stage.role(name) != "fault":
                continue
            if patient:
                self._tell(f"  waiting for node {name}'s hold-down to end")
                returned = functools.partial(self._returned, name)
                await stage.until(f"node {name} is back from its hold-down", returned, within_s=HOLD_DOWN_S)
            else:
                await stage.restart(name)
        await stage.set()

    def _returned(self, name: str) -> bool:
        return self._stage.role(name) in ("standby", "active")

    async def _bring_about(self, scene: Scene, placed: Sequence[Placed], roles: dict[Target, list[str]]) -> list[str]:
        """All faults of the step, each with its own beginning and end; what failed about them."""
        acts = (self._one(scene, p, name) for p in placed for name in roles[p.target])
        ends = await asyncio.gather(*acts, return_exceptions=True)
        for end in ends:
            if end is not None and not isinstance(end, VipdError):
                raise end
        return [str(end) for end in ends if end is not None]

    async def _one(self, scene: Scene, placed: Placed, name: str) -> None:
        await asyncio.sleep(placed.begins_s)
        where = f" on node {name}" if name else ""
        self._tell(f"  {self._at()} {placed.fault.name}{where}")
        await placed.fault.begin(scene, name)
        await asyncio.sleep(placed.lasts_s)
        await placed.fault.end(scene, name)
        self._tell(f"  {self._at()} {placed.fault.name}{where} is over")

    def _at(self) -> str:
        return f"{self._stage.now() - self._stage.fault_at:6.2f} s"

    # -------------------------------------------------------------------------------------- the end

    def unsettled(self) -> str:
        """What is missing to a lab in which one node serves and the others do not; empty: nothing."""
        stage = self._stage
        for node in stage.lab.nodes.values():
            if not node.alive:
                return f"vipd on node {node.name} ended with exit code {node.vipd.returncode if node.vipd else None}"
        owner = self._owner()
        if not owner:
            return "no node serves"
        if stage.role(owner) != "active":
            return f"node {owner} serves, but is labelled {stage.role(owner)!r}"
        for name in stage.lab.nodes:
            if name != owner and stage.lab.observer.bears(name):
                return f"node {name} bears a VIP, but node {owner} serves"
            if name != owner and stage.role(name) not in ("standby", "fault"):
                return f"node {name} does not serve, but is labelled {stage.role(name)!r}"
        return ""

    def _owner(self) -> str:
        return next((name for name in self._stage.lab.nodes if self._stage.serves(name)), "")

    async def _started(self, scene: Scene, *, may_end: bool) -> None:
        """Wait until every member has said what it is; ``may_end``: one that ended at its start is started again."""
        stage = self._stage
        deadline = stage.now() + STARTS_IN_S
        while stage.now() < deadline:
            silent = [node for node in stage.lab.nodes.values() if not stage.role(node.name)]
            ended = [node.name for node in silent if not node.alive]
            if not silent or (ended and not (may_end and all(map(scene.may_start_again, ended)))):
                return
            for name in ended:
                await scene.start_again(name)
            await asyncio.sleep(POLL_S)

    async def _settle(self, healed_at: float) -> tuple[str, float]:
        """Wait until it is settled and stays so; what was missing (empty: nothing), and since when it is settled."""
        stage = self._stage
        within_s = stage.duration_s + stage.lab.setting.ec2_s + CONVERGES_IN_S
        # A vipd that was started anew has the time until it says what it is on top.
        deadline = min(stage.now(), healed_at + STARTS_IN_S) + within_s
        while True:
            missing, since = self.unsettled(), stage.now()
            if not missing and await self._stays(self._owner()):
                return "", since
            if since > deadline:
                await stage.pause(SETTLED_FOR_S)
                return f"{missing or 'it keeps changing'} ({stage.picture()})", since
            await asyncio.sleep(POLL_S)

    async def _stays(self, owner: str) -> bool:
        """Whether nothing changes any more.  Not looked at are probes: the machine may lose some."""
        stage = self._stage
        until = stage.now() + max(SETTLED_FOR_S, stage.duration_s)
        while stage.now() < until:
            bearers = [name for name in stage.lab.nodes if stage.lab.observer.bears(name)]
            if stage.holder() != owner or bearers != [owner]:
                return False
            if not all(node.alive for node in stage.lab.nodes.values()):
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _observed(
        self, scene: Scene, times: tuple[float, float], *, owner: str, missing: str, barred: frozenset[str]
    ) -> Observed:
        """What the judge gets to see."""
        stage, lab = self._stage, self._stage.lab
        start = stage.fault_at - LEAD_S
        since, self._judged_until = min(start, self._judged_until), stage.now()
        names = {node.identity: name for name, node in lab.nodes.items()}
        before = [w for w in lab.api.lease_writes if w.at < since][-1:]
        earlier = [w for w in lab.api.lease_writes if w.at < stage.fault_at][-1:]
        writes = stage.lease_writes()
        return Observed(
            judged_from=since,
            begun_at=start,
            healed_at=times[0],
            ended_at=times[1],
            missing=missing,
            barred=barred,
            owner_before=stage.owner_before,
            windows=[log.window(start, times[1]) for log in lab.probes.values()],
            bearings=[b for b in lab.observer.bearings if b.until is None or b.until >= since],
            away=scene.away,
            ports=None if lab.setting.by_lease else {name: name for name in lab.nodes},
            holders=[
                Holding(w.at, "" if w.verb == "delete" else names.get(w.holder, ""), w.verb != "delete" and w.offers)
                for w in [*before, *(w for w in lab.api.lease_writes if w.at >= since)]
            ],
            takes=len({w.transitions for w in writes if w.holder} - {w.transitions for w in earlier}),
            announcements=[a for a in lab.observer.announcements if a.at >= since],
            foreign_calls=stage.foreign_ec2_writes(since),
            complaints=list(stage.complaints),
            sight=await self._eyes.look(stage, owner),
        )
