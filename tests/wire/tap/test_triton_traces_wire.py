"""One trace id in the client's headers, the tap's span and Triton's own spans, each at a real OTLP receiver: the tap's
over gRPC, Triton's over HTTP, as JSON. Covered: both protocols, who is whose parent, a call without a traceparent,
the tap's probes, the sampled flag (which Triton 2.51 does not read)."""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from played_http import Answer, Call, PlayedHttp

from latentry_serving.contract.triton_traces import TraceExport
from latentry_serving.triton.process import TritonSettings

pytestmark = pytest.mark.triton

PATH = "/v1/traces"
CLIENT_SPAN = "b7ad6b7169203331"
CALL, COMPUTE = "InferRequest", "compute"


class TritonSpans(PlayedHttp):
    """An OTLP receiver over HTTP for what Triton sends."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[dict] = []
        self.services: set[str] = set()
        self.url = f"http://{self.address}{PATH}"

    def answer(self, call: Call) -> Answer:
        if call.path != PATH or call.headers["Content-Type"] != "application/json":
            return Answer(status=404)
        for resource in json.loads(call.body)["resourceSpans"]:
            attributes = {one["key"]: one["value"] for one in resource["resource"]["attributes"]}
            self.services.add(attributes["service.name"]["stringValue"])
            self.spans += [span for scope in resource["scopeSpans"] for span in scope["spans"]]
        return Answer()

    def of(self, trace: str) -> dict[str, dict]:
        """A trace's spans by name."""
        return {span["name"]: span for span in self.spans if span["traceId"] == trace}


class TapSpans(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver over gRPC for what the tap sends."""

    def __init__(self) -> None:
        self.spans: list = []
        self.server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request, _context):  # noqa: N802 - the service's name for it
        for resource in request.resource_spans:
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace: str) -> list:
        return [span for span in self.spans if span.trace_id.hex() == trace]


@pytest.fixture(scope="module")
def triton_spans() -> Iterator[TritonSpans]:
    with TritonSpans() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def tap_spans() -> Iterator[TapSpans]:
    receiver = TapSpans()
    yield receiver
    receiver.server.stop(0)


@pytest.fixture(scope="module")
def traced_triton(running_triton, tiny_bundle, triton_spans):
    settings = TritonSettings(traces=TraceExport(triton_spans.url, "tiny"))
    return running_triton(*tiny_bundle, settings=settings)


@pytest.fixture
def traced_tap(traced_triton, tap_spans, start_tap, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    addresses = traced_triton.addresses
    return start_tap(
        upstream_http=addresses.http,
        upstream_grpc=addresses.grpc,
        operations="{tiny_encode: encode}",
        model="tiny",
        otlp=json.dumps({"endpoint": tap_spans.endpoint}),
    )


def encode(tap, protocol: str, sampled: bool | None) -> str:
    """One call through the tap; its trace id, of which the call says nothing when ``sampled`` is None."""
    trace = secrets.token_hex(16)
    headers = None if sampled is None else {"traceparent": f"00-{trace}-{CLIENT_SPAN}-0{int(sampled)}"}
    module = http_client if protocol == "http" else grpc_client
    with module.InferenceServerClient(f"127.0.0.1:{tap.ports[protocol]}") as client:
        tensor = module.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        client.infer("tiny_encode", [tensor], headers=headers)
    return trace


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_one_trace_from_the_client_to_the_graph(protocol: str, traced_tap, tap_spans, triton_spans, wire) -> None:
    trace = encode(traced_tap, protocol, sampled=True)
    wire.eventually(lambda: tap_spans.of(trace) and len(triton_spans.of(trace)) == 3)
    (tap_span,), by_name = tap_spans.of(trace), triton_spans.of(trace)
    assert set(by_name) == {CALL, "tiny_encode", COMPUTE}
    # The tap forwards bytes as they are, so what Triton reads is the client's header: both are the client's children.
    assert tap_span.parent_span_id.hex() == CLIENT_SPAN
    assert by_name[CALL]["parentSpanId"] == CLIENT_SPAN
    assert by_name["tiny_encode"]["parentSpanId"] == by_name[CALL]["spanId"]
    assert by_name[COMPUTE]["parentSpanId"] == by_name["tiny_encode"]["spanId"]
    # Of what Triton does, the computing alone is over before the answer passes the tap.
    began, ended = (int(by_name[COMPUTE][f"{at}TimeUnixNano"]) for at in ("start", "end"))
    assert tap_span.start_time_unix_nano < began < ended < tap_span.end_time_unix_nano + 50_000_000
    assert triton_spans.services == {"tiny"}


def test_without_a_traceparent_there_is_no_span(traced_tap, tap_spans, triton_spans, wire) -> None:
    for protocol in ("http", "grpc"):
        encode(traced_tap, protocol, sampled=None)
        last = encode(traced_tap, protocol, sampled=True)
        wire.eventually(lambda last=last: tap_spans.of(last) and triton_spans.of(last))
    for spans in (triton_spans.spans, tap_spans.spans):
        assert all((one["parentSpanId"] if isinstance(one, dict) else one.parent_span_id) for one in spans)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_triton_traces_what_the_client_does_not_want_traced(
    protocol: str, traced_tap, tap_spans, triton_spans, wire
) -> None:
    """A limit of Triton (its issue 8474), written in docs/tap.md: when this fails, a Triton reads the flag."""
    trace = encode(traced_tap, protocol, sampled=False)
    wire.eventually(lambda: len(triton_spans.of(trace)) == 3)
    last = encode(traced_tap, protocol, sampled=True)
    wire.eventually(lambda: tap_spans.of(last))
    assert not tap_spans.of(trace)
