"""The tap as a process, between sockets the test holds on both ends or in front of a real Triton."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import tritonclient.http as http_client
from onnx import TensorProto, helper

from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.slis import OperationSlis, Slis

WAIT_S = 90.0
"""For what comes in the end: the analysis gets only the cores that nobody else wants."""
STOP_S = 20.0
MAX_BATCH_SIZE = 64
BATCHING = {
    Operation.ENCODE: "",
    Operation.DECODE: f"preferred_batch_size: [{MAX_BATCH_SIZE}] max_queue_delay_microseconds: 120000000",
}
MODELS = {Operation.ENCODE: "wide_encode", Operation.DECODE: "slow_decode"}
TRITON_CONFIG = """name: "{name}"
backend: "onnxruntime"
max_batch_size: {most}
input [{{ name: "x" data_type: TYPE_FP32 dims: [-1] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [-1] }}]
dynamic_batching {{ {batching} }}
"""


def eventually(check: Callable[[], object]) -> None:
    """Waits until a check holds: what the tap counts is known a moment after the bytes have passed."""
    deadline = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


class TapProcess:
    """A running ``latentry tap``."""

    def __init__(self, pass_fds: tuple[int, ...] = (), **settings: object) -> None:
        given = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "admin": "127.0.0.1:0"} | settings
        environment = {f"LATENTRY_TAP_{key.upper()}": str(value) for key, value in given.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "latentry_serving", "tap"],
            env=os.environ
            | {f"LATENTRY_TAP_{name}": "127.0.0.1:0" for name in ("HTTP", "GRPC", "ADMIN")}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            pass_fds=pass_fds,
        )
        line = self.process.stdout.readline()
        assert line, "the tap did not start"
        self.ports = json.loads(line)
        assert self.ports.pop("event") == "listening"

    def get(self, path: str) -> tuple[int, bytes]:
        """An admin answer: status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}{path}", timeout=WAIT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def slis(self) -> Slis:
        return Slis.model_validate_json(self.get("/slis")[1])

    def operation(self, operation: str, protocol: str, kind: str = "unary") -> OperationSlis | None:
        for row in self.slis().operations:
            if (row.operation, row.protocol, row.kind) == (operation, protocol, kind):
                return row
        return None

    def outcomes(self, operation: str, protocol: str, kind: str = "unary") -> dict[str, int]:
        """Outcomes that happened, since the start."""
        row = self.operation(operation, protocol, kind)
        return {str(name): count for name, count in row.total.outcomes.items() if count} if row else {}

    def connect(self, name: str = "http") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[name]), timeout=WAIT_S)

    def passed_an_end_on(self, port: int) -> bool:
        """Whether it told a server that a client sends no more. That the client does not read either is known once
        there is something to write."""
        found = psutil.Process(self.process.pid).connections("tcp")
        return any(one.raddr and one.raddr.port == port and one.status.startswith("FIN_WAIT") for one in found)

    def memory_bytes(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Upstream:
    """A server the test plays itself."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT_S)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> socket.socket:
        sock = self.listener.accept()[0]
        sock.settimeout(WAIT_S)
        return sock


class Relay:
    """A tap with a scripted server behind it."""

    def __init__(self, tap: TapProcess, upstream: Upstream) -> None:
        self.tap = tap
        self.upstream = upstream

    @contextlib.contextmanager
    def pair(self, name: str = "http") -> Iterator[tuple[socket.socket, socket.socket]]:
        """Both ends of one forwarded connection: client, server."""
        with self.tap.connect(name) as client, self.upstream.accept() as server:
            yield client, server


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """``size`` bytes, or fewer where the sender ends."""
    parts, left = [], size
    while left and (part := sock.recv(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def break_off(sock: socket.socket) -> None:
    """Closes with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.fixture(scope="session")
def wire():
    """The helpers above, for tests."""

    class Wire:
        exactly = staticmethod(read_exactly)
        break_off = staticmethod(break_off)
        eventually = staticmethod(eventually)

    return Wire


@pytest.fixture
def start_tap() -> Iterator[Callable[..., TapProcess]]:
    """``start_tap(**settings)``: a tap in front of whatever the settings say."""
    with contextlib.ExitStack() as stack:

        def start(**settings: object) -> TapProcess:
            tap = TapProcess(**settings)
            stack.callback(tap.kill)
            return tap

        yield start


@pytest.fixture
def start_relay(start_tap) -> Iterator[Callable[..., Relay]]:
    """``start_relay(**settings)``: a tap with a scripted server behind both of its ports."""
    with contextlib.ExitStack() as stack:

        def start(**settings: object) -> Relay:
            upstream = Upstream()
            stack.callback(upstream.listener.close)
            tap = start_tap(
                upstream_http=upstream.address,
                upstream_grpc=upstream.address,
                operations="{wide_encode: encode}",
                **settings,
            )
            return Relay(tap, upstream)

        yield start


@pytest.fixture(scope="session")
def shared_relay() -> Iterator[Relay]:
    """One relay for tests that leave no trace but counts."""
    upstream = Upstream()
    tap = TapProcess(upstream_http=upstream.address, upstream_grpc=upstream.address)
    yield Relay(tap, upstream)
    tap.kill()
    upstream.listener.close()


@pytest.fixture(scope="session")
def wide_triton(running_triton, tmp_path_factory):
    """A real Triton with ``wide_encode``: x [n, any] -> the same y, n up to 64; and ``slow_decode``: the same, but
    fewer than 64 samples wait until they are let go, or for two minutes."""
    root: Path = tmp_path_factory.mktemp("wide")
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "width"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "wide", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for operation, name in MODELS.items():
        folder = root / "repository" / name
        (folder / "1").mkdir(parents=True)
        onnx.save(model, folder / "1" / "model.onnx")
        (folder / "config.pbtxt").write_text(
            TRITON_CONFIG.format(name=name, most=MAX_BATCH_SIZE, batching=BATCHING[operation])
        )
    x, y = (TensorSpec(name=name, datatype=Datatype.FP32, shape=(-1,)) for name in "xy")
    operations = {
        operation: OperationContract(model=name, inputs=(x,), outputs=(y,)) for operation, name in MODELS.items()
    }
    manifest = BundleManifest(
        name="wide",
        version="1",
        contract=Contract(family=Family.AUTOENCODER, latent_dimension=1, embedding_space="wide", operations=operations),
        golden=Golden(samples=1, tolerances={}),
        files=(),
        provenance=Provenance(sources={}),
    )
    return running_triton(root, manifest)


@pytest.fixture
def let_go(wide_triton) -> Iterator[Callable[[], None]]:
    """``let_go()``: what waits for ``slow_decode`` is answered; at the end too, also for callers who are gone: while
    one waits, those who come later have less time."""

    def full_batch() -> None:
        with http_client.InferenceServerClient(str(wide_triton.addresses.http), network_timeout=WAIT_S) as client:
            given = http_client.InferInput("x", [MAX_BATCH_SIZE, 4], "FP32")
            given.set_data_from_numpy(np.ones((MAX_BATCH_SIZE, 4), np.float32))
            client.infer("slow_decode", [given])

    yield full_batch
    full_batch()


@pytest.fixture
def triton_tap(wide_triton, start_tap, let_go) -> TapProcess:
    """A fresh tap in front of the real Triton."""
    addresses = wide_triton.addresses
    return start_tap(
        upstream_http=addresses.http,
        upstream_grpc=addresses.grpc,
        operations="{wide_encode: encode, slow_decode: decode}",
        model="wide",
    )
