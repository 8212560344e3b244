"""`/metrics` and `/slis`: two views of one book."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from latentry_serving.contract.metrics import CallKind, OpaqueReason, Outcome, Protocol, RefusedReason
from latentry_serving.contract.slis import Slis
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import Call
from latentry_serving.tap.slis import slis
from latentry_serving.telemetry.prometheus import registry_for, render

DIGEST = "sha256:" + "0" * 64


def finish(book, operation, outcome, seconds, *, kind=CallKind.UNARY, at=100.0):
    call = Call(Protocol.GRPC, operation, kind, started_s=at - seconds, request_bytes=10, response_bytes=4)
    book.call_started(call)
    call.first_response_s, call.last_response_s, call.outcome = at - seconds / 2, at, outcome
    book.call_finished(call)


@pytest.fixture
def book():
    book = SliBook((0.01, 0.1), ["encode", "other"], started_s=90.0)
    finish(book, "encode", Outcome.OK, 2**-7)
    finish(book, "encode", Outcome.OK, 0.5)
    finish(book, "encode", Outcome.SERVER_ERROR, 5.0)
    finish(book, "encode", Outcome.OK, 3.0, kind=CallKind.STREAM)
    finish(book, "management", Outcome.CLIENT_ERROR, 0.1)
    book.call_started(Call(Protocol.HTTP, "encode", CallKind.UNARY, 100.0))
    book.connection_opened(Protocol.HTTP)
    book.connection_opaque(Protocol.GRPC, OpaqueReason.TOO_LARGE)
    book.connection_refused(Protocol.HTTP, RefusedReason.UPSTREAM_UNAVAILABLE, 100.0)
    book.settle()
    return book


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0; charset=utf-8"])
def test_metrics(accept, book):
    body, content_type = render(registry_for(book, model="digits", version="3", digest=DIGEST), accept)
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain")
    families = (parse_openmetrics if accept else parse_text)(body.decode())
    samples = {
        (s.name, *(v for k, v in sorted(s.labels.items()) if k not in ("model", "version"))): s.value
        for family in families
        for s in family.samples
        if s.labels.get("version", "3") == "3" and s.labels.get("model", "digits") == "digits"
    }
    for name, labels, value in (
        ("latentry_requests_total", ("unary", "encode", "ok", "grpc"), 2),
        ("latentry_requests_total", ("unary", "encode", "server_error", "grpc"), 1),
        ("latentry_requests_total", ("unary", "encode", "reset", "http"), 0),
        ("latentry_requests_total", ("unary", "encode", "deadline_exceeded", "grpc"), 0),
        ("latentry_requests_total", ("unary", "management", "client_error", "grpc"), 1),
        ("latentry_requests_total", ("unary", "other", "upstream_unavailable", "http"), 1),
        ("latentry_request_duration_seconds_bucket", ("unary", "0.01", "encode"), 1),
        ("latentry_request_duration_seconds_bucket", ("unary", "0.1", "encode"), 1),
        ("latentry_request_duration_seconds_bucket", ("unary", "+Inf", "encode"), 2),
        ("latentry_request_duration_seconds_count", ("stream", "encode"), 1),
        ("latentry_request_duration_seconds_sum", ("unary", "encode"), 2**-7 + 0.5),
        ("latentry_first_response_seconds_sum", ("stream", "encode"), 1.5),
        ("latentry_request_bytes_total", ("encode",), 40),
        ("latentry_response_bytes_total", ("encode",), 16),
        ("latentry_requests_in_flight", ("encode",), 1),
        ("latentry_connections", ("http",), 1),
        ("latentry_opaque_connections_total", ("too_large",), 1),
        ("latentry_opaque_connections_total", ("upgrade",), 0),
        ("latentry_refused_connections_total", ("upstream_unavailable",), 1),
        ("latentry_bundle_info", (DIGEST,), 1),
    ):
        assert samples[name, *labels] == value, (name, labels)
    for name, labels in (
        ("latentry_requests_total", ("unary", "encode", "client_error", "grpc")),
        ("latentry_requests_total", ("unary", "encode", "deadline_exceeded", "http")),
        ("latentry_request_duration_seconds_count", ("unary", "management")),
        ("latentry_request_duration_seconds_count", ("unary", "other")),
        ("latentry_first_response_seconds_count", ("unary", "encode")),
        ("latentry_requests_in_flight", ("management",)),
    ):
        assert (name, *labels) not in samples


def test_slis(book):
    document = slis(book, model="digits", version="3", digest=DIGEST, now_s=100.0)
    assert Slis.model_validate_json(document.model_dump_json(by_alias=True)) == document
    assert document.uptime_seconds == 10
    encode = next(o for o in document.operations if (o.operation, o.protocol, o.kind) == ("encode", "grpc", "unary"))
    assert encode.total.requests == encode.recent.requests == 3
    assert encode.total.requests_per_second == pytest.approx(0.3)
    assert encode.total.error_ratio == pytest.approx(1 / 3)
    assert encode.total.latency_seconds.p99 == pytest.approx(0.5, rel=0.02)
    assert document.inference.total.requests == 4, "management and streams are not unary inference"
    assert document.inference.total.outcomes[Outcome.UPSTREAM_UNAVAILABLE] == 1
    assert document.inference.in_flight == 1
    assert document.opaque_connections[OpaqueReason.TOO_LARGE] == 1


def test_recent_figures_fade_and_totals_stay(book):
    later = slis(book, model="digits", version="3", digest=None, now_s=200.0).inference
    assert (later.recent.requests, later.recent.error_ratio, later.recent.latency_seconds.p50) == (0, None, None)
    assert later.recent.seconds == pytest.approx(50)
    assert later.total.requests == 4
