"""OpenTelemetry spans of reconcile passes; without an endpoint they cost next to nothing and go nowhere."""

import asyncio

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

NAME = "latentry-operator"
LAST_SPANS_SECONDS = 2.0
"""How long the end of the process may wait for the receiver; an exporter alone tries for ten seconds a batch."""


class Tracing:
    """A tracer whose spans go to ``endpoint`` (``http://host:4317``)."""

    def __init__(self, endpoint: str | None) -> None:
        self.tracer: trace.Tracer = trace.NoOpTracer()
        self._provider: TracerProvider | None = None
        if endpoint is not None:
            self._provider = TracerProvider(resource=Resource.create({"service.name": NAME}))
            self._exporter = OTLPSpanExporter(endpoint=endpoint)
            self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
            self.tracer = self._provider.get_tracer(NAME)

    async def close(self) -> None:
        """Send what is left, as long as there is time."""
        if self._provider is None:
            return
        give_up = asyncio.get_running_loop().call_later(LAST_SPANS_SECONDS, self._exporter.shutdown)
        await asyncio.to_thread(self._provider.shutdown)
        give_up.cancel()
