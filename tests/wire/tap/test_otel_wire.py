"""Spans and metrics in a real OTLP receiver. Covered: the client's trace id joins over HTTP and gRPC, the sampled flag
decides, times and attributes, metrics equal to `/metrics`, exemplars; a collector that is absent or never answers."""

import json
import re
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=value"}
UNSAMPLED = {"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}


class Collector(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """An OTLP receiver that keeps everything."""

    def __init__(self) -> None:
        self.spans: list = []
        self.resources: list = []
        self.metrics: dict = {}
        self.server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self, self.server)
        self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request, _context):  # noqa: N802 - both services name it so
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            for resource in request.resource_spans:
                self.resources.append(plain(resource.resource.attributes))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            return trace_service_pb2.ExportTraceServiceResponse()
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return metrics_service_pb2.ExportMetricsServiceResponse()


def plain(attributes) -> dict:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.server.stop(0)


@pytest.fixture
def traced_tap(wide_triton, start_tap, collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    addresses = wide_triton.addresses
    return start_tap(
        upstream_http=addresses.http,
        upstream_grpc=addresses.grpc,
        operations="{wide_encode: encode}",
        model="wide",
        version="7",
        embedding_space="wide-space",
        otlp="{metricsIntervalSeconds: 0.2}",
    )


def infer(tap, protocol, headers, name="wide_encode"):
    module = http_client if protocol == "http" else grpc_client
    client = module.InferenceServerClient(f"127.0.0.1:{tap.ports[protocol]}")
    values = np.ones((1, 3), np.float32)
    tensor = module.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(values)
    assert np.array_equal(client.infer(name, [tensor], headers=headers and dict(headers)).as_numpy("y"), values)
    client.close()


@pytest.mark.triton
def test_the_clients_trace_goes_on(traced_tap, collector, wire):
    before_ns = time.time_ns()
    for protocol in ("http", "grpc"):
        infer(traced_tap, protocol, None)
        infer(traced_tap, protocol, UNSAMPLED)
        infer(traced_tap, protocol, SAMPLED)
    wire.eventually(lambda: len(collector.spans) == 2)
    after_ns = time.time_ns()
    by_name = {span.name: span for span in collector.spans}
    assert set(by_name) == {"POST", "inference.GRPCInferenceService/ModelInfer"}
    for span in collector.spans:
        assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "vendor=value")
        assert span.kind == span.SPAN_KIND_SERVER
        assert before_ns - 50_000_000 < span.start_time_unix_nano < span.end_time_unix_nano < after_ns + 50_000_000
        attributes = plain(span.attributes)
        assert attributes["server.address"] == "127.0.0.1"
        assert attributes["latentry.model"] == "wide"
        assert attributes["latentry.version"] == "7"
        assert attributes["latentry.embedding_space"] == "wide-space"
        assert (attributes["latentry.operation"], attributes["latentry.outcome"]) == ("encode", "ok")
    over_http = plain(by_name["POST"].attributes)
    over_grpc = plain(by_name["inference.GRPCInferenceService/ModelInfer"].attributes)
    assert over_http["server.port"] == traced_tap.ports["http"]
    assert (over_http["http.request.method"], over_http["http.response.status_code"]) == ("POST", 200)
    assert over_http["url.path"] == "/v2/models/wide_encode/infer"
    assert over_grpc["server.port"] == traced_tap.ports["grpc"]
    assert (over_grpc["rpc.system.name"], over_grpc["rpc.response.status_code"]) == ("grpc", "OK")
    assert collector.resources[0]["service.name"] == "wide"
    assert collector.resources[0]["service.version"] == "7"


@pytest.mark.triton
def test_metrics_and_exemplars_are_those_of_the_metrics_page(traced_tap, collector, wire):
    infer(traced_tap, "http", SAMPLED)
    infer(traced_tap, "http", UNSAMPLED)

    def durations():
        metric = collector.metrics.get("latentry_request_duration_seconds")
        points = metric.histogram.data_points if metric else ()
        return [p for p in points if p.count]

    wire.eventually(lambda: durations() and durations()[0].count == 2)
    point = durations()[0]
    assert plain(point.attributes) == {
        "model": "wide", "version": "7", "operation": "encode", "kind": "unary",
    }  # fmt: skip
    assert sum(point.bucket_counts) == 2
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    requests = collector.metrics["latentry_requests_total"].sum
    assert requests.is_monotonic
    assert sum(p.as_int for p in requests.data_points) == 2
    page = urllib.request.Request(
        f"http://127.0.0.1:{traced_tap.ports['admin']}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    with urllib.request.urlopen(page, timeout=60) as answer:
        text = answer.read().decode()
    names = set(re.findall(r"^# TYPE (latentry_\w+)", text, re.MULTILINE))
    assert {name.removesuffix("_total") for name in collector.metrics} <= names
    exemplars = set(re.findall(r'^latentry_(\w+)_seconds_bucket.* # \{trace_id="(\w+)"\}', text, re.MULTILINE))
    assert exemplars == {("request_duration", TRACE)}
    assert f"{point.sum}" in text


def test_a_share_of_calls_without_a_parent_begins_a_trace(start_relay, collector, wire, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    relay = start_relay(otlp=json.dumps({"endpoint": collector.endpoint, "rootRatio": 1}))
    with relay.pair() as (client, server):
        request = b"GET /v2?verbose=1 HTTP/1.1\r\nHost: models.example\r\n\r\n"
        client.sendall(request)
        wire.exactly(server, len(request))
        server.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        wire.eventually(lambda: collector.spans)
    (span,) = collector.spans
    assert (span.name, span.parent_span_id, span.status.code) == ("GET", b"", span.status.STATUS_CODE_ERROR)
    attributes = plain(span.attributes)
    assert (attributes["url.path"], attributes["url.query"]) == ("/v2", "verbose=1")
    assert (attributes["server.address"], attributes["server.port"]) == ("models.example", 80)
    assert (attributes["error.type"], attributes["latentry.operation"]) == ("503", "management")


@pytest.mark.parametrize("kind", ["absent", "silent"])
def test_a_collector_that_does_not_answer_changes_nothing(kind, start_relay, wire, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if kind == "absent":
            listener.close()
        relay = start_relay(otlp=json.dumps({"endpoint": endpoint, "metricsIntervalSeconds": 0.1}), drain_seconds=1)
        head = b"POST /v2/models/wide_encode/infer HTTP/1.1\r\ntraceparent: " + SAMPLED["traceparent"].encode()
        request = head + b"\r\nContent-Length: 0\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        with relay.pair() as (client, server):
            for _ in range(500):
                client.sendall(request)
                assert wire.exactly(server, len(request)) == request
                server.sendall(answer)
                assert wire.exactly(client, len(answer)) == answer
        wire.eventually(lambda: relay.tap.outcomes("encode", "http") == {"ok": 500})
        assert relay.tap.stop() == 0, "and stops within twenty seconds"
