"""GPUPool: what a node pool with accelerators offers."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from latentry_operator.api.base import (
    API_VERSION,
    ATOMIC,
    ApiModel,
    Bytes,
    Labels,
    LongObjectName,
    ObjectMeta,
    ObjectName,
    rules,
)
from latentry_operator.api.status import GPUPoolStatus

LabelKey = Annotated[str, Field(max_length=317)]


class TolerationOperator(StrEnum):
    """How a taint's value is compared."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """A taint that the pool's nodes carry and the pods tolerate, as in Kubernetes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.operator != 'Exists' || !has(self.value)", "operator Exists compares no value; remove value"),
            ("self.operator == 'Exists' || has(self.key)", "operator Equal needs a key"),
        )
    )

    key: LabelKey | None = None
    """The taint's key. Left out: every key, with operator Exists."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Whether the taint must Exist or its value be Equal."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """The taint's value. Left out: empty."""
    effect: TaintEffect | None = None
    """The taint's effect. Left out: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long a NoExecute taint is tolerated. Unit: seconds. Left out: for ever."""


class GPUSharing(StrEnum):
    """How many pods use a device at a time."""

    EXCLUSIVE = "Exclusive"
    TIME_SLICED = "TimeSliced"


class DevicePrice(ApiModel):
    """What one device of a pool costs."""

    per_device_hour: Annotated[float, Field(ge=0, le=1_000_000, examples=[1.2])]
    """Price of one device, slice or share. Unit: the currency per hour."""
    currency: Annotated[str, Field(max_length=3, pattern=r"^[A-Z]{3}$", examples=["USD"])]
    """The price's currency, as three capital letters of ISO 4217, such as USD or EUR. No unit."""


class GPUPoolSpec(ApiModel):
    """How to reach the pool's nodes and what one of their devices is."""

    node_selector: Labels = Field(default={})
    """Labels that the pool's nodes carry."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32, json_schema_extra=ATOMIC)] = ()
    """Taints of the nodes that the pods tolerate."""
    resource_name: Annotated[
        str,
        Field(
            max_length=317,
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            examples=["nvidia.com/gpu"],
            json_schema_extra=rules(
                (
                    "self == oldSelf",
                    "resourceName cannot change, devices would be miscounted; make a new GPUPool",
                )
            ),
        ),
    ] = "nvidia.com/gpu"
    """Resource under which Kubernetes counts a device: nvidia.com/gpu, or a MIG slice such as nvidia.com/mig-1g.10gb.
    Cannot change."""
    sharing: GPUSharing = GPUSharing.EXCLUSIVE
    """Whether a device is one pod's (Exclusive) or several pods take turns on it (TimeSliced)."""
    memory_per_device: Annotated[Bytes, Field(examples=["24Gi"])]
    """Memory of one device, slice or, with TimeSliced, one pod's share; bundles are sized against it. Unit: bytes,
    written as 24Gi."""
    runtime_class_name: LongObjectName | None = None
    """RuntimeClass of the pods, where the nodes need one. Left out: the cluster's default."""
    max_devices: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Most devices that all LatentModels together may use. While a model is replaced, its old pods' come on top. Unit:
    devices. Left out: no limit."""
    price: DevicePrice | None = None
    """What a device costs, for cost panels. Left out: costs are not shown."""

    @property
    def divided(self) -> bool:
        """Whether what a pod gets is a part of a GPU: a MIG slice or turns on it."""
        return self.sharing is GPUSharing.TIME_SLICED or "/mig-" in self.resource_name


class GPUPoolMeta(ObjectMeta):
    """Metadata of a GPUPool."""

    name: ObjectName
    """The pool's name, which LatentModels give in placement.gpuPool."""


class GPUPool(ApiModel):
    """A pool of nodes with GPUs or GPU slices that LatentModels can be placed on."""

    api_version: Annotated[Literal["latentry.dev/v1alpha1"], Field(examples=[API_VERSION])]
    """Version of this schema."""
    kind: Annotated[Literal["GPUPool"], Field(examples=["GPUPool"])]
    """GPUPool."""
    metadata: GPUPoolMeta
    """Name, labels and annotations."""
    spec: GPUPoolSpec
    """How to reach the pool's nodes and what one of their devices is."""
    status: GPUPoolStatus = GPUPoolStatus()
    """What the operator counted last; written by the operator only."""
