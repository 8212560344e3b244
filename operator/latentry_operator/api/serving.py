"""What is served, where and with how much: bundle, placement, runtime, scaling, pod."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from latentry_operator.api.base import (
    ATOMIC,
    Annotations,
    ApiModel,
    Bytes,
    Digest,
    Labels,
    LongObjectName,
    ObjectName,
    Time,
    rules,
)
from latentry_operator.api.quantity import Cpu
from latentry_serving.contract.units import Duration

BUNDLE_SCHEMES = ("file", "s3", "gs", "oci", "pvc", "hf", "https", "hdfs", "webhdfs", "modelscope")
"""``file`` is for one machine; the others are what KServe's storage initializer fetches."""

Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[!-~]+$", examples=["registry/tap:1.0"])]


class Bundle(ApiModel):
    """The model bundle to serve."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.digest) || self.uri.startsWith('file://')",
                "digest is required unless uri starts with file://; `latentry bundle inspect` prints it",
            )
        )
    )

    uri: Annotated[
        str,
        Field(
            max_length=1024, pattern=rf"^({'|'.join(BUNDLE_SCHEMES)})://[!-~]+$", examples=["s3://models/digits-vae/3"]
        ),
    ]
    """Where the bundle lies: s3://, gs://, oci://, pvc://, hf://, https:// and so on. file:// works on one machine
    only; file://a/b is relative to the folder in which latentry runs, file:///a/b is absolute."""
    digest: Digest | None = None
    """SHA-256 of the bundle's manifest, as `latentry bundle inspect` prints it; the pod refuses any other bundle. Left
    out: only allowed with file://, whatever bundle lies there is served."""
    size: Bytes | None = None
    """Size of the bundle's files, to see before the first start whether they fit a device. Unit: bytes, such as 120Mi.
    Left out: learnt from the first pod."""
    credentials_secret: LongObjectName | None = None
    """Secret of the namespace that opens the bundle's storage, with keys such as AWS_ACCESS_KEY_ID. Left out: none;
    the service account, or nothing, opens it."""


class Placement(ApiModel):
    """Which hardware a replica gets."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.gpus) || has(self.gpuPool)", "gpus needs gpuPool; name a GPUPool or remove gpus")
        )
    )

    gpu_pool: ObjectName | None = None
    """Name of the GPUPool whose devices serve the model. Left out: the model runs on CPU."""
    gpus: Annotated[int, Field(ge=1, le=64)] | None = None
    """Whole GPUs or MIG slices for each replica. Unit: devices. Left out: 1 with gpuPool, 0 without."""
    memory_per_sample: Bytes | None = None
    """Working memory that one sample of a batch takes on the device, to see whether a whole batch fits. Unit: bytes,
    such as 8Mi. Left out: not counted."""


class ComputeAmounts(ApiModel):
    """Amounts of CPU and memory."""

    cpu: Annotated[Cpu, Field(examples=[2])] | None = None
    """Processor time. Unit: cores, written as 2, "0.5" or 500m. Left out: not set."""
    memory: Bytes | None = None
    """Main memory. Unit: bytes, written as 512Mi or 4Gi. Left out: not set."""


class Resources(ApiModel):
    """CPU and memory of the Triton container; GPUs follow from placement."""

    requests: ComputeAmounts = ComputeAmounts()
    """What the scheduler sets aside."""
    limits: ComputeAmounts = ComputeAmounts()
    """What the container may not exceed."""


class Runtime(ApiModel):
    """How Triton runs each operation; it takes precedence over what the bundle carries."""

    instances: Annotated[int, Field(ge=1, le=64)] = 1
    """Copies of each operation's graph in one replica, on each GPU or on the CPU. Unit: instances."""
    max_batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """Most samples that Triton puts into one execution. Unit: samples."""
    max_queue_delay: Time = Duration(0)
    """Longest time a request waits for others to share its batch; 0s sends it on at once. Unit: time, such as 500us."""
    resources: Resources = Resources()
    """CPU and memory of the Triton container."""


class ScalingMetric(StrEnum):
    """What the number of replicas follows."""

    CONCURRENCY = "Concurrency"
    CPU = "CPU"
    NONE = "None"


class Scaling(ApiModel):
    """How many replicas run."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.maxReplicas) || self.maxReplicas >= self.minReplicas",
                "maxReplicas must be at least minReplicas",
            ),
            (
                "!has(self.maxReplicas) || self.metric != 'None' || self.maxReplicas == self.minReplicas",
                "metric None keeps minReplicas; remove maxReplicas or choose Concurrency or CPU",
            ),
            ("!has(self.target) || self.metric != 'None'", "metric None has no target; remove target"),
            (
                "!has(self.target) || self.metric != 'CPU' || self.target <= 100",
                "target is a percentage from 1 to 100 when metric is CPU",
            ),
        )
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Fewest replicas; `kubectl scale` sets it. Unit: pods."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Most replicas. Unit: pods. Left out: as minReplicas, so nothing scales."""
    metric: ScalingMetric = ScalingMetric.CONCURRENCY
    """What the number of replicas follows: requests in flight (Concurrency, needs KEDA), CPU use, or nothing (None)."""
    target: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """What each replica should carry. Unit: requests in flight for Concurrency, percent of the CPU request for CPU.
    Left out: 16 requests, or 80 percent."""


class Images(ApiModel):
    """Container images in place of the operator's."""

    triton: Image | None = None
    """Image of the Triton container. Left out: the operator's setting."""
    tap: Image | None = None
    """Image of the tap container. Left out: the operator's setting."""


class Pod(ApiModel):
    """Additions to the serving pods."""

    labels: Labels = Field(default={})
    """More labels of the pods."""
    annotations: Annotations = Field(default={})
    """More annotations of the pods."""
    service_account_name: LongObjectName | None = None
    """Service account whose secrets open the bundle's storage. Left out: the one the operator makes, with no rights."""
    image_pull_secrets: Annotated[tuple[LongObjectName, ...], Field(max_length=16, json_schema_extra=ATOMIC)] = ()
    """Names of secrets for pulling the images."""
    images: Images = Images()
    """Container images in place of the operator's."""
