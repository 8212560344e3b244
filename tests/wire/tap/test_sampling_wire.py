"""Samples over real sockets and a real analysis process. Covered: HTTP and gRPC calls of a real Triton decoded and
counted, non-finite outputs, calls that cannot be decoded, too large or failed, other models; the process stopped,
killed and stuck while traffic goes on; nothing of it there when sampling is off."""

import contextlib
import json
import os
import signal
import threading

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

SAMPLING = "{maxPerSecond: 100000, maxBytes: 100000, queue: {calls: 8, bytes: 400000}}"


def samples(tap) -> dict[str, float]:
    """The sample counters that are not zero, by name and operation, losses by reason."""
    found = {}
    for line in tap.get("/metrics")[1].decode().splitlines():
        if line.startswith(("latentry_samples", "latentry_non_finite")):
            name, labels = line.split("{")
            labels, value = labels.split("} ")
            given = dict(part.split("=") for part in labels.replace('"', "").split(","))
            key = "/".join(given[label] for label in ("operation", "reason") if label in given)
            if float(value):
                found[f"{name.removeprefix('latentry_').removesuffix('_total')}/{key}"] = float(value)
    return found


def workers(tap) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [
            child for child in psutil.Process(tap.process.pid).children() if "analysis_worker" in str(child.cmdline())
        ]
    return []


def message(kind: str, values) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(values)], "data": values}
    return json.dumps({kind: [tensor]}).encode()


def call(pair, request: bytes, answer: bytes, wire, *, status: str = "200 OK", model: str = "wide_encode") -> None:
    """One call over both ends of a connection."""
    client, server = pair
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    client.sendall(head + request)
    assert wire.exactly(server, len(head + request)) == head + request
    response = f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer
    server.sendall(response)
    assert wire.exactly(client, len(response)) == response


REQUEST, ANSWER = message("inputs", [1, 2]), message("outputs", [0.5, float("nan"), float("inf")])


def warm(tap, pair, wire) -> dict[str, float]:
    """Calls until one is analysed, for a process may take a moment to start; answers what was counted by then."""
    known = samples(tap)

    def analysed() -> bool:
        before = samples(tap)
        call(pair, REQUEST, ANSWER, wire)
        wire.eventually(lambda: since(tap, before))
        return samples(tap).get("samples/encode", 0) > known.get("samples/encode", 0)

    wire.eventually(analysed)
    return samples(tap)


def since(tap, before: dict[str, float]) -> dict[str, float]:
    """What was counted after ``before``."""
    now = samples(tap)
    return {name: count - before.get(name, 0) for name, count in now.items() if count != before.get(name, 0)}


def test_every_sample_is_analysed_or_lost_for_a_reason(start_relay, wire):
    relay = start_relay(sampling=SAMPLING)
    with relay.pair() as pair:
        before = warm(relay.tap, pair, wire)
        expected = {}
        for name, given in (
            ("samples/encode", {}),
            ("samples_lost/malformed", {"request": b"{"}),
            ("samples_lost/error_response", {"answer": b'{"error": "no"}'}),
            ("samples_lost/empty", {"answer": b""}),
            ("samples_lost/call_failed", {"status": "500 No"}),
            ("samples_lost/too_large", {"request": b"x" * 100_001}),
            ("samples_lost/too_large", {"answer": b"x" * 100_001}),
            (None, {"model": "cat"}),
            ("samples/encode", {}),
        ):
            call(pair, given.pop("request", REQUEST), given.pop("answer", ANSWER), wire, **given)
            if name is not None:
                expected[name] = expected.get(name, 0) + 1
            if name == "samples/encode":
                finding = "non_finite_output_values/encode"
                expected[finding] = expected.get(finding, 0) + 2
            wire.eventually(lambda: since(relay.tap, before) == expected)


def test_analysis_takes_cores_that_nobody_else_wants(start_relay, wire):
    relay = start_relay(sampling=SAMPLING)
    with relay.pair() as pair:
        warm(relay.tap, pair, wire)
    (worker,) = workers(relay.tap)
    assert os.sched_getscheduler(worker.pid) == os.SCHED_IDLE
    assert os.sched_getscheduler(relay.tap.process.pid) == os.SCHED_OTHER


def test_samples_of_traffic_without_a_pause_are_analysed(start_relay, wire):
    relay = start_relay(sampling=SAMPLING)
    with relay.pair() as open_call, relay.pair() as pair:
        before = warm(relay.tap, pair, wire)
        client, server = open_call
        head = b"POST /v2/models/wide_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
        client.sendall(head + b"{")
        assert wire.exactly(server, len(head) + 1) == head + b"{"
        wire.eventually(lambda: relay.tap.operation("encode", "http").in_flight == 1)
        call(pair, REQUEST, ANSWER, wire)
        wire.eventually(lambda: since(relay.tap, before).get("samples/encode") == 1)
        assert relay.tap.operation("encode", "http").in_flight == 1


def test_a_suspended_then_killed_process_costs_samples_and_no_traffic(start_relay, wire):
    relay = start_relay(sampling=SAMPLING)
    with relay.pair() as pair:
        before = warm(relay.tap, pair, wire)
        (worker,) = workers(relay.tap)
        worker.suspend()
        big = message("inputs", [1.0] * 8_000)
        for _ in range(20):
            call(pair, big, ANSWER, wire)
        wire.eventually(lambda: relay.tap.operation("encode", "http").in_flight == 0)
        held = relay.tap.memory_bytes()
        full = since(relay.tap, before)["samples_lost/queue_full"]
        assert full >= 12, "no more than eight calls wait"
        worker.kill()
        lost = {"samples_lost/queue_full": full, "samples_lost/analysis_failed": 20 - full}
        wire.eventually(lambda: since(relay.tap, before) == lost)
        warm(relay.tap, pair, wire)
        assert relay.tap.memory_bytes() < held + (4 << 20)
    assert set(relay.tap.outcomes("encode", "http")) == {"ok"}
    assert workers(relay.tap)[0].pid != worker.pid


def test_a_stuck_process_is_replaced(start_relay, wire):
    relay = start_relay(sampling=SAMPLING)
    with relay.pair() as pair:
        before = warm(relay.tap, pair, wire)
        (worker,) = workers(relay.tap)
        worker.suspend()
        call(pair, REQUEST, ANSWER, wire)
        wire.eventually(lambda: since(relay.tap, before) == {"samples_lost/analysis_stuck": 1})
        warm(relay.tap, pair, wire)
    assert workers(relay.tap)[0].pid != worker.pid


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_process_goes_with_the_tap(end, start_relay, wire):
    relay = start_relay(sampling=SAMPLING, drain_seconds=1)
    wire.eventually(lambda: workers(relay.tap))
    worker = workers(relay.tap)[0]
    os.kill(relay.tap.process.pid, end)
    relay.tap.process.wait(60)
    wire.eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_without_sampling_there_is_no_process_and_no_decoder(start_relay, wire):
    relay = start_relay()
    with relay.pair() as pair:
        call(pair, REQUEST, ANSWER, wire)
    wire.eventually(lambda: relay.tap.outcomes("encode", "http") == {"ok": 1})
    assert workers(relay.tap) == []
    assert samples(relay.tap) == {}


def infer(module, port, values, **options):
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    tensor = module.InferInput("x", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    answer = client.infer("wide_encode", [tensor], **options).as_numpy("y")
    client.close()
    return answer


@pytest.mark.triton
def test_what_a_real_triton_answers_is_analysed(wide_triton, start_tap, wire):
    addresses = wide_triton.addresses
    tap = start_tap(
        upstream_http=addresses.http,
        upstream_grpc=addresses.grpc,
        operations="{wide_encode: encode}",
        sampling="{maxPerSecond: 100000}",
    )
    values = np.array([[1.0, np.nan, np.inf]], np.float32)
    finite = np.ones((1, 2), np.float32)

    def analysed() -> bool:
        infer(http_client, tap.ports["http"], finite)
        return "samples/encode" in samples(tap)

    wire.eventually(analysed)
    before = samples(tap)
    for module, protocol in ((http_client, "http"), (grpc_client, "grpc")):
        port = tap.ports[protocol]
        assert np.array_equal(infer(module, port, values), values, equal_nan=True)
        wide = np.ones((1, 400_000), np.float32)
        assert np.array_equal(infer(module, port, wide), wide)
    infer(http_client, tap.ports["http"], values, request_compression_algorithm="gzip")
    infer(grpc_client, tap.ports["grpc"], values, compression_algorithm="gzip")
    wire.eventually(lambda: since(tap, before).get("non_finite_output_values/encode", 0) == 8)
    assert since(tap, before)["samples/encode"] >= 6
    assert not any("lost" in name for name in since(tap, before))


@pytest.mark.triton
def test_a_rate_chooses_among_calls_in_parallel(wide_triton, start_tap, wire):
    addresses = wide_triton.addresses
    tap = start_tap(
        upstream_http=addresses.http,
        upstream_grpc=addresses.grpc,
        operations="{wide_encode: encode}",
        sampling="{maxPerSecond: 100000, rates: {encode: 0.5}}",
    )

    def work():
        client = grpc_client.InferenceServerClient(f"127.0.0.1:{tap.ports['grpc']}")
        tensor = grpc_client.InferInput("x", [1, 2_000], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 2_000), np.float32))
        for _ in range(50):
            client.infer("wide_encode", [tensor])
        client.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wire.eventually(lambda: tap.outcomes("encode", "grpc") == {"ok": 200})
    wire.eventually(lambda: 60 < sum(samples(tap).values()) < 140)  # half of 200, by dice
