"""The tap's one set of figures; `/metrics` and `/slis` are two views of it. Pure; one thread writes, any may read.

A finished call is counted when the book is settled, which whoever reads it asks the writing thread for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from latentry_serving.contract.metrics import (
    FIRST_RESPONSE_BUCKETS_SECONDS,
    MANAGEMENT_OPERATION,
    OTHER_OPERATION,
    CallKind,
    OpaqueReason,
    Outcome,
    Protocol,
    RefusedReason,
)
from latentry_serving.sli.calls import Call
from latentry_serving.sli.tally import Batch, History, by_slot

_MOST_UNSETTLED = 256
"""Calls of a series that wait to be added up; many at once cost a fraction of what each would alone."""


class SeriesKey(NamedTuple):
    """The labels calls are counted under, besides model and version."""

    operation: str
    protocol: Protocol
    kind: CallKind


class Exemplar(NamedTuple):
    """One traced call that fell into a bucket."""

    trace_id: int
    seconds: float
    at_s: float
    """Monotonic time when the call ended."""


class Buckets:
    """A Prometheus histogram: counts per upper bound, the last one for everything above."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self.exemplars: list[Exemplar | None] = [None] * (len(self.bounds) + 1)
        """The latest of each bucket."""

    def record(self, durations: Sequence[float]) -> None:
        """Adds durations in seconds; one equal to a bound is within it."""
        for bucket, count in Counter(map(bisect_left, repeat(self.bounds), durations)).items():
            self.counts[bucket] += count
        self.sum += sum(durations)

    def illustrate(self, exemplar: Exemplar) -> None:
        """Makes a recorded call the latest of its bucket."""
        self.exemplars[bisect_left(self.bounds, exemplar.seconds)] = exemplar

    @classmethod
    def together(cls, parts: Sequence["Buckets"]) -> "Buckets":
        """Histograms with the same bounds as one; of exemplars the latest."""
        result = cls(parts[0].bounds)
        for part in parts:
            result.sum += part.sum
            result.counts = [a + b for a, b in zip(result.counts, part.counts, strict=True)]
            pairs = zip(result.exemplars, part.exemplars, strict=True)
            result.exemplars = [max(filter(None, pair), key=lambda one: one.at_s, default=None) for pair in pairs]
        return result


class Series:
    """Everything known about one combination of labels."""

    __slots__ = ("_unsettled", "first_response", "history", "in_flight", "key", "latency")

    def __init__(self, key: SeriesKey, bounds_s: Sequence[float]) -> None:
        self.key = key
        self.in_flight = 0
        self.history = History()
        self.latency = Buckets(bounds_s)
        self.first_response = Buckets(FIRST_RESPONSE_BUCKETS_SECONDS) if key.kind is CallKind.STREAM else None
        """Of one answer the first byte comes with the last: only streams have another histogram for it."""
        self._unsettled: list[Call] = []

    def finish(self, call: Call) -> None:
        """Takes a call that ended with an outcome; `settle` counts it."""
        self._unsettled.append(call)
        if len(self._unsettled) >= _MOST_UNSETTLED:
            self.settle()

    def settle(self) -> None:
        """Counts the calls that finished since the last time."""
        if not self._unsettled:
            return
        calls, self._unsettled = self._unsettled, []
        for slot, together in by_slot(calls):
            batch = Batch.of(together)
            self.history.add(slot, batch)
            self.latency.record(batch.latencies)
            if self.first_response is not None:
                self.first_response.record(batch.first_responses)
        for call in calls:
            if call.trace is not None and call.trace.sampled and call.outcome is Outcome.OK:
                self._illustrate(call, call.trace.trace_id)

    def _illustrate(self, call: Call, trace_id: int) -> None:
        ended_s = call.last_response_s if call.last_response_s is not None else call.started_s
        for buckets, until_s in ((self.latency, call.last_response_s), (self.first_response, call.first_response_s)):
            if buckets is not None and until_s is not None:
                buckets.illustrate(Exemplar(trace_id, until_s - call.started_s, ended_s))


class _SeriesByLabels(dict[tuple[str, Protocol, CallKind], Series]):
    """Makes a series when it is first asked for."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        super().__init__()
        self._bounds_s = tuple(bounds_s)

    def __missing__(self, labels: tuple[str, Protocol, CallKind]) -> Series:
        self[labels] = series = Series(SeriesKey(*labels), self._bounds_s)
        return series


class SliBook:
    """Listens to calls and connections and adds them up."""

    def __init__(self, bounds_s: Sequence[float], operations: Iterable[str], started_s: float) -> None:
        """
        Args:
            bounds_s: upper bounds of the latency histogram in seconds, ascending.
            operations: operation labels that exist from the start, so that their counters begin at zero.
            started_s: monotonic time of the start.
        """
        self.started_s = started_s
        self.connections: dict[Protocol, int] = dict.fromkeys(Protocol, 0)
        self.opaque: Counter[tuple[Protocol, OpaqueReason]] = Counter()
        self.refused: Counter[tuple[Protocol, RefusedReason]] = Counter()
        self._series = _SeriesByLabels(bounds_s)
        known = tuple(dict.fromkeys(operations))
        self.timed = frozenset(known) - {OTHER_OPERATION} or frozenset({OTHER_OPERATION})
        """Operations whose latency is told: those of the contract; all inference together where there is none."""
        for operation in known:
            for protocol in Protocol:
                self._series[operation, protocol, CallKind.UNARY]  # made by looking

    def call_begun(self, call: Call) -> None:
        """Nothing is counted before the operation is known."""

    def call_started(self, call: Call) -> None:
        """One more call in flight."""
        self._series[call.operation, call.protocol, call.kind].in_flight += 1

    def call_finished(self, call: Call) -> None:
        """One call fewer in flight; counted, once settled, when its outcome is known."""
        series = self._series[call.operation, call.protocol, call.kind]
        series.in_flight -= 1
        if call.outcome is not None:
            series.finish(call)

    def settle(self) -> None:
        """Counts the calls that finished since the last time. For the writing thread."""
        for series in self._series.values():
            series.settle()

    def connection_opened(self, protocol: Protocol) -> None:
        """A client connected."""
        self.connections[protocol] += 1

    def connection_closed(self, protocol: Protocol) -> None:
        """A client's connection is gone."""
        self.connections[protocol] -= 1

    def connection_opaque(self, protocol: Protocol, reason: OpaqueReason) -> None:
        """An observer gave up on a connection."""
        self.opaque[protocol, reason] += 1

    def connection_refused(self, protocol: Protocol, reason: RefusedReason, now_s: float) -> None:
        """A connection was closed before it carried a byte.

        When Triton took no connection the request behind it is lost: it counts as one failed inference of unknown
        operation.
        """
        self.refused[protocol, reason] += 1
        if reason is RefusedReason.UPSTREAM_UNAVAILABLE:
            call = Call(protocol, OTHER_OPERATION, CallKind.UNARY, started_s=now_s, last_response_s=now_s)
            call.outcome = Outcome.UPSTREAM_UNAVAILABLE
            self._series[call.operation, call.protocol, call.kind].finish(call)

    @property
    def series(self) -> list[Series]:
        """Every series, sorted by its labels."""
        return [self._series[labels] for labels in sorted(self._series)]

    @property
    def inference_series(self) -> list[Series]:
        """The series of unary inference: what an SLO speaks about."""
        return [s for s in self.series if s.key.operation != MANAGEMENT_OPERATION and s.key.kind is CallKind.UNARY]

    @property
    def in_flight(self) -> int:
        """Calls of unary inference that have begun and not ended."""
        return sum(series.in_flight for series in self.inference_series)
