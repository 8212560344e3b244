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
        loads = CounterMetricFamily(
            metrics.MODEL_LOADS_TOTAL,
            "Requests to Triton to load a model.",
            labels=(*_OPERATION_LABELS, metrics.OUTCOME),
        )
        for model, operation in self._watch.source.manifest.operations_by_model.items():
            loaded.add_metric((*self._labels, operation), loader.loaded[model])
            for outcome in LoadOutcome:
                loads.add_metric((*self._labels, operation, outcome), loader.loads[operation, outcome])
        yield from (loaded, loads)

    def _probe_counts(self) -> Iterator[Metric]:
        probes = CounterMetricFamily(
            metrics.GOLDEN_PROBES_TOTAL,
            "Golden probes by how they ended.",
            labels=(*_OPERATION_LABELS, metrics.OUTCOME),
        )
        for operation, record in self._watch.prober.records.items():
            for outcome in ProbeOutcome:
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
        gauges = {
            name: GaugeMetricFamily(name, text, labels=_OPERATION_LABELS)
            for name, text in (
                (metrics.GOLDEN_PROBE_PASSED, "1 when the last golden probe passed."),
                (metrics.GOLDEN_PROBE_LARGEST_ERROR, "Its largest absolute difference from a recorded output."),
                (metrics.GOLDEN_PROBE_DETERMINISM_ERROR, "Its largest absolute difference between two calls in a row."),
                (metrics.GOLDEN_PROBE_DURATION_SECONDS, "How long it took."),
                (metrics.GOLDEN_PROBE_LAST_RUN_TIMESTAMP_SECONDS, "Unix time of its end."),
            )
        }
        for operation, record in self._watch.prober.records.items():
            if (verdict := record.verdict) is None:
                continue
            for name, value in (
                (metrics.GOLDEN_PROBE_PASSED, record.passed),
                (metrics.GOLDEN_PROBE_LARGEST_ERROR, verdict.largest_error),
                (metrics.GOLDEN_PROBE_DETERMINISM_ERROR, verdict.determinism_error),
                (metrics.GOLDEN_PROBE_DURATION_SECONDS, record.duration_s),
                (metrics.GOLDEN_PROBE_LAST_RUN_TIMESTAMP_SECONDS, record.ended_unix_s),
            ):
                if value is not None:
                    gauges[name].add_metric((*self._labels, operation), value)
        yield from gauges.values()
