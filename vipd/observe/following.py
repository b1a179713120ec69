"""What following shows of itself: rows of the status document, readiness, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from vipd.core.following import WELL, FollowState, Standing
from vipd.core.model import Assigned
from vipd.observe.metrics import ASSIGN_BUCKETS_S

SETTLING = frozenset({Standing.CHECKING, Standing.ASSIGNING, Standing.ASSIGNED})
PASSED_OVER = frozenset({Standing.OUTSIDE})
"""An address that no ENI of the VPC could have may well be meant for something else: it does not make a pod unready."""


def following_rows(state: FollowState, now: float) -> list[dict[str, Any]]:
    """The key ``following`` of ``/status``: one object for each address."""
    return [
        {
            "address": str(address),
            "interface": followed.target.interface,
            "eni": followed.target.eni or None,
            "state": followed.standing.value,
            "since_s": round(now - followed.since, 3),
            "repairs": followed.repairs,
            "detail": followed.detail,
        }
        for address, followed in sorted(state.followed.items(), key=lambda item: (item[0].version, int(item[0])))
    ]


def following_ready(state: FollowState, *, began: bool) -> tuple[bool, str]:
    """Whether the VPC delivers to every followed address; the sentence tells the first that it does not."""
    if not began:
        return False, "the addresses have not been looked at yet"
    for address, followed in state.followed.items():
        if followed.standing not in WELL | PASSED_OVER | {Standing.ASSIGNED}:
            return False, f"{address} is {followed.standing.value}: {followed.detail}".rstrip(": ")
    return True, f"{len(state.followed)} addresses followed"


class FollowMetrics(Collector):
    """Counters as it happens, gauges when somebody asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.state: FollowState | None = None
        self._calls = Counter(
            "vipd_follow_assign", "Outcomes of mapping a followed address.", ("verdict", "code"), registry=registry
        )
        self._seconds = Histogram(
            "vipd_follow_assign_seconds", "Time of one attempt.", buckets=ASSIGN_BUCKETS_S, registry=registry
        )
        self._changes = Counter(
            "vipd_follow_changes", "Changes of how it stands with followed addresses.", ("state",), registry=registry
        )
        registry.register(self)

    def assigned(self, results: Sequence[Assigned], seconds: float) -> None:
        """One EC2 attempt ended after ``seconds``."""
        for result in results:
            self._calls.labels(result.verdict.value, result.code).inc()
        self._seconds.observe(seconds)

    def changed(self, standing: Standing | None) -> None:
        """An address stands so from now on; None: it is gone."""
        self._changes.labels(standing.value if standing else "gone").inc()

    def collect(self) -> Iterator[Metric]:
        """How many addresses stand how, now."""
        family = GaugeMetricFamily("vipd_followed_addresses", "Followed addresses by state.", labels=("state",))
        standings = [f.standing for f in self.state.followed.values()] if self.state else []
        for standing in Standing:
            family.add_metric((standing.value,), standings.count(standing))
        yield family
