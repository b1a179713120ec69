"""Several monitors as one: a member is healthy when each of them says so, and unknown until each has said something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from vipd.agent.agent import Monitor


class Gates:
    """The monitors run beside each other; what the first unhealthy one says is the detail."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = tuple(monitors)
        self._said: list[tuple[bool, str] | None] = [None] * len(self._monitors)
        self._told: tuple[bool, str] | None = None

    async def run(self, report: Callable[[bool, str], None]) -> None:
        """Until cancelled; reports each change, of the detail too."""
        async with asyncio.TaskGroup() as group:
            for number, monitor in enumerate(self._monitors):
                group.create_task(monitor.run(self._listener(number, report)))

    def _listener(self, number: int, report: Callable[[bool, str], None]) -> Callable[[bool, str], None]:
        def said(healthy: bool, detail: str) -> None:
            self._said[number] = (healthy, detail)
            self._tell(report)

        return said

    def _tell(self, report: Callable[[bool, str], None]) -> None:
        known = [said for said in self._said if said is not None]
        wrong = [detail for healthy, detail in known if not healthy]
        if not wrong and len(known) < len(self._said):
            return
        verdict = (not wrong, wrong[0] if wrong else "")
        if verdict != self._told:
            self._told = verdict
            report(*verdict)
