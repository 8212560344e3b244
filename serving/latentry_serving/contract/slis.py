"""The documents behind the tap's `/slis` and `/latency`: what `latentry up`, the operator and the demo read."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from latentry_serving.contract.metrics import CallKind, OpaqueReason, Outcome, Protocol, RefusedReason


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Quantiles(_Document):
    """Of calls that ended ok, in seconds, within 0.8 %; None without such a call."""

    p50: float | None
    p90: float | None
    p99: float | None


class Figures(_Document):
    """What happened in a span of time."""

    seconds: float
    """Length of the span."""
    requests: int
    requests_per_second: float
    outcomes: dict[Outcome, int]
    error_ratio: float | None
    """Share of requests that failed by the server's fault; None without requests."""
    request_bytes: int
    response_bytes: int
    latency_seconds: Quantiles
    """First request byte to last response byte."""
    first_response_seconds: Quantiles
    """First request byte to first response byte."""


class OperationSlis(_Document):
    """One operation over one protocol."""

    operation: str
    protocol: Protocol
    kind: CallKind
    in_flight: int
    total: Figures
    recent: Figures


class Summary(_Document):
    """All unary inference together."""

    in_flight: int
    total: Figures
    recent: Figures


class Slis(_Document):
    """Everything the tap knows. ``total`` is since the start, ``recent`` the last minute."""

    model: str
    version: str
    digest: str | None
    uptime_seconds: float
    connections: dict[Protocol, int]
    opaque_connections: dict[OpaqueReason, int]
    """Since the start, by why their observer gave up."""
    refused_connections: dict[RefusedReason, int]
    inference: Summary
    operations: list[OperationSlis]
    """Sorted by operation, protocol and kind; those with traffic, and those of the contract."""


class LatencyHistogram(_Document):
    """Calls that ended ok, by duration from first request byte to last response byte."""

    edges_seconds: list[float]
    """Ascending, an eighth of an octave apart from the shortest to the longest; empty without calls."""
    total: list[int]
    """Since the start, between each edge and the next."""
    recent: list[int]
    """Of the last minute."""


class OperationLatency(_Document):
    """One operation over one protocol."""

    operation: str
    protocol: Protocol
    kind: CallKind
    histogram: LatencyHistogram


class Latency(_Document):
    """How long calls took, in full; quantiles are in `Slis`."""

    inference: LatencyHistogram
    """All unary inference together."""
    operations: list[OperationLatency]
    """Those with calls, sorted by operation, protocol and kind."""
