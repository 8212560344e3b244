"""The tap's configuration as written by the planner and read by ``latentry tap --config FILE``."""

import itertools
from typing import Annotated

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


class ProbeSettings(BaseModel):
    """When the tap sends the bundle's golden inputs to its Triton, and how far it gives way to users."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    every_seconds: float = Field(default=60.0, gt=0)
    """From the end of one round over all operations to the start of the next."""
    in_flight_limit: int = Field(default=4, ge=0)
    """A probe waits while more requests of users than this are in flight."""
    postpone_seconds: float = Field(default=30.0, ge=0)
    """How long after its start a round may still wait for users; then it runs all the same."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """How long Triton may be silent before a probe fails."""


class SampleQueue(BaseModel):
    """How much sampled traffic may wait for its analysis. What does not fit is lost and counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int = Field(default=256, ge=1)
    """Sampled calls in flight, and as many again waiting for the analysis."""
    bytes: int = Field(default=64 * 2**20, ge=1)
    """Payload bytes of all of them together."""


class Sampling(BaseModel):
    """Which calls are looked into. Only inference of the contract's operations is."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    max_per_second: float = Field(default=0.0, ge=0, le=100_000)
    """Most calls per second; 0 turns sampling off, and with it the analysis process."""
    rates: dict[Operation, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Share of an operation's calls that may be chosen at all; 1 where not named."""
    max_bytes: int = Field(default=4 * 2**20, ge=1)
    """Most payload bytes of one call, request and answer together."""
    queue: SampleQueue = SampleQueue()
    recent_inputs: int = Field(default=0, ge=0, le=1_000)
    """Latest sampled encode inputs that are kept, with their embeddings, in the analysis process' memory, for whoever
    may read the admin port: a candidate is compared on them. 0 keeps none."""
    recent_bytes: int = Field(default=16 * 2**20, ge=1, le=24 * 2**20)
    """Most bytes of all of them together; the oldest go first."""


class ScoreProbeSettings(BaseModel):
    """The tap's own score calls on sampled inputs, for clients that only encode. Score calls of users count towards the
    same budget: with enough of them there are none."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    per_second: float = Field(default=1.0, ge=0, le=1_000)
    """Most inputs scored per second; 0 turns them off."""
    in_flight_limit: int = Field(default=4, ge=0)
    """None is sent while more requests of users than this are in flight."""
    timeout_seconds: float = Field(default=5.0, gt=0)
    """How long Triton may be silent before one fails."""


class DriftSettings(BaseModel):
    """How sampled traffic is held against the bundle's profile. Needs a bundle with a profile, and sampling."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    window: int | None = Field(default=None, ge=2, le=1_000_000)
    """Vectors that are judged together; left out, or larger than the profile's: the profile's."""
    expected_run_time_seconds: float = Field(default=30 * 86_400.0, gt=0)
    """Mean time between false alarms of the whole model on undrifted traffic."""
    max_wait_seconds: float = Field(default=3_600.0, gt=0)
    """A window that has not filled by then is judged at its true size, or reported as insufficient data."""
    replicas: int = Field(default=1, ge=1, le=100_000)
    """Taps that watch the same model and share its false-alarm budget."""
    top_contributors: int = Field(default=5, ge=0, le=20)
    """Dimensions named for each alarm, in documents and as series."""
    score_probes: ScoreProbeSettings = ScoreProbeSettings()


class QualitySettings(BaseModel):
    """What a good reconstruction is."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    reconstruction_error_within: str = Field(default="p99", pattern=r"^(p[0-9]{1,2}(\.[0-9]+)?|[0-9]+(\.[0-9]+)?)$")
    """The largest good error: a percentile of the bundle's validation data, such as ``p99``, or a number."""
    objective: float | None = Field(default=None, gt=0, lt=100)
    """Percent of scored samples that must be within it."""
    anomaly_rate: float | None = Field(default=None, gt=0, lt=100)
    """Largest percent of samples beyond the profile's anomaly threshold."""


class Otlp(BaseModel):
    """Spans and metrics to an OpenTelemetry collector, over gRPC."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    endpoint: str | None = Field(default=None, pattern=r"^https?://[^/?#]+/?$")
    """``http://host:4317``, or ``https://`` for TLS. Left out: OTEL_EXPORTER_OTLP_ENDPOINT; without that either nothing
    is exported. The exporter's other OTEL_EXPORTER_OTLP_* variables hold as usual."""
    root_ratio: float = Field(default=0.0, ge=0, le=1)
    """Share of calls without a traceparent that begin a trace. With one, its sampled flag decides."""
    metrics_interval_seconds: float = Field(default=60.0, gt=0)
    """Time between two exports of the metrics."""


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
    embedding_space: str = ""
    """The bundle's embedding space, an attribute of spans."""
    load: LoadOverrides | None = None
    """With it Triton runs in explicit mode, and the tap has it load every model of the bundle with these settings."""
    probes: ProbeSettings = ProbeSettings()
    """Golden probes; they run when there is a bundle."""

    http: Address = Address(host="0.0.0.0", port=ports.TAP_HTTP)  # noqa: S104 - clients reach the pod from outside
    grpc: Address = Address(host="0.0.0.0", port=ports.TAP_GRPC)  # noqa: S104
    admin: Address = Address(host="0.0.0.0", port=ports.TAP_ADMIN)  # noqa: S104
    http_fd: int | None = Field(default=None, ge=3)
    """Descriptor of a listening socket that the tap inherits, in place of ``http``. Several taps may have the same."""
    grpc_fd: int | None = Field(default=None, ge=3)
    """The same in place of ``grpc``."""
    accepting: bool = True
    """Whether clients are taken from the start; otherwise once the control socket says so."""
    control: str | None = None
    """Path of a Unix socket, made with mode 0600, through which the tap is told to accept, to stop accepting and to
    hand its clients over to another tap. Left out: there is none."""
    hold_seconds: float = Field(default=0.0, ge=0)
    """How long clients wait for another tap to take them over while nobody listens where Triton should; the control
    socket may say otherwise. 0: they are refused at once."""
    upstream_http: Address = Address(port=ports.TRITON_HTTP)
    upstream_grpc: Address = Address(port=ports.TRITON_GRPC)
    upstream_metrics: Address = Address(port=ports.TRITON_METRICS)
    """Triton's own metrics, shown at the admin port's `/metrics/triton`; nothing depends on them."""

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
    sampling: Sampling = Sampling()
    """Which calls are decoded and analysed."""
    drift: DriftSettings = DriftSettings()
    """How they are held against the bundle's profile."""
    quality: QualitySettings = QualitySettings()
    """What a good reconstruction is."""
    otlp: Otlp = Otlp()
    """Where spans and metrics go beside `/metrics`."""
    log_level: str = "INFO"

    @model_validator(mode="after")
    def _buckets_ascend(self) -> "TapConfig":
        bounds = self.latency_buckets_seconds
        if not bounds or any(a >= b for a, b in itertools.pairwise(bounds)) or bounds[0] <= 0:
            raise ValueError("latencyBucketsSeconds must be positive and strictly ascending, for example [0.01, 0.05]")
        return self
