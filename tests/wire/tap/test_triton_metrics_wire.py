"""`/metrics/triton`: Triton's own metrics through the tap's admin port. Covered: the real Triton's, with the names that
dashboards use; nobody there, silence, another answer, too much, an answer that breaks off; traffic goes on beside."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tritonclient.http as http_client

from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_metrics import PER_MODEL
from latentry_serving.tap.triton_metrics import NoMetrics, triton_metrics

METRICS = "/metrics/triton"


@pytest.mark.triton
def test_the_real_tritons_metrics(wide_triton, start_tap):
    addresses = wide_triton.addresses
    tap = start_tap(
        upstream_http=addresses.http, upstream_grpc=addresses.grpc, upstream_metrics=addresses.metrics,
        operations="{wide_encode: encode}",
    )  # fmt: skip
    with http_client.InferenceServerClient(f"127.0.0.1:{tap.ports['http']}") as client:
        given = http_client.InferInput("x", [1, 2], "FP32")
        given.set_data_from_numpy(np.ones((1, 2), np.float32))
        client.infer("wide_encode", [given])
    status, body = tap.get(METRICS)
    text = body.decode()
    assert status == 200
    for name in PER_MODEL:
        assert re.search(rf'^{name}{{model="wide_encode",version="1"}} [1-9]', text, re.MULTILINE), name


class Scripted:
    """A server that reads one request, gives one answer and ends, or stays."""

    def __init__(self, answer: bytes, *, ends: bool = True) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address(port=self.listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, args=(answer, ends), daemon=True)
        self._thread.start()

    def _serve(self, answer: bytes, ends: bool) -> None:
        self.connection = self.listener.accept()[0]
        self.connection.recv(4096)
        self.connection.sendall(answer)
        if ends:
            self.connection.close()

    def close(self) -> None:
        self._thread.join(5)
        self.connection.close()
        self.listener.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    with contextlib.ExitStack() as stack:

        def start(answer: bytes, **more: bool) -> Scripted:
            server = Scripted(answer, **more)
            stack.callback(server.close)
            return server

        yield start


def ok(length: int, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body


@pytest.mark.parametrize(
    ("answer", "ends", "says"),
    [
        (b"", False, "did not send its metrics within 0.2 s"),
        (ok(9, b"half"), False, "did not send its metrics within 0.2 s"),
        (ok(9, b"half"), True, "gives no metrics at"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", True, "HTTP status 400"),
        (ok(2_000, b""), True, "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True, "unknown length"),
        (b"\x00\x01\x02\r\n\r\n", True, "gives no metrics at"),
        (b"x" * 100_000, True, "gives no metrics at"),
    ],
)
async def test_what_is_no_answer_is_said(scripted, answer, ends, says):
    server = scripted(answer, ends=ends)
    with pytest.raises(NoMetrics, match=says):
        await triton_metrics(server.address, 0.2, 1000)


async def test_a_whole_answer_is_passed_on(scripted):
    assert await triton_metrics(scripted(ok(4, b"a 1\n")).address, 5.0, 1000) == b"a 1\n"


def test_without_a_triton_it_is_503_and_traffic_does_not_mind(start_relay):
    relay = start_relay(upstream_metrics="127.0.0.1:1")
    status, body = relay.tap.get(METRICS)
    assert status == 503
    assert b"Triton gives no metrics at 127.0.0.1:1" in body
    assert b"set upstreamMetrics" in body
    with relay.pair() as (client, server):
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert server.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
    assert relay.tap.get("/metrics")[0] == 200
