"""Real clients and raw bytes through the tap to the real Triton: the same answers as on the direct path, byte for byte,
and every call counted."""

import asyncio
import queue
import socket
import threading
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.triton

BODY = b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,3,4.5]}]}'
WRONG = b'{"inputs":[{"name":"z","shape":[1,1],"datatype":"FP32","data":[1]}]}'
POST = b"POST /v2/models/wide_encode/infer HTTP/1.1\r\nHost: a\r\n"


def with_length(body: bytes, *, head: bytes = POST) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*chunks: bytes) -> bytes:
    parts = b"".join(b"%x\r\n" % len(chunk) + chunk + b"\r\n" for chunk in chunks)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


def binary() -> bytes:
    """The binary tensor extension, both directions."""
    tensor = np.arange(6, dtype="<f4").tobytes()
    header = (
        b'{"inputs":[{"name":"x","shape":[1,6],"datatype":"FP32","parameters":{"binary_data_size":24}}],'
        b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}'
    )
    return with_length(header + tensor, head=POST + b"Inference-Header-Content-Length: %d\r\n" % len(header))


SILENCE_S = 1.0
PATH = b"/v2/models/wide_encode"
SCRIPTS = {
    "JSON": [with_length(BODY)],
    "keep-alive": [with_length(BODY), with_length(BODY), b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n"],
    "pipelined": [with_length(BODY) + b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n"],
    "chunked": [chunked(BODY[:10], BODY[10:11], BODY[11:])],
    "expect continue": [with_length(BODY, head=POST + b"Expect: 100-continue\r\n")],
    "binary tensors": [binary()],
    "HEAD": [b"HEAD " + PATH + b" HTTP/1.1\r\nHost: a\r\n\r\n", with_length(BODY)],
    "metadata": [b"GET " + PATH + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"GET " + PATH + b"/config HTTP/1.1\r\n\r\n"],
    "wrong input": [with_length(WRONG)],
    "unknown model": [with_length(BODY, head=POST.replace(b"wide", b"no"))],
    "not found": [b"GET /nope HTTP/1.1\r\nHost: a\r\n\r\n"],
    "HTTP/1.0": [b"GET /v2/health/ready HTTP/1.0\r\n\r\n"],
    "close": [with_length(BODY, head=POST + b"Connection: close\r\n")],
    "folded header": [with_length(BODY, head=POST + b"X-A: b\r\n c\r\n")],
    "garbage": [b"\x16\x03\x01 nothing\r\n\r\n"],
}


def converse(port: int, requests: list[bytes], expected: Sequence[bytes] = ()) -> list[bytes]:
    """Each request's answer as raw bytes, until Triton falls silent for a while or ends; an end is ``<end>``. Silence
    in the midst of an expected answer is waited out."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        for request, wanted in zip_longest(requests, expected, fillvalue=b""):
            sock.settimeout(30)
            sock.sendall(request)
            answer = b""
            try:
                while data := sock.recv(1 << 20):
                    answer += data
                    sock.settimeout(30 if len(answer) < len(wanted) else SILENCE_S)
                answer += b"<end>"
            except TimeoutError:
                pass
            except ConnectionResetError:
                answer += b"<reset>"
            answers.append(answer)
            if answer.endswith((b"<end>", b"<reset>")):
                break
    return answers


@pytest.mark.parametrize("name", SCRIPTS)
def test_raw_bytes_as_on_the_direct_path(name, triton_tap, wide_triton):
    direct = converse(wide_triton.addresses.http.port, SCRIPTS[name])
    assert converse(triton_tap.ports["http"], SCRIPTS[name], direct) == direct
    assert any(direct)


def tensor(module, values):
    given = module.InferInput("x", list(values.shape), "FP32")
    given.set_data_from_numpy(values)
    return given


def test_100_mb_bodies_in_little_memory(triton_tap, wire):
    values = np.random.default_rng(0).random((1, 25_000_000), dtype=np.float32)
    for module, protocol in ((http_client, "http"), (grpc_client, "grpc")):
        client = module.InferenceServerClient(f"127.0.0.1:{triton_tap.ports[protocol]}", **patience(module))
        answer = client.infer("wide_encode", [tensor(module, values)]).as_numpy("y")
        assert np.array_equal(answer, values)
        client.close()
        wire.eventually(lambda protocol=protocol: triton_tap.outcomes("encode", protocol) == {"ok": 1})
        row = triton_tap.operation("encode", protocol).total
        assert 100_000_000 < row.request_bytes < 100_001_000
        assert 100_000_000 < row.response_bytes < 100_001_000
    assert triton_tap.memory_bytes() < 150 << 20


def patience(module) -> dict[str, float]:
    return {"network_timeout": 60.0, "connection_timeout": 60.0} if module is http_client else {}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_clients_get_the_direct_answers_at_once_and_in_parallel(protocol, triton_tap, wide_triton, wire):
    module = http_client if protocol == "http" else grpc_client
    direct_port = getattr(wide_triton.addresses, protocol).port
    calls_each, threads = 25, 4

    def work(port, seed, answers):
        client = module.InferenceServerClient(f"127.0.0.1:{port}")
        rng = np.random.default_rng(seed)
        for _ in range(calls_each):
            values = rng.random((2, int(rng.integers(1, 5_000))), dtype=np.float32)
            answer = client.infer("wide_encode", [tensor(module, values)])
            answers.append((answer.get_response(), answer.as_numpy("y").tobytes()))
        client.close()

    results = {}
    for port in (direct_port, triton_tap.ports[protocol]):
        results[port] = [[] for _ in range(threads)]
        running = [threading.Thread(target=work, args=(port, n, results[port][n])) for n in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert results[direct_port] == results[triton_tap.ports[protocol]]
    wire.eventually(lambda: triton_tap.outcomes("encode", protocol) == {"ok": calls_each * threads})
    assert sum(triton_tap.slis().opaque_connections.values()) == 0


async def test_aio_clients(triton_tap):
    values = np.ones((1, 7), np.float32)
    async with (
        http_aio.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['http']}") as over_http,
        grpc_aio.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['grpc']}") as over_grpc,
    ):
        for client, module in ((over_http, http_client), (over_grpc, grpc_client)):
            calls = [client.infer("wide_encode", [tensor(module, values * n)]) for n in range(20)]
            for n, answer in enumerate(await asyncio.gather(*calls)):
                assert np.array_equal(answer.as_numpy("y"), values * n)
            assert await client.is_server_ready()


def test_compressed_bodies(triton_tap, wire):
    values = np.ones((1, 1_000), np.float32)
    over_http = http_client.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['http']}")
    over_grpc = grpc_client.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['grpc']}")
    for algorithm in ("gzip", "deflate"):
        answer = over_http.infer(
            "wide_encode",
            [tensor(http_client, values)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        assert np.array_equal(answer.as_numpy("y"), values)
        answer = over_grpc.infer("wide_encode", [tensor(grpc_client, values)], compression_algorithm=algorithm)
        assert np.array_equal(answer.as_numpy("y"), values)
    over_http.close()
    over_grpc.close()
    for protocol in ("http", "grpc"):
        wire.eventually(lambda protocol=protocol: triton_tap.outcomes("encode", protocol) == {"ok": 2})


def test_streams(triton_tap, wire):
    client = grpc_client.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['grpc']}")
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for n in range(20):
        client.async_stream_infer("wide_encode", [tensor(grpc_client, np.full((1, 3), n, np.float32))])
    for n in range(20):
        result, error = answers.get(timeout=60)
        assert error is None
        assert result.as_numpy("y")[0, 0] == n
    assert triton_tap.operation("encode", "grpc", "stream").in_flight == 1
    client.stop_stream()
    client.close()
    wire.eventually(lambda: triton_tap.outcomes("encode", "grpc", "stream") == {"ok": 1})
    assert triton_tap.outcomes("encode", "grpc") == {}, "a stream is no unary call"


def test_a_cancelled_stream(triton_tap, wire):
    client = grpc_client.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['grpc']}")
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("wide_encode", [tensor(grpc_client, np.ones((1, 3), np.float32))])
    assert answers.get(timeout=60)[1] is None
    client.stop_stream(cancel_requests=True)
    client.close()
    wire.eventually(lambda: triton_tap.outcomes("encode", "grpc", "stream") == {"cancelled": 1})


def test_a_deadline_that_passes(triton_tap, wire):
    client = grpc_client.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['grpc']}")
    assert client.is_server_live(), "connecting is no part of the deadline's time"
    with pytest.raises(InferenceServerException, match="Deadline"):
        client.infer("slow_decode", [tensor(grpc_client, np.ones((1, 3), np.float32))], client_timeout=4)
    client.close()
    wire.eventually(lambda: triton_tap.outcomes("decode", "grpc") == {"deadline_exceeded": 1})


def test_a_call_cancelled_over_grpc(triton_tap, wire):
    client = grpc_client.InferenceServerClient(f"127.0.0.1:{triton_tap.ports['grpc']}")
    values = np.ones((1, 3), np.float32)
    call = client.async_infer("slow_decode", [tensor(grpc_client, values)], callback=lambda result, error: None)
    wire.eventually(lambda: triton_tap.operation("decode", "grpc").in_flight == 1)
    call.cancel()
    wire.eventually(lambda: triton_tap.outcomes("decode", "grpc") == {"cancelled": 1})
    assert client.is_server_live(), "the connection goes on"
    client.close()


def test_a_client_that_vanishes_over_http(triton_tap, wide_triton, let_go, wire):
    with socket.create_connection(("127.0.0.1", triton_tap.ports["http"])) as sock:
        sock.sendall(with_length(BODY.replace(b"[2,2]", b"[1,4]"), head=POST.replace(b"wide_encode", b"slow_decode")))
        wire.eventually(lambda: triton_tap.operation("decode", "http").in_flight == 1)
    wire.eventually(lambda: triton_tap.passed_an_end_on(wide_triton.addresses.http.port))
    let_go()
    wire.eventually(lambda: triton_tap.outcomes("decode", "http") == {"cancelled": 1})


def test_errors_are_the_callers(triton_tap, wire):
    values = np.ones((1, 3), np.float32)
    for module, protocol in ((http_client, "http"), (grpc_client, "grpc")):
        client = module.InferenceServerClient(f"127.0.0.1:{triton_tap.ports[protocol]}")
        with pytest.raises(InferenceServerException):
            client.infer("nobody", [tensor(module, values)])
        wrong = module.InferInput("z", [1, 3], "FP32")
        wrong.set_data_from_numpy(values)
        with pytest.raises(InferenceServerException):
            client.infer("wide_encode", [wrong])
        client.close()
        wire.eventually(lambda protocol=protocol: triton_tap.outcomes("encode", protocol) == {"client_error": 1})
        assert triton_tap.outcomes("other", protocol) == {"client_error": 1}


def test_readiness_follows_triton(triton_tap):
    assert triton_tap.get("/readyz") == (200, b'{"ok":true,"reasons":[]}')
    assert triton_tap.get("/healthz")[0] == 200
    status, body = triton_tap.get("/metrics")
    assert status == 200
    assert b'latentry_requests_total{kind="unary",model="wide",operation="encode",outcome="ok"' in body
