"""Drift and model health as Prometheus metrics, read from the report that `/drift` shows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from latentry_serving.contract import metrics
from latentry_serving.contract.drift_report import (
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


class MonitoringCollector(Collector):
    """Reads a desk. Figures of a window are absent until one was judged; contributors exist while their alarm is on."""

    def __init__(self, desk: "MonitoringDesk", *, model: str, version: str) -> None:
        self._desk = desk
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
        yield from self._windows(report.drift)
        yield self._contributions(report.drift)
        yield from self._measures(report.health)
        yield from self._parts(report.health)
        yield from self._scores(report.health)

    def _statistics(self, drift: DriftReport) -> Iterator[Metric]:
        def known(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, text, labels=_STATISTIC)

        alarm = known(metrics.DRIFT_ALARM, "1 while the statistic's alarm is on.")
        insufficient = known(metrics.DRIFT_INSUFFICIENT_DATA, "1 while the statistic is not judged for lack of data.")
        score = known(metrics.DRIFT_SCORE, "Of the latest judged window, in units of its mean on undrifted traffic.")
        p_value = known(metrics.DRIFT_P_VALUE, "Of the latest judged window.")
        alpha = known(metrics.DRIFT_P_VALUE_THRESHOLD, "A p-value at most this raises an alarm.")
        evidence = known(metrics.DRIFT_EVIDENCE, "The CUSUM over the windows' p-values.")
        limit = known(metrics.DRIFT_EVIDENCE_THRESHOLD, "Evidence above this raises an alarm.")
        for labels, one in self._each_statistic(drift):
            alarm.add_metric(labels, one.state is DriftState.ALARM)
            insufficient.add_metric(labels, one.state is DriftState.INSUFFICIENT_DATA)
            evidence.add_metric(labels, one.evidence)
            alpha.add_metric(labels, one.alpha)
            limit.add_metric(labels, one.cusum_h)
            if one.score is not None:
                score.add_metric(labels, one.score)
            if one.p_value is not None:
                p_value.add_metric(labels, one.p_value)
        yield from (alarm, insufficient, score, p_value, alpha, evidence, limit)

    def _each_statistic(self, drift: DriftReport) -> Iterator[tuple[tuple[str, ...], StatisticDrift]]:
        for tensor in drift.tensors:
            for one in tensor.statistics:
                yield (*self._identity, tensor.tensor, one.statistic), one

    def _windows(self, drift: DriftReport) -> Iterator[Metric]:
        judged = CounterMetricFamily(
            metrics.DRIFT_WINDOWS_TOTAL, "Windows judged in at least one statistic.", labels=_TENSOR
        )
        insufficient = CounterMetricFamily(
            metrics.DRIFT_INSUFFICIENT_WINDOWS_TOTAL, "Windows closed without any judgement.", labels=_TENSOR
        )
        since = GaugeMetricFamily(
            metrics.DRIFT_SECONDS_SINCE_FULL_WINDOW,
            "Since a window last filled; from the start before.",
            labels=_TENSOR,
        )
        for tensor in drift.tensors:
            labels = (*self._identity, tensor.tensor)
            judged.add_metric(labels, tensor.windows)
            insufficient.add_metric(labels, tensor.insufficient_windows)
            since.add_metric(labels, tensor.seconds_since_full_window)
        yield from (judged, insufficient, since)

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
        p_value = GaugeMetricFamily(metrics.HEALTH_P_VALUE, "Of the latest window.", labels=_MEASURE)
        alarm = GaugeMetricFamily(metrics.HEALTH_ALARM, "1 while the measure's alarm is on.", labels=_MEASURE)
        for part in health.parts:
            for one in part.measures:
                labels = (*self._identity, health.family, part.part, one.measure)
                for family, number in ((value, one.value), (expected, one.expected), (p_value, one.p_value)):
                    if number is not None:
                        family.add_metric(labels, number)
                alarm.add_metric(labels, one.alarm_since_seconds is not None)
        yield from (value, expected, p_value, alarm)

    def _parts(self, health: ModelHealth) -> Iterator[Metric]:
        alpha = GaugeMetricFamily(
            metrics.HEALTH_P_VALUE_THRESHOLD, "Shared among the measures of a part.", labels=_PART
        )
        state = GaugeMetricFamily(
            metrics.HEALTH_INSUFFICIENT_DATA, "1 while the part is not judged for lack of data.", labels=_PART
        )
        judged = CounterMetricFamily(metrics.HEALTH_WINDOWS_TOTAL, "Windows judged.", labels=_PART)
        insufficient = CounterMetricFamily(
            metrics.HEALTH_INSUFFICIENT_WINDOWS_TOTAL, "Windows closed with too little to judge.", labels=_PART
        )
        since = GaugeMetricFamily(
            metrics.HEALTH_SECONDS_SINCE_FULL_WINDOW, "Since a window last filled; from the start before.", labels=_PART
        )
        for part in health.parts:
            labels = (*self._identity, health.family, part.part)
            alpha.add_metric(labels, part.alpha)
            state.add_metric(labels, part.state is HealthState.INSUFFICIENT_DATA)
            judged.add_metric(labels, part.windows)
            insufficient.add_metric(labels, part.insufficient_windows)
            since.add_metric(labels, part.seconds_since_full_window)
        yield from (alpha, state, judged, insufficient, since)

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
