"""OIP v2 over gRPC: length-prefixed protobuf messages, raw or typed contents.

The messages come from our own ``oip.proto``, not from ``tritonclient.grpc.service_pb2``: that import pulls grpcio and
the whole client, 17.7 MB and 174 ms against 1.9 MB and 22 ms in a process that holds numpy, and the tap needs neither.
A test holds the two descriptors against each other.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from latentry_serving.oip import elements
from latentry_serving.oip.alike import Alike
from latentry_serving.oip.compression import decompress, is_compressed
from latentry_serving.oip.elements import TensorHead
from latentry_serving.oip.message import (
    MAX_MESSAGES,
    MAX_TENSORS,
    PARAMETERS_OF_INTEREST,
    SHARED_MEMORY_REGION,
    CapturedPayload,
    DecodedMessage,
    DecodedTensor,
    Direction,
    FailureReason,
    ParameterValue,
    RequestedOutput,
    Undecodable,
)
from latentry_serving.oip.oip_pb2 import (
    InferParameter,
    InferRequestedOutputTensor,
    InferTensor,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)

_Message = TypeVar("_Message", ModelInferRequest, ModelInferResponse, ModelStreamInferResponse)

_PREFIX = 5  # one byte of flags, four of length, big-endian: gRPC over HTTP/2, "Length-Prefixed-Message"


def messages(body: bytes | memoryview, payload: CapturedPayload, *, limit_bytes: int) -> Iterator[memoryview]:
    """The protobuf messages in a stream's data, uncompressed, together at most ``limit_bytes``.

    Raises:
        Undecodable: at the first message whose frame is wrong; what follows it cannot be found.
    """
    _check_content_type(payload.content_type)
    view, start, room = memoryview(body), 0, limit_bytes
    for _ in range(MAX_MESSAGES):
        if start == len(view):
            return
        flag = view[start]
        length = int.from_bytes(view[start + 1 : start + _PREFIX], "big")
        end = start + _PREFIX + length
        if flag > 1:
            raise Undecodable(FailureReason.MALFORMED, f"gRPC message flag {flag}")
        if start + _PREFIX > len(view) or end > len(view):
            raise Undecodable(FailureReason.TRUNCATED, "the last gRPC message is cut short")
        message = view[start + _PREFIX : end]
        if flag:
            if not is_compressed(payload.grpc_encoding):
                raise Undecodable(FailureReason.MALFORMED, "a compressed gRPC message without grpc-encoding")
            message = memoryview(decompress([message], limit_bytes=room))
        room -= len(message)
        if room < 0:
            raise Undecodable(FailureReason.TOO_LARGE, f"more than {limit_bytes} bytes after decompression")
        yield message
        start = end
    if start < len(view):
        raise Undecodable(FailureReason.TOO_LARGE, f"more than {MAX_MESSAGES} messages in one stream")


def _check_content_type(content_type: str | None) -> None:
    if not content_type or content_type == "application/grpc":  # nearly always
        return
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("application/grpc", "application/grpc+proto"):
        raise Undecodable(FailureReason.UNSUPPORTED_ENCODING, f"content-type {content_type!r}")


def decode_message(data: memoryview, payload: CapturedPayload, alike: Alike | None = None) -> DecodedMessage:
    """One protobuf message of the payload's kind.

    Raises:
        Undecodable: with the reason.
    """
    if payload.streaming and payload.direction is Direction.RESPONSE:
        answer = _parsed(ModelStreamInferResponse, data)
        if answer.error_message:
            raise Undecodable(FailureReason.ERROR_RESPONSE, answer.error_message)
        return _response(answer.infer_response)
    if alike is not None and (known := alike.read(data, payload.direction)) is not None:
        return known
    message: ModelInferRequest | ModelInferResponse
    if payload.direction is Direction.REQUEST:
        message = _parsed(ModelInferRequest, data)
        read = _request(message)
    else:
        message = _parsed(ModelInferResponse, data)
        read = _response(message)
    if alike is not None:
        alike.learn(data, payload.direction, message, read)
    return read


def _parsed(kind: type[_Message], data: memoryview) -> _Message:
    try:
        return kind.FromString(bytes(data))
    except DecodeError as error:
        raise Undecodable(FailureReason.MALFORMED, f"protobuf: {error}") from error


def _request(message: ModelInferRequest) -> DecodedMessage:
    if len(message.outputs) > MAX_TENSORS:
        raise Undecodable(FailureReason.TOO_LARGE, f"{len(message.outputs)} requested outputs")
    return DecodedMessage(
        message.model_name,
        message.model_version,
        message.id,
        _tensors(message.inputs, message.raw_input_contents, request=True),
        _parameters(message.parameters),
        tuple(map(_requested, message.outputs)),
    )


def _requested(output: InferRequestedOutputTensor) -> RequestedOutput:
    return RequestedOutput(
        name=output.name,
        binary=True,
        classification=output.parameters["classification"].int64_param if "classification" in output.parameters else 0,
        shared_memory=SHARED_MEMORY_REGION in output.parameters,
    )


def _response(message: ModelInferResponse) -> DecodedMessage:
    return DecodedMessage(
        message.model_name,
        message.model_version,
        message.id,
        _tensors(message.outputs, message.raw_output_contents, request=False),
        _parameters(message.parameters),
    )


def _parameters(parameters: Mapping[str, InferParameter]) -> dict[str, ParameterValue]:
    if not parameters:  # nearly always; the intersection below takes longer than all the rest of a small message
        return {}
    chosen = {key: parameters[key].WhichOneof("parameter_choice") for key in PARAMETERS_OF_INTEREST & parameters.keys()}
    return {key: getattr(parameters[key], field) for key, field in chosen.items() if field}


def _tensors(heads: Sequence[InferTensor], raw: Sequence[bytes], *, request: bool) -> tuple[DecodedTensor, ...]:
    if len(heads) > MAX_TENSORS:
        raise Undecodable(FailureReason.TOO_LARGE, f"{len(heads)} tensors, more than {MAX_TENSORS}")
    for tensor in heads:
        if SHARED_MEMORY_REGION in tensor.parameters:
            raise Undecodable(FailureReason.SHARED_MEMORY, f"tensor {tensor.name!r}")
    if raw and len(raw) != len(heads):
        raise Undecodable(FailureReason.MIXED_CONTENTS, f"{len(raw)} raw contents for {len(heads)} tensors")
    data: Iterable[bytes | None] = raw or itertools.repeat(None)
    return tuple([_tensor(tensor, given, request=request) for tensor, given in zip(heads, data, strict=False)])


def _tensor(tensor: InferTensor, raw: bytes | None, *, request: bool) -> DecodedTensor:
    head = TensorHead(tensor.name, tensor.datatype, tensor.shape)
    given: Sequence[tuple[Any, Any]] = tensor.contents.ListFields() if tensor.HasField("contents") else []
    if len(given) > (raw is None):
        raise Undecodable(FailureReason.MIXED_CONTENTS, f"tensor {head.name!r}: contents in more than one form")
    if given:
        descriptor, values = given[0]
        return elements.from_contents(head, descriptor.name, values)
    if not raw and head.count and not request:
        # Triton leaves the entry empty when the request asked for the output in shared memory.
        raise Undecodable(FailureReason.SHARED_MEMORY, f"tensor {head.name!r} has no data")
    return elements.from_raw(head, raw or b"")
