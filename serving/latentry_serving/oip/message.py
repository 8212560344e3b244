"""What goes into the decoder and what comes out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from latentry_serving.contract.manifest import Datatype
from latentry_serving.contract.metrics import Protocol

PARAMETERS_OF_INTEREST = frozenset(
    {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output",
     "triton_final_response", "triton_enable_empty_final_response"}
)  # fmt: skip
"""Request and response parameters that are kept; others may hold anything a client thought of."""

SHARED_MEMORY_REGION = "shared_memory_region"
"""The parameter that says a tensor's data lies elsewhere."""

MAX_TENSORS = 1024
"""Inputs or outputs in one message; real models have a handful."""

MAX_MESSAGES = 4096
"""Messages read of one gRPC stream: empty ones cost 5 bytes on the wire and 10 us here."""

_DETAIL_CHARACTERS = 200

ParameterValue = bool | int | float | str


class Direction(StrEnum):
    """Which half of a call."""

    REQUEST = "request"
    RESPONSE = "response"


class FailureReason(StrEnum):
    """Why a captured message gives no tensors. Bounded: used as a metric label."""

    MALFORMED = "malformed"
    """No JSON, no protobuf, no gRPC framing, or a field of the wrong type."""
    TRUNCATED = "truncated"
    """Ends before the length it announced."""
    EMPTY = "empty"
    """No message at all: an empty body, a trailers-only answer."""
    TOO_LARGE = "too_large"
    """More bytes than the limit, as captured or after decompression, or an absurd number of tensors or messages."""
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    """A compression or a gRPC sub-format that is not read here."""
    UNSUPPORTED_DATATYPE = "unsupported_datatype"
    """Unknown, or not allowed in this form (FP16 and BF16 travel as raw bytes only)."""
    SHAPE_MISMATCH = "shape_mismatch"
    """The data does not fill the declared shape exactly, or the shape is none."""
    BAD_VALUE = "bad_value"
    """An element that the datatype cannot hold."""
    MIXED_CONTENTS = "mixed_contents"
    """Data given twice, in two forms, or in the form of another datatype."""
    SHARED_MEMORY = "shared_memory"
    """The tensor lies in a shared-memory region: its bytes never crossed the wire. Triton announces such an output
    without data and without saying so, hence every output that should have data and has none counts here."""
    RAW_BINARY = "raw_binary"
    """Triton's raw binary request: one input, described by the model's configuration alone."""
    ERROR_RESPONSE = "error_response"
    """The server answered with an error message."""


@dataclass(frozen=True, slots=True)
class CapturedPayload:
    """One direction of one sampled call.

    Attributes:
        chunks: HTTP: the body without chunked framing. gRPC: the content of the stream's DATA frames, without padding.
            Kept by reference; cut anywhere.
        content_type, content_encoding, grpc_encoding: header values as received.
        header_length: value of ``Inference-Header-Content-Length`` as received.
        model_name, model_version: from the URL of an HTTP call, whose request body does not say.
        streaming: a ``ModelStreamInfer`` call, whose answers are wrapped.
    """

    protocol: Protocol
    direction: Direction
    chunks: Sequence[bytes | memoryview] = field(repr=False)
    content_type: str | None = None
    content_encoding: str | None = None
    grpc_encoding: str | None = None
    header_length: str | None = None
    model_name: str = ""
    model_version: str = ""
    streaming: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DecodedTensor:
    """One tensor.

    Attributes:
        datatype: as on the wire.
        array: read-only, of the wire's shape. BF16 comes as float32, BYTES as an object array of ``bytes``, everything
            else as the numpy type of the same width. Raw data is not copied: the array may be unaligned and keeps the
            whole captured message alive, so copy what is kept for long.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """How the client wants one output: as raw bytes, as its ``classification`` best classes, in shared memory."""

    name: str
    binary: bool = False
    classification: int = 0
    shared_memory: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DecodedMessage:
    """One request or response. Names, versions and ids that were not given are empty.

    A classified output is a BYTES tensor of ``value:index[:label]`` texts, whatever the model's own datatype is.
    A stream's final response may hold no tensors.
    """

    model_name: str
    model_version: str
    request_id: str
    tensors: tuple[DecodedTensor, ...]
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    requested_outputs: tuple[RequestedOutput, ...] = ()


@dataclass(frozen=True, slots=True)
class DecodeFailure:
    """Why there are no tensors. ``detail`` is for a log, at most 200 characters, and may quote the client."""

    reason: FailureReason
    detail: str


class Undecodable(Exception):
    """Inside this package only: carries a failure to the edge."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        self.failure = DecodeFailure(reason, detail[:_DETAIL_CHARACTERS])
        super().__init__(self.failure.detail)
