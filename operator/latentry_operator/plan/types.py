"""The planner's settings and its result. Both bodies, the cluster and one machine, run what stands here."""

from dataclasses import dataclass, field

from latentry_operator.api.serving import Resources
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.contract.units import Duration


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What the body decides, not the user's spec.

    Attributes:
        tap: the tap's addresses, limits and histogram to start from; the planner fills in model, version, digest and
            operations, and adds a bucket boundary for every latency objective.
    """

    tap: TapConfig = field(default_factory=TapConfig)


@dataclass(frozen=True, slots=True)
class OperationPlan:
    """How Triton runs one operation; takes precedence over the bundle's ``config.pbtxt``.

    Attributes:
        operation: what it does.
        model: Triton model name.
        instances: copies of the graph, on each GPU or on the CPU.
        max_batch_size: most samples in one execution.
        max_queue_delay: longest wait for others to share a batch.
    """

    operation: Operation
    model: str
    instances: int
    max_batch_size: int
    max_queue_delay: Duration


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """Which hardware a replica gets.

    Attributes:
        gpu_pool: name of the GPUPool, None on CPU.
        gpus: devices for each replica, 0 on CPU.
        resources: CPU and memory of the Triton container.
    """

    gpu_pool: str | None
    gpus: int
    resources: Resources


@dataclass(frozen=True, slots=True)
class Plan:
    """One revision, ready to be rendered or started.

    Attributes:
        model: the LatentModel's name.
        namespace: the LatentModel's namespace, None where there are none.
        revision: ``<model>-<8 hex digits>``, the same for the same pods and bundle.
        bundle_uri: where the bundle lies, as in the spec.
        bundle_bytes: size of the bundle's files.
        version: the bundle's version.
        digest: the bundle's digest.
        operations: in the order of the bundle's contract.
        placement: which hardware a replica gets.
        tap: the tap's whole configuration.
    """

    model: str
    namespace: str | None
    revision: str
    bundle_uri: str
    bundle_bytes: int
    version: str
    digest: str
    operations: tuple[OperationPlan, ...]
    placement: PlacementPlan
    tap: TapConfig
