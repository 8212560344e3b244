"""What planning for a cluster comes to: a plan, or a reason to wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from latentry_operator.api.gpupool import Toleration
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.status import Workload
from latentry_operator.plan.facts import Capabilities, ClusterSettings
from latentry_serving.contract.tap_config import TapConfig


class WaitingReason(StrEnum):
    """Why a valid model cannot run now. The message says the numbers and the remedy."""

    KSERVE_NOT_INSTALLED = "KServeNotInstalled"
    """The spec asks for workload KServe, whose CRDs the cluster has not."""
    GPU_POOL_NOT_FOUND = "GPUPoolNotFound"
    """There is no GPUPool of that name."""
    GPU_POOL_TOO_SMALL = "GPUPoolTooSmall"
    """No replica, or not as many as the spec asks for, would fit even into the unused pool."""
    GPU_POOL_USED_UP = "GPUPoolUsedUp"
    """Other models use the devices that this one needs."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is to be changed until the cluster does; what runs keeps running."""

    reason: str
    message: str


class Autoscaler(StrEnum):
    """What sets the number of replicas."""

    HPA = "HPA"
    KEDA = "KEDA"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class ScalingPlan:
    """How many replicas run.

    Attributes:
        autoscaler: who sets the number; with NONE the workload has ``min_replicas``.
        min_replicas, max_replicas: equal with NONE.
        target: percent of the CPU request for HPA, requests in flight per replica for KEDA; None with NONE.
    """

    autoscaler: Autoscaler
    min_replicas: int
    max_replicas: int
    target: int | None


@dataclass(frozen=True, slots=True)
class PodPlacement:
    """Where a pod runs and what devices it gets; empty on CPU.

    Attributes:
        devices: resource name -> amount for each replica.
    """

    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...]
    devices: Mapping[str, int]
    runtime_class_name: str | None


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """One LatentModel, ready to be rendered.

    Attributes:
        model: the LatentModel that is served.
        namespace: where everything goes.
        revision: ``<model>-<8 hex digits>``: the name of the workload.
        digest: the promised bundle.
        workload: KServe or Deployment, never Auto.
        workload_reason: why that one, as a sentence.
        tap: the tap's configuration.
        placement: where pods run.
        scaling: how many replicas run.
        notes: what the cluster cannot give although the model runs, as sentences with a remedy.
        capabilities, settings: as given.
    """

    model: LatentModel
    namespace: str
    revision: str
    digest: str
    workload: Workload
    workload_reason: str
    tap: TapConfig
    placement: PodPlacement
    scaling: ScalingPlan
    notes: tuple[str, ...]
    capabilities: Capabilities
    settings: ClusterSettings

    @property
    def name(self) -> str:
        """The LatentModel's name: that of the Service and of everything that outlives a revision."""
        return self.model.metadata.name

    @property
    def deployment(self) -> str:
        """The Deployment whose generation and replicas say whether the revision is available."""
        return f"{self.revision}-predictor" if self.workload is Workload.KSERVE else self.revision

    @property
    def devices(self) -> int:
        """Devices that the fewest replicas need."""
        return self.scaling.min_replicas * sum(self.placement.devices.values())
