"""Spans made after the call, and Prometheus' families as OTLP's. Covered: who decides about a span, its times, parent,
name, attributes and status; hostile text; counters, gauges and histograms."""

import random

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from latentry_serving.contract.metrics import CallKind, Outcome, Protocol, SampleLoss
from latentry_serving.contract.tap_config import Otlp, TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import Call
from latentry_serving.sli.samples import SampleBook
from latentry_serving.sli.trace import TraceContext
from latentry_serving.tap.http1_heads import parse_request_head
from latentry_serving.tap.http2_headers import Fields
from latentry_serving.telemetry.otel_metrics import metrics_data
from latentry_serving.telemetry.otel_spans import SpanListener, TraceIds
from latentry_serving.telemetry.prometheus import registry_for

TRACE = TraceContext(5, 7, sampled=True, state="a=b")


class Spans:
    """A listener and what it made."""

    def __init__(self, root_ratio: float = 0.0) -> None:
        self.exporter = InMemorySpanExporter()
        ids = TraceIds()
        provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        config = TapConfig(model="m", version="3", embedding_space="e", otlp=Otlp(root_ratio=root_ratio))
        self.listener = SpanListener(provider.get_tracer("t"), ids, config, unix_offset_s=1e9, dice=random.Random(0))

    def of(self, call: Call):
        self.exporter.clear()
        self.listener.call_begun(call)
        self.listener.call_started(call)
        self.listener.call_finished(call)
        return self.exporter.get_finished_spans()


def http_call(target=b"/v2/models/m/infer", *, method=b"POST", host=b"models:81", trace=TRACE, **fields) -> Call:
    head = parse_request_head(b"%s %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (method, target, host))
    values = {"last_response_s": 12.5, "outcome": Outcome.OK, "status": 200} | fields
    return Call(Protocol.HTTP, "encode", CallKind.UNARY, 10.25, head=head, trace=trace, **values)


def grpc_call(**fields) -> Call:
    head = Fields(b"/inference.GRPCInferenceService/ModelInfer", b"", b"", b"", b"", b"[::1]:9000", b"", TRACE)
    values = {"last_response_s": 12.5, "outcome": Outcome.OK, "status": 0} | fields
    return Call(Protocol.GRPC, "encode", CallKind.UNARY, 10.25, head=head, trace=TRACE, **values)


def test_a_span_has_the_calls_times_and_the_callers_trace():
    (span,) = Spans().of(http_call())
    assert (span.start_time, span.end_time) == (1_000_000_010_250_000_000, 1_000_000_012_500_000_000)
    assert (span.context.trace_id, span.parent.span_id, span.context.trace_state.get("a")) == (5, 7, "b")
    assert span.parent.is_remote


@pytest.mark.parametrize("trace", [None, TRACE._replace(sampled=False)])
def test_the_parents_flag_decides(trace):
    assert Spans().of(http_call(trace=trace)) == ()


def test_a_call_nobody_saw_to_its_end_has_no_span():
    assert Spans().of(http_call(outcome=None)) == ()


def test_a_share_of_calls_without_a_parent_begins_a_trace_and_none_with_one_is_overruled():
    spans = Spans(root_ratio=0.25)
    roots = [span for _ in range(2_000) for span in spans.of(http_call(trace=None))]
    assert len(roots) == pytest.approx(500, abs=100)
    assert all(span.parent is None or not span.parent.is_valid for span in roots)
    assert len({span.context.trace_id for span in roots}) == len(roots)
    assert Spans(root_ratio=1).of(http_call(trace=TRACE._replace(sampled=False))) == ()


def test_the_trace_begun_here_is_the_spans_and_the_exemplars():
    call = http_call(trace=None)
    (span,) = Spans(root_ratio=1).of(call)
    assert span.context.trace_id == call.trace.trace_id


def test_attributes_of_http():
    (span,) = Spans().of(http_call(b"/v2/models/m/infer?a=b"))
    assert span.name == "POST"
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "url.path": "/v2/models/m/infer",
        "url.query": "a=b",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "server.address": "models",
        "server.port": 81,
        "latentry.model": "m",
        "latentry.version": "3",
        "latentry.embedding_space": "e",
        "latentry.operation": "encode",
        "latentry.outcome": "ok",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_attributes_of_grpc():
    (span,) = Spans().of(grpc_call(status=14, outcome=Outcome.SERVER_ERROR))
    assert span.name == span.attributes["rpc.method"] == "inference.GRPCInferenceService/ModelInfer"
    assert span.attributes["rpc.response.status_code"] == span.attributes["error.type"] == "UNAVAILABLE"
    assert (span.attributes["server.address"], span.attributes["server.port"]) == ("::1", 9000)
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (http_call(outcome=Outcome.SERVER_ERROR, status=503), "503"),
        (http_call(outcome=Outcome.RESET, status=None), "reset"),
        (http_call(outcome=Outcome.CLIENT_ERROR, status=404), None),
        (http_call(outcome=Outcome.CANCELLED, status=None), None),
        (grpc_call(outcome=Outcome.DEADLINE_EXCEEDED, status=None), "deadline_exceeded"),
        (grpc_call(outcome=Outcome.SERVER_ERROR, status=99), "99"),
    ],
)
def test_only_the_servers_faults_are_errors(call, error):
    (span,) = Spans().of(call)
    assert span.attributes.get("error.type") == error
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)


def test_hostile_text_is_cut_and_keeps_names_few():
    (span,) = Spans().of(http_call(b"/" + b"x" * 5_000, method=b"PROPFIND", host=b"\xff" * 1_000))
    assert span.name == "HTTP"
    assert (span.attributes["http.request.method"], span.attributes["http.request.method_original"]) == (
        "_OTHER",
        "PROPFIND",
    )
    assert all(len(str(value)) <= 256 for value in span.attributes.values())


def test_families_become_metrics_of_the_same_name():
    book, samples = SliBook((0.01, 0.1), ["encode"], started_s=0.0), SampleBook(["encode"])
    for seconds in (0.25, 0.0625, 0.0625):
        call = Call(Protocol.GRPC, "encode", CallKind.UNARY, 1.0, 1.0 + seconds, 1.0 + seconds, outcome=Outcome.OK)
        book.call_started(call)
        book.call_finished(call)
    book.connection_opened(Protocol.HTTP)
    samples.lost["encode", SampleLoss.EMPTY] = 4
    registry = registry_for(book, samples, model="m", version="3", digest=None)
    data = metrics_data(registry.collect(), Resource({}), started_ns=1, now_ns=2)
    metrics = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert all(name.startswith("latentry_") for name in metrics)

    def point(name, **labels):
        found = [p for p in metrics[name].data.data_points if labels.items() <= dict(p.attributes).items()]
        assert len(found) == 1
        return found[0]

    duration = point("latentry_request_duration_seconds", kind="unary")
    assert (duration.count, duration.sum) == (3, 0.375)
    assert (list(duration.explicit_bounds), list(duration.bucket_counts)) == ([0.01, 0.1], [0, 2, 1])
    assert (duration.start_time_unix_nano, duration.time_unix_nano) == (1, 2)
    assert point("latentry_requests_total", protocol="grpc", outcome="ok").value == 3
    assert metrics["latentry_requests_total"].data.is_monotonic
    assert point("latentry_connections", protocol="http").value == 1
    assert point("latentry_samples_lost_total", reason="empty").value == 4
