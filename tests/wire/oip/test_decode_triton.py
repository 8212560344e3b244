"""What a real Triton answers, in every form it knows, read back; and that it reads requests as we do.

The model echoes its inputs, so that the decoded request and the decoded response must hold the same tensors. BYTES come
back as classes only: see the decision 0001 on the wheel.
"""

import contextlib
import gzip
import json
import struct
import time
import uuid
import zlib

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import tritonclient.utils.shared_memory as shared_memory
from tritonclient.grpc import service_pb2
from tritonclient.grpc._utils import _get_inference_request  # the encoder behind infer()
from tritonclient.utils import InferenceServerException

from latentry_serving.contract.manifest import Datatype
from latentry_serving.contract.metrics import Protocol
from latentry_serving.oip import CapturedPayload, DecodedMessage, DecodeFailure, Direction, FailureReason, decode

LIMIT = 10_000_000
pytestmark = pytest.mark.triton
ARRAYS = {
    **{
        str(kind): np.array([[np.iinfo(kind.lower()).min, 1, 0], [3, 5, np.iinfo(kind.lower()).max]], kind.lower())
        for kind in Datatype
        if "INT" in kind
    },
    "BOOL": np.array([[True, False, True], [False, False, True]]),
    "FP16": np.array([[0.5, -2.25, np.inf], [np.nan, 0, -1]], np.float16),
    "BF16": np.array([[0.5, -2.25, 3e38], [np.inf, 0, -1]], ml_dtypes.bfloat16),
    "FP32": np.array([[0.1, -np.inf, np.inf], [np.nan, 0, -1e-40]], np.float32),
    "FP64": np.array([[0.1, -np.inf, np.inf], [np.nan, 0, -1e-310]]),
}
JSON_ARRAYS = {kind: array for kind, array in ARRAYS.items() if kind not in ("FP16", "BF16")}


def one(payload: CapturedPayload) -> DecodedMessage | DecodeFailure:
    (result,) = decode(payload, limit_bytes=LIMIT)
    return result


def assert_holds(message: DecodedMessage | DecodeFailure, arrays: dict[str, np.ndarray]) -> None:
    assert isinstance(message, DecodedMessage), message
    assert {tensor.name: str(tensor.datatype) for tensor in message.tensors} == {kind: kind for kind in arrays}
    for tensor in message.tensors:
        expected = arrays[tensor.name]
        expected = expected.astype(np.float32) if tensor.datatype is Datatype.BF16 else expected
        np.testing.assert_array_equal(tensor.array, expected, strict=True)


def http_request(arrays, *, binary=True, outputs=None, **options) -> tuple[bytes, dict[str, str]]:
    inputs = []
    for kind, array in arrays.items():
        inputs.append(triton_http.InferInput(kind, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    body, length = triton_http.InferenceServerClient.generate_request_body(inputs, outputs=outputs, **options)
    return bytes(body), {"Inference_Header_Content_Length": str(length)} if length is not None else {}


def captured_http_request(body: bytes, headers: dict[str, str]) -> CapturedPayload:
    length = headers.get("Inference_Header_Content_Length")
    return CapturedPayload(Protocol.HTTP, Direction.REQUEST, [body], header_length=length, model_name="echo")


def grpc_request(arrays, model="echo", outputs=None) -> service_pb2.ModelInferRequest:
    inputs = []
    for kind, array in arrays.items():
        inputs.append(triton_grpc.InferInput(kind, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array)
    return _get_inference_request(
        model_name=model, model_version="", inputs=inputs, request_id="r-1", outputs=outputs, sequence_id=0,
        sequence_start=False, sequence_end=False, priority=0, timeout=None, parameters=None,
    )  # fmt: skip


def frame(message: bytes, compress=None) -> bytes:
    data = compress(message) if compress else message
    return struct.pack(">BI", compress is not None, len(data)) + data


def asked(arrays, binary) -> list[triton_http.InferRequestedOutput]:
    return [triton_http.InferRequestedOutput(kind, binary_data=binary(kind)) for kind in arrays]


def test_http_binary_both_ways(echoing, client):
    body, headers = http_request(ARRAYS, outputs=asked(ARRAYS, lambda _: True), request_id="r-1")
    answer = one(client.http(echoing.http, "echo", body, **headers))
    assert_holds(answer, ARRAYS)
    assert (answer.model_name, answer.model_version, answer.request_id) == ("echo", "1", "r-1")
    assert_holds(one(captured_http_request(body, headers)), ARRAYS)


@pytest.mark.parametrize("kind", JSON_ARRAYS)
def test_http_json_answers(echoing, client, kind):
    arrays = {kind: JSON_ARRAYS[kind]}
    body, headers = http_request(arrays, outputs=asked(arrays, lambda _: False))
    payload = client.http(echoing.http, "echo", body, **headers)
    assert payload.header_length is None
    assert_holds(one(payload), arrays)


def test_http_json_requests_nested_and_flat(echoing, client):
    for data in ([[1, 2], [3, 4]], [1, 2, 3, 4]):
        head = {"name": "FP32", "datatype": "FP32", "shape": [2, 2], "data": data}
        body = json.dumps({"inputs": [head], "outputs": [{"name": "FP32"}]}).encode()
        expected = {"FP32": np.array([[1, 2], [3, 4]], np.float32)}
        assert_holds(one(captured_http_request(body, {})), expected)
        assert_holds(one(client.http(echoing.http, "echo", body)), expected)


def test_http_answers_partly_binary(echoing, client):
    body, headers = http_request(JSON_ARRAYS, outputs=asked(JSON_ARRAYS, lambda kind: kind in ("INT8", "FP32")))
    payload = client.http(echoing.http, "echo", body, **headers)
    assert payload.header_length is not None and b'"data":[' in payload.chunks[0]
    assert_holds(one(payload), JSON_ARRAYS)


def test_http_binary_data_output_for_all(echoing, client):
    head = {"name": "INT32", "datatype": "INT32", "shape": [1, 2], "data": [7, -7]}
    parameters = {"binary_data_output": True}
    body = json.dumps({"inputs": [head], "parameters": parameters, "outputs": [{"name": "INT32"}]}).encode()
    by_default = one(client.http(echoing.http, "echo", body))
    assert_holds(by_default, {"INT32": np.array([[7, -7]], np.int32)})
    request = one(captured_http_request(body, {}))
    assert request.parameters == parameters and request.requested_outputs[0].binary


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_http_compressed_both_ways(echoing, client, encoding, compress):
    arrays = {"FP32": np.tile(ARRAYS["FP32"], (2, 400))}
    body, headers = http_request(arrays, outputs=asked(arrays, lambda _: True))
    headers |= {"Content_Encoding": encoding, "Accept_Encoding": encoding}
    payload = client.http(echoing.http, "echo", compress(body), **headers)
    assert payload.content_encoding == encoding and len(payload.chunks[0]) < arrays["FP32"].nbytes / 4
    assert_holds(one(payload), arrays)


@pytest.mark.parametrize("binary", [True, False])
def test_http_classes(echoing, client, binary):
    arrays = {"FP32": np.array([[0.1, 0.7, 0.2]], np.float32)}
    outputs = [triton_http.InferRequestedOutput("FP32", binary_data=binary, class_count=2)]
    body, headers = http_request(arrays, outputs=outputs)
    (tensor,) = one(client.http(echoing.http, "echo", body, **headers)).tensors
    assert tensor.datatype is Datatype.BYTES
    assert tensor.array.tolist() == [[b"0.700000:1:dog", b"0.200000:2:owl"]]
    assert one(captured_http_request(body, headers)).requested_outputs[0].classification == 2


def test_http_errors(echoing, client):
    failure = one(client.http(echoing.http, "echo", b"{}"))
    assert failure.reason is FailureReason.ERROR_RESPONSE


def unregister(connection, name):
    """Triton lets go of a region a moment after it has answered."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return connection.unregister_system_shared_memory(name)
        except InferenceServerException as error:
            if "currently in use" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


@contextlib.contextmanager
def shared_region(connection, bytes_count):
    name = f"latentry-{uuid.uuid4().hex[:8]}"
    handle = shared_memory.create_shared_memory_region(name, f"/{name}", bytes_count)
    try:
        connection.register_system_shared_memory(name, f"/{name}", bytes_count)
        yield name
        unregister(connection, name)
    finally:
        shared_memory.destroy_shared_memory_region(handle)


def test_shared_memory_over_http_and_grpc(echoing, client):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    with (
        triton_http.InferenceServerClient(str(echoing.http)) as connection,
        shared_region(connection, array.nbytes) as region,
    ):
        output = triton_http.InferRequestedOutput("FP32", binary_data=False)
        output.set_shared_memory(region, array.nbytes)
        body, headers = http_request({"FP32": array}, outputs=[output])
        assert one(client.http(echoing.http, "echo", body, **headers)).reason is FailureReason.SHARED_MEMORY
        assert one(captured_http_request(body, headers)).requested_outputs[0].shared_memory

        grpc_output = triton_grpc.InferRequestedOutput("FP32")
        grpc_output.set_shared_memory(region, array.nbytes)
        data = frame(grpc_request({"FP32": array}, outputs=[grpc_output]).SerializeToString())
        assert one(client.grpc(echoing.grpc, "ModelInfer", data)).reason is FailureReason.SHARED_MEMORY

        shared = triton_grpc.InferInput("FP32", [2, 3], "FP32")
        shared.set_shared_memory(region, array.nbytes)
        request = grpc_request({})
        request.inputs.append(shared._get_tensor())
        request.outputs.add(name="FP32")
        data = frame(request.SerializeToString())
        assert_holds(one(client.grpc(echoing.grpc, "ModelInfer", data)), {"FP32": array})
        captured = CapturedPayload(Protocol.GRPC, Direction.REQUEST, [data])
        assert one(captured).reason is FailureReason.SHARED_MEMORY


@pytest.mark.parametrize(
    ("encoding", "compress"), [("identity", None), ("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_grpc_raw_both_ways(echoing, client, encoding, compress):
    data = frame(
        grpc_request(ARRAYS, outputs=[triton_grpc.InferRequestedOutput(k) for k in ARRAYS]).SerializeToString(),
        compress,
    )
    answer = one(client.grpc(echoing.grpc, "ModelInfer", data, encoding))
    assert_holds(answer, ARRAYS)
    assert (answer.model_name, answer.model_version, answer.request_id) == ("echo", "1", "r-1")
    assert_holds(one(CapturedPayload(Protocol.GRPC, Direction.REQUEST, [data], grpc_encoding=encoding)), ARRAYS)


CONTENTS = {
    "BOOL": "bool", "INT8": "int", "INT16": "int", "INT32": "int", "INT64": "int64", "UINT8": "uint", "UINT16": "uint",
    "UINT32": "uint", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64",
}  # fmt: skip


def test_grpc_typed_contents(echoing, client):
    arrays = {kind: ARRAYS[kind] for kind in CONTENTS}
    request = service_pb2.ModelInferRequest(model_name="echo")
    for kind, array in arrays.items():
        tensor = request.inputs.add(name=kind, datatype=kind, shape=array.shape)
        getattr(tensor.contents, f"{CONTENTS[kind]}_contents").extend(array.reshape(-1).tolist())
        request.outputs.add(name=kind)
    data = frame(request.SerializeToString())
    assert_holds(one(CapturedPayload(Protocol.GRPC, Direction.REQUEST, [data])), arrays)
    assert_holds(one(client.grpc(echoing.grpc, "ModelInfer", data)), arrays)


def test_grpc_classes(echoing, client):
    outputs = [triton_grpc.InferRequestedOutput("FP32", class_count=1)]
    request = grpc_request({"FP32": np.array([[0.1, 0.7, 0.2]], np.float32)}, outputs=outputs)
    (tensor,) = one(client.grpc(echoing.grpc, "ModelInfer", frame(request.SerializeToString()))).tensors
    assert tensor.array.tolist() == [[b"0.700000:1:dog"]]


def test_grpc_streams(echoing, client):
    # One request per stream: Triton 2.51 now and then aborts (proto_buffer_writer.h:65, "!byte_buffer->Valid()") when
    # the answers to several requests meet in one stream.
    request = grpc_request({"FP32": np.array([[1, -1]], np.float32)}, "repeat")
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    data = frame(request.SerializeToString())
    *answers, final = decode(client.grpc(echoing.grpc, "ModelStreamInfer", data), limit_bytes=LIMIT)
    assert [answer.tensors[0].array.tolist() for answer in answers] == [[[1, -1]]] * 3
    assert final.tensors == () and final.parameters == {"triton_final_response": True}
    read = one(CapturedPayload(Protocol.GRPC, Direction.REQUEST, [data], streaming=True))
    assert_holds(read, {"FP32": np.array([[1, -1]], np.float32)})


def test_grpc_stream_errors(echoing, client):
    data = frame(grpc_request({"FP32": ARRAYS["FP32"]}, "nobody").SerializeToString())
    failure = one(client.grpc(echoing.grpc, "ModelStreamInfer", data))
    assert failure.reason is FailureReason.ERROR_RESPONSE and "nobody" in failure.detail


@pytest.mark.parametrize("binary", [True, False])
def test_empty_batches(echoing, client, binary):
    arrays = {"FP32": np.empty((2, 0), np.float32)}
    body, headers = http_request(arrays, binary=binary, outputs=asked(arrays, lambda _: binary))
    assert_holds(one(captured_http_request(body, headers)), arrays)
    assert_holds(one(client.http(echoing.http, "echo", body, **headers)), arrays)
    data = frame(grpc_request(arrays, outputs=[triton_grpc.InferRequestedOutput("FP32")]).SerializeToString())
    assert_holds(one(client.grpc(echoing.grpc, "ModelInfer", data)), arrays)
