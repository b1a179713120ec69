"""Log lines on stderr: JSON for machines, text for people, and never a wait.

Stderr may be a pipe that nobody empties.  A thread does the writing; the caller formats its line and leaves it in a
bounded queue, and a line that finds the queue full is counted and dropped.  Renewals go on whatever becomes of the
log.

The thread writes to the file descriptor itself.  A daemon thread that hangs inside ``sys.stderr`` would hold its
buffer's lock, and the interpreter aborts when it cannot get that lock at exit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import threading
from collections.abc import Iterator
from types import TracebackType

from vipd.observe.format import JsonFormatter, TextFormatter

CAPACITY = 1 << 20
"""Bytes that wait at most: some thousands of lines."""

FLUSH_S = 1.0
"""How long the end waits for the last lines."""

Item = bytes | threading.Event | None


def fields(**values: object) -> dict[str, object]:
    """For ``extra=``: ``log.info("took the Lease", extra=fields(lease=name))`` adds ``lease`` to the line."""
    return {"fields": values}


def set_level(level: str) -> None:
    """The least that vipd logs: debug, info, warning or error.

    Libraries stay at warning: botocore's and aiohttp's debug lines contain credentials.
    """
    logging.getLogger("vipd").setLevel(level.upper())


def dropped() -> int:
    """Log lines that could not be written since logging was started; 0 where it is not."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, Logs))


@contextlib.contextmanager
def started(fmt: str, level: str, *, fd: int = 2, capacity: int = CAPACITY, flush_s: float = FLUSH_S) -> Iterator[Logs]:
    """Send the whole process's logging to ``fd`` while the block runs; ends within about ``flush_s``.

    ``fmt``: auto (text on a terminal, JSON elsewhere), json or text.
    """
    with Logs(fmt, fd=fd, capacity=capacity, flush_s=flush_s) as logs:
        root, vipd = logging.getLogger(), logging.getLogger("vipd")
        before = root.handlers[:], root.level, vipd.level
        root.handlers = [logs]
        root.setLevel(logging.WARNING)
        set_level(level)
        logging.captureWarnings(True)
        try:
            yield logs
        finally:
            logging.captureWarnings(False)
            root.handlers = before[0]
            root.setLevel(before[1])
            vipd.setLevel(before[2])


class Logs(logging.Handler):
    """A handler that never blocks and never raises; ``dropped`` counts what it could not keep."""

    def __init__(self, fmt: str = "auto", *, fd: int = 2, capacity: int = CAPACITY, flush_s: float = FLUSH_S) -> None:
        super().__init__()
        terminal = os.isatty(fd)
        text = fmt == "text" or (fmt == "auto" and terminal)
        self.setFormatter(TextFormatter(colour=terminal) if text else JsonFormatter())
        # Each number has one writer: the first two the callers (under the handler's lock), the others the thread.
        self._taken = 0
        self._refused = 0
        self._done = 0
        self._lost = 0
        self._reported = 0
        self._closed = False
        self._fd = fd
        self._capacity = capacity
        self._flush_s = flush_s
        # SimpleQueue may be entered again while it is entered (a destructor that logs during a collection);
        # queue.Queue would lock up.
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="vipd-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Lines that were not written, because too many waited or nobody reads."""
        return self._refused + self._lost

    def emit(self, record: logging.LogRecord) -> None:
        if self._taken - self._done >= self._capacity:
            self._refused += 1
            return
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a record's arguments may raise anything when formatted
            line = self.format(_about(record, error))
        data = line.encode(errors="backslashreplace") + b"\n"
        self._taken += len(data)
        self._queue.put(data)

    def drain(self, timeout_s: float) -> bool:
        """Wait until what was logged so far is written; False where it took longer than ``timeout_s``."""
        written = threading.Event()
        self._queue.put(written)
        return written.wait(timeout_s)

    def close(self) -> None:
        """Write what waits, for at most the time given; a thread that hangs is left behind."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join(self._flush_s)
        super().close()

    # ------------------------------------------------------------------------------------ the thread

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._lost += not self._write(item)
                self._done += len(item)
                if self.dropped != self._reported and self._taken - self._done < self._capacity // 2:
                    self._report_drops()

    def _report_drops(self) -> None:
        dropped = self.dropped
        missing, self._reported = dropped - self._reported, dropped
        record = logging.LogRecord(
            "vipd.log", logging.WARNING, __file__, 0, "%d log lines were dropped", (missing,), None
        )
        self._write(self.format(record).encode() + b"\n")

    def _write(self, data: bytes) -> bool:
        """Every byte, however long it takes; False where nobody reads any more."""
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Somebody who shares the pipe made it non-blocking.
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(1000)
            except OSError:
                # EPIPE, ENOSPC, EBADF: there is nobody to tell; the line is counted.
                return False
        return True


def _about(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    message = f"a log line of {record.name} could not be formatted: {type(error).__name__}"
    return logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, message, None, None)
