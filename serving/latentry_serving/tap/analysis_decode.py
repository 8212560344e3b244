"""From a captured call to typed samples. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from typing import Protocol as Interface

import numpy as np

from latentry_serving.contract.metrics import CallKind, Protocol, SampleLoss
from latentry_serving.oip import Alike, CapturedPayload, DecodedMessage, DecodedTensor, DecodeFailure, Direction, decode
from latentry_serving.tap.analysis_frames import KNOWN_HEADS, Finding, Frame


class ReceivedCall(NamedTuple):
    """A captured call on the other side of the pipe. ``time_s``: unix time of its last byte."""

    operation: str
    time_s: float
    request: CapturedPayload
    response: CapturedPayload
    alike: Alike
    """What is remembered of such calls' messages."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One inference.

    Attributes:
        operation: label of the contract.
        request, response: the tensors, batch dimension first. Their arrays keep the whole call alive: copy what is
            kept for long.
        time_s: unix time of the answer's last byte.
    """

    operation: str
    request: tuple[DecodedTensor, ...]
    response: tuple[DecodedTensor, ...]
    time_s: float


class SampleConsumer(Interface):
    """Sees every sample, in the analysis process. What it raises costs the sample, nothing else."""

    def consume(self, sample: Sample) -> Mapping[Finding, int]:
        """Looks at a sample; what it counted is added up by operation."""


class NonFiniteOutputs:
    """Counts NaN and infinities in what the model answered."""

    def consume(self, sample: Sample) -> Mapping[Finding, int]:
        """Counts over all floating-point outputs."""
        count = 0
        for tensor in sample.response:
            if tensor.array.dtype.kind == "f":
                count += tensor.array.size - int(np.count_nonzero(np.isfinite(tensor.array)))
        return {Finding.NON_FINITE: count} if count else {}


def received(frame: Frame) -> ReceivedCall:
    """The call in a frame."""
    head = _head(frame.head)
    return ReceivedCall(
        head.operation,
        frame.time_s,
        CapturedPayload(head.protocol, Direction.REQUEST, (frame.request,), **head.request),
        CapturedPayload(head.protocol, Direction.RESPONSE, (frame.response,), **head.response),
        head.alike,
    )


def samples(call: ReceivedCall, *, limit_bytes: int) -> list[Sample] | SampleLoss:
    """The inferences of a call: one, or of a stream as many as it has requests; else why there are none."""
    requests = _messages(call.request, limit_bytes, call.alike)
    if isinstance(requests, SampleLoss):
        return requests
    responses = _messages(call.response, limit_bytes, call.alike)
    if isinstance(responses, SampleLoss):
        return responses
    if call.response.streaming:
        # A stream's final response may be empty; and one stream may go to several models, only one of which was named.
        responses = [message for message in responses if message.tensors]
        if len({message.model_name for message in requests}) > 1:
            return SampleLoss.UNPAIRED
    if len(requests) != len(responses):
        return SampleLoss.UNPAIRED
    return [
        Sample(call.operation, request.tensors, response.tensors, call.time_s)
        for request, response in zip(requests, responses, strict=True)
    ]


def _messages(payload: CapturedPayload, limit_bytes: int, alike: Alike) -> list[DecodedMessage] | SampleLoss:
    messages = []
    for result in decode(payload, limit_bytes=limit_bytes, alike=alike):
        if isinstance(result, DecodeFailure):
            return SampleLoss(result.reason.value)
        messages.append(result)
    return messages


class _Head(NamedTuple):
    """What calls have in common; ``request`` and ``response``: the further arguments of their payloads."""

    operation: str
    protocol: Protocol
    request: dict[str, Any]
    response: dict[str, Any]
    alike: Alike


@lru_cache(KNOWN_HEADS)
def _head(head: bytes) -> _Head:
    fields = json.loads(head)
    common = {"streaming": fields["kind"] == CallKind.STREAM}
    request, response = common | fields["request"], common | fields["response"]
    return _Head(fields["operation"], Protocol(fields["protocol"]), request, response, Alike())
