"""The operator's own Prometheus metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds: from a pass that needs no call to one that waits for a slow server."""


class OperatorMetrics:
    """All metrics, in a registry of their own. Labels are kinds, verbs and status codes: bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        self.reconcile_seconds = Histogram(
            "latentry_operator_reconcile_duration_seconds",
            "Time that one pass over one object took.",
            ["kind"],
            buckets=SECONDS,
            registry=registry,
        )
        self.reconcile_errors = Counter(
            "latentry_operator_reconcile_errors_total",
            "Passes that failed and are repeated.",
            ["kind", "reason"],
            registry=registry,
        )
        self.leading = Gauge("latentry_operator_leader", "1 while this process leads, else 0.", registry=registry)
        self._calls = Counter(
            "latentry_operator_api_calls_total",
            "Calls to the API server, each attempt counted.",
            ["verb", "kind", "code"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "latentry_operator_api_call_duration_seconds",
            "Time until the API server had answered; of watches, until they began.",
            ["verb"],
            buckets=SECONDS,
            registry=registry,
        )
        self._depth = Gauge(
            "latentry_operator_queue_depth", "Objects that wait to be worked on.", ["kind"], registry=registry
        )

    def observe_call(self, verb: str, kind: str, code: str, seconds: float) -> None:
        """One attempt of a call."""
        self._calls.labels(verb, kind, code).inc()
        self._call_seconds.labels(verb).observe(seconds)

    def watch_queue(self, kind: str, depth: Callable[[], int]) -> None:
        """Export a queue's length."""
        self._depth.labels(kind).set_function(depth)
