"""What the logs of the members say that must never be said: an exception that nobody expected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SIGNS = ("Traceback (most recent call last)", "never retrieved", "in a way it must not")
"""Of Python's, of asyncio's (a task that died unseen), and of vipd's own."""

SHOWN = 300


class LogReader:
    """Reads each log on from where it was read last."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}

    def crashes(self, logs: Iterable[Path]) -> list[str]:
        """The first line of each log, since the last time, that tells of an exception nobody expected."""
        return [told for log in logs if (told := self._crash(log))]

    def _crash(self, log: Path) -> str:
        if not log.is_file():
            return ""
        with log.open("rb") as file:
            file.seek(self._read.get(log, 0))
            new = file.read()
        self._read[log] = self._read.get(log, 0) + len(new)
        lines = new.decode(errors="replace").splitlines()
        first = next((line for line in lines if any(sign in line for sign in SIGNS)), "")
        return f"{log.name} tells of a crash: {first[:SHOWN]}" if first else ""
