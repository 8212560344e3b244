"""Faults in front of a real Triton: what the client sees, direct and through the tap, and what the tap counts.

Covered: Triton killed in a call, in a stream and while idle; the tap killed and started again; clients gone in a
request and in an answer; the connection limit; a drain with calls in flight. docs/tap.md has them as a table. Dials
refused: test_forwarding_wire.py. Analysis stuck or its queue full: test_sampling_wire.py.
"""

import json
import os
import queue
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

pytestmark = pytest.mark.triton

SERVICE = "/inference.GRPCInferenceService/"
GONE = "connection gone"


def post(model: str, width: int = 4) -> bytes:
    tensor = {"name": "x", "shape": [1, width], "datatype": "FP32", "data": [1] * width}
    body = json.dumps({"inputs": [tensor]}).encode()
    return (
        b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (model.encode(), len(body))
        + body
    )


def message(model: str, width: int = 4) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=(1, width))
    request.raw_input_contents.append(np.ones(width, np.float32).tobytes())
    return request.SerializeToString()


class HttpClient:
    """One connection, kept alive."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=30)

    def call(self, model: str) -> str:
        """The status line, or that the connection is gone."""
        try:
            self._sock.sendall(post(model))
            answer = self._sock.recv(1 << 16)
        except ConnectionError:
            return GONE
        return answer.split(b"\r\n")[0].decode() or GONE

    def close(self) -> None:
        self._sock.close()


class GrpcClient:
    """One channel; reconnects by itself as gRPC does."""

    def __init__(self, port: int) -> None:
        # Without the first option channels to one address share a connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)

    def call(self, model: str, *, patient: bool = False) -> str:
        """The status code's name. ``patient``: waits for a connection."""
        infer = self._channel.unary_unary(SERVICE + "ModelInfer")
        try:
            infer(message(model), timeout=30, wait_for_ready=patient)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def stream(self, answered: Callable[[], None]) -> str:
        """A stream with one answer, and then a request that is answered no more: the status code's name."""
        requests: queue.Queue[bytes] = queue.Queue()
        requests.put(message("wide_encode"))
        answers = self._channel.stream_stream(SERVICE + "ModelStreamInfer")(iter(requests.get, None), timeout=60)
        try:
            for _ in answers:
                requests.put(message("slow_decode"))
                answered()
        except grpc.RpcError as error:
            return error.code().name
        finally:
            requests.put(None)
        return "OK"

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


@pytest.fixture
def mortal_triton(wide_triton, wire, start_tap):
    """The shared Triton, which is ready again afterwards: its supervisor starts it anew on the same ports."""
    yield wide_triton
    watcher = start_tap(upstream_http=wide_triton.addresses.http)
    wire.eventually(lambda: watcher.get("/readyz")[0] == 200)


def test_triton_killed(mortal_triton, triton_tap, pool, wire):
    addresses, ports = mortal_triton.addresses, triton_tap.ports
    streaming: queue.Queue[None] = queue.Queue()
    seen, idle, grpc_clients = {}, {}, []
    for path, http_port, grpc_port in (
        ("direct", addresses.http.port, addresses.grpc.port),
        ("tap", ports["http"], ports["grpc"]),
    ):
        idle[path] = HttpClient(http_port)
        assert idle[path].call("wide_encode") == "HTTP/1.1 200 OK"
        busy, unary, stream = HttpClient(http_port), GrpcClient(grpc_port), GrpcClient(grpc_port)
        grpc_clients += [unary, stream]
        seen[path] = [
            pool.submit(busy.call, "slow_decode"),
            pool.submit(unary.call, "slow_decode"),
            pool.submit(stream.stream, lambda: streaming.put(None)),
        ]
    for _ in seen:
        streaming.get(timeout=60)
    wire.eventually(lambda: triton_tap.operation("decode", "http").in_flight == 1)
    wire.eventually(lambda: triton_tap.operation("decode", "grpc").in_flight == 1)
    os.kill(mortal_triton.state.pid, signal.SIGKILL)

    assert [future.result() for future in seen["tap"]] == [GONE, "UNAVAILABLE", "UNAVAILABLE"]
    assert [future.result() for future in seen["direct"]] == [GONE, "UNAVAILABLE", "UNAVAILABLE"]
    assert {path: client.call("wide_encode") for path, client in idle.items()} == {"direct": GONE, "tap": GONE}
    wire.eventually(lambda: triton_tap.outcomes("decode", "http") == {"reset": 1})
    wire.eventually(lambda: triton_tap.outcomes("decode", "grpc") == {"reset": 1})
    wire.eventually(lambda: triton_tap.outcomes("encode", "grpc", "stream") == {"reset": 1})
    assert triton_tap.outcomes("encode", "http") == {"ok": 1}, "an idle connection that ends is nobody's failure"

    recovered = grpc_clients[2]  # the same channel through the same tap
    assert recovered.call("wide_encode", patient=True) == "OK"
    wire.eventually(lambda: triton_tap.get("/readyz")[0] == 200)
    again = HttpClient(ports["http"])
    assert again.call("wide_encode") == "HTTP/1.1 200 OK"
    wire.eventually(lambda: triton_tap.outcomes("encode", "http") == {"ok": 2})
    for client in (*idle.values(), *grpc_clients, again):
        client.close()


def test_tap_killed_and_started_again(wide_triton, start_tap, let_go, pool, wire):
    addresses = wide_triton.addresses
    settings = {
        "upstream_http": addresses.http, "upstream_grpc": addresses.grpc,
        "operations": "{wide_encode: encode, slow_decode: decode}",
    }  # fmt: skip
    tap = start_tap(**settings)
    over_http, over_grpc = HttpClient(tap.ports["http"]), GrpcClient(tap.ports["grpc"])
    assert over_grpc.call("wide_encode") == "OK"
    calls = [pool.submit(over_http.call, "slow_decode"), pool.submit(over_grpc.call, "slow_decode")]
    wire.eventually(lambda: tap.slis().inference.in_flight == 2)
    tap.process.kill()
    assert [call.result() for call in calls] == [GONE, "UNAVAILABLE"]
    same = {name: f"127.0.0.1:{tap.ports[name]}" for name in ("http", "grpc")}
    again = start_tap(**settings, **same)
    assert over_grpc.call("wide_encode", patient=True) == "OK"
    wire.eventually(lambda: again.outcomes("encode", "grpc") == {"ok": 1})
    assert again.outcomes("decode", "grpc") == {}, "what the killed one had in flight nobody counts"
    direct = GrpcClient(addresses.grpc.port)
    assert direct.call("wide_encode") == "OK"
    for client in (over_http, over_grpc, direct):
        client.close()


@pytest.mark.parametrize("leave", [lambda sock, wire: sock.close(), lambda sock, wire: wire.break_off(sock)])
def test_a_client_that_vanishes_in_its_request(leave, triton_tap, wire):
    sock = triton_tap.connect()
    sock.sendall(post("wide_encode")[:-5])
    wire.eventually(lambda: triton_tap.operation("encode", "http").in_flight == 1)
    leave(sock, wire)
    wire.eventually(lambda: triton_tap.outcomes("encode", "http") == {"cancelled": 1})


@pytest.mark.parametrize("leave", [lambda sock, wire: sock.close(), lambda sock, wire: wire.break_off(sock)])
def test_a_client_that_vanishes_in_its_answer(leave, triton_tap, wire):
    before = triton_tap.memory_bytes()
    sock = triton_tap.connect()
    sock.sendall(post("wide_encode", width=3_000_000))
    assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")
    leave(sock, wire)
    wire.eventually(lambda: triton_tap.outcomes("encode", "http") == {"cancelled": 1})
    wire.eventually(lambda: triton_tap.slis().connections["http"] == 0)
    assert triton_tap.memory_bytes() - before < 16 << 20


def test_grpc_clients_over_the_connection_limit(wide_triton, start_tap, wire):
    addresses = wide_triton.addresses
    tap = start_tap(upstream_http=addresses.http, upstream_grpc=addresses.grpc, max_connections=1)
    first, second = GrpcClient(tap.ports["grpc"]), GrpcClient(tap.ports["grpc"])
    assert first.call("wide_encode") == "OK"
    assert second.call("wide_encode") == "UNAVAILABLE"
    assert tap.slis().refused_connections["connection_limit"] >= 1
    first.close()
    wire.eventually(lambda: tap.slis().connections["grpc"] == 0)
    assert tap.outcomes("other", "grpc") == {"ok": 1}, "a refused connection carried no call"
    assert second.call("wide_encode", patient=True) == "OK"
    second.close()


def test_drain_lets_calls_of_both_protocols_finish(wide_triton, start_tap, let_go, pool, wire):
    addresses = wide_triton.addresses
    tap = start_tap(
        upstream_http=addresses.http, upstream_grpc=addresses.grpc, drain_seconds=10,
        operations="{wide_encode: encode, slow_decode: decode}",
    )  # fmt: skip
    over_http, over_grpc, streaming = HttpClient(tap.ports["http"]), GrpcClient(tap.ports["grpc"]), queue.Queue()
    calls = [pool.submit(over_http.call, "slow_decode"), pool.submit(over_grpc.call, "slow_decode")]
    wire.eventually(lambda: tap.slis().inference.in_flight == 2)
    stream = GrpcClient(tap.ports["grpc"])
    ended = pool.submit(stream.stream, lambda: streaming.put(None))
    streaming.get(timeout=60)
    tap.process.send_signal(signal.SIGTERM)
    wire.eventually(lambda: tap.get("/readyz")[0] == 503)
    late = GrpcClient(tap.ports["grpc"])
    assert late.call("wide_encode") == "UNAVAILABLE"
    let_go()
    assert [call.result() for call in calls] == ["HTTP/1.1 200 OK", "OK"]
    assert ended.result() == "UNAVAILABLE", "a stream that does not end is broken off when the time is up"
    assert tap.process.wait(timeout=60) == 0
    for client in (over_http, over_grpc, stream, late):
        client.close()
