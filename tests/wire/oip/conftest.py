"""A real Triton with models that answer in every form, and clients that keep the bytes as they crossed the wire."""

import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from latentry_serving.contract.manifest import Datatype
from latentry_serving.contract.metrics import Protocol
from latentry_serving.contract.tap_config import Address
from latentry_serving.oip import CapturedPayload, Direction
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.process import Addresses
from latentry_serving.triton.supervisor import TritonServer

# The wheel's stub dies of BYTES inputs under numpy 2 (docs/decisions/0001); BYTES answers come from classification.
_KINDS = [kind for kind in Datatype if kind is not Datatype.BYTES]

# Inputs go out as they came in, tensor object for tensor object: numpy has no part in it.
_ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                output_tensors=[t for t in request.inputs() if t.name() in request.requested_output_names()]
            )
            for request in requests
        ]
"""

# The input goes out three times, then comes the empty final answer.
_REPEAT = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            array = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "FP32"))
            for _ in range(3):
                answer = pb_utils.Tensor.from_dlpack("FP32", array.copy())
                sender.send(pb_utils.InferenceResponse(output_tensors=[answer]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def _write_repository(root: Path) -> None:
    inputs = ", ".join(f'{{name: "{kind}" data_type: TYPE_{kind} dims: [-1] optional: true}}' for kind in _KINDS)
    outputs = inputs.replace(" optional: true", "")
    outputs = outputs.replace("TYPE_FP32 dims: [-1]", 'TYPE_FP32 dims: [-1] label_filename: "labels.txt"')
    models = {
        "echo": (_ECHO, f'backend: "python" max_batch_size: 8 input [{inputs}] output [{outputs}]'),
        "repeat": (
            _REPEAT,
            'backend: "python" max_batch_size: 8 model_transaction_policy {decoupled: true} '
            'input [{name: "FP32" data_type: TYPE_FP32 dims: [2]}] '
            'output [{name: "FP32" data_type: TYPE_FP32 dims: [2]}]',
        ),
    }
    for name, (source, config) in models.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / "model.py").write_text(source)
        (root / name / "config.pbtxt").write_text(f"{config} instance_group [{{kind: KIND_CPU}}]")
    (root / "echo" / "labels.txt").write_text("cat\ndog\nowl\n")


@pytest.fixture(scope="session")
def echoing(triton_install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """``echo``: any of the inputs named by datatype, [n, m], and the equal outputs.
    ``repeat``: FP32 [n, 2], answered three times with itself (decoupled)."""
    repository, work = tmp_path_factory.mktemp("oip-repository"), tmp_path_factory.mktemp("oip-triton")
    _write_repository(repository)
    server = TritonServer(triton_install, repository, work)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)  # it drains Triton's log all the while
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(timeout=120)
    yield server.addresses
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(timeout=120)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class WireClient:
    """Sends bytes and keeps what comes back, undecoded."""

    @staticmethod
    def http(address: Address, model: str, body: bytes, **headers: str) -> CapturedPayload:
        """The answer to one POST, as a tap would have captured it."""
        connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request("POST", f"/v2/models/{model}/infer", body, names)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return CapturedPayload(
            Protocol.HTTP,
            Direction.RESPONSE,
            [data],
            content_type=response.getheader("Content-Type"),
            content_encoding=response.getheader("Content-Encoding"),
            header_length=response.getheader("Inference-Header-Content-Length"),
        )

    @staticmethod
    def grpc(address: Address, method: str, data: bytes, encoding: str = "identity") -> CapturedPayload:
        """The DATA frames and headers that answer one call with these length-prefixed messages."""
        chunks: list[bytes] = []
        headers: dict[bytes, bytes] = {}
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        connection.initiate_connection()
        path = f"/inference.GRPCInferenceService/{method}"
        connection.send_headers(1, [
            (":method", "POST"), (":scheme", "http"), (":authority", str(address)), (":path", path),
            ("te", "trailers"), ("content-type", "application/grpc"), ("grpc-encoding", encoding),
            ("grpc-accept-encoding", "gzip, deflate, identity"),
        ])  # fmt: skip
        connection.send_data(1, data, end_stream=True)
        with socket.create_connection((address.host, address.port), timeout=60) as wire:
            wire.sendall(connection.data_to_send())
            ended = False
            while not ended and (received := wire.recv(65536)):
                for event in connection.receive_data(received):
                    if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                        headers |= dict(event.headers)
                    elif isinstance(event, h2.events.DataReceived):
                        chunks.append(event.data)
                        connection.acknowledge_received_data(event.flow_controlled_length, 1)
                    ended |= isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)
                wire.sendall(connection.data_to_send())
        assert headers[b"grpc-status"] == b"0", headers
        return CapturedPayload(
            Protocol.GRPC,
            Direction.RESPONSE,
            chunks,
            content_type=headers[b"content-type"].decode(),
            grpc_encoding=headers.get(b"grpc-encoding", b"").decode(),
            streaming=method == "ModelStreamInfer",
        )


@pytest.fixture(scope="session")
def client() -> WireClient:
    return WireClient()
