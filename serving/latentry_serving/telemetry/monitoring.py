"""Drift and model health as Prometheus metrics, read from the report that `/drift` shows."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from latentry_serving.contract import metrics
from latentry_serving.contract.drift_report import (
    PER_DIMENSION_DETAIL,
    DriftReport,
    DriftState,
    HealthState,
    ModelHealth,
    StatisticDrift,
    Watching,
)

if TYPE_CHECKING:
    from latentry_serving.tap.monitoring import MonitoringDesk

_LABELS = (metrics.MODEL, metrics.VERSION)
_TENSOR = (*_LABELS, metrics.TENSOR)
_STATISTIC = (*_TENSOR, metrics.STATISTIC)
_PART = (*_LABELS, metrics.FAMILY, metrics.PART)
_MEASURE = (*_PART, metrics.MEASURE)
_SMALLEST = 5e-324


class MonitoringCollector(Collector):
    """Reads a desk. Figures of a window are absent until one was judged; contributors exist while their alarm is on."""

    def __init__(self, desk: "MonitoringDesk", *, model: str, version: str, top: int) -> None:
        """
        Args:
            top: most dimensions of a posterior that get a series.
        """
        self._desk = desk
        self._top = top
        self._identity = (model, version)

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present samples."""
        report = self._desk.report()
        watching = GaugeMetricFamily(
            metrics.DRIFT_WATCHING, "1 while sampled traffic is held against the bundle's profile.", labels=_LABELS
        )
        watching.add_metric(self._identity, report.drift.state is Watching.WATCHING)
        run_time = GaugeMetricFamily(
            metrics.DRIFT_EXPECTED_RUN_TIME_SECONDS,
            "Stated mean time between false alarms of the whole model, over all replicas.",
            labels=_LABELS,
        )
        run_time.add_metric(self._identity, report.drift.expected_run_time_seconds)
        yield from (watching, run_time)
        yield from self._statistics(report.drift)
        yield from self._tensors(report.drift)
        yield self._contributions(report.drift)
        yield from self._measures(report.health)
        yield self._dimensions(report.health)
        yield from self._parts(report.health)
        yield from self._scores(report.health)

    def _statistics(self, drift: DriftReport) -> Iterator[Metric]:
        alarm = GaugeMetricFamily(metrics.DRIFT_ALARM, "1 while the statistic's alarm is on.", labels=_STATISTIC)
        score = GaugeMetricFamily(
            metrics.DRIFT_SCORE,
            "Of the latest judged window, in units of its mean on undrifted traffic.",
            labels=_STATISTIC,
        )
        for labels, one in self._each_statistic(drift):
            alarm.add_metric(labels, one.state is DriftState.ALARM)
            if one.score is not None:
                score.add_metric(labels, one.score)
        yield from (alarm, score)

    def _each_statistic(self, drift: DriftReport) -> Iterator[tuple[tuple[str, ...], StatisticDrift]]:
        for tensor in drift.tensors:
            for one in tensor.statistics:
                yield (*self._identity, tensor.tensor, one.statistic), one

    def _tensors(self, drift: DriftReport) -> Iterator[Metric]:
        nearness = GaugeMetricFamily(
            metrics.DRIFT_NEARNESS_RATIO,
            "How near the tensor's statistic closest to an alarm is to it: 1 raises it.",
            labels=_TENSOR,
        )
        insufficient = GaugeMetricFamily(
            metrics.DRIFT_INSUFFICIENT_DATA, "1 while no statistic is judged for lack of data.", labels=_TENSOR
        )
        judged = CounterMetricFamily(
            metrics.DRIFT_WINDOWS_TOTAL, "Windows judged in at least one statistic.", labels=_TENSOR
        )
        since = GaugeMetricFamily(
            metrics.DRIFT_SECONDS_SINCE_FULL_WINDOW,
            "Since a window last filled; from the start before.",
            labels=_TENSOR,
        )
        for tensor in drift.tensors:
            labels = (*self._identity, tensor.tensor)
            states = {one.state for one in tensor.statistics}
            insufficient.add_metric(labels, states <= {DriftState.INSUFFICIENT_DATA})
            judged.add_metric(labels, tensor.windows)
            since.add_metric(labels, tensor.seconds_since_full_window)
            if near := [_nearness(one) for one in tensor.statistics if one.p_value is not None]:
                nearness.add_metric(labels, max(near))
        yield from (nearness, insufficient, judged, since)

    def _contributions(self, drift: DriftReport) -> Metric:
        family = GaugeMetricFamily(
            metrics.DRIFT_CONTRIBUTION,
            "Share of the largest contributing dimensions in an alarm that is on.",
            labels=(*_STATISTIC, metrics.DIMENSION),
        )
        for labels, one in self._each_statistic(drift):
            for part in one.alarm.dimensions if one.alarm is not None else ():
                family.add_metric((*labels, str(part.dimension)), part.share)
        return family

    def _measures(self, health: ModelHealth) -> Iterator[Metric]:
        value = GaugeMetricFamily(metrics.HEALTH_VALUE, "Of the latest window.", labels=_MEASURE)
        expected = GaugeMetricFamily(
            metrics.HEALTH_EXPECTED_VALUE, "In a window of the same size of the reference.", labels=_MEASURE
        )
        alarm = GaugeMetricFamily(metrics.HEALTH_ALARM, "1 while the measure's alarm is on.", labels=_MEASURE)
        for part in health.parts:
            for one in part.measures:
                labels = (*self._identity, health.family, part.part, one.measure)
                for family, number in ((value, one.value), (expected, one.expected)):
                    if number is not None:
                        family.add_metric(labels, number)
                alarm.add_metric(labels, one.alarm_since_seconds is not None)
        yield from (value, expected, alarm)

    def _dimensions(self, health: ModelHealth) -> Metric:
        family = GaugeMetricFamily(
            metrics.POSTERIOR_KL_NATS,
            "KL divergence from the prior of the dimensions that carry most of it, in the latest window.",
            labels=(*_LABELS, metrics.DIMENSION),
        )
        for part in health.parts:
            for one in part.measures:
                each = one.details.get(PER_DIMENSION_DETAIL) or ()
                largest = sorted(range(len(each)), key=lambda index: -each[index])[: self._top]
                for dimension in largest:
                    family.add_metric((*self._identity, str(dimension)), each[dimension])
        return family

    def _parts(self, health: ModelHealth) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            metrics.HEALTH_INSUFFICIENT_DATA, "1 while the part is not judged for lack of data.", labels=_PART
        )
        judged = CounterMetricFamily(metrics.HEALTH_WINDOWS_TOTAL, "Windows judged.", labels=_PART)
        since = GaugeMetricFamily(
            metrics.HEALTH_SECONDS_SINCE_FULL_WINDOW, "Since a window last filled; from the start before.", labels=_PART
        )
        for part in health.parts:
            labels = (*self._identity, health.family, part.part)
            state.add_metric(labels, part.state is HealthState.INSUFFICIENT_DATA)
            judged.add_metric(labels, part.windows)
            since.add_metric(labels, part.seconds_since_full_window)
        yield from (state, judged, since)

    def _scores(self, health: ModelHealth) -> Iterator[Metric]:
        if (scores := health.scores) is None:
            return
        scored = CounterMetricFamily(
            metrics.SCORED_SAMPLES_TOTAL,
            "Samples whose reconstruction error is known.",
            labels=(*_LABELS, metrics.SOURCE),
        )
        scored.add_metric((*self._identity, "traffic"), scores.traffic)
        scored.add_metric((*self._identity, "probes"), scores.probes)
        within = CounterMetricFamily(
            metrics.SCORED_SAMPLES_WITHIN_THRESHOLD_TOTAL,
            "Of them, those with an error within the quality objective's threshold.",
            labels=_LABELS,
        )
        within.add_metric(self._identity, scores.within_threshold)
        anomalous = CounterMetricFamily(
            metrics.ANOMALOUS_SAMPLES_TOTAL, "Of them, those beyond the profile's anomaly threshold.", labels=_LABELS
        )
        anomalous.add_metric(self._identity, scores.anomalous)
        threshold = GaugeMetricFamily(
            metrics.RECONSTRUCTION_ERROR_THRESHOLD, "The quality objective's largest good error.", labels=_LABELS
        )
        threshold.add_metric(self._identity, scores.threshold)
        probes = CounterMetricFamily(
            metrics.SCORE_PROBES_TOTAL,
            "The tap's own score calls on sampled inputs.",
            labels=(*_LABELS, metrics.OUTCOME),
        )
        probes.add_metric((*self._identity, "answered"), health.score_probes.answered)
        probes.add_metric((*self._identity, "failed"), health.score_probes.failed)
        yield from (scored, within, anomalous, threshold, probes)


def _nearness(one: StatisticDrift) -> float:
    """The nearer of the two rules: log p / log alpha of the Shewhart rule, the sum over its limit of the CUSUM."""
    p_value = max(one.p_value or 1.0, _SMALLEST)
    return max(math.log(p_value) / math.log(one.alpha), one.evidence / one.cusum_h)
