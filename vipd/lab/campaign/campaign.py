"""The campaign: step after step of a plan until the time is over, on a lab that is built anew after each finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vipd.lab.campaign.diary import write_diary
from vipd.lab.campaign.episode import Episodes
from vipd.lab.campaign.eyes import Eyes
from vipd.lab.campaign.faults import faults_on
from vipd.lab.campaign.plan import Step, steps
from vipd.lab.campaign.verdict import EpisodeResult, nothing_tried
from vipd.lab.setting import CHECK_PORT, Setting
from vipd.lab.stage import SceneFailed, Stage
from vipd.lab.topology import Lab
from vipd.lab.vpc import boottime

KEPT_S = 10.0
"""Probes older than this when an episode begins are forgotten: half a thousand a second add up."""

Teller = Callable[[str], None]
Taker = Callable[[EpisodeResult], None]


def campaign_setting(*, fabric: str, families: tuple[int, ...], kube: str = "embedded") -> Setting:
    """The lab of a campaign: the VPC delivers up to 1 s late, and the application is checked."""
    check = ("--check", f"http://127.0.0.1:{CHECK_PORT}/")
    lag_s = 1.0 if fabric == "vpc" else 0.0
    return Setting(fabric, kube=kube, families=families, remap_lag_s=lag_s, arguments=check)


class Campaign:
    """``seconds``: no step begins later than this; ``only``: this step of the plan, over and over."""

    def __init__(
        self, setting: Setting, *, seed: int, seconds: float, folder: Path, tell: Teller, only: int | None = None
    ) -> None:
        self._setting = setting
        self._folder = folder
        self._tell = tell
        self._seconds = seconds
        faults = faults_on(setting.fabric, families=setting.families)
        self._steps: Iterator[Step] = steps(seed, duration_s=setting.duration_s, faults=faults)
        if only is not None:
            chosen = next(step for step in self._steps if step.number == only)
            self._steps = iter(lambda: chosen, None)
        self._labs = 0

    async def run(self, take: Taker) -> None:
        """Play, and hand over each record as it comes; what an interruption cuts off is not recorded."""
        until: float | None = None
        while until is None or boottime() < until:
            self._labs += 1
            # A folder for each lab: the logs of one that did not converge are evidence.
            async with Lab(self._setting, folder=self._folder / f"lab-{self._labs}") as lab:
                # Building a lab is no part of the time: a real control plane takes its seconds.
                until = boottime() + self._seconds if until is None else until
                await self._play(lab, until, take)

    async def _play(self, lab: Lab, until: float, take: Taker) -> None:
        """On one lab, until the time is over or something was found."""
        stage = Stage(lab)
        episodes = Episodes(stage, await Eyes(lab).open())
        while boottime() < until:
            step = next(self._steps)
            self._tell(f"step {step}")
            acts: list[tuple[float, str]] = []

            def tell(text: str, acts: list[tuple[float, str]] = acts) -> None:
                acts.append((stage.now(), f"lab: {text.strip()}"))
                self._tell(text)

            try:
                result = await episodes.play(step, tell=tell)
            except SceneFailed as error:
                result = nothing_tried(step.number, str(error), logs=str(lab.folder))
            take(result)
            if not result.ok:
                self._tell(f"  diary: {write_diary(stage, result, acts)}")
                return
            for log in lab.probes.values():
                log.forget(boottime() - KEPT_S)
