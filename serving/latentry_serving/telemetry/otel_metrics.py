"""What `/metrics` shows, sent to an OpenTelemetry collector as well: same names, same labels, one source.

The SDK's instruments cannot take over histograms that are counted already (there is no observable histogram, and the
readers' `collect` is final), so the SDK's data types and exporter are used without them. Source: "Prometheus and
OpenMetrics Compatibility" of the OpenTelemetry specification.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

_PREFIX = "latentry_"
"""The process' own metrics (memory, CPU) stay with Prometheus."""
_UNKNOWN: Any = None
"""Smallest and largest value are optional in OTLP, and the exporter takes them so."""

log = logging.getLogger(__name__)


class RegistryExport:
    """Exports a Prometheus registry every so often, in a thread of its own."""

    def __init__(
        self,
        exporter: MetricExporter,
        registry: CollectorRegistry,
        resource: Resource,
        *,
        interval_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """
        Args:
            clock_ns: unix time in nanoseconds.
        """
        self._exporter = exporter
        self._registry = registry
        self._resource = resource
        self._interval_s = interval_s
        self._clock_ns = clock_ns
        self._started_ns = clock_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Exports once more and ends; returns after ``seconds`` at the latest."""
        self._stopping.set()
        self._thread.join(seconds)
        self._exporter.shutdown(timeout_millis=0)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._export()
        self._export()

    def _export(self) -> None:
        try:
            data = metrics_data(self._registry.collect(), self._resource, self._started_ns, self._clock_ns())
            self._exporter.export(data)
        except Exception:
            log.exception("metrics could not be exported")


def metrics_data(families: Iterable[Family], resource: Resource, started_ns: int, now_ns: int) -> MetricsData:
    """Prometheus' families as OTLP's: counters as monotonic sums, gauges and histograms as they are.

    Args:
        started_ns: unix time since which counters count, in nanoseconds.
        now_ns: unix time of the figures.
    """
    metrics = [
        metric
        for family in families
        if family.name.startswith(_PREFIX) and (metric := _metric(family, started_ns, now_ns)) is not None
    ]
    scope = ScopeMetrics(InstrumentationScope("latentry"), metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource, [scope], schema_url="")])


def _metric(family: Family, started_ns: int, now_ns: int) -> Metric | None:
    if not family.samples:
        return None
    data: Sum | Gauge | Histogram
    if family.type == "histogram":
        points = [
            _histogram(list(samples), started_ns, now_ns) for _, samples in groupby(family.samples, _without_bound)
        ]
        return Metric(family.name, family.documentation, "s", Histogram(points, AggregationTemporality.CUMULATIVE))
    numbers = [NumberDataPoint(dict(s.labels), started_ns, now_ns, s.value) for s in family.samples]
    if family.type == "counter":
        data = Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        return Metric(f"{family.name}_total", family.documentation, "", data)
    return Metric(family.name, family.documentation, "", Gauge(numbers))


def _without_bound(sample: Sample) -> dict[str, str]:
    return {name: value for name, value in sample.labels.items() if name != "le"}


def _histogram(samples: list[Sample], started_ns: int, now_ns: int) -> HistogramDataPoint:
    """One series: Prometheus counts up to each bound, OTLP between bounds."""
    buckets = [(float(s.labels["le"]), int(s.value)) for s in samples if s.name.endswith("_bucket")]
    below = [0, *(count for _, count in buckets[:-1])]
    return HistogramDataPoint(
        attributes=_without_bound(samples[0]),
        start_time_unix_nano=started_ns,
        time_unix_nano=now_ns,
        count=buckets[-1][1],
        sum=next(s.value for s in samples if s.name.endswith("_sum")),
        bucket_counts=[count - before for (_, count), before in zip(buckets, below, strict=True)],
        explicit_bounds=[bound for bound, _ in buckets if bound != math.inf],
        min=_UNKNOWN,
        max=_UNKNOWN,
    )
