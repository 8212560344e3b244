"""The tap's configuration as written by the planner and read by ``latentry tap --config FILE``."""

import itertools

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from latentry_serving.contract import metrics, ports
from latentry_serving.contract.manifest import Sha256
from latentry_serving.contract.operations import Operation


class Address(BaseModel):
    """A TCP address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    """0 lets the system choose; the tap prints what it got."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class LoadOverrides(BaseModel):
    """How Triton is to run every model of the bundle, in place of what the bundle's configurations say."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    instances: int = Field(ge=1)
    """Copies of each graph, on each GPU or on the CPU."""
    max_batch_size: int = Field(ge=1)
    """Most samples in one execution."""
    max_queue_delay_us: int = Field(ge=0)
    """Longest wait for others to share a batch, in microseconds."""


class TapConfig(BaseModel):
    """Everything a tap needs to know. Works without a bundle too: then it measures only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    model: str = "model"
    """Value of the ``model`` label: the LatentModel's name."""
    version: str = "unknown"
    """Value of the ``version`` label: the bundle's version."""
    digest: Sha256 | None = None
    """The promised bundle, exported as ``latentry_bundle_info``."""
    operations: dict[str, Operation] = Field(default_factory=dict)
    """Triton model name -> operation. Requests for other models are counted as ``other``."""
    bundle_dir: str | None = None
    """Folder of the unpacked bundle. With it the tap takes version and operations from the manifest there and is not
    ready unless that has the promised digest."""
    load: LoadOverrides | None = None
    """With it Triton runs in explicit mode, and the tap has it load every model of the bundle with these settings."""

    http: Address = Address(host="0.0.0.0", port=ports.TAP_HTTP)  # noqa: S104 - clients reach the pod from outside
    grpc: Address = Address(host="0.0.0.0", port=ports.TAP_GRPC)  # noqa: S104
    admin: Address = Address(host="0.0.0.0", port=ports.TAP_ADMIN)  # noqa: S104
    upstream_http: Address = Address(port=ports.TRITON_HTTP)
    upstream_grpc: Address = Address(port=ports.TRITON_GRPC)

    latency_buckets_seconds: tuple[float, ...] = metrics.DEFAULT_LATENCY_BUCKETS_SECONDS
    """Upper bounds of the latency histogram, ascending."""
    connect_timeout_seconds: float = Field(default=2.0, gt=0)
    """How long dialling Triton may take before the client's connection is refused."""
    buffer_bytes: int = Field(default=262_144, ge=4096)
    """Bytes held per direction and connection before reading from the faster side pauses."""
    max_connections: int = Field(default=10_000, gt=0)
    """Client connections over all protocols; one more is closed at once."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """After SIGTERM: how long calls in flight may take to finish."""
    log_level: str = "INFO"

    @model_validator(mode="after")
    def _buckets_ascend(self) -> "TapConfig":
        bounds = self.latency_buckets_seconds
        if not bounds or any(a >= b for a, b in itertools.pairwise(bounds)) or bounds[0] <= 0:
            raise ValueError("latencyBucketsSeconds must be positive and strictly ascending, for example [0.01, 0.05]")
        return self
