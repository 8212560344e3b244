"""gRPC messages: raw and typed contents, their mixing, compression, framing, streams; and our descriptor itself."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import service_pb2

from latentry_serving.contract.manifest import Datatype
from latentry_serving.oip import (
    DecodedMessage,
    DecodeFailure,
    Direction,
    FailureReason,
    RequestedOutput,
    decode,
    oip_pb2,
)

CONTENTS = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    "BOOL": "bool_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def tensor_of(kind="FP32", shape=(2,), parameters=None, **contents):
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype=kind, shape=shape)
    for key, value in (parameters or {}).items():
        tensor.parameters[key].string_param = value
    if contents:
        tensor.contents.CopyFrom(service_pb2.InferTensorContents(**contents))
    return tensor


def request_of(*tensors, raw=()):
    return service_pb2.ModelInferRequest(model_name="m", inputs=tensors, raw_input_contents=raw)


def response_of(*raw, kind="FP32", shape=(2,)):
    output = service_pb2.ModelInferResponse.InferOutputTensor(name="y", datatype=kind, shape=shape)
    return service_pb2.ModelInferResponse(
        model_name="m", model_version="4", id="r", outputs=[output] * len(raw), raw_output_contents=raw
    )


def assert_samples(oip, message, kinds):
    assert isinstance(message, DecodedMessage), message
    assert [tensor.datatype for tensor in message.tensors] == list(kinds)
    for tensor in message.tensors:
        expected = oip.expected(tensor.datatype)
        np.testing.assert_array_equal(tensor.array, expected)
        assert tensor.array.dtype == expected.dtype and not tensor.array.flags.writeable


def fields(descriptor: Descriptor) -> dict:
    """Everything the wire format depends on, message types followed."""
    return {
        field.number: (field.name, field.type, field.is_repeated, field.message_type and fields(field.message_type))
        for field in descriptor.fields
    }


@pytest.mark.parametrize("name", ["ModelInferRequest", "ModelInferResponse", "ModelStreamInferResponse"])
def test_our_messages_are_tritons(name):
    ours, theirs = oip_pb2.DESCRIPTOR.message_types_by_name, service_pb2.DESCRIPTOR.message_types_by_name
    assert fields(ours[name]) == fields(theirs[name])


def test_every_datatype_raw_by_tritonclient(oip):
    request = oip.raw_request(oip.samples)
    message = oip.one(oip.grpc(oip.frame(request.SerializeToString())))
    assert_samples(oip, message, oip.samples)
    assert (message.model_name, message.model_version, message.request_id) == ("m", "3", "r-1")


@pytest.mark.parametrize("kind", CONTENTS)
def test_every_datatype_typed(oip, kind):
    sample = oip.samples[Datatype(kind)]
    tensor = tensor_of(kind, sample.shape, **{CONTENTS[kind]: sample.reshape(-1).tolist()})
    message = oip.one(oip.grpc(oip.frame(request_of(tensor).SerializeToString())))
    assert_samples(oip, message, [Datatype(kind)])


def test_what_the_client_asked_for(oip):
    outputs = [triton_grpc.InferRequestedOutput("a"), triton_grpc.InferRequestedOutput("b", class_count=3)]
    outputs.append(triton_grpc.InferRequestedOutput("c"))
    outputs[2].set_shared_memory("region", 64)
    request = oip.raw_request(
        {Datatype.FP32: np.ones(2, np.float32)},
        outputs=outputs,
        sequence_id=9,
        sequence_start=True,
        priority=2,
        timeout=500,
        parameters={"mine": "kept out"},
    )
    message = oip.one(oip.grpc(oip.frame(request.SerializeToString())))
    assert message.requested_outputs == (
        RequestedOutput("a", binary=True),
        RequestedOutput("b", binary=True, classification=3),
        RequestedOutput("c", binary=True, shared_memory=True),
    )
    assert message.parameters == {
        "sequence_id": 9, "sequence_start": True, "sequence_end": False, "priority": 2, "timeout": 500,
    }  # fmt: skip


@pytest.mark.parametrize("kind", Datatype)
def test_empty_tensors(oip, kind):
    raw = oip.raw_request({kind: oip.samples[kind][:0]})
    for request in (raw, request_of(tensor_of(kind, (0, 3)))):
        (tensor,) = oip.one(oip.grpc(oip.frame(request.SerializeToString()))).tensors
        assert tensor.array.shape == (0, 3)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compression_is_per_message(oip, encoding):
    data = oip.raw_request(oip.samples).SerializeToString()
    frames = oip.frame(data, oip.compressors[encoding]) + oip.frame(data)
    results = decode(oip.grpc(frames, grpc_encoding=encoding), limit_bytes=oip.limit_bytes)
    assert len(results) == 2
    for message in results:
        assert_samples(oip, message, oip.samples)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bombs_share_one_limit(oip, encoding):
    half = oip.frame(response_of(bytes(400_000), shape=(100_000,)).SerializeToString(), oip.compressors[encoding])
    payload = oip.grpc(half * 3, Direction.RESPONSE, grpc_encoding=encoding)
    assert len(half) * 3 < oip.limit_bytes
    *good, last = decode(payload, limit_bytes=oip.limit_bytes)
    assert [message.tensors[0].shape for message in good] == [(100_000,)] * 2
    assert last.reason is FailureReason.TOO_LARGE


@pytest.mark.parametrize("places", [[], [1], [4, 5, 6], range(0, 400, 7)])
def test_a_stream_of_answers_cut_anywhere(oip, places):
    answers = [
        service_pb2.ModelStreamInferResponse(infer_response=response_of(np.float32([n, -n]).tobytes()))
        for n in range(3)
    ]
    answers.insert(1, service_pb2.ModelStreamInferResponse(error_message="no"))
    last = service_pb2.ModelInferResponse(model_name="m")
    last.parameters["triton_final_response"].bool_param = True
    answers.append(service_pb2.ModelStreamInferResponse(infer_response=last))
    data = b"".join(oip.frame(answer.SerializeToString()) for answer in answers)
    payload = dataclasses.replace(oip.grpc(b"", Direction.RESPONSE, streaming=True), chunks=oip.cut(data, places))
    first, error, second, third, final = decode(payload, limit_bytes=oip.limit_bytes)
    assert [answer.tensors[0].array.tolist() for answer in (first, second, third)] == [[0, 0], [1, -1], [2, -2]]
    assert (first.model_version, first.request_id) == ("4", "r")
    assert error.reason is FailureReason.ERROR_RESPONSE and error.detail == "no"
    assert final.tensors == () and final.parameters == {"triton_final_response": True}


def test_a_bad_message_leaves_its_neighbours_alone(oip):
    good, bad = response_of(bytes(8)).SerializeToString(), response_of(bytes(7)).SerializeToString()
    data = oip.frame(good) + oip.frame(bad) + oip.frame(good)
    results = decode(oip.grpc(data, Direction.RESPONSE), limit_bytes=oip.limit_bytes)
    assert [isinstance(result, DecodedMessage) for result in results] == [True, False, True]


FP32 = {"fp32_contents": [1, 2]}
REQUESTS = {
    "typed beside raw": (request_of(tensor_of(**FP32), raw=[bytes(8)]), FailureReason.MIXED_CONTENTS),
    "one raw for two": (request_of(tensor_of(), tensor_of(), raw=[bytes(8)]), FailureReason.MIXED_CONTENTS),
    "one typed, one raw": (request_of(tensor_of(**FP32), tensor_of(), raw=[bytes(8)]), FailureReason.MIXED_CONTENTS),
    "two typed forms": (request_of(tensor_of(**FP32, int_contents=[1])), FailureReason.MIXED_CONTENTS),
    "another's form": (request_of(tensor_of(fp64_contents=[1, 2])), FailureReason.MIXED_CONTENTS),
    "FP16 typed": (request_of(tensor_of("FP16", **FP32)), FailureReason.UNSUPPORTED_DATATYPE),
    "unknown datatype": (request_of(tensor_of("FP8"), raw=[b"12"]), FailureReason.UNSUPPORTED_DATATYPE),
    "no data": (request_of(tensor_of()), FailureReason.SHAPE_MISMATCH),
    "too few": (request_of(tensor_of(fp32_contents=[1])), FailureReason.SHAPE_MISMATCH),
    "raw too long": (request_of(tensor_of(), raw=[bytes(9)]), FailureReason.SHAPE_MISMATCH),
    "negative dimension": (request_of(tensor_of(shape=(-1, -2)), raw=[bytes(8)]), FailureReason.SHAPE_MISMATCH),
    "INT8 of 128": (request_of(tensor_of("INT8", int_contents=[1, 128])), FailureReason.BAD_VALUE),
    "UINT16 of 65536": (request_of(tensor_of("UINT16", uint_contents=[65536, 1])), FailureReason.BAD_VALUE),
    "shared memory": (
        request_of(tensor_of(), tensor_of(parameters={"shared_memory_region": "r"}), raw=[bytes(8)]),
        FailureReason.SHARED_MEMORY,
    ),
    "many inputs": (request_of(*[tensor_of()] * 1025), FailureReason.TOO_LARGE),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_refused_requests(oip, case):
    request, reason = REQUESTS[case]
    failure = oip.one(oip.grpc(oip.frame(request.SerializeToString())))
    assert failure.reason is reason, failure


def test_an_output_without_data_lies_in_shared_memory(oip):
    answer = response_of(b"").SerializeToString()
    assert oip.one(oip.grpc(oip.frame(answer), Direction.RESPONSE)).reason is FailureReason.SHARED_MEMORY


GOOD = response_of(bytes(8)).SerializeToString()
PACKED = zlib.compress(GOOD)
FRAMES = {
    "nothing": (b"", {}, FailureReason.EMPTY),
    "half a prefix": (b"\0\0\0", {}, FailureReason.TRUNCATED),
    "half a message": (b"\0\0\0\0\x63abc", {}, FailureReason.TRUNCATED),
    "4 GB announced": (b"\0\xff\xff\xff\xffabc", {}, FailureReason.TRUNCATED),
    "unknown flag": (
        struct.pack(">BI", 2, len(PACKED)) + PACKED,
        {"grpc_encoding": "deflate"},
        FailureReason.MALFORMED,
    ),
    "no protobuf": (b"\0\0\0\0\3\xff\xff\xff", {}, FailureReason.MALFORMED),
    "name no UTF-8": (b"\0\0\0\0\3\x0a\1\xff", {}, FailureReason.MALFORMED),
    "compressed, not said how": (b"\1\0\0\0\0", {}, FailureReason.MALFORMED),
    "compressed by nothing": (b"\1\0\0\0\0", {"grpc_encoding": "identity"}, FailureReason.MALFORMED),
    "snappy": (b"\1\0\0\0\0", {"grpc_encoding": "snappy"}, FailureReason.UNSUPPORTED_ENCODING),
    "grpc+json": (b"\0\0\0\0\0", {"content_type": "application/grpc+json"}, FailureReason.UNSUPPORTED_ENCODING),
}


@pytest.mark.parametrize("case", FRAMES)
def test_refused_frames(oip, case):
    data, headers, reason = FRAMES[case]
    failure = oip.one(oip.grpc(data, Direction.RESPONSE, **headers))
    assert failure.reason is reason, failure


@pytest.mark.parametrize(("count", "last"), [(4096, DecodedMessage), (4097, DecodeFailure), (90_000, DecodeFailure)])
def test_a_stream_of_many_empty_messages(oip, count, last):
    results = decode(oip.grpc(oip.frame(b"") * count), limit_bytes=oip.limit_bytes)
    assert len(results) == min(count, 4097) and isinstance(results[-1], last)


def test_over_the_limit_as_captured(oip):
    payload = oip.grpc(oip.frame(GOOD), Direction.RESPONSE)
    assert isinstance(oip.one(payload, len(GOOD) + 5), DecodedMessage)
    assert oip.one(payload, len(GOOD) + 4).reason is FailureReason.TOO_LARGE


def test_a_snappy_header_with_plain_messages_is_fine(oip):
    message = oip.one(oip.grpc(oip.frame(GOOD), Direction.RESPONSE, grpc_encoding="snappy"))
    assert isinstance(message, DecodedMessage)
