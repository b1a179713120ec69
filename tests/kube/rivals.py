"""The players of a contest for one Lease: a client-go rival, a vipd sidecar, and a witness of every write.

Both candidates are processes of their own, started, signalled and ended by their ids.  The VIP sits on one end of a
veth pair; whether it does is read off the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tenures import Life, Span, Write

from vipd.lab.observer import Observer
from vipd.lab.vpc import boottime

# Lease, interfaces and VIP of this process alone: tests may run beside others in the same network namespace, where
# each name is one thing only.
PID = os.getpid()
NAMESPACE, LEASE, VIPD = "default", f"vip-{PID}", "vipd"
INTERFACE, PEER = f"rv{PID}", f"rw{PID}"
VIP = ip_address("10.77.0.0") + PID % 65536
DURATION_S = 3
"""client-go tells renewals apart by whole seconds: a Lease shared with it needs 2 s more than the renew interval."""
INTERVAL_S = 1.0
RENEW_DEADLINE_S, RETRY_S = 1.8, 0.2
END_S = 20.0


class Rival:
    """One process of the rival; started anew it is another candidate, as a restarted Pod is."""

    def __init__(self, process: asyncio.subprocess.Process, identity: str) -> None:
        self.process = process
        self.life = Life(identity)
        self.leaders: list[str] = []
        """Who leads, as it was told, in that order."""
        self._reader = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def start(cls, program: Path, kubeconfig: Path, identity: str) -> Rival:
        command = [str(program), f"--kubeconfig={kubeconfig}", f"--namespace={NAMESPACE}", f"--name={LEASE}"]
        command += [f"--identity={identity}", f"--lease-duration={DURATION_S}s", f"--retry-period={RETRY_S}s"]
        command += [f"--renew-deadline={RENEW_DEADLINE_S}s", "--release-on-cancel"]
        # Its log (stderr) goes where the test's does: shown when the test fails.
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        return cls(process, identity)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            match said["event"]:
                case "started leading":
                    self.life.started_at.append(said["at"])
                case "stopped leading":
                    self.life.stopped_at.append(said["at"])
                case "new leader":
                    self.leaders.append(said["leader"])
        await self.process.wait()
        self.life.died_at = boottime()

    @property
    def leads(self) -> bool:
        """Whether it says so."""
        word = self.life.word()
        return word is not None and word.until == math.inf

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait until it is gone and everything that it said was read; its exit code."""
        await asyncio.wait_for(asyncio.shield(self._reader), END_S)
        return await self.process.wait()

    async def close(self) -> None:
        if self.runs:
            self.send(signal.SIGKILL)
        await self.ended()


class Vipd:
    """``vipd sidecar`` without an ENI; a restarted one has the same identity, and adds to the same log."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self.log = log
        self._kubeconfig = kubeconfig
        self.process: asyncio.subprocess.Process | None = None
        self._began = 0

    async def start(self) -> None:
        self._began = self.log.stat().st_size if self.log.exists() else 0
        command = ["sidecar", "--lease", LEASE, "--namespace", NAMESPACE, "--identity", VIPD]
        command += ["--vip", f"{VIP}%{INTERFACE}", "--eni", "none", "--listen", "off", "--log-format", "json"]
        command += ["--lease-duration", f"{DURATION_S}s", "--renew-interval", f"{INTERVAL_S:g}s"]
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV") if key in os.environ}
        environ = kept | {"HOME": str(self.log.parent), "KUBECONFIG": str(self._kubeconfig)}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "vipd", *command, env=environ, stdin=asyncio.subprocess.DEVNULL, stderr=log
            )

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def ready(self) -> bool:
        """Whether this run takes part: a SIGTERM while it starts up ends it as any program."""
        return self.runs and b"ready to take part" in self.log.read_bytes()[self._began :]

    def said(self, message: str) -> int:
        """How many lines of its log have this message."""
        return sum(message in json.loads(line)["msg"] for line in self.log.read_text().splitlines())

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait until it is gone; its exit code."""
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), END_S)

    async def close(self) -> None:
        if self.runs:
            self.send(signal.SIGKILL)
            await self.ended()


class Witness:
    """Watches the Lease as any member may, and remembers each version; works on any Kubernetes API.

    It begins before the candidates do, where there is no Lease yet.
    """

    def __init__(self, client: Any) -> None:
        """``client``: a ``kubernetes.aio`` ApiClient."""
        self.writes: list[Write] = []
        self._client = client
        self._version = ""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    @property
    def holder(self) -> str:
        """Of the newest version; "" also where there is no Lease yet."""
        self._require_sight()
        return self.writes[-1].holder if self.writes else ""

    def _require_sight(self) -> None:
        if self._task.done():
            self._task.result()

    async def _watch(self) -> None:
        from kubernetes.aio import client

        leases = client.CoordinationV1Api(self._client)
        while True:
            # A server ends a watch now and then; the next goes on where it ended.
            answer = await leases.list_namespaced_lease_without_preload_content(
                NAMESPACE,
                watch=True,
                field_selector=f"metadata.name={LEASE}",
                resource_version=self._version or None,
                timeout_seconds=240,
            )
            async for line in answer.content:
                self._saw(json.loads(line))

    def _saw(self, event: dict[str, Any]) -> None:
        now, offset = boottime(), boottime() - time.time()
        found = event["object"]
        assert event["type"] in ("ADDED", "MODIFIED"), f"the witness has lost sight of the Lease: {event}"
        self._version = found["metadata"]["resourceVersion"]
        renewed = datetime.fromisoformat(found["spec"]["renewTime"]).timestamp()
        self.writes.append(Write.of(found, seen_at=now, renewed=renewed, boot_of_wall=offset))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Here:
    """This process's own network namespace, as the lab's observer asks for one."""

    @staticmethod
    def netlink() -> Any:
        from pyroute2 import AsyncIPRoute

        return AsyncIPRoute()


class Contest:
    """One Lease, the two that want it, and who saw what."""

    def __init__(self, program: Path, kubeconfig: Path, folder: Path, witness: Witness) -> None:
        self.vipd = Vipd(kubeconfig, folder / "vipd.log")
        self.witness = witness
        self.lives: list[Life] = []
        self.observer = Observer([VIP])
        self.rival: Rival | None = None
        self._program = program
        self._kubeconfig = kubeconfig

    async def new_rival(self) -> Rival:
        """Start the rival; the one before has ended."""
        assert self.rival is None or not self.rival.runs
        self.rival = await Rival.start(self._program, self._kubeconfig, f"rival-{len(self.lives) + 1}")
        self.lives.append(self.rival.life)
        return self.rival

    def bearings(self) -> list[Span]:
        """When the kernel bore the VIP."""
        self.observer.bears(VIPD)  # raises where events were lost
        return [Span(VIPD, b.since, math.inf if b.until is None else b.until) for b in self.observer.bearings]

    def bears(self) -> bool:
        return self.observer.bears(VIPD)

    async def close(self) -> None:
        if self.rival is not None:
            await self.rival.close()
        await self.vipd.close()
        await self.witness.close()
        await self.observer.close()


@contextlib.asynccontextmanager
async def contest(program: Path, kubeconfig: Path, folder: Path, client: Any) -> AsyncIterator[Contest]:
    """Interfaces, witness and observer are there; neither candidate has been started."""
    from pyroute2 import AsyncIPRoute

    async with AsyncIPRoute() as ipr:
        await ipr.link("add", ifname=INTERFACE, kind="veth", peer={"ifname": PEER})
        for name in (INTERFACE, PEER):
            (index,) = await ipr.link_lookup(ifname=name)
            await ipr.link("set", index=index, state="up")
        players = Contest(program, kubeconfig, folder, Witness(client))
        players.observer.watch_addresses(VIPD, Here())
        try:
            yield players
        finally:
            await players.close()
            (index,) = await ipr.link_lookup(ifname=INTERFACE)
            await ipr.link("del", index=index)


async def until(true: Any, what: str, *, within_s: float = 20.0) -> float:
    """Wait until it is true; how long that took.  Fails when it does not become true."""
    began = boottime()
    while not true():
        assert boottime() - began < within_s, f"{within_s:g} s went by, and not: {what}"
        await asyncio.sleep(0.01)
    return boottime() - began


async def never(true: Any, what: str, *, for_s: float) -> None:
    """It must not become true."""
    end = boottime() + for_s
    while boottime() < end:
        assert not true(), what
        await asyncio.sleep(0.01)
