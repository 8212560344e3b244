"""Clients in closed loops, in threads, each request with a number of its own that its answer must carry."""

import contextlib
import json
import queue
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import tritonclient.grpc as grpc_client


class Clients:
    """Closed loops in threads, each request with a number of its own that its answer must carry."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.asked: dict[str, int] = {}
        self.failures: list[str] = []
        self._threads: list[threading.Thread] = []

    def start(self, name: str, loop: Callable[["Clients", str], None]) -> None:
        self.asked[name] = 0

        def work() -> None:
            try:
                loop(self, name)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
                self.failures.append(f"{name}: {error!r}")

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def numbers(self, name: str, pause: Callable[[], float] = lambda: 0.0) -> Iterator[int]:
        while not self.done.is_set() and not self.failures:
            self.asked[name] += 1
            yield self.asked[name]
            time.sleep(pause())

    def stop(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()


@contextlib.contextmanager
def at_work(**loops: Callable[[Clients, str], None]) -> Iterator[Clients]:
    clients = Clients()
    for name, loop in loops.items():
        clients.start(name, loop)
    try:
        yield clients
    finally:
        clients.stop()


def tensor(module, number: int):
    given = module.InferInput("x", [1, 4], "FP32")
    given.set_data_from_numpy(np.array([[number, 0, 0, 0]], dtype=np.float32))
    return [given]


def check(answer, number: int) -> None:
    assert answer.as_numpy("embedding").tolist() == [[0.0, float(number)]]


def tritonclient_loop(module, address: str) -> Callable[[Clients, str], None]:
    def loop(clients: Clients, name: str) -> None:
        client = module.InferenceServerClient(address)
        for number in clients.numbers(name):
            check(client.infer("tiny_encode", tensor(module, number)), number)
        client.close()

    return loop


def raw_request(number: int) -> bytes:
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [number, 0, 0, 0]}]})
    return b"POST /v2/models/tiny_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body.encode(),
    )


def read_answer(stream) -> tuple[bytes, dict]:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            raise ConnectionError(f"the connection ended after {head!r}")
        head += line
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-len"))
    return head, json.loads(stream.read(length))


def raw_loop(address: str, seed: int, *, reconnect: bool = False) -> Callable[[Clients, str], None]:
    """One connection for all requests, each sent in pieces, with pauses of 0 to 5 ms. ``reconnect``: a new one after
    an answer that says it is the connection's last."""
    host, _, port = address.rpartition(":")

    def loop(clients: Clients, name: str) -> None:
        rng = random.Random(seed)
        sock = socket.create_connection((host, int(port)), timeout=30)
        stream = sock.makefile("rb")
        for number in clients.numbers(name, lambda: rng.choice((0.0, 0.0, rng.random() * 0.005))):
            request = raw_request(number)
            cut = rng.randrange(request.index(b"\r\n\r\n") + 4, len(request))  # Triton 2.51 mistakes heads in pieces
            sock.sendall(request[:cut])
            time.sleep(rng.choice((0.0, rng.random() * 0.002)))
            sock.sendall(request[cut:])
            head, answer = read_answer(stream)
            assert answer.get("outputs", [{}])[0].get("data") == [0.0, float(number)], (head, answer)
            if b"Connection: close" in head:
                assert reconnect, "a connection that moves is never told to end"
                assert stream.read(1) == b""
                sock.close()
                sock = socket.create_connection((host, int(port)), timeout=30)
                stream = sock.makefile("rb")
        sock.close()

    return loop


def stream_loop(address: str, messages: int) -> Callable[[Clients, str], None]:
    """gRPC streams of some messages each, one after the other."""

    def loop(clients: Clients, name: str) -> None:
        client = grpc_client.InferenceServerClient(address)
        for number in clients.numbers(name):
            answers: queue.Queue = queue.Queue()
            client.start_stream(lambda result, error, answers=answers: answers.put((result, error)))
            for index in range(messages):
                client.async_stream_infer("tiny_encode", tensor(grpc_client, number + index))
                result, error = answers.get(timeout=30)
                assert error is None, error
                check(result, number + index)
            client.stop_stream()
            assert answers.empty()
        client.close()

    return loop


def busy(clients: Clients, rounds: int = 3) -> None:
    """Every client gets on by some requests, or has failed."""
    start = dict(clients.asked)
    deadline = time.monotonic() + 90
    while not clients.failures and any(clients.asked[name] < start[name] + rounds for name in start):
        assert time.monotonic() < deadline, (start, clients.asked)
        time.sleep(0.005)
