"""The record of one call, and who wants to hear of it."""

from dataclasses import dataclass
from typing import Protocol as Interface

from latentry_serving.contract.metrics import CallKind, Outcome, Protocol


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


class CallListener(Interface):
    """Told of every call twice, in the order of the bytes that made it so."""

    def call_started(self, call: Call) -> None:
        """The call's operation is known; its payload and answer may still be to come."""

    def call_finished(self, call: Call) -> None:
        """Nothing more will be known of the call. Its outcome is None when the observer lost sight of it."""
