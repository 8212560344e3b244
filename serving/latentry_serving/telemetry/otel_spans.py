"""A server span for every call that belongs to a recorded trace, made after the call with the times it had.

Source: OpenTelemetry semantic conventions, HTTP and gRPC server spans.
"""

import random

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from latentry_serving.contract.metrics import SERVER_FAULTS, Protocol
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.sli.calls import Call, RequestHead
from latentry_serving.sli.trace import TraceContext

_MAX_TEXT = 256
"""Characters kept of what the client wrote."""
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_GRPC_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_DEFAULT_PORT = 80

_STATUS = {Protocol.HTTP: "http.response.status_code", Protocol.GRPC: "rpc.response.status_code"}

Attributes = dict[str, str | int]


class TraceIds(RandomIdGenerator):
    """Gives traces that begin here the id their call has already, in its exemplars."""

    def __init__(self) -> None:
        self.next_trace_id = 0

    def generate_trace_id(self) -> int:
        """The id of the trace that is about to begin."""
        return self.next_trace_id


class SpanListener:
    """Listens to calls. The parent's sampled flag decides; a call without a parent may begin a trace."""

    def __init__(
        self,
        tracer: Tracer,
        ids: TraceIds,
        config: TapConfig,
        *,
        unix_offset_s: float,
        dice: random.Random | None = None,
    ) -> None:
        """
        Args:
            ids: the generator that ``tracer`` uses.
            unix_offset_s: unix time minus the monotonic time of calls.
            dice: chooses among calls without a parent.
        """
        self._tracer = tracer
        self._ids = ids
        self._root_ratio = config.otlp.root_ratio
        self._unix_offset_s = unix_offset_s
        self._dice = dice or random.Random()  # noqa: S311 - ids, not secrets
        self._common: Attributes = {"latentry.model": config.model, "latentry.version": config.version}
        if config.embedding_space:
            self._common["latentry.embedding_space"] = config.embedding_space

    def call_begun(self, call: Call) -> None:
        """Begins a trace, sometimes, where there is none."""
        if call.trace is None and self._root_ratio and self._dice.random() < self._root_ratio:
            call.trace = TraceContext(self._dice.getrandbits(128) or 1, parent_id=0, sampled=True)

    def call_started(self, call: Call) -> None:
        """Nothing yet: spans are made when the call is over."""

    def call_finished(self, call: Call) -> None:
        """Makes the span, when the trace is recorded and the call was seen to its end."""
        trace, head, outcome = call.trace, call.head, call.outcome
        if trace is None or not trace.sampled or head is None or outcome is None:
            return
        ended_s = call.last_response_s if call.last_response_s is not None else call.started_s
        name, attributes = _grpc(call, head) if call.protocol is Protocol.GRPC else _http(call, head)
        attributes |= self._common | _server(head)
        attributes["latentry.operation"] = call.operation
        attributes["latentry.outcome"] = outcome.value
        if outcome in SERVER_FAULTS:
            attributes["error.type"] = str(attributes.get(_STATUS[call.protocol], outcome.value))
        self._ids.next_trace_id = trace.trace_id
        span = self._tracer.start_span(
            name, _parent(trace), SpanKind.SERVER, attributes, start_time=self._unix_ns(call.started_s)
        )
        if outcome in SERVER_FAULTS:
            span.set_status(Status(StatusCode.ERROR))
        span.end(self._unix_ns(ended_s))

    def _unix_ns(self, monotonic_s: float) -> int:
        return round((monotonic_s + self._unix_offset_s) * 1e9)


def _parent(trace: TraceContext) -> Context:
    state = TraceState.from_header([trace.state]) if trace.state else TraceState()
    context = SpanContext(trace.trace_id, trace.parent_id, True, TraceFlags(TraceFlags.SAMPLED), state)
    return set_span_in_context(NonRecordingSpan(context), Context())


def _grpc(call: Call, head: RequestHead) -> tuple[str, Attributes]:
    method = _text(head.path).removeprefix("/")
    attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": method}
    if call.status is not None:
        known = call.status < len(_GRPC_CODES)
        attributes["rpc.response.status_code"] = _GRPC_CODES[call.status] if known else str(call.status)
    return method, attributes


def _http(call: Call, head: RequestHead) -> tuple[str, Attributes]:
    method = _text(head.method)
    known = method if method in _KNOWN_METHODS else "_OTHER"
    path, _, query = _text(head.path).partition("?")
    attributes: Attributes = {"http.request.method": known, "url.path": path, "url.scheme": "http"}
    if query:
        attributes["url.query"] = query
    if known != method:
        attributes["http.request.method_original"] = method
    if call.status is not None:
        attributes["http.response.status_code"] = call.status
    # No route: the tap has none of its own, and span names must be few.
    return known if known != "_OTHER" else "HTTP", attributes


def _server(head: RequestHead) -> Attributes:
    host, colon, port = _text(head.host).rpartition(":")
    if not colon or not port.isdigit():
        host, port = _text(head.host), str(_DEFAULT_PORT)
    return {"server.address": host.strip("[]"), "server.port": int(port)} if host else {}


def _text(value: bytes) -> str:
    return value[:_MAX_TEXT].decode("latin-1")
