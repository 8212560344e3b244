"""Ports of a serving pod. The tap's are what clients and Prometheus see; Triton's are loopback only."""

TAP_HTTP = 8080
TAP_GRPC = 9000
TAP_ADMIN = 9400

UP_PAGE = 9500
"""Of `latentry up`, loopback only."""

TRITON_HTTP = 18080
TRITON_GRPC = 19000
TRITON_METRICS = 18082

METRICS_PATH = "/metrics"
TRITON_METRICS_PATH = "/metrics/triton"
"""On the tap's admin port."""
