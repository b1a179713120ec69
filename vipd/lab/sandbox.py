"""Runs a command in namespaces of its own, so that the lab changes nothing on the machine and leaves nothing behind.

    python -m vipd.lab.sandbox COMMAND [ARGUMENT ...]

New network, mount and PID namespaces; without root (CAP_SYS_ADMIN) also a user namespace in which the caller is root.
When the first process of the PID namespace ends, for whatever reason, the kernel kills every other process in it
and takes the network namespaces apart: a crash cleans up as well as an orderly end does.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

from vipd.errors import VipdError

MARK = "IN_VIPD_LAB_SANDBOX"
"""Set inside; bears the inode of the host's network namespace, so that a stale value is found out."""

_CAP_SYS_ADMIN = 21
_PR_SET_PDEATHSIG = 1


def in_sandbox() -> bool:
    """Whether this process is inside: the mark is there, and the network namespace is another than the marked one."""
    outside = os.environ.get(MARK)
    return outside is not None and outside != _net_inode()


def run(command: Sequence[str]) -> int:
    """Run ``command`` in a sandbox; its exit code (128 + n after signal n).  Raises VipdError where none can be had."""
    unshare = shutil.which("unshare")
    if unshare is None:
        raise VipdError("the lab needs the program unshare (Debian: apt-get install util-linux)")
    flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not _is_admin():
        flags = ["--user", "--map-root-user", *flags]
    _require_namespaces(unshare, flags)
    inner = [sys.executable, "-m", "vipd.lab.sandbox", "--inside", *command]
    # unshare kills what it started when it dies, and dies when this process does, even by SIGKILL.
    child = subprocess.Popen(
        [unshare, *flags, *inner], env={**os.environ, MARK: _net_inode()}, preexec_fn=_die_with_parent
    )
    return _wait(child)


def enter(arguments: Sequence[str]) -> int | None:
    """Run ``python -m vipd`` with these arguments in a sandbox; None where this process is inside already."""
    if in_sandbox():
        return None
    return run([sys.executable, "-m", "vipd", *arguments])


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Pass signals on and wait.  A terminal's Ctrl-C reaches the inner process by itself, in the same group."""

    def forward(number: int, _frame: object) -> None:
        _signal_inner(child.pid, number)

    old = {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGHUP)}
    old[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN if _on_terminal() else forward)
    try:
        code = child.wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _signal_inner(unshare_pid: int, number: int) -> None:
    """Signal the first process inside: unshare itself ignores SIGINT and SIGTERM while it waits for it."""
    with open(f"/proc/{unshare_pid}/task/{unshare_pid}/children") as file:
        for pid in file.read().split():
            os.kill(int(pid), number)


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _require_namespaces(unshare: str, flags: Sequence[str]) -> None:
    probe = subprocess.run([unshare, *flags, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise VipdError(
            f"the lab needs network namespaces, and this machine refuses them ({probe.stderr.strip()}); run it as "
            "root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu "
            "kernel.apparmor_restrict_unprivileged_userns=0)"
        )


def _is_admin() -> bool:
    with open("/proc/self/status") as file:
        effective = next(line.split()[1] for line in file if line.startswith("CapEff:"))
    return bool(int(effective, 16) & (1 << _CAP_SYS_ADMIN))


def _net_inode() -> str:
    return str(os.stat("/proc/self/ns/net").st_ino)


def _inside(command: Sequence[str]) -> int:
    """The first process of the PID namespace: prepares it, runs the command, and ends when it does."""
    _loopback_up()
    child = subprocess.Popen(list(command))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda n, _frame: child.send_signal(n))
    if _on_terminal():
        signal.signal(signal.SIGINT, lambda _n, _frame: None)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    """prctl(2): the kernel sends SIGKILL when the parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _loopback_up() -> None:
    from pyroute2 import IPRoute

    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")


def main(arguments: Sequence[str]) -> int:
    """The program."""
    if arguments[:1] == ["--inside"]:
        return _inside(arguments[1:])
    if not arguments:
        print("usage: python -m vipd.lab.sandbox COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    try:
        return run(arguments)
    except VipdError as error:
        print(f"vipd: error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
