"""What `latentry up` knows about a model at one moment: plain values between the processes and the screen."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a local model is in its life."""

    STARTING = "Starting"
    READY = "Ready"
    RESTARTING = "Restarting"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where clients and Prometheus reach a model, ``host:port`` each, and the page that shows it, a URL."""

    http: str
    grpc: str
    admin: str
    page: str = ""

    @property
    def metrics_url(self) -> str:
        return f"http://{self.admin}/metrics"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the tap measured: rate and latency over its recent window, counts since it started."""

    requests_per_second: float
    p50_seconds: float | None
    p99_seconds: float | None
    requests: int
    errors: int
    """Requests that the server failed: outcomes server_error, upstream_unavailable, reset and deadline_exceeded."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One model, now."""

    name: str
    version: str
    phase: Phase
    message: str
    addresses: Addresses | None = None
    traffic: Traffic | None = None
    was_ready: bool = False
    interruptions: int = 0
    """How often the model stopped being ready after it had been."""
