"""The record of one call, and who wants to hear of it."""

from dataclasses import dataclass
from typing import Protocol as Interface

from latentry_serving.contract.metrics import CallKind, Outcome, Protocol
from latentry_serving.sli.trace import TraceContext


class MessageHead(Interface):
    """Header fields that say how a body is to be read, as received; empty when absent."""

    @property
    def content_type(self) -> bytes: ...
    @property
    def content_encoding(self) -> bytes: ...
    @property
    def header_length(self) -> bytes:
        """``Inference-Header-Content-Length``."""

    @property
    def grpc_encoding(self) -> bytes: ...


class RequestHead(MessageHead, Interface):
    """What else a request's head says."""

    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes:
        """HTTP target or gRPC path."""

    @property
    def host(self) -> bytes:
        """``Host`` or ``:authority``."""

    @property
    def body_bytes(self) -> int:
        """The announced length of the body; negative or 0 when there is none."""

    @property
    def trace(self) -> TraceContext | None: ...


class PayloadSink(Interface):
    """Takes the payload of one call while it passes. Must be quick, and must not raise."""

    def request_received(self, data: bytes, start: int, end: int) -> None:
        """``data[start:end]`` is request payload."""

    def response_received(self, data: bytes, start: int, end: int) -> None:
        """``data[start:end]`` is payload of the answer."""

    def answered(self, head: MessageHead) -> None:
        """The head of the final answer."""


@dataclass(slots=True, eq=False)
class Call:
    """One request and its answer, filled in while the bytes pass.

    Attributes:
        operation: a label value of the contract, never text from the request.
        started_s: monotonic time of the request's first byte.
        first_response_s: monotonic time of the answer's first byte, interim (1xx) answers left out.
        last_response_s: monotonic time of the answer's last byte, or of the break that ended the call.
        request_bytes, response_bytes: payload only: HTTP bodies without chunk framing, gRPC messages with their
            five-byte prefixes, neither headers nor padding.
        outcome: None while in flight, and for ever when the observer lost sight of the connection.
        head: the request's head; None for a call nobody saw.
        trace: where the call belongs: what the request said, or a trace begun here.
        status: HTTP status or ``grpc-status`` of a complete answer.
        sink: set by a listener that wants the payload.
    """

    protocol: Protocol
    operation: str
    kind: CallKind
    started_s: float
    first_response_s: float | None = None
    last_response_s: float | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    outcome: Outcome | None = None
    head: RequestHead | None = None
    trace: TraceContext | None = None
    status: int | None = None
    sink: PayloadSink | None = None


class CallListener(Interface):
    """Told of every call three times, in the order of the bytes that made it so."""

    def call_begun(self, call: Call) -> None:
        """The request's head is read. Of gRPC inference the operation is not known yet."""

    def call_started(self, call: Call) -> None:
        """The call's operation is known; its payload and answer may still be to come."""

    def call_finished(self, call: Call) -> None:
        """Nothing more will be known of the call. Its outcome is None when the observer lost sight of it."""
