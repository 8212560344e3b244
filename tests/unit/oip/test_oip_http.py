"""HTTP bodies: JSON nested and flat, binary extension whole and in part, answers, compression, what is refused."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
import tritonclient.http as triton_http

from latentry_serving.contract.manifest import Datatype
from latentry_serving.oip import DecodedMessage, DecodeFailure, Direction, FailureReason, RequestedOutput

JSON_KINDS = [kind for kind in Datatype if kind not in (Datatype.FP16, Datatype.BF16)]


def request_of(**tensor) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]} | tensor]}).encode()


def response_of(**tensor) -> bytes:
    outputs = [{"name": "y", "datatype": "FP32", "shape": [2]} | tensor]
    return json.dumps({"model_name": "m", "model_version": "2", "id": "r", "outputs": outputs}).encode()


@pytest.mark.parametrize("binary", [lambda kind: True, lambda kind: kind not in JSON_KINDS or kind > "FP"])
def test_every_datatype_of_one_request_by_tritonclient(oip, binary):
    body, length = oip.http_request(oip.samples, binary)
    message = oip.one(oip.http(body, header_length=length, model_name="m", model_version="3"))
    assert isinstance(message, DecodedMessage), message
    assert (message.model_name, message.model_version) == ("m", "3")
    assert [tensor.datatype for tensor in message.tensors] == list(oip.samples)
    for tensor in message.tensors:
        assert tensor.name == f"{tensor.datatype}_in" and tensor.shape == (2, 3)
        expected = oip.expected(tensor.datatype)
        np.testing.assert_array_equal(tensor.array, expected)
        assert tensor.array.dtype == expected.dtype and not tensor.array.flags.writeable


@pytest.mark.parametrize("kind", JSON_KINDS)
def test_every_datatype_as_json(oip, kind):
    body, length = oip.http_request({kind: oip.samples[kind]}, lambda _: False)
    (tensor,) = oip.one(oip.http(body, header_length=length)).tensors
    np.testing.assert_array_equal(tensor.array, oip.samples[kind])
    assert tensor.array.dtype == oip.samples[kind].dtype


def test_binary_data_is_not_copied(oip):
    body, length = oip.http_request({Datatype.FP32: np.arange(6, dtype=np.float32)}, lambda _: True)
    (tensor,) = oip.one(oip.http(body, header_length=length)).tensors
    assert np.shares_memory(tensor.array, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]])
def test_data_may_be_nested_or_flat(oip, data):
    (tensor,) = oip.one(oip.http(request_of(shape=[2, 2], data=data))).tensors
    assert tensor.array.tolist() == [[1, 2], [3, 4]]


def test_what_the_client_asked_for(oip):
    asked = [
        triton_http.InferRequestedOutput("a", binary_data=True),
        triton_http.InferRequestedOutput("b", binary_data=False, class_count=3),
        triton_http.InferRequestedOutput("c"),
    ]
    asked[2].set_shared_memory("region", 64)
    body, length = oip.http_request(
        {Datatype.FP32: np.ones(2, np.float32)},
        lambda _: True,
        outputs=asked,
        request_id="r-7",
        sequence_id=9,
        sequence_start=True,
        parameters={"mine": "kept out"},
    )
    message = oip.one(oip.http(body, header_length=length))
    assert message.request_id == "r-7"
    assert message.parameters == {"sequence_id": 9, "sequence_start": True, "sequence_end": False}
    assert message.requested_outputs == (
        RequestedOutput("a", binary=True),
        RequestedOutput("b", classification=3),
        RequestedOutput("c", shared_memory=True),
    )


def test_binary_data_output_is_the_default_of_the_outputs(oip):
    body = json.loads(request_of()) | {"parameters": {"binary_data_output": True}}
    body["outputs"] = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    message = oip.one(oip.http(json.dumps(body).encode()))
    assert [output.binary for output in message.requested_outputs] == [True, False]


def test_partly_binary_response(oip):
    head = {"model_name": "m", "model_version": "2", "outputs": [
        {"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
        {"name": "b", "datatype": "INT64", "shape": [1, 2], "data": [5, -6]},
        {"name": "c", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}},
    ]}  # fmt: skip
    text = json.dumps(head).encode()
    body = text + np.array([1.5, np.nan], "<f4").tobytes() + b"\3\0\0\0abc"
    message = oip.one(oip.http(body, Direction.RESPONSE, header_length=str(len(text))))
    assert message.model_version == "2"
    assert [tensor.array.tolist() for tensor in message.tensors[1:]] == [[[5, -6]], [b"abc"]]
    np.testing.assert_array_equal(message.tensors[0].array, np.float32([1.5, np.nan]))


def test_non_finite_json_as_triton_writes_it(oip):
    body = response_of(data=[]).replace(b"[2]", b"[3]").replace(b"[]", b"[NaN, Infinity, -Infinity]")
    (tensor,) = oip.one(oip.http(body, Direction.RESPONSE)).tensors
    np.testing.assert_array_equal(tensor.array, np.float32([np.nan, np.inf, -np.inf]))


def test_classes_are_texts_whatever_the_model_gives(oip):
    body = response_of(datatype="BYTES", shape=[1, 2], data=["0.9:3:cat", "0.1:1:dog"])
    (tensor,) = oip.one(oip.http(body, Direction.RESPONSE)).tensors
    assert tensor.array.tolist() == [[b"0.9:3:cat", b"0.1:1:dog"]]


@pytest.mark.parametrize(
    ("kind", "binary"), [*((kind, True) for kind in Datatype), *((kind, False) for kind in JSON_KINDS)]
)
def test_empty_tensors(oip, kind, binary):
    body, length = oip.http_request({kind: oip.samples[kind][:0]}, lambda _: binary)
    (tensor,) = oip.one(oip.http(body, header_length=length)).tensors
    assert tensor.array.shape == (0, 3)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP"])
@pytest.mark.parametrize("pieces", [[], [1], [0, 5, 40, 41]])
def test_compressed_bodies(oip, encoding, pieces):
    body, length = oip.http_request(oip.samples, lambda _: True)
    compressed = oip.compressors[encoding.lower()](body)
    payload = oip.http(compressed, content_encoding=encoding, header_length=length)
    message = oip.one(dataclasses.replace(payload, chunks=oip.cut(compressed, pieces)))
    for tensor in message.tensors:
        np.testing.assert_array_equal(tensor.array, oip.expected(tensor.datatype))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_stops_at_the_limit(oip, encoding):
    bomb = oip.compressors[encoding](bytes(50_000_000))
    assert len(bomb) < oip.limit_bytes
    tracemalloc.start()
    failure = oip.one(oip.http(bomb, content_encoding=encoding))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert failure.reason is FailureReason.TOO_LARGE and peak < 4 * oip.limit_bytes


def test_the_limit_is_exact(oip):
    body = request_of()
    packed = oip.compressors["gzip"](body)
    for payload in (oip.http(body), oip.http(packed, content_encoding="gzip")):
        limit = max(len(body), len(packed))
        assert isinstance(oip.one(payload, limit), DecodedMessage)
        assert oip.one(payload, min(len(body), len(packed)) - 1).reason is FailureReason.TOO_LARGE


NUMBERS_OUT_OF_RANGE = [
    ("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT16", -32769), ("UINT32", 2**32), ("INT64", 2**63),
    ("UINT64", -1), ("UINT64", 2**64), ("FP32", 10**400),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "number"), NUMBERS_OUT_OF_RANGE)
def test_numbers_out_of_range(oip, kind, number):
    assert oip.one(oip.http(request_of(datatype=kind, data=[0, number]))).reason is FailureReason.BAD_VALUE


@pytest.mark.filterwarnings("error")
def test_too_large_for_fp32_is_infinite_as_in_triton(oip):
    (tensor,) = oip.one(oip.http(request_of(data=[1e39, -1e39]))).tensors
    assert tensor.array.tolist() == [np.inf, -np.inf]


REFUSED = {
    "no json": (b"\x80abc", {}, FailureReason.MALFORMED),
    "no object": (b"[1]", {}, FailureReason.MALFORMED),
    "no body": (b"", {}, FailureReason.EMPTY),
    "cut json": (request_of()[:-3], {}, FailureReason.MALFORMED),
    "no inputs": (b"{}", {}, FailureReason.MALFORMED),
    "inputs of texts": (b'{"inputs":["x"]}', {}, FailureReason.MALFORMED),
    "many inputs": (json.dumps({"inputs": [{}] * 1025}).encode(), {}, FailureReason.TOO_LARGE),
    "no name": (request_of(name=None), {}, FailureReason.MALFORMED),
    "deep": (request_of().replace(b"[1, 2]", b"[" * 5000 + b"]" * 5000), {}, FailureReason.MALFORMED),
    "unknown datatype": (request_of(datatype="FP8"), {}, FailureReason.UNSUPPORTED_DATATYPE),
    "datatype a list": (request_of(datatype=[]), {}, FailureReason.UNSUPPORTED_DATATYPE),
    "FP16 as JSON": (request_of(datatype="FP16"), {}, FailureReason.UNSUPPORTED_DATATYPE),
    "BF16 as JSON": (request_of(datatype="BF16"), {}, FailureReason.UNSUPPORTED_DATATYPE),
    "too few": (request_of(data=[1]), {}, FailureReason.SHAPE_MISMATCH),
    "too many": (request_of(data=[1, 2, 3]), {}, FailureReason.SHAPE_MISMATCH),
    "ragged depth": (request_of(data=[1, [2]]), {}, FailureReason.SHAPE_MISMATCH),
    "negative dimension": (request_of(shape=[-1]), {}, FailureReason.SHAPE_MISMATCH),
    "fractional dimension": (request_of(shape=[2.0]), {}, FailureReason.SHAPE_MISMATCH),
    "true as dimension": (request_of(shape=[True, 2]), {}, FailureReason.SHAPE_MISMATCH),
    "endless shape": (request_of(shape=[1] * 33), {}, FailureReason.SHAPE_MISMATCH),
    "giant shape": (request_of(shape=[2**62, 2**62]), {}, FailureReason.SHAPE_MISMATCH),
    "giant empty shape": (request_of(shape=[0, 2**62, 2**62], data=[]), {}, FailureReason.SHAPE_MISMATCH),
    "shape a number": (request_of(shape=2), {}, FailureReason.MALFORMED),
    "null": (request_of(data=[1, None]), {}, FailureReason.BAD_VALUE),
    "a text": (request_of(data=[1, "2.5"]), {}, FailureReason.BAD_VALUE),
    "true as number": (request_of(data=[1, True]), {}, FailureReason.BAD_VALUE),
    "fraction as int": (request_of(datatype="INT32", data=[1, 2.5]), {}, FailureReason.BAD_VALUE),
    "number as BOOL": (request_of(datatype="BOOL", data=[1, 0]), {}, FailureReason.BAD_VALUE),
    "number as BYTES": (request_of(datatype="BYTES", data=["a", 0]), {}, FailureReason.BAD_VALUE),
    "no data": (request_of().replace(b"data\"", b"date\""), {}, FailureReason.MALFORMED),
    "shared memory": (request_of(parameters={"shared_memory_region": "r"}), {}, FailureReason.SHARED_MEMORY),
    "both forms": (request_of(parameters={"binary_data_size": 8}), {}, FailureReason.MIXED_CONTENTS),
    "header too long": (request_of(), {"header_length": "999"}, FailureReason.TRUNCATED),
    "header of words": (request_of(), {"header_length": "-1"}, FailureReason.MALFORMED),
    "header of foreign digits": (request_of(), {"header_length": "\u0661"}, FailureReason.MALFORMED),
    "raw binary": (b"\0\0\0\0", {"header_length": "0"}, FailureReason.RAW_BINARY),
    "unclaimed": (request_of() + b"12", {"header_length": str(len(request_of()))}, FailureReason.SHAPE_MISMATCH),
    "brotli": (request_of(), {"content_encoding": "br"}, FailureReason.UNSUPPORTED_ENCODING),
    "two codings": (request_of(), {"content_encoding": "gzip, gzip"}, FailureReason.UNSUPPORTED_ENCODING),
    "not gzip": (request_of(), {"content_encoding": "gzip"}, FailureReason.MALFORMED),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_requests(oip, case):
    body, headers, reason = REFUSED[case]
    failure = oip.one(oip.http(body, **headers))
    assert isinstance(failure, DecodeFailure) and failure.reason is reason
    assert 0 < len(failure.detail) <= 200


@pytest.mark.parametrize(
    ("size", "data", "reason"),
    [
        (12, b"12345678", FailureReason.TRUNCATED),
        (4, b"1234", FailureReason.SHAPE_MISMATCH),
        (-8, b"12345678", FailureReason.MALFORMED),
        ("8", b"12345678", FailureReason.MALFORMED),
    ],
)
def test_binary_sizes_that_lie(oip, size, data, reason):
    text = response_of(parameters={"binary_data_size": size})
    payload = oip.http(text + data, Direction.RESPONSE, header_length=str(len(text)))
    assert oip.one(payload).reason is reason


LYING_ELEMENTS = [
    b"\3\0\0\0ab", b"\0\0\0\0\3\0\0\0ab", b"\1\0\0\0a\0\0", b"\0\0\0\0\0\0\0\0\0", b"\xff\xff\xff\xffabcd",
    b"\0\0\0\0" * 3, b"", b"\0" * 4,
]  # fmt: skip


@pytest.mark.parametrize("data", LYING_ELEMENTS)
def test_bytes_elements_that_lie(oip, data):
    text = response_of(datatype="BYTES", parameters={"binary_data_size": len(data)})
    payload = oip.http(text + data, Direction.RESPONSE, header_length=str(len(text)))
    assert oip.one(payload).reason is FailureReason.SHAPE_MISMATCH


def test_any_byte_but_zero_is_true(oip):
    text = response_of(datatype="BOOL", parameters={"binary_data_size": 2})
    payload = oip.http(text + b"\0\x07", Direction.RESPONSE, header_length=str(len(text)))
    assert oip.one(payload).tensors[0].array.view(np.uint8).tolist() == [0, 1]


def test_compressed_data_cut_short_or_followed_by_more(oip):
    packed = oip.compressors["gzip"](request_of())
    for body, reason in ((packed[:-4], FailureReason.TRUNCATED), (packed + b"x", FailureReason.MALFORMED)):
        assert oip.one(oip.http(body, content_encoding="gzip")).reason is reason
        split = dataclasses.replace(oip.http(body, content_encoding="gzip"), chunks=oip.cut(body, [len(packed) - 4]))
        assert oip.one(split).reason is reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error":"unexpected shape for input"}', FailureReason.ERROR_RESPONSE),
        (response_of(), FailureReason.SHARED_MEMORY),
        (response_of(parameters={"shared_memory_region": "r"}), FailureReason.SHARED_MEMORY),
    ],
)
def test_responses_without_data(oip, body, reason):
    assert oip.one(oip.http(body, Direction.RESPONSE)).reason is reason
