"""How each fault of a campaign begins and ends: what is done to a node by its name, or to a service (no name)."""

from __future__ import annotations

import signal as signals

from vipd.lab.campaign.scene import Scene
from vipd.lab.stagecraft import ImdsState


async def nothing(_: Scene, __: str) -> None:
    """It is over by itself."""


async def terminate(scene: Scene, name: str) -> None:
    scene.stage.signal(name, signals.SIGTERM)


async def start_after_end(scene: Scene, name: str) -> None:
    await scene.until_stopped(name)
    await scene.start_vipd(name)


async def freeze(scene: Scene, name: str) -> None:
    scene.stage.signal(name, signals.SIGSTOP)


async def thaw(scene: Scene, name: str) -> None:
    scene.stage.signal(name, signals.SIGCONT)


async def cut_from_api(scene: Scene, name: str) -> None:
    await scene.stage.partition(name, api=True)


async def join_api(scene: Scene, name: str) -> None:
    await scene.stage.partition(name, api=False)


async def cut_from_ec2(scene: Scene, name: str) -> None:
    await scene.cut_from_ec2(name, cut=True)


async def join_ec2(scene: Scene, name: str) -> None:
    await scene.cut_from_ec2(name, cut=False)


async def sicken(scene: Scene, name: str) -> None:
    scene.stage.set_health(name, well=False)


async def cure(scene: Scene, name: str) -> None:
    scene.stage.set_health(name, well=True)


async def hold_writes(scene: Scene, name: str) -> None:
    scene.stage.hold_ec2(name)


async def release_writes(scene: Scene, name: str) -> None:
    scene.stage.release_ec2(name)


async def steal(scene: Scene, _: str) -> None:
    for vip in scene.stage.vips:
        scene.stage.steal(vip)


async def throttle(scene: Scene, _: str) -> None:
    scene.stage.ec2_error("RequestLimitExceeded", calls=4)


async def ec2_away(scene: Scene, _: str) -> None:
    scene.stage.ec2_error("Unavailable", calls=None)


async def ec2_back(scene: Scene, _: str) -> None:
    scene.stage.ec2_error(None, calls=None)


async def ec2_hangs(scene: Scene, _: str) -> None:
    scene.stage.lab.ec2.faults.hang = True


async def ec2_answers(scene: Scene, _: str) -> None:
    scene.stage.lab.ec2.faults.hang = False


async def api_away(scene: Scene, _: str) -> None:
    await scene.stage.api_outage(True)


async def api_back(scene: Scene, _: str) -> None:
    await scene.stage.api_outage(False)


async def imds_refuses(scene: Scene, _: str) -> None:
    await scene.stage.imds(ImdsState.REFUSES)


async def imds_silent(scene: Scene, _: str) -> None:
    await scene.stage.imds(ImdsState.SILENT)


async def imds_back(scene: Scene, _: str) -> None:
    await scene.stage.imds(ImdsState.WELL)


async def delete_lease(scene: Scene, _: str) -> None:
    await scene.stage.delete_lease()


async def hand_over(scene: Scene, _: str) -> None:
    await scene.hand_over()


async def claim(scene: Scene, _: str) -> None:
    await scene.stage.claim(times=16, every_s=0.3)
