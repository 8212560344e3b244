"""From a captured call to typed samples. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from typing import Protocol as Interface

import numpy as np

from latentry_serving.contract.metrics import CallKind, Protocol, SampleLoss
from latentry_serving.oip import CapturedPayload, DecodedMessage, DecodedTensor, DecodeFailure, Direction, decode
from latentry_serving.tap.analysis_frames import Finding


class ReceivedCall(NamedTuple):
    """A captured call on the other side of the pipe. ``time_s``: unix time of its last byte."""

    operation: str
    time_s: float
    request: CapturedPayload
    response: CapturedPayload


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
        values = [t.array for t in sample.response if np.issubdtype(t.array.dtype, np.floating)]
        count = sum(array.size - int(np.count_nonzero(np.isfinite(array))) for array in values)
        return {Finding.NON_FINITE: count} if count else {}


def received(head: bytes, payload: bytearray) -> ReceivedCall:
    """The call out of a frame's two parts."""
    fields = json.loads(head)
    view = memoryview(payload).toreadonly()
    cut = fields["request"]["bytes"]
    common = (Protocol(fields["protocol"]), fields["kind"] == CallKind.STREAM)
    return ReceivedCall(
        operation=fields["operation"],
        time_s=fields["time_s"],
        request=_payload(common, Direction.REQUEST, fields["request"], view[:cut]),
        response=_payload(common, Direction.RESPONSE, fields["response"], view[cut:]),
    )


def samples(call: ReceivedCall, *, limit_bytes: int) -> list[Sample] | SampleLoss:
    """The inferences of a call: one, or of a stream as many as it has requests; else why there are none."""
    requests = _messages(call.request, limit_bytes)
    if isinstance(requests, SampleLoss):
        return requests
    responses = _messages(call.response, limit_bytes)
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


def _messages(payload: CapturedPayload, limit_bytes: int) -> list[DecodedMessage] | SampleLoss:
    messages = []
    for result in decode(payload, limit_bytes=limit_bytes):
        if isinstance(result, DecodeFailure):
            return SampleLoss(result.reason.value)
        messages.append(result)
    return messages


def _payload(
    common: tuple[Protocol, bool], direction: Direction, fields: dict[str, str | int], data: memoryview
) -> CapturedPayload:
    headers = {name: str(value) for name, value in fields.items() if name != "bytes"}
    return CapturedPayload(common[0], direction, [data], streaming=common[1], **headers)
