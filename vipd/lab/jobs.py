"""What the lab does beside its own course: a job that fails must not pass for a VPC that delivers nowhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from vipd.errors import VipdError

log = logging.getLogger("vipd.lab")


class Jobs:
    """Runs them; ``require_well`` tells of the first that failed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed = ""

    def start(self, what: str, job: Coroutine[Any, Any, Any]) -> None:
        """Begin a job; ``what`` it does, for the one that reads of its failure."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(what, ended))

    def _ended(self, what: str, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("the lab could not %s: %r", what, error)
            self._failed = self._failed or f"the lab could not {what} ({error!r}): its rounds say nothing"

    def require_well(self) -> None:
        """Raises VipdError where a job has failed."""
        if self._failed:
            raise VipdError(self._failed)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
