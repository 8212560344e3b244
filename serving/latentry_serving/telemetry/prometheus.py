"""The tap's figures as Prometheus metrics.

The figures are kept in the `SliBook` and turned into samples when somebody asks (prometheus-client's custom collector):
counting a call costs the traffic no lock, and `/metrics` and `/slis` cannot disagree.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as OpenMetricsExemplar

from latentry_serving.contract import metrics
from latentry_serving.contract.metrics import CallKind, OpaqueReason, Outcome, Protocol, RefusedReason
from latentry_serving.sli.book import Buckets, Exemplar, Series, SeriesKey, SliBook
from latentry_serving.sli.samples import SampleBook
from latentry_serving.telemetry.samples import SampleCollector

_IDENTITY = (metrics.MODEL, metrics.VERSION)
_OPERATION = (*_IDENTITY, metrics.OPERATION)
_TIMED = (*_OPERATION, metrics.KIND)
_REQUESTS = (*_OPERATION, metrics.PROTOCOL, metrics.KIND, metrics.OUTCOME)


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
        self._identity = (model, version)
        self._digest = digest
        self._unix_offset_s = unix_offset_s

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present samples."""
        self._settle()
        series = self._book.series
        yield self._requests(series)
        yield from self._histograms(series)
        yield from self._operations(series)
        yield from self._connections()
        if self._digest is not None:
            info = GaugeMetricFamily(
                metrics.BUNDLE_INFO, "The bundle this tap stands for.", labels=(*_IDENTITY, metrics.DIGEST)
            )
            info.add_metric((*self._identity, self._digest), 1)
            yield info

    def _requests(self, series: Sequence[Series]) -> Metric:
        family = CounterMetricFamily(metrics.REQUESTS_TOTAL, "Finished requests by how they ended.", labels=_REQUESTS)
        for one in series:
            counts = Counter[Outcome]()
            for part in one.history.total():
                counts.update(part.outcomes)
            from_the_start = _from_the_start(one.key)
            for outcome in Outcome:
                if counts[outcome] or outcome in from_the_start:
                    labels = (one.key.operation, one.key.protocol, one.key.kind, outcome)
                    family.add_metric((*self._identity, *labels), counts[outcome])
        return family

    def _histograms(self, series: Sequence[Series]) -> Iterator[Metric]:
        """Over both protocols: the protocol's share of a latency is the client's to know, and twice the series."""
        duration = HistogramMetricFamily(
            metrics.REQUEST_DURATION_SECONDS,
            "First request byte to last response byte of calls that ended ok.",
            labels=_TIMED,
        )
        first = HistogramMetricFamily(
            metrics.FIRST_RESPONSE_SECONDS,
            "First request byte to first response byte of streams that ended ok.",
            labels=_TIMED,
        )
        together = defaultdict[tuple[str, CallKind], list[Series]](list)
        for one in series:
            if one.key.operation in self._book.timed:
                together[one.key.operation, one.key.kind].append(one)
        for key, parts in together.items():
            labels = (*self._identity, *key)
            self._add(duration, labels, [part.latency for part in parts])
            if firsts := [part.first_response for part in parts if part.first_response is not None]:
                self._add(first, labels, firsts)
        yield from (duration, first)

    def _operations(self, series: Sequence[Series]) -> Iterator[Metric]:
        request_bytes = CounterMetricFamily(
            metrics.REQUEST_BYTES_TOTAL, "Payload bytes of finished requests.", labels=_OPERATION
        )
        response_bytes = CounterMetricFamily(
            metrics.RESPONSE_BYTES_TOTAL, "Payload bytes of the answers to finished requests.", labels=_OPERATION
        )
        in_flight = GaugeMetricFamily(
            metrics.REQUESTS_IN_FLIGHT, "Requests whose answer is not complete.", labels=_OPERATION
        )
        together = defaultdict[str, list[Series]](list)
        for one in series:
            if one.key.operation != metrics.MANAGEMENT_OPERATION:
                together[one.key.operation].append(one)
        for operation, parts in together.items():
            labels = (*self._identity, operation)
            tallies = [tally for part in parts for tally in part.history.total()]
            request_bytes.add_metric(labels, sum(tally.request_bytes for tally in tallies))
            response_bytes.add_metric(labels, sum(tally.response_bytes for tally in tallies))
            in_flight.add_metric(labels, sum(part.in_flight for part in parts))
        yield from (request_bytes, response_bytes, in_flight)

    def _connections(self) -> Iterator[Metric]:
        present = GaugeMetricFamily(metrics.CONNECTIONS, "Client connections.", labels=(*_IDENTITY, metrics.PROTOCOL))
        for protocol, count in self._book.connections.items():
            present.add_metric((*self._identity, protocol), count)
        opaque = CounterMetricFamily(
            metrics.OPAQUE_CONNECTIONS_TOTAL,
            "Connections whose calls could not be followed any further; their bytes still flowed.",
            labels=(*_IDENTITY, metrics.REASON),
        )
        for opaque_reason in OpaqueReason:
            total = sum(self._book.opaque[protocol, opaque_reason] for protocol in Protocol)
            opaque.add_metric((*self._identity, opaque_reason), total)
        refused = CounterMetricFamily(
            metrics.REFUSED_CONNECTIONS_TOTAL,
            "Connections closed before they carried a byte.",
            labels=(*_IDENTITY, metrics.REASON),
        )
        for refused_reason in RefusedReason:
            total = sum(self._book.refused[protocol, refused_reason] for protocol in Protocol)
            refused.add_metric((*self._identity, refused_reason), total)
        yield from (present, opaque, refused)

    def _add(self, family: HistogramMetricFamily, labels: tuple[str, ...], parts: Sequence[Buckets]) -> None:
        """Buckets with their latest exemplars, which only OpenMetrics shows."""
        buckets, below = Buckets.together(parts), 0
        cumulative: list[tuple[str, float] | tuple[str, float, OpenMetricsExemplar]] = []
        bounds = (*buckets.bounds, float("inf"))
        for bound, count, exemplar in zip(bounds, buckets.counts, buckets.exemplars, strict=True):
            below += count
            if exemplar is None:
                cumulative.append((_le(bound), below))
            else:
                cumulative.append((_le(bound), below, _exemplar(exemplar, self._unix_offset_s)))
        family.add_metric(labels, cumulative, buckets.sum)


def _from_the_start(key: SeriesKey) -> frozenset[Outcome]:
    """The outcomes a series shows at 0; the others appear when they happen."""
    if key.operation == metrics.MANAGEMENT_OPERATION:
        return frozenset()
    refused = {Outcome.UPSTREAM_UNAVAILABLE} if key.operation == metrics.OTHER_OPERATION else set()
    return metrics.PROTOCOL_FAULTS[key.protocol] | {Outcome.OK} | refused


def _le(bound: float) -> str:
    """A bucket's bound as OpenMetrics writes it."""
    return "+Inf" if bound == float("inf") else repr(float(bound))


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
