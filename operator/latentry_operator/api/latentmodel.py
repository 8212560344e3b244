"""LatentModel: what to serve and how well."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from latentry_operator.api.base import API_VERSION, ApiModel, ModelName, ObjectMeta, rules
from latentry_operator.api.gateway import Gateway
from latentry_operator.api.objectives import Monitoring, Slo
from latentry_operator.api.rollout import Rollout
from latentry_operator.api.serving import Bundle, Placement, Pod, Runtime, Scaling
from latentry_operator.api.status import LatentModelStatus, Workload
from latentry_serving.contract.operations import Family


class LatentModelSpec(ApiModel):
    """What to serve and how well."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.family != 'Encoder' || !has(self.slo) || !has(self.slo.quality)",
                "slo.quality needs a reconstruction, which an Encoder has not; remove it",
            ),
            (
                "!has(self.scaling) || self.scaling.metric != 'CPU' || (has(self.runtime)"
                " && has(self.runtime.resources) && has(self.runtime.resources.requests)"
                " && has(self.runtime.resources.requests.cpu))",
                "scaling.metric CPU needs runtime.resources.requests.cpu, which it is measured against",
            ),
        )
    )

    family: Annotated[
        Family,
        Field(
            examples=["VAE"],
            json_schema_extra=rules(
                ("self == oldSelf", "family cannot change, its operations would; make a new LatentModel")
            ),
        ),
    ]
    """What kind of model it is, which decides its operations: Encoder (encode), Autoencoder (encode, decode,
    reconstruct, score) or VAE (these and sample). Cannot change."""
    bundle: Bundle
    """The model bundle to serve."""
    placement: Placement = Placement()
    """Which hardware a replica gets; by default CPU."""
    runtime: Runtime = Runtime()
    """How Triton runs the operations."""
    scaling: Scaling = Scaling()
    """How many replicas run."""
    slo: Slo = Slo()
    """How well the model must serve."""
    monitoring: Monitoring = Monitoring()
    """What is watched beside the requests themselves."""
    rollout: Rollout = Rollout()
    """How a changed model replaces the one that runs."""
    gateway: Gateway | None = None
    """Gateway API routes to the model, which a Canary divides the traffic with. Left out: none; in the cluster clients
    call the model's Service."""
    workload: Workload = Workload.AUTO
    """What runs the pods: KServe (an InferenceService), Deployment, or Auto: KServe where its CRDs exist."""
    pod: Pod = Pod()
    """Additions to the serving pods."""


class LatentModelMeta(ObjectMeta):
    """Metadata of a LatentModel; Services and pods are named after it, hence the stricter name."""

    name: ModelName
    """The model's name, and that of the Service clients use."""


class LatentModel(ApiModel):
    """Serves an encoder, autoencoder or VAE from a bundle, measured against its objectives."""

    api_version: Annotated[Literal["latentry.dev/v1alpha1"], Field(examples=[API_VERSION])]
    """Version of this schema."""
    kind: Annotated[Literal["LatentModel"], Field(examples=["LatentModel"])]
    """LatentModel."""
    metadata: LatentModelMeta
    """Name, namespace, labels and annotations."""
    spec: LatentModelSpec
    """What to serve and how well."""
    status: LatentModelStatus = LatentModelStatus()
    """What the operator observed last; written by the operator only."""
