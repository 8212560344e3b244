"""The tap's one set of figures; `/metrics` and `/slis` are two views of it. Pure; one thread writes, any may read."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from latentry_serving.contract.metrics import (
    MANAGEMENT_OPERATION,
    OTHER_OPERATION,
    CallKind,
    OpaqueReason,
    Outcome,
    Protocol,
    RefusedReason,
)
from latentry_serving.sli.calls import Call
from latentry_serving.sli.tally import History
from latentry_serving.sli.trace import TraceContext


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

    def record(self, seconds: float, trace: TraceContext | None = None, at_s: float = 0.0) -> None:
        """Adds one duration; a duration equal to a bound is within it."""
        bucket = bisect_left(self.bounds, seconds)
        self.counts[bucket] += 1
        self.sum += seconds
        if trace is not None and trace.sampled:
            self.exemplars[bucket] = Exemplar(trace.trace_id, seconds, at_s)


class Series:
    """Everything known about one combination of labels."""

    __slots__ = ("first_response", "history", "in_flight", "key", "latency")

    def __init__(self, key: SeriesKey, bounds_s: Sequence[float]) -> None:
        self.key = key
        self.in_flight = 0
        self.history = History()
        self.latency = Buckets(bounds_s)
        self.first_response = Buckets(bounds_s)

    def finish(self, call: Call, outcome: Outcome) -> None:
        """Counts a call that ended with an outcome."""
        ended_s = call.last_response_s if call.last_response_s is not None else call.started_s
        self.history.add(call, outcome, ended_s)
        if outcome is Outcome.OK:
            self.latency.record(ended_s - call.started_s, call.trace, ended_s)
            if call.first_response_s is not None:
                self.first_response.record(call.first_response_s - call.started_s, call.trace, ended_s)


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
        self._bounds_s = tuple(bounds_s)
        self._series: dict[SeriesKey, Series] = {}
        for operation in dict.fromkeys(operations):
            for protocol in Protocol:
                self._at(SeriesKey(operation, protocol, CallKind.UNARY))

    def call_begun(self, call: Call) -> None:
        """Nothing is counted before the operation is known."""

    def call_started(self, call: Call) -> None:
        """One more call in flight."""
        self._at(SeriesKey(call.operation, call.protocol, call.kind)).in_flight += 1

    def call_finished(self, call: Call) -> None:
        """One call fewer in flight; counted when its outcome is known."""
        series = self._at(SeriesKey(call.operation, call.protocol, call.kind))
        series.in_flight -= 1
        if call.outcome is not None:
            series.finish(call, call.outcome)

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
            self._at(SeriesKey(OTHER_OPERATION, protocol, CallKind.UNARY)).finish(call, Outcome.UPSTREAM_UNAVAILABLE)

    @property
    def series(self) -> list[Series]:
        """Every series, sorted by its labels."""
        return [self._series[key] for key in sorted(self._series)]

    @property
    def inference_series(self) -> list[Series]:
        """The series of unary inference: what an SLO speaks about."""
        return [s for s in self.series if s.key.operation != MANAGEMENT_OPERATION and s.key.kind is CallKind.UNARY]

    def _at(self, key: SeriesKey) -> Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(key, self._bounds_s)
        return series
