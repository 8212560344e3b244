"""Messages of a form seen before. Covered: they say what parsing says, whatever byte of them changes; every datatype;
several tensors; which messages are no example for others; how much is remembered."""

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from latentry_serving.contract.manifest import Datatype
from latentry_serving.oip import Alike, DecodedMessage, Direction, decode, oip_pb2


def response_of(*arrays: np.ndarray, **fields: object) -> service_pb2.ModelInferResponse:
    message = service_pb2.ModelInferResponse(model_name="m", model_version="4", **fields)
    for number, array in enumerate(arrays):
        message.outputs.add(name=f"y{number}", datatype="FP32", shape=array.shape)
        message.raw_output_contents.append(array.astype("<f4").tobytes())
    return message


def summary(results: tuple) -> list:
    return [said(result) if isinstance(result, DecodedMessage) else result for result in results]


def said(message: DecodedMessage) -> tuple:
    tensors = [(t.name, t.datatype, t.shape, t.array.dtype, repr(t.array.tolist())) for t in message.tensors]
    assert not any(tensor.array.flags.writeable for tensor in message.tensors)
    head = (message.model_name, message.model_version, message.request_id)
    return head, message.parameters, message.requested_outputs, tensors


@pytest.fixture
def read(oip):
    """Reads a serialised response, with or without a memory."""

    def run(message: bytes, alike: Alike | None = None, direction: Direction = Direction.RESPONSE) -> list:
        payload = oip.grpc(oip.frame(message), direction)
        return summary(decode(payload, limit_bytes=oip.limit_bytes, alike=alike))

    return run


def known(alike: Alike, message: bytes, direction: Direction = Direction.RESPONSE) -> bool:
    return alike.read(memoryview(message), direction) is not None


def test_other_data_of_a_known_form_is_not_parsed(read):
    alike = Alike()
    first, second = (response_of(np.float32([[n, 2]]), np.float32([[n] * 3])).SerializeToString() for n in (1, 7))
    assert not known(alike, second)
    assert read(first, alike) == read(first)
    assert known(alike, second)
    assert read(second, alike) == read(second) != read(first)


@pytest.mark.parametrize("outputs", [1, 2])
def test_whatever_byte_changes_it_says_what_parsing_says(read, outputs):
    message = response_of(*[np.float32([[1, 2, 3]])] * outputs).SerializeToString()
    for place in range(len(message)):
        for flip in (1, 2, 8, 0x80):
            alike = Alike()
            read(message, alike)
            changed = bytearray(message)
            changed[place] ^= flip
            assert read(bytes(changed), alike) == read(bytes(changed))


@pytest.mark.parametrize("kind", Datatype)
def test_every_datatype(oip, read, kind):
    sample = oip.samples[kind]
    asked = [service_pb2.ModelInferRequest.InferRequestedOutputTensor(name="y")]
    first, second = (
        oip.raw_request({kind: array}, request_id="") for array in (sample, sample[::-1].reshape(sample.shape))
    )
    alike = Alike()
    for request in (first, second):
        request.outputs.extend(asked)
        message = request.SerializeToString()
        assert read(message, alike, Direction.REQUEST) == read(message, None, Direction.REQUEST)
        assert known(alike, message, Direction.REQUEST)
        assert not known(alike, message, Direction.RESPONSE)


def test_messages_that_are_no_example_for_others(read):
    array = np.float32([[1, 2]])
    typed = service_pb2.ModelInferResponse(model_name="m")
    typed.outputs.add(name="y", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    marked = response_of(array)
    marked.parameters["sequence_id"].int64_param = 3
    long = response_of(array)
    long.outputs[0].name = "y" * 2_000
    whole = response_of(array)
    raw = service_pb2.ModelInferResponse(raw_output_contents=whole.raw_output_contents).SerializeToString()
    whole.ClearField("raw_output_contents")
    for message in (
        typed.SerializeToString(),
        marked.SerializeToString(),
        long.SerializeToString(),
        response_of(array, id="r-1").SerializeToString(),
        raw + whole.SerializeToString(),
    ):
        alike = Alike()
        assert read(message, alike) == read(message)
        assert isinstance(read(message)[0], tuple)
        assert not known(alike, message)


def test_answers_of_a_stream_are_wrapped_and_always_parsed(oip):
    answers = [
        oip_pb2.ModelStreamInferResponse.FromString(
            service_pb2.ModelStreamInferResponse(infer_response=response_of(np.float32([n]))).SerializeToString()
        )
        for n in (1, 2)
    ]
    frames = b"".join(oip.frame(answer.SerializeToString()) for answer in answers)
    payload = oip.grpc(frames, Direction.RESPONSE, streaming=True)
    found = decode(payload, limit_bytes=oip.limit_bytes, alike=Alike())
    assert [message.tensors[0].array.item() for message in found] == [1, 2]


def test_the_latest_forms_are_remembered(read):
    alike = Alike()
    messages = [response_of(np.zeros((1, n), np.float32)).SerializeToString() for n in range(1, 101)]
    for message in messages:
        read(message, alike)
    remembered = [known(alike, message) for message in messages]
    assert remembered == [False] * 68 + [True] * 32
