"""The very bytes of one encode call in each protocol, and how to read the answer to them."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import tritonclient.http as triton_http
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

Tensors = Mapping[str, NDArray[np.float32]]

_GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
_GRPC_PREFIX = struct.Struct(">BI")  # compressed or not, length: gRPC over HTTP/2, Length-Prefixed-Message
GRPC_PREFIX_BYTES = _GRPC_PREFIX.size


class Protocol(StrEnum):
    """How a client speaks the Open Inference Protocol v2."""

    JSON = "HTTP JSON"
    BINARY = "HTTP binary"
    GRPC = "gRPC"


@dataclass(frozen=True, slots=True)
class Call:
    """One POST, and enough to judge its answer."""

    protocol: Protocol
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class CheckedCall(Call):
    """A call whose answer was right."""

    answer_bytes: int
    """Size of the answer's body, for gRPC with its 5-byte prefix."""


def encode_call(protocol: Protocol, model: str, inputs: Tensors) -> Call:
    """The call that sends ``inputs`` to ``model`` and asks for every output."""
    path = f"/v2/models/{model}/infer"
    match protocol:
        case Protocol.JSON:
            tensors = [
                {"name": name, "shape": array.shape, "datatype": "FP32", "data": array.ravel().tolist()}
                for name, array in inputs.items()
            ]
            body = json.dumps({"inputs": tensors}, separators=(",", ":")).encode()
            return Call(protocol, path, {"Content-Type": "application/json"}, body)
        case Protocol.BINARY:
            body, header_length = triton_http.InferenceServerClient.generate_request_body(_binary_inputs(inputs))
            headers = {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(header_length),
            }
            return Call(protocol, path, headers, body)
        case Protocol.GRPC:
            request = service_pb2.ModelInferRequest(model_name=model)
            for name, array in inputs.items():
                request.inputs.add(name=name, datatype="FP32", shape=array.shape)
                request.raw_input_contents.append(array.tobytes())
            message = request.SerializeToString()
            headers = {"content-type": "application/grpc", "te": "trailers"}
            return Call(protocol, _GRPC_PATH, headers, _GRPC_PREFIX.pack(0, len(message)) + message)


def _binary_inputs(inputs: Tensors) -> list[triton_http.InferInput]:
    result = []
    for name, array in inputs.items():
        tensor = triton_http.InferInput(name, array.shape, "FP32")
        tensor.set_data_from_numpy(array, binary_data=True)
        result.append(tensor)
    return result


def http_answer(body: bytes, headers: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
    """Output tensors of an HTTP answer, JSON or binary."""
    length = headers.get("inference-header-content-length")
    result = triton_http.InferResult.from_response_body(body, header_length=int(length) if length else None)
    return {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}


def grpc_answer(message: bytes) -> dict[str, NDArray[np.float32]]:
    """Output tensors of a ``ModelInferResponse``, raw or typed contents."""
    response = service_pb2.ModelInferResponse.FromString(message)
    result = {}
    for index, output in enumerate(response.outputs):
        values = (
            np.frombuffer(response.raw_output_contents[index], np.float32)
            if response.raw_output_contents
            else np.array(output.contents.fp32_contents, np.float32)
        )
        result[output.name] = values.reshape(output.shape)
    return result
