"""Captured calls of the Open Inference Protocol v2, turned into typed arrays. PURE: bytes in, values out.

Reads what clients and Triton exchange for an inference: HTTP with JSON or the binary tensor extension, gRPC with raw or
typed contents, unary or streamed, compressed or not. Nothing raises on bad bytes: each message is a
:class:`DecodedMessage` or a :class:`DecodeFailure` whose reason is a metric label.

Protocol: https://github.com/kserve/open-inference-protocol and Triton's extensions (binary data, classification,
shared memory) in https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from latentry_serving.oip.alike import Alike
from latentry_serving.oip.decode import decode
from latentry_serving.oip.message import (
    CapturedPayload,
    DecodedMessage,
    DecodedTensor,
    DecodeFailure,
    Direction,
    FailureReason,
    RequestedOutput,
)

__all__ = [
    "decode",
    "Alike",
    "CapturedPayload",
    "Direction",
    "DecodedMessage",
    "DecodedTensor",
    "RequestedOutput",
    "DecodeFailure",
    "FailureReason",
]
