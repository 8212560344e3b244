"""Clients that call a model over and over, and change what they send when told to."""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import numpy as np
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from latentry_serving.contract.operations import LATENT
from observed.bundles import LATENTS, LIMIT, WIDTH, Rows, traffic

ROWS, FULL_BATCH = 10, 64
"""Samples in a call."""
_PATIENCE_S = 30.0
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
"""One client stands for many: others would call while this one waits."""


@dataclass(frozen=True)
class Caller:
    """One client's connections to a tap."""

    grpc: grpc_client.InferenceServerClient
    http: httpx.Client
    rng: np.random.Generator
    ports: Mapping[str, int]

    def infer(self, model: str, name: str, rows: Rows) -> None:
        tensor = grpc_client.InferInput(name, list(rows.shape), "FP32")
        tensor.set_data_from_numpy(np.ascontiguousarray(rows))
        self.grpc.infer(model, [tensor], client_timeout=_PATIENCE_S)

    def post(self, model: str, name: str, rows: Rows) -> None:
        body = {"name": name, "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
        self.http.post(f"/v2/models/{model}/infer", json={"inputs": [body]})


Step = Callable[[Caller], None]
"""One turn of a client."""


def encode(caller: Caller) -> None:
    """As the VAE expects it."""
    caller.infer("faces_encode", "x", traffic(caller.rng, ROWS))


def encode_words(caller: Caller) -> None:
    """The encoder's only operation."""
    caller.infer("words_encode", "x", traffic(caller.rng, 1))


def encode_full_batch(caller: Caller) -> None:
    """As many as the encoder's Triton takes at once, so that it waits for no others."""
    caller.infer("words_encode", "x", traffic(caller.rng, FULL_BATCH))


def encode_drifted(caller: Caller) -> None:
    caller.infer("faces_encode", "x", traffic(caller.rng, ROWS) * np.float32(1.5) + np.float32(1))


def encode_and_fail(caller: Caller) -> None:
    """One of two calls is more than the decoder bears."""
    encode(caller)
    fail(caller)


def encode_drifted_and_fail(caller: Caller) -> None:
    encode_drifted(caller)
    fail(caller)


def fail(caller: Caller) -> None:
    """A call that Triton answers with an error of its own."""
    with contextlib.suppress(InferenceServerException):
        caller.infer("faces_decode", LATENT, np.full((1, LATENTS), 2 * LIMIT, np.float32))


def encode_nan(caller: Caller) -> None:
    caller.infer("faces_encode", "x", np.full((1, WIDTH), np.nan, np.float32))


def every_kind(caller: Caller) -> None:
    """What an ordinary day has: every operation, both protocols, a stream, management, a client's mistake."""
    rows = traffic(caller.rng, ROWS)
    caller.infer("faces_encode", "x", rows)
    caller.infer("faces_score", "x", traffic(caller.rng, ROWS))
    caller.post("faces_reconstruct", "x", traffic(caller.rng, 1))  # a row sent twice would be drift
    caller.infer("faces_decode", LATENT, caller.rng.normal(size=(1, LATENTS)).astype(np.float32))
    with contextlib.suppress(InferenceServerException):
        caller.infer("faces_encode", "x", rows[:, 1:])
    caller.http.get("/v2/models/faces_encode/stats")
    _stream(caller, traffic(caller.rng, ROWS))


def _stream(caller: Caller, rows: Rows) -> None:
    answered = threading.Event()
    with grpc_client.InferenceServerClient(f"127.0.0.1:{caller.ports['grpc']}") as client:
        tensor = grpc_client.InferInput("x", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        client.start_stream(lambda result, error: answered.set())
        client.async_stream_infer("faces_encode", [tensor])
        answered.wait(_PATIENCE_S)


def crowd(caller: Caller) -> None:
    """More connections than the tap takes, with bytes of no protocol on those it takes."""
    caller.infer("faces_encode", "x", traffic(caller.rng, 1))
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", caller.ports["http"])))
            sock.settimeout(_PATIENCE_S)
            with contextlib.suppress(OSError):
                sock.sendall(b"\x01garbage\r\n\r\n")


class Client:
    """Takes ``step`` so many times a second until the end; failures of the server are what is looked for, and count
    at the tap."""

    def __init__(self, ports: Mapping[str, int], step: Step, per_second: float) -> None:
        self.step = step
        self.steps = 0
        self._ports = ports
        self._every = 1 / per_second
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        caller = Caller(
            grpc_client.InferenceServerClient(f"127.0.0.1:{self._ports['grpc']}", channel_args=_RECONNECT),
            httpx.Client(base_url=f"http://127.0.0.1:{self._ports['http']}", timeout=_PATIENCE_S),
            np.random.default_rng(3),
            self._ports,
        )
        with caller.grpc, caller.http:
            while not self._end.wait(self._every):
                with contextlib.suppress(InferenceServerException, httpx.HTTPError, OSError):
                    self.step(caller)
                self.steps += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
