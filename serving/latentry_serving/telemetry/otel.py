"""Spans and metrics to an OpenTelemetry collector. Imported only when one is configured: it takes 40 MB."""

import asyncio
import threading

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import CollectorRegistry

from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.telemetry.otel_metrics import RegistryExport
from latentry_serving.telemetry.otel_spans import SpanListener, TraceIds

_STOP_SECONDS = 2.0
"""What is on its way gets this long when the tap stops, whether the collector answers or not."""


class Telemetry:
    """Everything that leaves over OTLP. Queues are bounded, exports run in the SDK's own threads."""

    def __init__(self, config: TapConfig, endpoint: str, *, unix_offset_s: float) -> None:
        """
        Args:
            endpoint: ``http://host:port`` or ``https://host:port`` of the collector's gRPC receiver.
            unix_offset_s: unix time minus the monotonic time of calls.
        """
        self._config = config
        self._endpoint = endpoint
        own = {"service.name": config.model, "service.version": config.version}
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word.
        self._resource = Resource.create(own).merge(OTELResourceDetector().detect())
        ids = TraceIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=self._resource, id_generator=ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self.spans = SpanListener(self._provider.get_tracer("latentry"), ids, config, unix_offset_s=unix_offset_s)
        self._metrics: RegistryExport | None = None

    def export_metrics(self, registry: CollectorRegistry) -> None:
        """Begins to export what a registry holds."""
        self._metrics = RegistryExport(
            OTLPMetricExporter(endpoint=self._endpoint),
            registry,
            self._resource,
            interval_s=self._config.otlp.metrics_interval_seconds,
        )

    async def stop(self) -> None:
        """Exports once more, as far as the collector takes it within two seconds."""
        thread = threading.Thread(target=self._shut_down, name="otlp-stop", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, _STOP_SECONDS)

    def _shut_down(self) -> None:
        if self._metrics is not None:
            self._metrics.stop(_STOP_SECONDS / 2)
        self._provider.shutdown()
