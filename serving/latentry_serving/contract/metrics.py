"""Names and labels of every metric the tap exports: the one place where dashboards, rules and code agree.

Label values are bounded: ``model`` and ``version`` come from the tap's configuration, ``operation`` from the bundle's
contract plus ``OTHER_OPERATION`` and ``MANAGEMENT_OPERATION``, the rest from the enumerations below.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

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
SAMPLES_TOTAL = "latentry_samples_total"
SAMPLES_LOST_TOTAL = "latentry_samples_lost_total"
NON_FINITE_OUTPUT_VALUES_TOTAL = "latentry_non_finite_output_values_total"
BUNDLE_STATE = "latentry_bundle_state"
MODEL_LOADED = "latentry_model_loaded"
MODEL_LOADS_TOTAL = "latentry_model_loads_total"
GOLDEN_PROBES_TOTAL = "latentry_golden_probes_total"
GOLDEN_PROBE_PASSED = "latentry_golden_probe_passed"
GOLDEN_PROBE_LARGEST_ERROR = "latentry_golden_probe_largest_error"
GOLDEN_PROBE_LAST_RUN_TIMESTAMP_SECONDS = "latentry_golden_probe_last_run_timestamp_seconds"
GOLDEN_PROBES_POSTPONED_TOTAL = "latentry_golden_probes_postponed_total"
DRIFT_WATCHING = "latentry_drift_watching"
DRIFT_EXPECTED_RUN_TIME_SECONDS = "latentry_drift_expected_run_time_seconds"
DRIFT_ALARM = "latentry_drift_alarm"
DRIFT_INSUFFICIENT_DATA = "latentry_drift_insufficient_data"
DRIFT_SCORE = "latentry_drift_score"
DRIFT_NEARNESS_RATIO = "latentry_drift_nearness_ratio"
DRIFT_WINDOWS_TOTAL = "latentry_drift_windows_total"
DRIFT_SECONDS_SINCE_FULL_WINDOW = "latentry_drift_seconds_since_full_window"
DRIFT_CONTRIBUTION = "latentry_drift_contribution"
HEALTH_VALUE = "latentry_health_value"
HEALTH_EXPECTED_VALUE = "latentry_health_expected_value"
HEALTH_ALARM = "latentry_health_alarm"
HEALTH_INSUFFICIENT_DATA = "latentry_health_insufficient_data"
HEALTH_WINDOWS_TOTAL = "latentry_health_windows_total"
HEALTH_SECONDS_SINCE_FULL_WINDOW = "latentry_health_seconds_since_full_window"
POSTERIOR_KL_NATS = "latentry_posterior_kl_nats"
SCORED_SAMPLES_TOTAL = "latentry_scored_samples_total"
SCORED_SAMPLES_WITHIN_THRESHOLD_TOTAL = "latentry_scored_samples_within_threshold_total"
ANOMALOUS_SAMPLES_TOTAL = "latentry_anomalous_samples_total"
RECONSTRUCTION_ERROR_THRESHOLD = "latentry_reconstruction_error_threshold"
SCORE_PROBES_TOTAL = "latentry_score_probes_total"

MODEL = "model"
VERSION = "version"
OPERATION = "operation"
PROTOCOL = "protocol"
OUTCOME = "outcome"
REASON = "reason"
DIGEST = "digest"
KIND = "kind"
TRACE_ID = "trace_id"
"""Of exemplars."""
STATE = "state"
TENSOR = "tensor"
"""A watched tensor of the profile."""
STATISTIC = "statistic"
"""``drift.types.Statistic``: nine of them."""
DIMENSION = "dimension"
"""Of a tensor; at most ``drift.topContributors`` for each alarm that is on, and of a VAE's posterior."""
FAMILY = "family"
PART = "part"
"""``encoder``, ``reconstruction`` or ``posterior``."""
MEASURE = "measure"
"""Of a part: at most eight of them."""
SOURCE = "source"
"""Of scored samples: ``traffic`` or ``probes``."""

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


class BundleState(StrEnum):
    """Whether the files the tap stands for are the promised ones."""

    CHECKING = "checking"
    VERIFIED = "verified"
    REFUSED = "refused"
    """Another bundle, or files missing, changed or added. Final: the tap is never ready."""


class LoadOutcome(StrEnum):
    """How a request to Triton to load a model ended."""

    OK = "ok"
    FAILED = "failed"


class ProbeOutcome(StrEnum):
    """How a golden probe of one operation ended; of several reasons to fail, the first in this order."""

    PASSED = "passed"
    UNREADABLE = "unreadable"
    """The recorded inputs, outputs or tolerance cannot be read."""
    UNREACHABLE = "unreachable"
    """Triton took no connection, broke it, or was silent for too long."""
    ERROR_ANSWER = "error_answer"
    """Triton answered with an error, or with what is no answer of the protocol."""
    MISSING_OUTPUT = "missing_output"
    WRONG_SHAPE = "wrong_shape"
    NON_FINITE = "non_finite"
    """NaN or infinity where the recorded value is finite."""
    NOT_DETERMINISTIC = "not_deterministic"
    """Two calls in a row differ by more than the tolerance."""
    OUT_OF_TOLERANCE = "out_of_tolerance"


class PostponedReason(StrEnum):
    """How a golden probe that had to wait for users went on."""

    TRAFFIC = "traffic"
    """Users left room in time."""
    NO_ROOM = "no_room"
    """They did not within the round's limit: it ran all the same."""


class SampleLoss(StrEnum):
    """Why a call that was chosen as a sample gave none. The call itself was served as any other."""

    TOO_LARGE = "too_large"
    """Request and answer together exceed ``sampling.maxBytes``, as sent or once decompressed."""
    QUEUE_FULL = "queue_full"
    """Analysis is behind, or more sampled calls are in flight than the queue's bounds allow."""
    CALL_FAILED = "call_failed"
    """The call did not end ok, or its connection became opaque."""
    UNPAIRED = "unpaired"
    """A stream whose answers cannot be matched with its requests one by one."""
    ANALYSIS_STUCK = "analysis_stuck"
    """Handed over to an analysis process that then made no progress and was stopped."""
    ANALYSIS_FAILED = "analysis_failed"
    """The analysis process was not running, ended with the sample, or could not take it."""
    # What the decoder found, in the words of oip.FailureReason.
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    UNSUPPORTED_DATATYPE = "unsupported_datatype"
    SHAPE_MISMATCH = "shape_mismatch"
    BAD_VALUE = "bad_value"
    MIXED_CONTENTS = "mixed_contents"
    SHARED_MEMORY = "shared_memory"
    RAW_BINARY = "raw_binary"
    ERROR_RESPONSE = "error_response"


DEFAULT_LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds in seconds, dense where encoders answer; the planner adds one at every latency objective's ``within``.
Each costs one series per operation."""

FIRST_RESPONSE_BUCKETS_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5)
"""Upper bounds in seconds of the time to the first answer of a stream."""

PROTOCOL_FAULTS: Mapping[Protocol, frozenset[Outcome]] = MappingProxyType(
    {
        Protocol.HTTP: frozenset({Outcome.SERVER_ERROR, Outcome.RESET}),
        Protocol.GRPC: frozenset({Outcome.SERVER_ERROR, Outcome.RESET, Outcome.DEADLINE_EXCEEDED}),
    }
)
"""The server faults an operation can have, whose counters begin at 0: a rate does not see the jump of a counter that
appears at its first error. HTTP knows no deadline; that Triton takes no connection counts as ``OTHER_OPERATION``."""
