"""What the tap knows of its bundle as Prometheus metrics: state, loaded models, golden probes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from latentry_serving.contract import metrics
from latentry_serving.contract.metrics import BundleState, LoadOutcome, PostponedReason, ProbeOutcome

if TYPE_CHECKING:
    from latentry_serving.tap.bundle_watch import BundleWatch
    from latentry_serving.tap.model_loading import ModelLoader

_LABELS = (metrics.MODEL, metrics.VERSION)
_OPERATION_LABELS = (*_LABELS, metrics.OPERATION)


class BundleCollector(Collector):
    """Reads a watch. Figures of a probe are absent until it ran, and until it got an answer to measure."""

    def __init__(self, watch: "BundleWatch", *, model: str, version: str) -> None:
        self._watch = watch
        self._labels = (model, version)

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present samples."""
        state = GaugeMetricFamily(
            metrics.BUNDLE_STATE, "1 for the state the bundle is in.", labels=(*_LABELS, metrics.STATE)
        )
        for one in BundleState:
            state.add_metric((*self._labels, one), one is self._watch.source.state)
        yield state
        if self._watch.loader is not None:
            yield from self._models(self._watch.loader)
        yield from self._probe_counts()
        yield from self._last_probes()

    def _models(self, loader: "ModelLoader") -> Iterator[Metric]:
        loaded = GaugeMetricFamily(
            metrics.MODEL_LOADED, "1 while Triton has the operation's model, as asked.", labels=_OPERATION_LABELS
        )
        operations = self._watch.source.manifest.operations_by_model
        for model, operation in operations.items():
            loaded.add_metric((*self._labels, operation), loader.loaded[model])
        loads = CounterMetricFamily(
            metrics.MODEL_LOADS_TOTAL, "Requests to Triton to load a model.", labels=(*_LABELS, metrics.OUTCOME)
        )
        for outcome in LoadOutcome:
            total = sum(loader.loads[operation, outcome] for operation in operations.values())
            loads.add_metric((*self._labels, outcome), total)
        yield from (loaded, loads)

    def _probe_counts(self) -> Iterator[Metric]:
        probes = CounterMetricFamily(
            metrics.GOLDEN_PROBES_TOTAL,
            "Golden probes by how they ended.",
            labels=(*_OPERATION_LABELS, metrics.OUTCOME),
        )
        for operation, record in self._watch.prober.records.items():
            for outcome in ProbeOutcome:
                if record.outcomes[outcome] or outcome is ProbeOutcome.PASSED:
                    probes.add_metric((*self._labels, operation, outcome), record.outcomes[outcome])
        postponed = CounterMetricFamily(
            metrics.GOLDEN_PROBES_POSTPONED_TOTAL,
            "Golden probes that had to wait for users.",
            labels=(*_LABELS, metrics.REASON),
        )
        for reason in PostponedReason:
            postponed.add_metric((*self._labels, reason), self._watch.prober.postponed[reason])
        yield from (probes, postponed)

    def _last_probes(self) -> Iterator[Metric]:
        passed = GaugeMetricFamily(
            metrics.GOLDEN_PROBE_PASSED, "1 when the last golden probe passed.", labels=_OPERATION_LABELS
        )
        error = GaugeMetricFamily(
            metrics.GOLDEN_PROBE_LARGEST_ERROR,
            "Its largest absolute difference from a recorded output.",
            labels=_OPERATION_LABELS,
        )
        ended = GaugeMetricFamily(
            metrics.GOLDEN_PROBE_LAST_RUN_TIMESTAMP_SECONDS, "Unix time of the latest one's end.", labels=_LABELS
        )
        records = self._watch.prober.records
        for operation, record in records.items():
            if record.verdict is None:
                continue
            passed.add_metric((*self._labels, operation), record.passed)
            if record.verdict.largest_error is not None:
                error.add_metric((*self._labels, operation), record.verdict.largest_error)
        if times := [record.ended_unix_s for record in records.values() if record.ended_unix_s is not None]:
            ended.add_metric(self._labels, max(times))
        yield from (passed, error, ended)
