"""Blocking code on virtual time: production code that waits for EC2 in a worker thread runs here as it is.

A fiber is a thread of which exactly one runs at any moment: whoever resumes it waits until it waits again.  So threads
bring no chance into a run.  Threads are kept and used again, since starting one costs more than most schedules need.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any


class Abandoned(BaseException):
    """The process that this fiber belonged to is gone: unwind."""


_idle: list[_Worker] = []
os.register_at_fork(after_in_child=_idle.clear)


class _Worker:
    """One thread; its fiber changes."""

    def __init__(self) -> None:
        self.go = threading.Lock()
        self.go.acquire()
        self.back = threading.Lock()
        self.back.acquire()
        self.fiber: Fiber | None = None
        threading.Thread(target=self._serve, daemon=True, name="fiber").start()

    def _serve(self) -> None:
        while True:
            self.go.acquire()
            assert self.fiber is not None
            self.fiber.body()
            self.back.release()


class Fiber:
    """One piece of blocking work."""

    def __init__(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """``done`` is called in the resuming thread, with what ``work`` raised."""
        self._work = work
        self._done = done
        self._worker = _idle.pop() if _idle else _Worker()
        self._worker.fiber = self
        self._answer: Any = None
        self._abandoned = False
        self._error: BaseException | None = None
        self._begin: Callable[[Callable[[Any], None]], None] | None = None
        self.ended = False

    def body(self) -> None:
        """Runs in the worker's thread."""
        _here.fiber = self
        try:
            if not self._abandoned:
                self._work()
        except Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the resuming thread
            self._error = error
        self.ended = True

    def resume(self, answer: Any = None) -> None:
        """Let it run until it waits or ends."""
        if self.ended:
            return
        self._answer = answer
        worker = self._worker
        worker.go.release()
        worker.back.acquire()
        if self.ended:
            worker.fiber = None
            _idle.append(worker)
            if not self._abandoned:
                self._done(self._error)
        elif self._begin is not None:
            begin, self._begin = self._begin, None
            begin(self.resume)

    def abandon(self) -> None:
        """Its process is gone."""
        if not self.ended:
            self._abandoned = True
            self.resume()

    def wait(self, begin: Callable[[Callable[[Any], None]], None]) -> Any:
        """Called inside: hand over; ``begin(wake)`` is called outside, and ``wake(answer)`` ends the waiting."""
        self._begin = begin
        self._worker.back.release()
        self._worker.go.acquire()
        if self._abandoned:
            raise Abandoned
        return self._answer


_here = threading.local()


def wait(begin: Callable[[Callable[[Any], None]], None]) -> Any:
    """Blocks the calling fiber; see ``Fiber.wait``."""
    fiber: Fiber = _here.fiber
    return fiber.wait(begin)
