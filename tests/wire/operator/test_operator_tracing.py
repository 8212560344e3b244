"""Spans of the operator's passes in a real OTLP receiver.

Covered: the object's key, times, a failed pass; a receiver that is absent or never answers holds nothing up.
"""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from kube import ControlPlane, Obj
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from latentry_operator.runtime.reconcile import Reconciler

Make = Callable[..., Obj]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver that keeps spans by the object they are about."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        self.services: set[str] = set()
        self.server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the service's name for it
        for resource in request.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                (key,) = (a.value.string_value for a in span.attributes if a.key == "latentry.object")
                self.spans.setdefault(key, []).append(span)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    made = Collector()
    yield made
    made.server.stop(0)


async def test_each_pass_is_a_span_with_the_objects_key(
    collector: Collector,
    permitted: ControlPlane,
    run_operator_on: Any,
    world: Any,
    make_model: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pass_over = Reconciler.reconcile

    async def fails_once(self: Reconciler, key: tuple[str, str]) -> float | None:
        if key[1] == "unlucky":
            monkeypatch.setattr(Reconciler, "reconcile", pass_over)
            raise RuntimeError("made to fail")
        return await pass_over(self, key)

    monkeypatch.setattr(Reconciler, "reconcile", fails_once)
    before = time.time_ns()
    async with run_operator_on(permitted, otlp_endpoint=collector.endpoint):
        for name in ("tiny", "unlucky"):
            await world.apply(make_model(name))
            await world.complete(name)
        tiny, unlucky = (f"{world.namespace}/{name}" for name in ("tiny", "unlucky"))

        async def told() -> bool:
            return {tiny, unlucky} <= collector.spans.keys()

        await world.eventually(told)
    after = time.time_ns()
    assert collector.services == {"latentry-operator"}
    for span in (*collector.spans[tiny], *collector.spans[unlucky]):
        assert span.name == "reconcile LatentModel"
        assert before <= span.start_time_unix_nano < span.end_time_unix_nano <= after
    assert all(span.status.code != Status.STATUS_CODE_ERROR for span in collector.spans[tiny])
    failed, *repeated = sorted(collector.spans[unlucky], key=lambda span: span.start_time_unix_nano)
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert "made to fail" in failed.status.message
    assert repeated


@pytest.mark.parametrize("absent", [True, False])
async def test_a_receiver_that_does_not_answer_holds_nothing_up(
    absent: bool,
    monkeypatch: pytest.MonkeyPatch,
    permitted: ControlPlane,
    run_operator_on: Any,
    world: Any,
    make_model: Make,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        port = silent.getsockname()[1]
        if absent:
            silent.close()
        # Its end, too, is waited for: for much less than the exporter would try.
        async with run_operator_on(permitted, otlp_endpoint=f"http://127.0.0.1:{port}"):
            await world.apply(make_model("tiny"))
            await world.complete("tiny")
