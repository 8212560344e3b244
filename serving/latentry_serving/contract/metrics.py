"""Names and labels of every metric the tap exports: the one place where dashboards, rules and code agree.

Label values are bounded: ``model`` and ``version`` come from the tap's configuration, ``operation`` from the bundle's
contract plus ``OTHER_OPERATION`` and ``MANAGEMENT_OPERATION``, the rest from the enumerations below.
"""

from enum import StrEnum

REQUESTS_TOTAL = "latentry_requests_total"
REQUEST_DURATION_SECONDS = "latentry_request_duration_seconds"
FIRST_RESPONSE_SECONDS = "latentry_first_response_seconds"
REQUEST_BYTES_TOTAL = "latentry_request_bytes_total"
RESPONSE_BYTES_TOTAL = "latentry_response_bytes_total"
REQUESTS_IN_FLIGHT = "latentry_requests_in_flight"
CONNECTIONS = "latentry_connections"
OPAQUE_CONNECTIONS_TOTAL = "latentry_opaque_connections_total"
REFUSED_CONNECTIONS_TOTAL = "latentry_refused_connections_total"
BUNDLE_INFO = "latentry_bundle_info"

MODEL = "model"
VERSION = "version"
OPERATION = "operation"
PROTOCOL = "protocol"
OUTCOME = "outcome"
REASON = "reason"
DIGEST = "digest"
KIND = "kind"

OTHER_OPERATION = "other"
"""Inference for a model name the contract does not know, or whose name cannot be read (Triton took no connection)."""
MANAGEMENT_OPERATION = "management"
"""Health, metadata, statistics and repository calls: no inference, never in an SLO."""


class Protocol(StrEnum):
    """How the client speaks."""

    HTTP = "http"
    GRPC = "grpc"


class CallKind(StrEnum):
    """One answer per request, or a stream of them: never mixed in one latency series."""

    UNARY = "unary"
    STREAM = "stream"


class Outcome(StrEnum):
    """How a request ended, as an SLO sees it."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    """The request was wrong: HTTP 4xx; gRPC INVALID_ARGUMENT, NOT_FOUND and their like."""
    SERVER_ERROR = "server_error"
    """The server failed: HTTP 5xx; gRPC INTERNAL, UNAVAILABLE, UNKNOWN and their like."""
    CANCELLED = "cancelled"
    """The client went away before the answer was complete."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    """Triton took no connection."""
    RESET = "reset"
    """Triton broke the connection before the answer was complete."""


SERVER_FAULTS = frozenset(
    {Outcome.SERVER_ERROR, Outcome.DEADLINE_EXCEEDED, Outcome.UPSTREAM_UNAVAILABLE, Outcome.RESET}
)
"""The outcomes that spend an availability budget."""


class OpaqueReason(StrEnum):
    """Why an observer gave up on a connection. The bytes still flow."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UPGRADE = "upgrade"
    UNKNOWN_PROTOCOL = "unknown_protocol"
    INTERNAL = "internal"


class RefusedReason(StrEnum):
    """Why a client's connection was closed before it carried a byte."""

    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    CONNECTION_LIMIT = "connection_limit"


DEFAULT_LATENCY_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds in seconds; the planner adds one at every latency objective's ``within``."""
