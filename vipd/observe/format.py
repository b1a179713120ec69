"""How a log line looks: one JSON object, or text for a terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vipd.observe.jsonable import plain, to_json

LONGEST = 16384
"""Characters of a message or traceback; the rest is cut off, so that the queue is bounded in bytes too."""

RESET = "\x1b[0m"
DIM = "\x1b[2m"
COLOURS = {"DEBUG": DIM, "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}


class JsonFormatter(logging.Formatter):
    """``ts`` (RFC 3339, UTC, ms), ``level``, ``logger``, ``msg``, ``boot`` (CLOCK_BOOTTIME), the fields, ``exc``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _at(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _cut(record.getMessage()),
            "boot": round(time.clock_gettime(time.CLOCK_BOOTTIME), 6),
        }
        trace = _trace(self, record)
        if trace:
            line["exc"] = trace
        for key, value in _fields(record).items():
            line[f"{key}_" if key in line else key] = value
        return to_json(line)


class TextFormatter(logging.Formatter):
    """``HH:MM:SS.mmm LEVEL logger message key=value ...``; colour only where asked for."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        at = _at(record).strftime("%H:%M:%S.%f")[:-3]
        values = " ".join(f"{key}={_word(plain(value))}" for key, value in _fields(record).items())
        message = _visible(_cut(record.getMessage()))
        level = f"{record.levelname:<7}"
        if self._colour:
            level = f"{COLOURS.get(record.levelname, '')}{level}{RESET}"
            values = f"{DIM}{values}{RESET}" if values else ""
        line = f"{at} {level} {record.name}: {message}" + (f"  {values}" if values else "")
        trace = _trace(self, record)
        return f"{line}\n{_visible(trace, keep=chr(10))}" if trace else line


def _at(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found = getattr(record, "fields", None)
    return found if isinstance(found, Mapping) else {}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return _cut("\n".join(parts))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def _word(value: object) -> str:
    text = value if isinstance(value, str) else to_json(value)
    return _visible(text) if text and not set(text) & set(" \"'=\n") else _visible(repr(text))


def _visible(text: str, keep: str = "") -> str:
    """Control characters escaped: a holder's name from the API must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
