"""Any value as JSON that every reader takes: no NaN, no infinity, no keys that are not text, no surprise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from typing import Any

DEPTH = 8
"""Deeper structures, and those that contain themselves, end as their text."""


def to_json(value: object) -> str:
    """One line of ASCII; never raises for the value's sake."""
    return json.dumps(plain(value), separators=(", ", ": "))


def plain(value: object, depth: int = DEPTH) -> Any:
    """The value in dicts, lists, strings, finite numbers, booleans and None; anything else as its ``str``.

    Numbers that are not finite become None: JSON has none.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth and isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value]
    if depth and isinstance(value, Set):
        return sorted(str(item) for item in value)
    return str(value)
