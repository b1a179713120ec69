"""The gate that every EC2 request of one attempt passes right before its first byte is sent.

Between the decision to send and the bytes on the wire botocore may refresh credentials, resolve a name, connect
and shake hands, seconds in all.  A check before the call would therefore not keep the promise that nothing is
sent once the right to act is over.  So the gate is asked again where the bytes are about to go: botocore's
``before-send`` event for connections that are open, and the end of ``connect()`` for new ones.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_here = threading.local()


class RightOver(Exception):
    """The right to act ended before the request was sent, so it was not sent."""


class Gate:
    """Open while the right lasts; once found shut it stays shut, even if a later tenure gives a new right."""

    def __init__(self, right_until: Callable[[], float]) -> None:
        """``right_until`` gives seconds on CLOCK_BOOTTIME; it is called from worker threads too."""
        self._right_until = right_until
        self._shut = False

    def remaining_s(self) -> float:
        """Seconds until the right ends; 0 when it is over."""
        if not self._shut:
            left = self._right_until() - time.clock_gettime(time.CLOCK_BOOTTIME)
            if left > 0:
                return left
            self._shut = True
        return 0.0

    def close(self) -> None:
        """Nobody waits for this attempt any longer: it sends nothing more."""
        self._shut = True

    def check(self) -> None:
        """Raises RightOver when no request may be sent."""
        if self.remaining_s() <= 0:
            raise RightOver

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Requests that this thread sends inside the ``with`` block pass this gate."""
        _here.gate = self
        try:
            yield
        finally:
            _here.gate = None


def check_here() -> None:
    """What the hooks call: asks the gate of the calling thread, if there is one.  Raises RightOver."""
    gate: Gate | None = getattr(_here, "gate", None)
    if gate is not None:
        gate.check()
