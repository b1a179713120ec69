"""What the lab looks like while it runs: on a terminal a picture that changes, elsewhere a line for each change.

Shown are the nodes, whom the Lease names, where the VPC maps the VIP, who bears it, and the stream of probes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TextIO

from vipd.lab.stage import Stage
from vipd.lab.vpc import boottime

if TYPE_CHECKING:
    from rich.console import RenderableType

PERIOD_S = 0.2
BUCKET_S = 0.05
BUCKETS = 70
COLOURS = ("cyan", "yellow", "magenta", "green", "blue")


class View:
    """Looks at a stage at regular intervals."""

    def __init__(self, stage: Stage, *, out: TextIO = sys.stdout) -> None:
        self.stage = stage
        self.title = ""
        self._out = out
        self._begun_at = boottime()
        self._told: dict[str, str] = {}

    # ----------------------------------------------------------------------------------------- lines

    def facts(self) -> dict[str, str]:
        """The state of the world, one short sentence each."""
        stage, lab = self.stage, self.stage.lab
        facts = {"Lease": f"names {stage.holder() or 'nobody'}"}
        for vip in stage.vips:
            if lab.setting.vpc:
                facts[f"VPC {vip}"] = f"maps it to {lab.mapped_to(vip) or 'nobody'}"
            bearers = [name for name in lab.nodes if lab.observer.bearing(name, vip)]
            facts[f"kernel {vip}"] = f"borne by {' and '.join(bearers) or 'nobody'}"
            who = lab.probes[vip].answered_since(boottime() - 0.3)
            facts[f"probes {vip}"] = f"answered by {who}" if who else "not answered"
        for name in lab.nodes:
            facts[f"node {name}"] = self._node_state(name)
        return facts

    def _node_state(self, name: str) -> str:
        node = self.stage.node(name)
        if not node.powered:
            return "no power"
        state = "vipd runs" if node.alive else "vipd does not run"
        return state if self.stage.lab.reaches_api(node) else f"{state}, no Kubernetes API"

    def tell_changes(self) -> None:
        """Print what has changed since the last call."""
        for key, value in self.facts().items():
            if self._told.get(key) != value:
                self._told[key] = value
                self._out.write(f"  {boottime() - self._begun_at:7.2f} s  {key} {value}\n")
        self._out.flush()

    # --------------------------------------------------------------------------------------- picture

    def stream(self) -> list[tuple[str, str]]:
        """The last seconds of probes, a sign for each stretch of time: (sign, who answered or '')."""
        log = next(iter(self.stage.lab.probes.values()))
        end = boottime() - 0.1
        signs = []
        for number in range(BUCKETS):
            start = end - (BUCKETS - number) * BUCKET_S
            probes = log.between(start, start + BUCKET_S)
            lost = [p for p in probes if p.answered_at is None]
            who = next((p.who for p in reversed(probes) if p.answered_at is not None), "")
            signs.append(("·" if not probes else "x" if lost and not who else "▒" if lost else "█", who))
        return signs

    def picture(self) -> RenderableType:
        """The facts as a table, and the stream of probes under it."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        colours = dict(zip(self.stage.lab.nodes, COLOURS, strict=False))
        table = Table(title=self.title, title_justify="left", expand=False)
        for column in ("node", "state", "Lease", "VPC mapping", "bears the VIP", "answers"):
            table.add_column(column)
        lab = self.stage.lab
        for name in lab.nodes:
            marks = [
                "holder" if self.stage.holder() == name else "",
                "here" if lab.setting.vpc and all(lab.mapped_to(v) == name for v in self.stage.vips) else "",
                "yes" if lab.observer.bears(name) else "",
                "yes" if any(p.answered_since(boottime() - 0.3) == name for p in lab.probes.values()) else "",
            ]
            table.add_row(Text(name, style=colours[name]), self._node_state(name), *marks)
        stream = Text(f"probes, {BUCKETS * BUCKET_S:.1f} s  ")
        for sign, who in self.stream():
            stream.append(sign, style=colours.get(who, "red"))
        return Group(table, stream)


@asynccontextmanager
async def shown(view: View) -> AsyncIterator[View]:
    """Show the view while the block runs."""
    terminal = view._out.isatty()
    task = asyncio.create_task(_draw(view) if terminal else _print(view))
    try:
        yield view
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _print(view: View) -> None:
    while True:
        view.tell_changes()
        await asyncio.sleep(PERIOD_S / 4)


async def _draw(view: View) -> None:
    from rich.live import Live

    with Live(view.picture(), refresh_per_second=5, transient=True) as live:
        while True:
            live.update(view.picture())
            await asyncio.sleep(PERIOD_S)
