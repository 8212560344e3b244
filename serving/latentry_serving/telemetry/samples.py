"""What became of the sampled calls, as Prometheus metrics."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from latentry_serving.contract import metrics
from latentry_serving.contract.metrics import OTHER_OPERATION, SampleLoss
from latentry_serving.sli.samples import SampleBook

_IDENTITY = (metrics.MODEL, metrics.VERSION)
_LABELS = (*_IDENTITY, metrics.OPERATION)


class SampleCollector(Collector):
    """Reads a sample book."""

    def __init__(self, book: SampleBook, *, model: str, version: str) -> None:
        self._book = book
        self._identity = (model, version)

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present samples."""
        analysed = CounterMetricFamily(metrics.SAMPLES_TOTAL, "Sampled calls that were analysed.", labels=_LABELS)
        lost = CounterMetricFamily(
            metrics.SAMPLES_LOST_TOTAL, "Sampled calls that were not, by why.", labels=(*_IDENTITY, metrics.REASON)
        )
        non_finite = CounterMetricFamily(
            metrics.NON_FINITE_OUTPUT_VALUES_TOTAL,
            "NaN and infinities in the outputs of sampled calls.",
            labels=_LABELS,
        )
        for operation in self._book.operations:
            labels = (*self._identity, operation)
            analysed.add_metric(labels, self._book.analysed[operation])
            non_finite.add_metric(labels, self._book.non_finite[operation])
        for reason in SampleLoss:
            operations = (*self._book.operations, OTHER_OPERATION)  # lost before its operation was known
            lost.add_metric((*self._identity, reason), sum(self._book.lost[one, reason] for one in operations))
        yield from (analysed, lost, non_finite)
