"""A lab that fails says so: what it shows then is not vipd's doing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from vipd.errors import VipdError
from vipd.lab.jobs import Jobs
from vipd.lab.run import staged
from vipd.lab.setting import Setting


async def fail() -> None:
    raise OSError("no route")


async def test_a_job_that_failed_is_told_with_what_it_was_to_do() -> None:
    jobs = Jobs()
    jobs.start("deliver", asyncio.sleep(60))
    jobs.require_well()
    jobs.start("count", fail())
    await asyncio.sleep(0.01)
    with pytest.raises(VipdError, match=r"the lab could not count \(OSError\('no route'\)\): its rounds say nothing"):
        jobs.require_well()
    await jobs.close()


async def test_a_job_that_is_cancelled_at_the_end_has_not_failed() -> None:
    jobs = Jobs()
    jobs.start("wait", asyncio.sleep(60))
    await jobs.close()
    jobs.require_well()


async def test_a_stage_waits_no_longer_for_what_a_broken_lab_cannot_show(tmp_path) -> None:
    async with staged(replace(Setting(), nodes=("a", "b")), folder=tmp_path) as stage:
        stage.lab.jobs.start("deliver", fail())
        await asyncio.sleep(0.01)
        with pytest.raises(VipdError, match="the lab could not deliver"):
            await stage.until("pigs fly", lambda: False, within_s=5)
