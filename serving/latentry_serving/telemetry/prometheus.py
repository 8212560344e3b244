"""The tap's figures as Prometheus metrics.

The figures are kept in the `SliBook` and turned into samples when somebody asks (prometheus-client's custom collector):
counting a call costs the traffic no lock, and `/metrics` and `/slis` cannot disagree.
"""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as OpenMetricsExemplar

from latentry_serving.contract import metrics
from latentry_serving.contract.metrics import OpaqueReason, Outcome, Protocol, RefusedReason
from latentry_serving.sli.book import Buckets, Exemplar, Series, SliBook
from latentry_serving.sli.samples import SampleBook
from latentry_serving.telemetry.samples import SampleCollector

_SERIES_LABELS = (metrics.MODEL, metrics.VERSION, metrics.OPERATION, metrics.PROTOCOL, metrics.KIND)
_INFO_LABELS = (metrics.MODEL, metrics.VERSION, metrics.DIGEST)

_Labelled = Sequence[tuple[tuple[str, ...], Series]]


class BookCollector(Collector):
    """Reads a book."""

    def __init__(
        self,
        book: SliBook,
        *,
        model: str,
        version: str,
        digest: str | None,
        unix_offset_s: float = 0.0,
        settle: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            unix_offset_s: unix time minus the monotonic time of the book.
            settle: settles the book; needed where another thread writes it.
        """
        self._book = book
        self._settle = settle or book.settle
        self._model = model
        self._version = version
        self._digest = digest
        self._unix_offset_s = unix_offset_s

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present samples."""
        self._settle()
        series = [((self._model, self._version, *s.key), s) for s in self._book.series]
        yield self._requests(series)
        yield _histogram(
            metrics.REQUEST_DURATION_SECONDS,
            "First request byte to last response byte of calls that ended ok.",
            series,
            lambda s: s.latency,
            self._unix_offset_s,
        )
        yield _histogram(
            metrics.FIRST_RESPONSE_SECONDS,
            "First request byte to first response byte of calls that ended ok.",
            series,
            lambda s: s.first_response,
            self._unix_offset_s,
        )
        request_bytes = CounterMetricFamily(
            metrics.REQUEST_BYTES_TOTAL, "Payload bytes of finished requests.", labels=_SERIES_LABELS
        )
        response_bytes = CounterMetricFamily(
            metrics.RESPONSE_BYTES_TOTAL, "Payload bytes of the answers to finished requests.", labels=_SERIES_LABELS
        )
        in_flight = GaugeMetricFamily(
            metrics.REQUESTS_IN_FLIGHT, "Requests whose answer is not complete.", labels=_SERIES_LABELS
        )
        for labels, one in series:
            request_bytes.add_metric(labels, sum(part.request_bytes for part in one.history.total()))
            response_bytes.add_metric(labels, sum(part.response_bytes for part in one.history.total()))
            in_flight.add_metric(labels, one.in_flight)
        yield from (request_bytes, response_bytes, in_flight)
        yield from self._connections()
        if self._digest is not None:
            info = GaugeMetricFamily(metrics.BUNDLE_INFO, "The bundle this tap stands for.", labels=_INFO_LABELS)
            info.add_metric((self._model, self._version, self._digest), 1)
            yield info

    def _requests(self, series: _Labelled) -> Metric:
        family = CounterMetricFamily(
            metrics.REQUESTS_TOTAL, "Finished requests by how they ended.", labels=(*_SERIES_LABELS, metrics.OUTCOME)
        )
        for labels, one in series:
            parts = one.history.total()
            for outcome in Outcome:
                family.add_metric((*labels, outcome), sum(part.outcomes[outcome] for part in parts))
        return family

    def _connections(self) -> Iterator[Metric]:
        present = GaugeMetricFamily(metrics.CONNECTIONS, "Client connections.", labels=(metrics.PROTOCOL,))
        for protocol, count in self._book.connections.items():
            present.add_metric((protocol,), count)
        opaque = CounterMetricFamily(
            metrics.OPAQUE_CONNECTIONS_TOTAL,
            "Connections whose calls could not be followed any further; their bytes still flowed.",
            labels=(metrics.PROTOCOL, metrics.REASON),
        )
        refused = CounterMetricFamily(
            metrics.REFUSED_CONNECTIONS_TOTAL,
            "Connections closed before they carried a byte.",
            labels=(metrics.PROTOCOL, metrics.REASON),
        )
        for protocol in Protocol:
            for opaque_reason in OpaqueReason:
                opaque.add_metric((protocol, opaque_reason), self._book.opaque[protocol, opaque_reason])
            for refused_reason in RefusedReason:
                refused.add_metric((protocol, refused_reason), self._book.refused[protocol, refused_reason])
        yield from (present, opaque, refused)


def _le(bound: float) -> str:
    """A bucket's bound as OpenMetrics writes it."""
    return "+Inf" if bound == float("inf") else repr(float(bound))


def _histogram(
    name: str, help_text: str, series: _Labelled, pick: Callable[[Series], Buckets], unix_offset_s: float
) -> Metric:
    """Buckets with their latest exemplars, which only OpenMetrics shows."""
    family = HistogramMetricFamily(name, help_text, labels=_SERIES_LABELS)
    for labels, one in series:
        buckets, below = pick(one), 0
        cumulative: list[tuple[str, float] | tuple[str, float, OpenMetricsExemplar]] = []
        bounds = (*buckets.bounds, float("inf"))
        for bound, count, exemplar in zip(bounds, buckets.counts, buckets.exemplars, strict=True):
            below += count
            if exemplar is None:
                cumulative.append((_le(bound), below))
            else:
                cumulative.append((_le(bound), below, _exemplar(exemplar, unix_offset_s)))
        family.add_metric(labels, cumulative, buckets.sum)
    return family


def _exemplar(exemplar: Exemplar, unix_offset_s: float) -> OpenMetricsExemplar:
    labels = {metrics.TRACE_ID: f"{exemplar.trace_id:032x}"}
    return OpenMetricsExemplar(labels, exemplar.seconds, exemplar.at_s + unix_offset_s)


def registry_for(
    book: SliBook,
    samples: SampleBook | None = None,
    *,
    model: str,
    version: str,
    digest: str | None,
    unix_offset_s: float = 0.0,
    settle: Callable[[], None] | None = None,
) -> CollectorRegistry:
    """A registry of its own with the books' metrics and those of the process (memory, CPU, file descriptors).

    Args:
        samples: None when nothing is sampled.
        unix_offset_s: unix time minus the monotonic time of the book.
        settle: settles the book; needed where another thread writes it.
    """
    registry = CollectorRegistry()
    registry.register(
        BookCollector(book, model=model, version=version, digest=digest, unix_offset_s=unix_offset_s, settle=settle)
    )
    if samples is not None:
        registry.register(SampleCollector(samples, model=model, version=version))
    ProcessCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics in the format an Accept header asks for (text or OpenMetrics), and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
