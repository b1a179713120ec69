"""Blocking AWS calls beside the event loop, in threads that nobody ever has to wait for.

botocore blocks, and what it does before a request (name resolution, credentials) has no time limit of its own.
``concurrent.futures`` joins its threads at interpreter exit, so one hung call would keep the process from
ending, and a full pool would keep the next attempt from starting.  Here every piece of work has a daemon thread
of its own: it can be abandoned at any moment, and the next one starts at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

NAME_PREFIX = "vipd-aws"


def in_daemon_thread(work: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Run ``work`` in a new daemon thread; the future bears its result or its exception.

    The future may be abandoned or cancelled: the thread goes on to its end and its result is dropped.  Raises OSError
    where no thread can be started (a limit of processes is reached): that passes, and is no bug.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    # An abandoned future must not be reported as "exception was never retrieved".
    future.add_done_callback(_look_at)

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - carried over to whoever awaits the future
            error = caught
        # RuntimeError: the loop was closed while we worked, so nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    try:
        threading.Thread(target=run, name=f"{NAME_PREFIX}-{name}", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"{error} (is a limit of processes or of memory reached?)") from error
    return future


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
