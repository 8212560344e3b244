"""Whatever bytes come, a result comes back: garbage, mutated good payloads, lying headers, amplification.

How a payload is cut never changes what it means.
"""

import dataclasses
import json
import tracemalloc
import warnings
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentry_serving.contract.manifest import Datatype
from latentry_serving.contract.metrics import Protocol
from latentry_serving.oip import CapturedPayload, DecodedMessage, DecodeFailure, Direction, FailureReason, decode

LIMIT = 100_000
HEADERS = (
    st.none() | st.sampled_from(["gzip", "deflate", "identity", "br", "", "application/grpc", "5", "300"]) | st.text()
)
PAYLOADS = st.builds(
    CapturedPayload,
    st.sampled_from(Protocol),
    st.sampled_from(Direction),
    st.lists(st.binary(max_size=300), max_size=4),
    content_type=HEADERS,
    content_encoding=HEADERS,
    grpc_encoding=HEADERS,
    header_length=HEADERS,
    streaming=st.booleans(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([2**63, 2**64, -(2**63)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SHAPES = st.lists(st.integers(0, 3) | st.integers() | JSON, max_size=4) | JSON
TENSORS = st.fixed_dictionaries(
    {"name": st.text() | JSON, "datatype": st.sampled_from([*Datatype]) | JSON, "shape": SHAPES},
    optional={
        "data": st.lists(st.integers(-300, 300) | st.floats() | st.booleans() | st.text(), max_size=9) | JSON,
        "parameters": JSON
        | st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40) | JSON, "classification": JSON}),
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(TENSORS, max_size=3) | JSON,
        "outputs": st.lists(TENSORS, max_size=3) | JSON,
        "parameters": JSON | st.fixed_dictionaries({"timeout": JSON, "binary_data_output": JSON}),
        "id": JSON,
        "model_name": JSON,
        "error": JSON,
    },
)


def assert_sound(results: Iterable[DecodedMessage | DecodeFailure]) -> None:
    assert results
    for result in results:
        if isinstance(result, DecodeFailure):
            assert result.reason in FailureReason and len(result.detail) <= 200
            continue
        for tensor in result.tensors:
            assert tensor.array.shape == tensor.shape and not tensor.array.flags.writeable
            assert (tensor.array.dtype == object) == (tensor.datatype is Datatype.BYTES)


def read(payload: CapturedPayload) -> tuple[DecodedMessage | DecodeFailure, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = decode(payload, limit_bytes=LIMIT)
    assert_sound(results)
    return results


@given(PAYLOADS)
def test_garbage(payload):
    read(payload)


@given(BODIES, st.binary(max_size=40), st.sampled_from(Direction), st.integers(-1, 1))
@example({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [10**400]}]}, b"", Direction.REQUEST, 0)
@example({"inputs": [{"name": "x", "datatype": [], "shape": [1], "data": [1]}]}, b"", Direction.REQUEST, 0)
def test_json_of_the_right_kind_with_wrong_members(body, binary, direction, off):
    text = json.dumps(body).encode()
    read(CapturedPayload(Protocol.HTTP, direction, [text], header_length=None))
    read(CapturedPayload(Protocol.HTTP, direction, [text + binary], header_length=str(len(text) + off)))


def good_payloads(oip) -> list[CapturedPayload]:
    """One of each form, small enough that a mutation hits something."""
    body, length = oip.http_request(oip.samples, lambda kind: kind in (Datatype.FP16, Datatype.BF16, Datatype.BYTES))
    raw = oip.raw_request(oip.samples).SerializeToString()
    typed = oip.raw_request({})
    typed.raw_input_contents.clear()
    for kind, field in ((Datatype.INT16, "int_contents"), (Datatype.BYTES, "bytes_contents")):
        tensor = typed.inputs.add(name="x", datatype=kind, shape=[2, 3])
        getattr(tensor.contents, field).extend(oip.samples[kind].reshape(-1).tolist())
    return [
        oip.http(body, header_length=length),
        oip.http(oip.compressors["gzip"](body), header_length=length, content_encoding="gzip"),
        oip.grpc(oip.frame(raw)),
        oip.grpc(oip.frame(raw, oip.compressors["deflate"]) * 2, grpc_encoding="deflate"),
        oip.grpc(oip.frame(typed.SerializeToString())),
        oip.grpc(oip.frame(b"\x12\x02\x0a\x00"), Direction.RESPONSE, streaming=True),
    ]


FORMS = range(6)


def summary(results) -> list:
    return [
        result
        if isinstance(result, DecodeFailure)
        else (result.model_name, result.request_id, [(t.name, t.array.tolist()) for t in result.tensors])
        for result in results
    ]


@pytest.mark.parametrize("form", FORMS)
def test_the_seeds_of_the_mutations_are_good(oip, form):
    assert all(isinstance(result, DecodedMessage) for result in read(good_payloads(oip)[form]))


@pytest.mark.parametrize("form", FORMS)
def test_cut_at_every_byte_means_the_same_and_shortened_fails_soundly(oip, form):
    payload = good_payloads(oip)[form]
    data = bytes(payload.chunks[0])
    whole = summary(read(payload))
    for place in range(len(data)):
        assert summary(read(dataclasses.replace(payload, chunks=oip.cut(data, [place])))) == whole
        # A stream cut between two messages is a shorter stream; everything else must show.
        shortened = read(dataclasses.replace(payload, chunks=[data[:place]]))
        assert isinstance(shortened[-1], DecodeFailure) or len(shortened) < len(whole)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutations(oip, form, data):
    payload = good_payloads(oip)[form]
    mutated = bytearray(payload.chunks[0])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        kind = data.draw(st.sampled_from(["flip", "set", "drop", "insert", "double"]))
        if kind == "flip":
            mutated[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set":
            mutated[place] = data.draw(st.sampled_from([0, 0x7F, 0x80, 0xFF, 0x30, 0x5B, 0x22]))
        elif kind == "drop" and len(mutated) > 1:
            del mutated[place]
        elif kind == "insert":
            mutated[place:place] = data.draw(st.binary(min_size=1, max_size=5))
        else:
            end = place + data.draw(st.integers(1, 40))
            mutated[place:place] = mutated[place:end]
    # Past the gRPC prefix the length is mended, so that mutations reach the protobuf inside.
    if payload.protocol is Protocol.GRPC and data.draw(st.booleans()):
        mutated[0:5] = bytes([mutated[0] & 1]) + (max(len(mutated), 5) - 5).to_bytes(4, "big")
    read(dataclasses.replace(payload, chunks=[bytes(mutated)]))


AMPLIFIERS = {
    "lists": lambda n: b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[' + b"[]," * (n // 3) + b"[]]}]}",
    "one long text": lambda n: (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":["'
        + b"x" * (n // 2)
        + b'"'
        + b',""' * (n // 6)
        + b"]}]}"
    ),
    "floats": lambda n: (
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":[' + b"1.5," * (n // 4) + b"1]}]}"
    ),
    "objects": lambda n: b'{"inputs":[' + b"{}," * (n // 3) + b"{}]}",
}


@pytest.mark.parametrize("case", AMPLIFIERS)
def test_hostile_json_costs_a_bounded_multiple(case):
    body = AMPLIFIERS[case](90_000)
    payload = CapturedPayload(Protocol.HTTP, Direction.REQUEST, [body])
    read(payload)
    tracemalloc.start()
    (failure,) = read(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(failure, DecodeFailure)
    assert peak < 30 * len(body)


def test_raw_data_costs_no_more_than_its_own_size():
    data = np.zeros(20_000, "<f4").tobytes()
    head = {"name": "y", "datatype": "FP32", "shape": [20_000], "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"outputs": [head]}).encode()
    payload = CapturedPayload(Protocol.HTTP, Direction.RESPONSE, [text + data], header_length=str(len(text)))
    read(payload)
    tracemalloc.start()
    read(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(data) / 2
