"""``vipd lab up``: a running lab to play with, by commands on standard input."""

from __future__ import annotations

import asyncio
import shlex
import signal as signals
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from vipd.errors import VipdError
from vipd.lab.live import View
from vipd.lab.operator import run_vipd
from vipd.lab.run import staged
from vipd.lab.setting import Setting
from vipd.lab.stage import Stage
from vipd.lab.topology import LEASE, LISTEN_PORT, NAMESPACE

HELP = """\
  show              nodes, Lease, mapping, kernel, probes      status NODE       vipd's own /status document
  stop NODE         SIGTERM to its vipd                        start NODE        start its vipd (again)
  kill NODE         SIGKILL                                    freeze NODE       SIGSTOP    thaw NODE   SIGCONT
  off NODE          power off                                  on NODE           power on, and start vipd
  down NODE         unplug its VIP interface                   up NODE           plug it in
  cut NODE          cut it off from the Kubernetes API         heal              take back cuts and EC2 errors
  delete NODE       delete the VIP on it                       steal             map the VIP to somebody else's ENI
  ec2 CODE|ok       EC2 answers every call with this error     log NODE          the last lines of its log
  lease             'vipd status --lease' as an operator    handover [NODE]   'vipd handover' [to NODE]
  api off|on        the Kubernetes API is away for all
  sh NODE [CMD ...] a shell, or a command, in its namespace    quit
"""


class Console:
    """Reads commands and plays them on the stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._view = View(stage)

    async def serve(self) -> None:
        """Until ``quit`` or the end of the input."""
        while True:
            if sys.stdin.isatty():
                print("lab> ", end="", flush=True)
            line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            if not line or line.strip() in ("quit", "exit"):
                return
            try:
                await self.obey(shlex.split(line, comments=True))
            except (VipdError, ValueError) as error:
                print(f"  {error}", flush=True)

    async def obey(self, words: Sequence[str]) -> None:
        """One command.  Raises VipdError for an unknown one or an unknown node."""
        if not words:
            return
        commands: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            "show": self._show,
            "status": self._status,
            "sh": self._shell,
            "log": self._log,
            "heal": lambda _: self._stage.heal(),
            "ec2": self._ec2,
            "steal": self._steal,
            "start": lambda rest: self._stage.lab.start_vipd(self._stage.node(self._node(rest))),
            "off": lambda rest: self._stage.power_off(self._node(rest)),
            "on": self._on,
            "down": lambda rest: self._stage.link(self._node(rest), up=False),
            "up": lambda rest: self._stage.link(self._node(rest), up=True),
            "cut": lambda rest: self._stage.partition(self._node(rest), api=True),
            "delete": self._delete,
            "lease": lambda _: self._operate("status", "--lease", LEASE, "-n", NAMESPACE),
            "handover": self._hand_over,
            "api": self._api,
        }
        numbers = {
            "stop": signals.SIGTERM,
            "kill": signals.SIGKILL,
            "freeze": signals.SIGSTOP,
            "thaw": signals.SIGCONT,
        }
        word, rest = words[0], list(words[1:])
        if word in numbers:
            self._stage.signal(self._node(rest), numbers[word])
        elif word in commands:
            await commands[word](rest)
        else:
            print(f"  unknown command {word!r}; there are\n{HELP}", end="", flush=True)

    def _node(self, rest: Sequence[str]) -> str:
        names = list(self._stage.lab.nodes)
        if not rest or rest[0] not in names:
            raise VipdError(f"which node? there are {', '.join(names)}")
        return rest[0]

    async def _show(self, _: list[str]) -> None:
        for key, value in self._view.facts().items():
            print(f"  {key} {value}")
        sys.stdout.flush()

    async def _in_node(self, name: str, command: Sequence[str]) -> None:
        node = self._stage.node(name)
        process = await node.space.spawn(command, env=self._stage.lab.environment(node) | {"PS1": f"{name}# "})
        await process.wait()

    async def _shell(self, rest: list[str]) -> None:
        await self._in_node(self._node(rest), rest[1:] or ["sh", "-i"])

    async def _status(self, rest: list[str]) -> None:
        fetch = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{LISTEN_PORT}/status').read().decode())"
        await self._in_node(self._node(rest), [sys.executable, "-c", fetch])

    async def _log(self, rest: list[str]) -> None:
        lines = self._stage.node(self._node(rest)).log.read_text().splitlines()
        print("\n".join(lines[-12:]), flush=True)

    async def _ec2(self, rest: list[str]) -> None:
        self._stage.ec2_error(None if rest[:1] in ([], ["ok"]) else rest[0], calls=None)

    async def _steal(self, _: list[str]) -> None:
        for vip in self._stage.vips:
            self._stage.steal(vip)

    async def _delete(self, rest: list[str]) -> None:
        for vip in self._stage.vips:
            await self._stage.lab.delete_address(self._stage.node(self._node(rest)), vip)

    async def _operate(self, *argv: str) -> None:
        said = await run_vipd(self._stage.lab, *argv)
        print((said.out + said.err).rstrip(), flush=True)

    async def _hand_over(self, rest: list[str]) -> None:
        to = ("--to", self._stage.node(self._node(rest)).pod) if rest else ()
        await self._operate("handover", LEASE, "-n", NAMESPACE, *to)

    async def _api(self, rest: list[str]) -> None:
        if rest not in (["off"], ["on"]):
            raise VipdError("api off, or api on?")
        await self._stage.api_outage(rest == ["off"])

    async def _on(self, rest: list[str]) -> None:
        node = self._stage.node(self._node(rest))
        await self._stage.lab.power_on(node)
        await self._stage.lab.start_vipd(node)


async def keep_up(setting: Setting, *, folder: Path) -> None:
    """Build the lab, say how to play, and keep it up until told to quit."""
    async with staged(setting, folder=folder) as stage:
        vips = ", ".join(map(str, stage.vips))
        print(
            f"The lab is up: nodes {', '.join(stage.lab.nodes)}, VIP {vips}; node {stage.active} serves it.\n"
            f"Logs and kubeconfigs are in {stage.lab.folder}. Commands (end with quit or Ctrl-D):\n{HELP}",
            end="",
            flush=True,
        )
        await Console(stage).serve()
