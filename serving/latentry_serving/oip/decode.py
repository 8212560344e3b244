"""The way in: one captured payload, all its messages."""

from collections.abc import Iterator

from latentry_serving.contract.metrics import Protocol
from latentry_serving.oip import grpc_body, http_body
from latentry_serving.oip.alike import Alike
from latentry_serving.oip.compression import decompress, is_compressed
from latentry_serving.oip.message import CapturedPayload, DecodedMessage, DecodeFailure, FailureReason, Undecodable


def decode(
    payload: CapturedPayload, *, limit_bytes: int, alike: Alike | None = None
) -> tuple[DecodedMessage | DecodeFailure, ...]:
    """Reads every message of one direction of a call; at least one result, in the order of the wire.

    HTTP and unary gRPC have one message, a gRPC stream any number. A message that fails leaves its neighbours alone; a
    gRPC frame that fails ends the result, for what follows cannot be found.

    Args:
        payload: what was captured.
        limit_bytes: most bytes of the payload, and of all its messages together after decompression. Time is linear in
            them. Memory is up to 3 times as much for raw data and binary data, and about 45 times for hostile JSON or
            protobuf that spells out the smallest possible entries (measured with 4 MB).
        alike: what is remembered of gRPC messages before, for it to take less time; makes no other difference.
    """
    if sum(map(len, payload.chunks)) > limit_bytes:
        return (DecodeFailure(FailureReason.TOO_LARGE, f"more than {limit_bytes} bytes captured"),)
    if payload.protocol is Protocol.HTTP:
        return (_decode_http(payload, limit_bytes),)
    return tuple(_decode_grpc(payload, limit_bytes, alike)) or (DecodeFailure(FailureReason.EMPTY, "no gRPC message"),)


def _decode_http(payload: CapturedPayload, limit_bytes: int) -> DecodedMessage | DecodeFailure:
    try:
        compressed = is_compressed(payload.content_encoding)
        body = decompress(payload.chunks, limit_bytes=limit_bytes) if compressed else _joined(payload)
        return http_body.decode_body(body, payload)
    except Undecodable as error:
        return error.failure


def _decode_grpc(
    payload: CapturedPayload, limit_bytes: int, alike: Alike | None
) -> Iterator[DecodedMessage | DecodeFailure]:
    try:
        for data in grpc_body.messages(_joined(payload), payload, limit_bytes=limit_bytes):
            yield _decode_grpc_message(data, payload, alike)
    except Undecodable as error:
        yield error.failure


def _decode_grpc_message(
    data: memoryview, payload: CapturedPayload, alike: Alike | None
) -> DecodedMessage | DecodeFailure:
    try:
        return grpc_body.decode_message(data, payload, alike)
    except Undecodable as error:
        return error.failure


def _joined(payload: CapturedPayload) -> bytes | memoryview:
    return payload.chunks[0] if len(payload.chunks) == 1 else b"".join(payload.chunks)
