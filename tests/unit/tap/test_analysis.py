"""Captured calls on their way through the analysis process. Covered: frames there and verdicts back, samples of unary
calls and streams, every reason of the decoder has its loss, the non-finite counter, consumers that fail."""

import dataclasses
import io
import json
import os
import threading

import numpy as np
import pytest

from latentry_serving.contract.metrics import CallKind, Protocol, SampleLoss
from latentry_serving.oip import FailureReason
from latentry_serving.oip import oip_pb2 as pb
from latentry_serving.tap.analysis_decode import NonFiniteOutputs, Sample, received, samples
from latentry_serving.tap.analysis_frames import LENGTHS, Finding, Verdict, framed, read_verdicts, write_verdicts
from latentry_serving.tap.analysis_pipe import FrameReader
from latentry_serving.tap.analysis_worker import judge, serve
from latentry_serving.tap.capture import CapturedCall
from latentry_serving.tap.http1_heads import ResponseHead

HEAD = ResponseHead(200, 0, b"application/json", b"", b"")
VALUES = np.array([[1.0, np.nan, -np.inf]], np.float32)


def http_call(request: bytes, response: bytes, header_length: int) -> CapturedCall:
    return CapturedCall(
        protocol=Protocol.HTTP,
        operation="encode",
        kind=CallKind.UNARY,
        ended_s=3.0,
        bytes=len(request) + len(response),
        request=[bytearray(request[:7]), memoryview(request)[7:]],
        response=[response],
        request_head=HEAD,
        response_head=HEAD._replace(header_length=str(header_length).encode()),
    )


def encode_call() -> CapturedCall:
    request = json.dumps({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}]}).encode()
    output = {"name": "y", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
    head = json.dumps({"outputs": [output]}).encode()
    return http_call(request, head + VALUES.tobytes(), len(head))


def grpc_call(requests, responses, kind=CallKind.STREAM) -> CapturedCall:
    sent, answered = (
        b"".join(b"\x00" + message.ByteSize().to_bytes(4) + message.SerializeToString() for message in messages)
        for messages in (requests, responses)
    )
    head = ResponseHead(200, 0, b"application/grpc", b"", b"")
    return CapturedCall(Protocol.GRPC, "encode", kind, 3.0, len(sent) + len(answered), [sent], [answered], head, head)


def infer(model="m"):
    message = pb.ModelInferRequest(model_name=model)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(7)
    return message


def answer(*values):
    message = pb.ModelStreamInferResponse()
    if values:
        output = message.infer_response.outputs.add(name="y", datatype="FP32", shape=[1, len(values)])
        output.contents.fp32_contents.extend(values)
    return message


def over_the_pipe(call: CapturedCall):
    frame = b"".join(framed(call, time_s=1_700_000_000.5))
    reading, writing = os.pipe()
    with io.FileIO(writing, "w") as sink:
        sink.write(frame)
    with io.FileIO(reading) as source:
        (arrived,) = FrameReader(source).here()
        return received(arrived)


def test_a_call_arrives_as_it_was_captured():
    (sample,) = samples(over_the_pipe(encode_call()), limit_bytes=1 << 20)
    assert (sample.operation, sample.time_s) == ("encode", 1_700_000_000.5)
    assert sample.request[0].array.tolist() == [[1, 2]]
    assert np.array_equal(sample.response[0].array, VALUES, equal_nan=True)


def test_verdicts_come_back_as_they_were_given():
    verdicts = [Verdict(None, {Finding.NON_FINITE: 2}), Verdict(SampleLoss.BAD_VALUE, {}), Verdict(None, {})]
    line = write_verdicts(verdicts)
    assert line.count(b"\n") == 1
    assert read_verdicts(line) == verdicts
    with pytest.raises(ValueError, match="unheard of"):
        read_verdicts(b'[["unheard of", {}]]')


def test_every_reason_of_the_decoder_is_a_reason_to_lose_a_sample():
    assert {SampleLoss(reason.value).value for reason in FailureReason} == {reason.value for reason in FailureReason}


def test_a_stream_gives_a_sample_for_each_request():
    call = grpc_call([infer(), infer()], [answer(1), answer(2), answer()])
    found = samples(over_the_pipe(call), limit_bytes=1 << 20)
    assert [sample.response[0].array.item() for sample in found] == [1, 2]


@pytest.mark.parametrize(
    ("requests", "responses"),
    [([infer()], [answer(1), answer(2)]), ([infer(), infer("other")], [answer(1), answer(2)])],
    ids=["more answers than requests", "several models"],
)
def test_a_stream_that_cannot_be_paired(requests, responses):
    call = over_the_pipe(grpc_call(requests, responses))
    assert samples(call, limit_bytes=1 << 20) is SampleLoss.UNPAIRED


def test_beyond_the_limit_once_decoded():
    assert samples(over_the_pipe(encode_call()), limit_bytes=10) is SampleLoss.TOO_LARGE


def test_non_finite_values_of_floating_point_outputs_are_counted():
    verdict = judge(over_the_pipe(encode_call()), [NonFiniteOutputs()], limit_bytes=1 << 20)
    assert verdict == Verdict(None, {Finding.NON_FINITE: 2})
    assert NonFiniteOutputs().consume(Sample("encode", (), (), 0.0)) == {}


class Choosy:
    """Counts every sample it is shown, and fails on those with two values."""

    def __init__(self):
        self.seen = 0

    def consume(self, sample):
        self.seen += 1
        if sample.response[0].array.size == 2:
            raise RuntimeError("not this one")
        return {}


def test_a_consumer_that_fails_costs_one_sample():
    source, there = os.pipe()
    back, sink = os.pipe()
    calls = [grpc_call([infer()], [answer(*values)]) for values in ([1], [1, 2], [1, 2, 3])]
    os.write(there, b"".join(piece for call in calls for piece in framed(call, 0.0)) + b"cut short")
    os.close(there)
    consumer = Choosy()
    with io.FileIO(source) as frames, io.FileIO(sink, "w") as lines:
        serve(frames, lines, [consumer], limit_bytes=1 << 20)
    with io.FileIO(back) as answers:
        given = [verdict.loss for line in answers for verdict in read_verdicts(line)]
    assert given == [None, SampleLoss.ANALYSIS_FAILED, None]
    assert consumer.seen == 3


def test_frames_come_whole_however_the_pipe_cuts_them() -> None:
    payloads = [b"", b"ab", bytes(300_000), b"c" * 70_000, bytes(range(256)) * 4_000]
    sent = b"".join(
        LENGTHS.pack(3, number % 2, len(payload) - number % 2, number + 0.5) + b"hea" + payload
        for number, payload in enumerate(payloads)
    )
    reading, writing = os.pipe()

    def write() -> None:
        with io.FileIO(writing, "w") as sink:
            for start in range(0, len(sent), 7_001):
                sink.write(sent[start : start + 7_001])

    writer = threading.Thread(target=write)
    writer.start()
    with io.FileIO(reading) as source:
        frames = FrameReader(source)
        found = []
        while not frames.ended and frames.wait(10):
            found += frames.here()
    writer.join()
    assert [frame.head + frame.request + frame.response for frame in found] == [
        b"hea" + payload for payload in payloads
    ]
    assert [(len(frame.request), frame.time_s) for frame in found] == [(0, 0.5), (1, 1.5), (0, 2.5), (1, 3.5), (0, 4.5)]


def test_heads_say_what_calls_have_in_common_and_nothing_else() -> None:
    one, other = grpc_call([infer()], [answer(1)]), grpc_call([infer("other")], [answer(1, 2)])
    assert framed(one, 1.0)[1] is framed(other, 2.0)[1]
    encoded = dataclasses.replace(other, response_head=HEAD._replace(grpc_encoding=b"gzip"))
    found = [over_the_pipe(call) for call in (one, encoded)]
    assert [call.response.grpc_encoding for call in found] == [None, "gzip"]
    assert [call.response.streaming for call in found] == [True, True]


class Steps:
    """Counts how often it is asked for what is due."""

    def __init__(self) -> None:
        self.count = 0

    def control(self, order, payload) -> None:
        raise AssertionError("no order was given")

    def step(self) -> bytes | None:
        self.count += 1
        return None


def test_calls_that_come_together_are_taken_together() -> None:
    source, there = os.pipe()
    back, sink = os.pipe()
    os.write(there, b"".join(piece for _ in range(20) for piece in framed(grpc_call([infer()], [answer(1)]), 0.0)))
    os.close(there)
    steps = Steps()
    with io.FileIO(source) as frames, io.FileIO(sink, "w") as lines:
        serve(frames, lines, [], limit_bytes=1 << 20, companion=steps)
    with io.FileIO(back) as answers:
        given = [read_verdicts(line) for line in answers]
    assert [len(verdicts) for verdicts in given if verdicts] == [20]
    assert steps.count <= 2
