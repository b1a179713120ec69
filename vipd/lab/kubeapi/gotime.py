"""Times as Go reads and writes them in Kubernetes objects.

A MicroTime (acquireTime, renewTime, eventTime) is read with ``time.Parse("2006-01-02T15:04:05.000000Z07:00")``: exactly
six digits of a second, no fewer and no more (apimachinery, micro_time.go).  ``isoformat()`` of a datetime whose
microsecond is 0 has none, and is refused.  A Time (firstTimestamp) may have any fraction, which is dropped.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_DATE_AND_CLOCK = (
    ("2006", r"[0-9]{4}"),
    ("-", "-"),
    ("01", r"[0-9]{2}"),
    ("-", "-"),
    ("02", r"[0-9]{2}"),
    ("T", "T"),
    ("15", r"[0-9]{1,2}"),
    (":", ":"),
    ("04", r"[0-9]{2}"),
    (":", ":"),
    ("05", r"[0-9]{2}"),
)
_ZONE = ("Z07:00", r"Z|[+-][0-9]{2}:[0-9]{2}")
_MICRO = tuple((e, re.compile(p)) for e, p in (*_DATE_AND_CLOCK, (".000000", r"[.,][0-9]{6}"), _ZONE))
_SECONDS = tuple((e, re.compile(p)) for e, p in (*_DATE_AND_CLOCK, ("", r"([.,][0-9]+)?"), _ZONE))
_ZERO = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, which its JSON shows as null."""


class NotATime(ValueError):
    """The message is Go's."""


def micro_time(text: str) -> str | None:
    """A MicroTime as the API prints it (UTC, six digits, Z); None for the zero time.  Raises NotATime."""
    moment = _parse(text, _MICRO)
    return None if moment == _ZERO else moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def whole_seconds(text: str) -> str | None:
    """A Time as the API prints it (UTC, no fraction, Z); None for the zero time.  Raises NotATime."""
    moment = _parse(text, _SECONDS)
    return None if moment == _ZERO else moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _parse(text: str, layout: tuple[tuple[str, re.Pattern[str]], ...]) -> datetime:
    parts: list[str] = []
    rest = text
    for element, pattern in layout:
        found = pattern.match(rest)
        if found is None:
            shown = "".join(e for e, _ in layout)
            raise NotATime(f'parsing time "{text}" as "{shown}": cannot parse "{rest}" as "{element}"')
        parts.append(found[0])
        rest = rest[found.end() :]
    if rest:
        raise NotATime(f'parsing time "{text}": extra text: "{rest}"')
    year, month, day, hour, minute, second = (int(parts[n]) for n in (0, 2, 4, 6, 8, 10))
    micros = int((parts[11][1:] or "0").ljust(6, "0")[:6])
    try:
        return datetime(year, month, day, hour, minute, second, micros, _zone(parts[12])).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NotATime(f'parsing time "{text}": {_out_of_range(month, hour, minute, second)} out of range') from error


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    east = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-east if text[0] == "-" else east)


def _out_of_range(month: int, hour: int, minute: int, second: int) -> str:
    if not 1 <= month <= 12:
        return "month"
    if hour > 23:
        return "hour"
    if minute > 59:
        return "minute"
    return "second" if second > 59 else "day"
