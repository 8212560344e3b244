"""Fills the documents behind `/slis` and `/latency` from the tap's figures."""

from collections.abc import Iterable, Sequence

from latentry_serving.contract.metrics import OpaqueReason, Protocol, RefusedReason
from latentry_serving.contract.slis import (
    Figures,
    Latency,
    LatencyHistogram,
    OperationLatency,
    OperationSlis,
    Quantiles,
    Slis,
    Summary,
)
from latentry_serving.sli.book import Series, SliBook
from latentry_serving.sli.histogram import LogHistogram, coarse_edge
from latentry_serving.sli.tally import Tally, added_up, window_seconds


def slis(book: SliBook, *, model: str, version: str, digest: str | None, now_s: float) -> Slis:
    """The figures of a book at a monotonic time."""
    inference = book.inference_series
    return Slis(
        model=model,
        version=version,
        digest=digest,
        uptime_seconds=now_s - book.started_s,
        connections=book.connections,
        opaque_connections={reason: sum(book.opaque[p, reason] for p in Protocol) for reason in OpaqueReason},
        refused_connections={reason: sum(book.refused[p, reason] for p in Protocol) for reason in RefusedReason},
        inference=Summary(
            in_flight=sum(series.in_flight for series in inference),
            total=_total(inference, book.started_s, now_s),
            recent=_recent(inference, book.started_s, now_s),
        ),
        operations=[
            OperationSlis(
                operation=series.key.operation,
                protocol=series.key.protocol,
                kind=series.key.kind,
                in_flight=series.in_flight,
                total=_total([series], book.started_s, now_s),
                recent=_recent([series], book.started_s, now_s),
            )
            for series in book.series
        ],
    )


def _total(series: Sequence[Series], started_s: float, now_s: float) -> Figures:
    return _figures((part for one in series for part in one.history.total()), now_s - started_s)


def _recent(series: Sequence[Series], started_s: float, now_s: float) -> Figures:
    return _figures((part for one in series for part in one.history.recent(now_s)), window_seconds(now_s, started_s))


def _figures(parts: Iterable[Tally], seconds: float) -> Figures:
    tally = added_up(parts)
    return Figures(
        seconds=seconds,
        requests=tally.requests,
        requests_per_second=tally.requests / seconds if seconds > 0 else 0.0,
        outcomes=tally.outcomes,
        error_ratio=tally.error_ratio,
        request_bytes=tally.request_bytes,
        response_bytes=tally.response_bytes,
        latency_seconds=_quantiles(tally.latency),
        first_response_seconds=_quantiles(tally.first_response),
    )


def _quantiles(histogram: LogHistogram) -> Quantiles:
    p50, p90, p99 = histogram.quantiles((0.5, 0.9, 0.99))
    return Quantiles(p50=p50, p90=p90, p99=p99)


def latency(book: SliBook, *, now_s: float) -> Latency:
    """The histograms of a book at a monotonic time."""
    return Latency(
        inference=_histogram(book.inference_series, now_s),
        operations=[
            OperationLatency(
                operation=series.key.operation,
                protocol=series.key.protocol,
                kind=series.key.kind,
                histogram=histogram,
            )
            for series in book.series
            if (histogram := _histogram([series], now_s)).edges_seconds
        ],
    )


def _histogram(series: Sequence[Series], now_s: float) -> LatencyHistogram:
    total = added_up(part for one in series for part in one.history.total()).latency.coarse()
    recent = added_up(part for one in series for part in one.history.recent(now_s)).latency.coarse()
    if not total:
        return LatencyHistogram(edges_seconds=[], total=[], recent=[])
    indices = range(min(total), max(total) + 1)
    return LatencyHistogram(
        edges_seconds=[coarse_edge(index) for index in (*indices, indices.stop)],
        total=[total.get(index, 0) for index in indices],
        recent=[recent.get(index, 0) for index in indices],
    )
