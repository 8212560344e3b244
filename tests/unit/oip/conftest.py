"""Payloads from independent encoders: tritonclient builds the requests and the protobuf messages."""

import gzip
import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc._utils import _get_inference_request  # the encoder behind infer()

from latentry_serving.contract.manifest import Datatype
from latentry_serving.contract.metrics import Protocol
from latentry_serving.oip import CapturedPayload, DecodedMessage, DecodeFailure, Direction, decode

LIMIT_BYTES = 1_000_000
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
_WHOLE = [Datatype[f"{sign}INT{bits}"] for sign in ("U", "") for bits in (8, 16, 32, 64)]
SAMPLES: dict[Datatype, np.ndarray] = {
    **{
        kind: np.array([[bounds.min, 1, bounds.max], [0, 5, 7]], dtype=bounds.dtype)
        for kind in _WHOLE
        for bounds in [np.iinfo(kind.lower())]
    },
    Datatype.BOOL: np.array([[True, False, True], [False, False, True]]),
    Datatype.FP16: np.array([[0.5, -2.25, 65504], [np.inf, 0, -1]], dtype=np.float16),
    Datatype.BF16: np.array([[0.5, -2.25, 3e38], [np.inf, 0, -1]], dtype=ml_dtypes.bfloat16),
    Datatype.FP32: np.array([[0.1, -2.25, 3.4e38], [1e-45, 0, -1]], dtype=np.float32),
    Datatype.FP64: np.array([[0.1, -2.25, 1.7e308], [5e-324, 0, -1]]),
    Datatype.BYTES: np.array([[b"", b"a", "grün".encode()], [b"{}", b"0", b"long" * 99]], dtype=np.object_),
}
"""One [2, 3] array of every datatype, with its extremes."""


def expected(kind: Datatype) -> np.ndarray:
    return SAMPLES[kind].astype(np.float32) if kind is Datatype.BF16 else SAMPLES[kind]


class Encoders:
    """What tests need to build payloads."""

    limit_bytes = LIMIT_BYTES
    samples = SAMPLES
    compressors = COMPRESSORS
    expected = staticmethod(expected)

    @staticmethod
    def http(body: bytes, direction: Direction = Direction.REQUEST, **headers: Any) -> CapturedPayload:
        return CapturedPayload(Protocol.HTTP, direction, [body], **headers)

    @staticmethod
    def http_request(
        arrays: dict[Datatype, np.ndarray], binary: Callable[[Datatype], bool], **options: Any
    ) -> tuple[bytes, str | None]:
        """Body and Inference-Header-Content-Length as tritonclient.http sends them."""
        inputs = []
        for kind, array in arrays.items():
            entry = triton_http.InferInput(f"{kind}_in", list(array.shape), str(kind))
            entry.set_data_from_numpy(array, binary_data=binary(kind))
            inputs.append(entry)
        body, length = triton_http.InferenceServerClient.generate_request_body(inputs, **options)
        return bytes(body), None if length is None else str(length)

    @staticmethod
    def frame(message: bytes, compress: Callable[[bytes], bytes] | None = None) -> bytes:
        """gRPC's length-prefixed message."""
        data = compress(message) if compress else message
        return struct.pack(">BI", compress is not None, len(data)) + data

    @staticmethod
    def grpc(frames: bytes, direction: Direction = Direction.REQUEST, **headers: Any) -> CapturedPayload:
        headers.setdefault("content_type", "application/grpc")
        return CapturedPayload(Protocol.GRPC, direction, [frames], **headers)

    @staticmethod
    def raw_request(arrays: dict[Datatype, np.ndarray], **options: Any) -> triton_grpc.service_pb2.ModelInferRequest:
        """The request as tritonclient.grpc sends it: raw contents."""
        inputs = []
        for kind, array in arrays.items():
            entry = triton_grpc.InferInput(f"{kind}_in", list(array.shape), str(kind))
            entry.set_data_from_numpy(array)
            inputs.append(entry)
        defaults = {"model_name": "m", "inputs": inputs, "model_version": "3", "request_id": "r-1", "outputs": None}
        defaults |= dict.fromkeys(("sequence_id", "priority"), 0) | {"timeout": None, "parameters": None}
        defaults |= {"sequence_start": False, "sequence_end": False}
        return _get_inference_request(**(defaults | options))

    @staticmethod
    def one(payload: CapturedPayload, limit_bytes: int = LIMIT_BYTES) -> DecodedMessage | DecodeFailure:
        """The only result."""
        (result,) = decode(payload, limit_bytes=limit_bytes)
        return result

    @staticmethod
    def cut(data: bytes, places: Sequence[int]) -> list[memoryview]:
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        return [memoryview(data)[a:b] for a, b in itertools.pairwise(edges)]


@pytest.fixture(scope="session")
def oip() -> Encoders:
    return Encoders()
