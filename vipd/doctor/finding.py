"""What a check of ``vipd doctor`` found, and how it is printed."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


class Verdict(enum.StrEnum):
    """How it is."""

    OK = "ok"
    WARN = "warn"
    """It works, or may work, and somebody should know."""
    FAIL = "fail"
    """vipd would not start, never take the VIP, or the VIP would not answer."""
    UNKNOWN = "unknown"
    """It could not be found out."""


MARKS = {Verdict.OK: "✓", Verdict.WARN: "!", Verdict.FAIL: "✗", Verdict.UNKNOWN: "?"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """A word or two: the same for every run, for scripts."""
    verdict: Verdict
    detail: str


def ok(check: str, detail: str) -> Finding:
    return Finding(check, Verdict.OK, detail)


def warn(check: str, detail: str) -> Finding:
    return Finding(check, Verdict.WARN, detail)


def fail(check: str, detail: str) -> Finding:
    return Finding(check, Verdict.FAIL, detail)


def unknown(check: str, detail: str) -> Finding:
    return Finding(check, Verdict.UNKNOWN, detail)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 where anything fails."""
    return int(any(finding.verdict is Verdict.FAIL for finding in findings))


def table(findings: Sequence[Finding]) -> str:
    """One line each."""
    width = max((len(finding.check) for finding in findings), default=0)
    return "".join(f"{MARKS[f.verdict]} {f.check:{width}}  {f.detail}\n" for f in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """A list of objects with ``check``, ``verdict`` and ``detail``."""
    return json.dumps([asdict(finding) for finding in findings], indent=2) + "\n"
