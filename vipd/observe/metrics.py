"""Prometheus metrics of one member, in a registry of their own.

What happens is counted as it happens.  What *is* (the state, the mapping, the seconds left) is read from the latest
state when somebody asks, so that an event costs the loop next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from vipd import __version__
from vipd.core.model import Address, Assigned, CallFailed, Conflict, LeaseAbsent, Mapped, WriteOutcome, Written
from vipd.core.reasons import Phase
from vipd.core.state import State
from vipd.observe import logs

LEASE_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Up to the longest time limit of one attempt."""

ASSIGN_BUCKETS_S = (0.1, 0.2, 0.4, 0.6, 0.8, 1.2, 2.0, 4.0)
"""Around what EC2 usually takes (0.4 s)."""

LAG_BUCKETS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
"""Up to what counts as frozen (0.5 s), and beyond."""

GROUP = ("namespace", "lease")


def boottime_s() -> float:
    """CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Metrics:
    """Every metric of one member of one VIP group; all bear the labels ``namespace`` and ``lease``."""

    def __init__(self, *, namespace: str, lease: str, now: Callable[[], float] = boottime_s) -> None:
        """``now``: CLOCK_BOOTTIME, which the times in a ``State`` are on."""
        # A second series for each counter, of no use to Prometheus itself.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self._group = (namespace, lease)
        self._writes = self._counter("vipd_lease_writes", "Writes to the Lease.", "kind", "outcome")
        self._write_s = self._histogram("vipd_lease_write_seconds", "Time of a write.", LEASE_BUCKETS_S, "kind")
        self._transitions = self._counter("vipd_transitions", "State changes.", "from", "to", "reason")
        self._notes = self._counter("vipd_notes", "What else people should see.", "reason")
        self._assigns = self._counter("vipd_eni_assign", "Outcomes of moving an address to an ENI.", "verdict", "code")
        self._assign_s = self._histogram("vipd_eni_assign_seconds", "Time of one attempt to move.", ASSIGN_BUCKETS_S)
        self._announcements = self._counter("vipd_announcements", "Announcements sent to neighbours.", "kind")
        self._readings = self._counter("vipd_imds_readings", "Readings of an address's mapping.", "reading")
        self._lag_s = self._histogram("vipd_loop_lag_seconds", "How late timers of the loop fired.", LAG_BUCKETS_S)
        self._present = Present(self._group, now)
        self.registry.register(self._present)
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*GROUP, *labels), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, (*GROUP, *labels), buckets=buckets, registry=self.registry)

    # ---------------------------------------------------------------------------------- what happens

    def lease_write(self, kind: str, outcome: WriteOutcome, seconds: float) -> None:
        """A write of ``kind`` (``vipd.core.reasons.WriteKind``; renewals are ``renew``) was answered or given up."""
        self._writes.labels(*self._group, kind, _word(outcome)).inc()
        self._write_s.labels(*self._group, kind).observe(seconds)

    def transition(self, before: str, after: str, reason: str) -> None:
        """A state was left for another."""
        self._transitions.labels(*self._group, before, after, reason).inc()

    def noted(self, reason: str) -> None:
        """Something people should see happened without a change of state."""
        self._notes.labels(*self._group, reason).inc()

    def assigned(self, results: Sequence[Assigned], seconds: float) -> None:
        """One attempt to move addresses ended after ``seconds``."""
        for result in results:
            self._assigns.labels(*self._group, result.verdict.value, result.code).inc()
        self._assign_s.labels(*self._group).observe(seconds)

    def announced(self, kind: str) -> None:
        """One round for one VIP was sent: ``garp`` or ``na``."""
        self._announcements.labels(*self._group, kind).inc()

    def mapping_read(self, mapping: Mapping[Address, Mapped]) -> None:
        """The mapping was asked for, in IMDS or in its place."""
        for reading in mapping.values():
            self._readings.labels(*self._group, reading.value).inc()

    def loop_lag(self, seconds: float) -> None:
        """A timer of the loop fired this much later than it was set to."""
        self._lag_s.labels(*self._group).observe(max(0.0, seconds))

    # -------------------------------------------------------------------------------------- what is

    def observe(self, state: State, now: float) -> None:
        """After each event: remember the state, to be read when somebody asks."""
        self._present.state = state

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self.registry)


class Present(Collector):
    """Gauges made from the latest state at the moment of the scrape."""

    def __init__(self, group: tuple[str, str], now: Callable[[], float]) -> None:
        self.state: State | None = None
        self._group = group
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Everything, now."""
        info = GaugeMetricFamily("vipd_build_info", "Always 1.", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info
        drops = CounterMetricFamily("vipd_log_lines_dropped", "Log lines that could not be written.")
        drops.add_metric((), logs.dropped())
        yield drops
        if self.state is not None:
            yield from self._of(self.state)

    def _of(self, state: State) -> Iterator[Metric]:
        now = self._now()
        yield self._one_of("vipd_state", "1 for the present state.", "state", list(Phase), state.phase)
        yield self._gauge("vipd_is_active", "1 while this member owns the VIPs.", state.phase is Phase.ACTIVE)
        left_s = max(0.0, state.holder.right_until - now)
        yield self._gauge("vipd_right_ends_in_seconds", "Seconds until the right to act ends; 0 without one.", left_s)
        yield self._gauge("vipd_link_up", "1 while every interface of the VIPs is up.", state.link_up)
        borne = GaugeMetricFamily("vipd_vip_borne", "1 while this kernel bears the VIP.", labels=(*GROUP, "vip"))
        mapped = GaugeMetricFamily(
            "vipd_vip_mapping", "1 for what was last seen of the VIP's mapping.", labels=(*GROUP, "vip", "mapping")
        )
        for address in state.config.addresses:
            borne.add_metric((*self._group, str(address)), address in state.address.borne)
            seen = state.mapping.seen.get(address, Mapped.UNKNOWN)
            for reading in Mapped if state.config.managed else ():
                mapped.add_metric((*self._group, str(address), reading.value), reading is seen)
        yield borne
        yield mapped

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=GROUP)
        family.add_metric(self._group, float(value))
        return family

    def _one_of(self, name: str, text: str, label: str, words: Sequence[str], present: str) -> Metric:
        family = GaugeMetricFamily(name, text, labels=(*GROUP, label))
        for word in words:
            family.add_metric((*self._group, str(word)), float(word == present))
        return family


def _word(outcome: WriteOutcome) -> str:
    match outcome:
        case Written():
            return "written"
        case Conflict():
            return "conflict"
        case LeaseAbsent():
            return "absent"
        case CallFailed():
            return outcome.failure.value
