"""How Triton is told to export its own spans: the same words on one machine and in a pod.

Source: Triton Inference Server, docs/user_guide/trace.md. Spans go out over OTLP/HTTP, as JSON.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TraceExport:
    """Spans of Triton itself.

    Attributes:
        url: the collector's whole path for spans over HTTP, such as ``http://collector:4318/v1/traces``.
        service: ``service.name`` of the spans: the LatentModel's name, as in the tap's.
    """

    url: str
    service: str


def trace_arguments(export: TraceExport) -> tuple[str, ...]:
    """Arguments of tritonserver. Rate 0: a call is traced when it brings a traceparent, and only then."""
    return (
        "--trace-config=mode=opentelemetry",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=0",
        f"--trace-config=opentelemetry,url={export.url}",
        f"--trace-config=opentelemetry,resource=service.name={export.service}",
    )
