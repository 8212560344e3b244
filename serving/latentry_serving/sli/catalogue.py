"""From what a request asks for to the bounded label values it is counted under. Pure."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from latentry_serving.contract.metrics import MANAGEMENT_OPERATION, OTHER_OPERATION, CallKind

_GRPC_SERVICE = b"/inference.GRPCInferenceService/"
# Triton's HTTP inference endpoints, with or without a model version and an absolute-form prefix.
_HTTP_INFERENCE = re.compile(
    rb"(?:https?://[^/]*)?/v2/models/([^/?#]+)(?:/versions/[^/?#]+)?/(infer|generate|generate_stream)/?(?:[?#].*)?",
    re.DOTALL,
)
_CACHE_ENTRIES = 512
_CACHED_TARGET_BYTES = 512


class Target(NamedTuple):
    """What a call is counted as."""

    operation: str
    kind: CallKind


MANAGEMENT = Target(MANAGEMENT_OPERATION, CallKind.UNARY)
_GRPC_INFERENCE = {
    _GRPC_SERVICE + b"ModelInfer": CallKind.UNARY,
    _GRPC_SERVICE + b"ModelStreamInfer": CallKind.STREAM,
}


class Catalogue:
    """Which Triton model is which operation."""

    def __init__(self, operations: Mapping[str, str]) -> None:
        """
        Args:
            operations: Triton model name -> operation label.
        """
        self._operations = {name.encode(): str(operation) for name, operation in operations.items()}
        self._http_targets: dict[bytes, Target] = {}

    def operation(self, model: bytes) -> str:
        """The operation a model name stands for, or ``other``."""
        return self._operations.get(model, OTHER_OPERATION)

    def grpc(self, path: bytes) -> CallKind | None:
        """The kind of inference a gRPC ``:path`` asks for, its model named in the message; None for management."""
        return _GRPC_INFERENCE.get(path)

    def http(self, method: bytes, target: bytes) -> Target:
        """Classifies an HTTP request line. Only POST infers; everything else is management."""
        if method != b"POST":
            return MANAGEMENT
        known = self._http_targets.get(target)
        if known is not None:
            return known
        result = self._classify(target)
        if len(target) <= _CACHED_TARGET_BYTES:
            if len(self._http_targets) >= _CACHE_ENTRIES:
                self._http_targets.clear()
            self._http_targets[target] = result
        return result

    def _classify(self, target: bytes) -> Target:
        match = _HTTP_INFERENCE.fullmatch(target)
        if match is None:
            return MANAGEMENT
        kind = CallKind.STREAM if match[2] == b"generate_stream" else CallKind.UNARY
        return Target(self.operation(unquote_to_bytes(match[1])), kind)
