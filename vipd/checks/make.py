"""From what ``--check`` was told to the checks that run."""

from __future__ import annotations

from collections.abc import Sequence

from vipd.checks.command import ExecCheck
from vipd.checks.tcp import TcpCheck
from vipd.config.checkspec import CheckSpec, ExecSpec, TcpSpec
from vipd.core.ports import HealthCheck


def make_checks(specs: Sequence[CheckSpec], *, timeout_s: float) -> tuple[HealthCheck, ...]:
    """One check for each spec, in their order; ``timeout_s`` bounds an attempt of each.  Runs nothing yet."""
    return tuple(_make(spec, timeout_s) for spec in specs)


def _make(spec: CheckSpec, timeout_s: float) -> HealthCheck:
    if isinstance(spec, TcpSpec):
        return TcpCheck(spec.host, spec.port, timeout_s=timeout_s, text=str(spec))
    if isinstance(spec, ExecSpec):
        return ExecCheck(spec.argv, timeout_s=timeout_s, text=str(spec))
    from vipd.checks.http import HttpCheck

    return HttpCheck(spec.url, host=spec.host, timeout_s=timeout_s)
