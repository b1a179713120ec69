"""One vipd for a Lease, or for the pod's own addresses, in one network namespace.

A lock that the kernel gives back when the process ends.

Two would both add and remove the same addresses; and a Lease that bears this member's name can only be an earlier run's
when no other process has the lock.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct

from vipd.errors import VipdError

_BACKLOG = 4096
"""Nobody accepts: each one who asked for the holder's pid stays in this queue.  A full queue would make them wait."""

_NAME_BYTES = 100
"""An abstract name has 107 bytes at most (unix(7)); a Lease's namespace and name may have 317 together."""


class InstanceLock:
    """An abstract unix socket (unix(7)): its name lives in this network namespace and dies with the socket.

    Containers of one pod share it, and so do hostNetwork pods with the processes of their node.
    """

    def __init__(self, name: str, *, what: str = "", advice: str = "") -> None:
        """``name``: what is locked, for people and for the socket; any length.

        ``what`` the holder does, and the ``advice`` after "stop it first, or", are for errors.
        """
        self._name = name
        self._what = what or f"takes part for the Lease {name}"
        self._advice = advice or "name another Lease with --lease"
        self._address = f"\0vipd/{_short(name)}".encode()
        self._socket: socket.socket | None = None

    def acquire(self) -> None:
        """Take it.  Raises VipdError naming the process that has it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(self._address)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise VipdError(f"cannot lock {self._name}: {error}") from error
            raise VipdError(
                f"another vipd ({self._holder()}) {self._what} in this network namespace; stop it first, or "
                f"{self._advice}"
            ) from error
        self._socket = sock

    def close(self) -> None:
        """Give it back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _holder(self) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            try:
                probe.connect(self._address)
            except OSError:
                return "pid unknown"
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        # A process of another PID namespace has no number here.
        return f"pid {pid}" if pid else "in another container"


def _short(name: str) -> str:
    if len(name.encode()) <= _NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{name[: _NAME_BYTES // 2]}~{digest}"
