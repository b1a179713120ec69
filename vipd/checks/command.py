"""``exec:COMMAND ARG...``: a command that exits with 0, in a process group of its own.

Whatever the command started is killed when the attempt ends, in whichever way: a check that hangs every second would
fill the machine.  Processes that leave the group (setsid) are their own masters.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from vipd.checks.detail import one_line, why

TAIL_BYTES = 4096
"""Of the output so much is kept."""

DYING_S = 0.5
"""How long killed processes are waited for; longer takes only one that hangs in the kernel."""


class ExecCheck:
    """A ``vipd.core.ports.HealthCheck``."""

    def __init__(self, argv: Sequence[str], *, timeout_s: float, text: str) -> None:
        """``argv[0]`` is looked for on PATH at each attempt.  ``timeout_s`` bounds an attempt."""
        self._argv = tuple(argv)
        self._timeout_s = timeout_s
        self._text = text
        self._undead: _Group | None = None

    def __str__(self) -> str:
        return self._text

    async def run(self) -> str | None:
        """One attempt; None: it exited with 0."""
        if self._undead is not None and not self._undead.reaped():
            return f"process {self._undead.pid} of an earlier attempt was killed and does not end"
        self._undead = None
        try:
            group = _Group(self._argv)
        except OSError as error:
            return f"cannot run {self._argv[0]}: {why(error)}"
        late_s = None
        try:
            async with asyncio.timeout(self._timeout_s):
                await group.leader_ended()
        except TimeoutError:
            late_s = self._timeout_s
        finally:
            # Also where the attempt is cancelled.
            if not await group.end():
                self._undead = group
        return _verdict(group, late_s)


def _verdict(group: _Group, late_s: float | None) -> str | None:
    code = group.exit_code
    if late_s is not None:
        what = f"not done within {late_s:g}s"
    elif code == 0:
        return None
    elif code is not None and code < 0:
        what = f"killed by {_signal_name(-code)}"
    else:
        what = f"exit code {code}"
    line = group.last_line()
    return one_line(f"{what}: {line}" if line else what)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Group:
    """A process group: its leader runs ``argv``, with no input and its output in a pipe.  Whoever makes it ends it.

    The leader's end is told by a pidfd, and it is reaped only after the group was killed: until then its number, which
    is the group's too, cannot be another's.  (asyncio's own subprocesses are reaped at once, by a thread each.)
    The child gets none of the loop's signal handlers: CPython resets them before it lets signals through.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Raises OSError where it cannot be started."""
        self.exit_code: int | None = None
        """The leader's, once the group has ended; negative: the number of the signal that killed it."""
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._tail = b""
        self._output, write_end = os.pipe()
        try:
            os.set_blocking(self._output, False)
            self._leader = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=write_end, stderr=write_end, start_new_session=True
            )
            self.pid = self._leader.pid
            self._pidfd = self._open_pidfd()
        except OSError:
            os.close(self._output)
            raise
        finally:
            os.close(write_end)
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(self._pidfd, self._on_end)

    async def leader_ended(self) -> None:
        """Wait, for however long; others of the group may be running still."""
        await self._ended.wait()

    async def end(self) -> bool:
        """Kill what still runs, and reap it; False where something did not end within DYING_S."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._kill()
        deadline = self._loop.time() + DYING_S
        try:
            while not self.reaped():
                if self._loop.time() >= deadline:
                    return False
                await asyncio.sleep(0.01)
            return True
        finally:
            self._read()
            self._loop.remove_reader(self._output)
            os.close(self._output)

    def reaped(self) -> bool:
        """Reap those that are dead; True where nobody is left.

        Where vipd is the first process of its container it inherits the group's orphans, and nobody else reaps them.
        """
        while True:
            try:
                pid, status = os.waitpid(-self.pid, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.pid:
                self.exit_code = self._leader.returncode = os.waitstatus_to_exitcode(status)

    def last_line(self) -> str:
        """The last line of the output that shows anything; empty where there is none."""
        lines = map(one_line, self._tail.decode(errors="replace").splitlines())
        return ([line for line in lines if line] or [""])[-1]

    def _open_pidfd(self) -> int:
        try:
            return os.pidfd_open(self.pid)
        except OSError:
            self._kill()
            self._leader.wait()
            raise

    def _kill(self) -> None:
        # No such process: never, as the leader is not reaped; not permitted: all of them run as another user.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ended.set()

    def _read(self) -> None:
        """Take what is in the pipe, at most once its size: somebody may write without end."""
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            # At its end a pipe is readable for ever.
            self._loop.remove_reader(self._output)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
