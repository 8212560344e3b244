"""Programs people use, direct and through the tap: the same answers to the byte, and every call counted.

Covered: curl (HTTP/1.0, 1.1, 2), wrk, h2load, Python grpcio with metadata, compression, cancel and deadline.
tritonclient's four clients: test_triton_wire.py.
"""

import json
import re
import shutil
import subprocess
import zlib

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

pytestmark = pytest.mark.triton

PACKAGES = {"curl": "curl", "wrk": "wrk", "h2load": "nghttp2-client"}
SERVICE = "/inference.GRPCInferenceService/"
BODY = b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,3,4.5]}]}'
INFER = "/v2/models/wide_encode/infer"


def run(program: str, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Runs a program, which scripts/test-programs installs where it may."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {PACKAGES[program]}")
    return subprocess.run([path, *arguments], input=stdin, capture_output=True, timeout=60, check=False)


def message(model="wide_encode", width=4) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=(1, width))
    request.raw_input_contents.append(np.arange(width, dtype=np.float32).tobytes())
    return request.SerializeToString()


def large_json() -> bytes:
    values = list(range(400_000))
    return json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 400_000], "datatype": "FP32", "data": values}]}
    ).encode()  # fmt: skip


def gzipped(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=31)
    return squeeze.compress(data) + squeeze.flush()


POST = ["--data-binary", "@-", "-H", "Content-Type: application/json"]
CURLS = {
    "ready": (["{http}/v2/health/ready"], None, {"management": {"ok": 1}}),
    "HEAD": (["-I", "{http}/v2/health/ready"], None, {"management": {"client_error": 1}}),
    "HTTP/1.0": (["-0", "{http}/v2"], None, {"management": {"ok": 1}}),
    "infer": ([*POST, "{http}" + INFER], BODY, {"encode": {"ok": 1}}),
    "chunked": ([*POST, "-H", "Transfer-Encoding: chunked", "{http}" + INFER], BODY, {"encode": {"ok": 1}}),
    "3 MB, 100-continue": (
        [*POST, "-H", "Expect: 100-continue", "{http}" + INFER], large_json(), {"encode": {"ok": 1}},
    ),
    "keep-alive": ([*POST, "{http}" + INFER, "{http}" + INFER, "{http}" + INFER], BODY, {"encode": {"ok": 3}}),
    "gzip both ways": (
        [*POST, "-H", "Content-Encoding: gzip", "-H", "Accept-Encoding: gzip", "{http}" + INFER],
        gzipped(BODY), {"encode": {"ok": 1}},
    ),
    "not JSON, a 500": ([*POST, "{http}" + INFER], b"nonsense", {"encode": {"server_error": 1}}),
    "unknown model": ([*POST, "{http}/v2/models/nobody/infer"], BODY, {"other": {"client_error": 1}}),
    "too late": (
        [*POST, "-m", "2", "{http}/v2/models/slow_decode/infer"], BODY.replace(b"2,2", b"1,4"),
        {"decode": {"cancelled": 1}},
    ),
}  # fmt: skip
UNSTABLE = re.compile(rb"(?im)^date: .*$")


@pytest.mark.parametrize("case", CURLS)
def test_curl(case, triton_tap, wide_triton, let_go, wire):
    arguments, stdin, counted = CURLS[case]
    seen = []
    for port in (wide_triton.addresses.http.port, triton_tap.ports["http"]):
        filled = [argument.replace("{http}", f"http://127.0.0.1:{port}") for argument in arguments]
        result = run("curl", "-s", "-i", *filled, stdin=stdin)
        seen.append((result.returncode, UNSTABLE.sub(b"", result.stdout)))
    assert seen[0] == seen[1]
    if case == "too late":
        wire.eventually(lambda: triton_tap.passed_an_end_on(wide_triton.addresses.http.port))
        let_go()
    for operation, outcomes in counted.items():
        wire.eventually(
            lambda operation=operation, outcomes=outcomes: triton_tap.outcomes(operation, "http") == outcomes
        )
    assert sum(triton_tap.slis().opaque_connections.values()) == 0


def test_curl_speaks_http2_to_the_grpc_port(triton_tap, wide_triton, wire):
    payload = message()
    seen = []
    for port in (wide_triton.addresses.grpc.port, triton_tap.ports["grpc"]):
        result = run(
            "curl", "-s", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers",
            "-D", "-", "--data-binary", "@-", f"http://127.0.0.1:{port}{SERVICE}ModelInfer",
            stdin=b"\0" + len(payload).to_bytes(4) + payload,
        )  # fmt: skip
        seen.append((result.returncode, result.stdout))
    assert seen[0] == seen[1]
    assert b"grpc-status: 0" in seen[0][1]
    wire.eventually(lambda: triton_tap.outcomes("encode", "grpc") == {"ok": 1})


def test_wrk(triton_tap, wire, tmp_path):
    script = tmp_path / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{BODY.decode()}'\n"
        "done = function(s) io.write(string.format('%d %d %d\\n', s.requests, s.errors.status,"
        " s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout)) end\n"
    )
    result = run("wrk", "-t1", "-c4", "-d1s", "-s", str(script), f"http://127.0.0.1:{triton_tap.ports['http']}{INFER}")
    requests, bad_status, broken = map(int, result.stdout.split()[-3:])
    assert requests > 0
    assert (bad_status, broken) == (0, 0)

    def counted():
        outcomes = triton_tap.outcomes("encode", "http")
        ok, cancelled = outcomes.get("ok", 0), outcomes.get("cancelled", 0)
        return requests <= ok and ok + cancelled <= requests + 4  # wrk leaves with a call open per connection at most

    wire.eventually(lambda: triton_tap.slis().inference.in_flight == 0)
    wire.eventually(counted)


def test_h2load(triton_tap, wire, tmp_path):
    payload = message()
    body = tmp_path / "body"
    body.write_bytes(b"\0" + len(payload).to_bytes(4) + payload)
    result = run(
        "h2load", "-n1000", "-c4", "-m8", "-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers",
        f"http://127.0.0.1:{triton_tap.ports['grpc']}{SERVICE}ModelInfer",
    )  # fmt: skip
    assert b"1000 succeeded, 0 failed, 0 errored, 0 timeout" in result.stdout, result.stdout
    wire.eventually(lambda: triton_tap.outcomes("encode", "grpc") == {"ok": 1_000})


GRPCS = {
    "infer": ("ModelInfer", message(), {}, "encode", "ok"),
    "20 MB": ("ModelInfer", message(width=5_000_000), {}, "encode", "ok"),
    "gzip": ("ModelInfer", message(width=2_000), {"compression": grpc.Compression.Gzip}, "encode", "ok"),
    "deflate": ("ModelInfer", message(width=2_000), {"compression": grpc.Compression.Deflate}, "encode", "ok"),
    "metadata": (
        "ModelInfer", message(), {"metadata": [("x-one", "1"), ("x-two-bin", b"\0\xff"), ("x-long", "v" * 5_000)]},
        "encode", "ok",
    ),
    "not a message": ("ModelInfer", b"\xff" * 20, {}, "other", "server_error"),
    "unknown model": ("ModelInfer", message("nobody"), {}, "other", "client_error"),
    "unknown method": ("Nothing", b"", {}, "management", "server_error"),
    "server ready": ("ServerReady", b"", {}, "management", "ok"),
    "deadline": ("ModelInfer", message("slow_decode"), {"timeout": 4}, "decode", "deadline_exceeded"),
}  # fmt: skip
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def outcome(channel: grpc.Channel, method: str, request: bytes, options: dict) -> tuple:
    """Everything a client can see of a call."""
    call = channel.unary_unary(SERVICE + method)
    try:
        answer, done = call.with_call(request, **{"timeout": 30, **options})
    except grpc.RpcError as error:
        return error.code(), error.details(), error.trailing_metadata()
    return answer, done.code(), done.initial_metadata(), done.trailing_metadata()


@pytest.mark.parametrize("case", GRPCS)
def test_grpcio(case, triton_tap, wide_triton, wire):
    method, request, options, operation, counted = GRPCS[case]
    seen = []
    for port in (wide_triton.addresses.grpc.port, triton_tap.ports["grpc"]):
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)  # connecting is no part of a deadline's time
            seen.append(outcome(channel, method, request, options))
    assert seen[0] == seen[1]
    wire.eventually(lambda: triton_tap.outcomes(operation, "grpc") == {counted: 1})


def test_grpcio_cancels_one_call_among_others(triton_tap, let_go, wire):
    with grpc.insecure_channel(f"127.0.0.1:{triton_tap.ports['grpc']}") as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        given_up = infer.future(message("slow_decode"), timeout=30)
        kept = infer.future(message("slow_decode"), timeout=30)
        wire.eventually(lambda: triton_tap.operation("decode", "grpc").in_flight == 2)
        given_up.cancel()
        assert given_up.code() is grpc.StatusCode.CANCELLED
        assert service_pb2.ModelInferResponse.FromString(infer(message(), timeout=30)).model_name == "wide_encode"
        let_go()
        assert service_pb2.ModelInferResponse.FromString(kept.result()).model_name == "slow_decode"
    wire.eventually(lambda: triton_tap.outcomes("decode", "grpc") == {"cancelled": 1, "ok": 1})
    assert triton_tap.outcomes("encode", "grpc") == {"ok": 1}
