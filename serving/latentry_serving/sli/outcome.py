"""How a call ended, from what was on the wire. Pure."""

from latentry_serving.contract.metrics import Outcome

# Source: OpenTelemetry semantic conventions for gRPC, "server span status": these codes are the server's fault,
# every other failing one is the caller's.
_GRPC_SERVER_ERRORS = frozenset(
    {2, 12, 13, 14, 15}  # UNKNOWN, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
)
_GRPC_OUTCOMES = {0: Outcome.OK, 1: Outcome.CANCELLED, 4: Outcome.DEADLINE_EXCEEDED}
_TIMEOUT_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_TIMEOUT_DIGITS = 8

# The client's clock started before its first byte reached us and its reset travelled as long; timers may also fire a
# little early. A cancellation this close to the deadline is the deadline.
_DEADLINE_SHARE = 0.98
_DEADLINE_SLACK_S = 0.002


def of_http_status(status: int) -> Outcome:
    """Outcome of a complete HTTP answer: 5xx is the server's fault, 4xx the caller's."""
    if status >= 500:
        return Outcome.SERVER_ERROR
    return Outcome.CLIENT_ERROR if status >= 400 else Outcome.OK


def of_grpc_status(status: int) -> Outcome:
    """Outcome of a gRPC call that ended with a ``grpc-status``."""
    known = _GRPC_OUTCOMES.get(status)
    if known is not None:
        return known
    # An unknown number counts as UNKNOWN, as gRPC's own clients read it.
    return Outcome.SERVER_ERROR if status in _GRPC_SERVER_ERRORS or status > 16 else Outcome.CLIENT_ERROR


def of_missing_grpc_status(http_status: int) -> Outcome:
    """Outcome of a stream that ended without a ``grpc-status``: UNKNOWN, unless the HTTP status blames the caller.

    Source: grpc/doc/http-grpc-status-mapping.md.
    """
    return Outcome.CLIENT_ERROR if 400 <= http_status < 429 else Outcome.SERVER_ERROR


def grpc_timeout_seconds(value: bytes) -> float | None:
    """A ``grpc-timeout`` header in seconds, or None when it is not one.

    Source: gRPC over HTTP/2, "TimeoutValue -> {positive integer as ASCII string of at most 8 digits}".
    """
    digits, unit = value[:-1], _TIMEOUT_UNITS_S.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MAX_TIMEOUT_DIGITS:
        return None
    return int(digits) * unit


def of_client_reset(elapsed_s: float, timeout_s: float | None) -> Outcome:
    """Outcome of a call the client broke off after ``elapsed_s`` seconds, having promised to wait ``timeout_s``."""
    if timeout_s is not None and elapsed_s >= timeout_s * _DEADLINE_SHARE - _DEADLINE_SLACK_S:
        return Outcome.DEADLINE_EXCEEDED
    return Outcome.CANCELLED
