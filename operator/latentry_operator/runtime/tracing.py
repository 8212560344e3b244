"""OpenTelemetry spans of reconcile passes; without an endpoint they cost next to nothing and go nowhere."""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

NAME = "latentry-operator"


def make_provider(endpoint: str | None) -> tuple[trace.Tracer, TracerProvider | None]:
    """A tracer, and the provider to shut down at the end where there is an endpoint (``http://host:4317``)."""
    if endpoint is None:
        return trace.NoOpTracer(), None
    provider = TracerProvider(resource=Resource.create({"service.name": NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider.get_tracer(NAME), provider
