"""What the operator reports. Conditions, not phases: each answers one question."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from latentry_operator.api.base import ApiModel, Bytes, Digest, Sentence, Story, Timestamp, Word, merge_by

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class ConditionType(StrEnum):
    """The questions a LatentModel's conditions answer."""

    ACCEPTED = "Accepted"
    """Is the spec valid and can it be planned?"""
    AVAILABLE = "Available"
    """Do requests get answers?"""
    PROGRESSING = "Progressing"
    """Is a change under way? Its reason is the ROLLOUT column."""
    DRIFTING = "Drifting"
    """Does live traffic differ from the profile?"""
    HEALTHY = "Healthy"
    """Are the model's own outputs as they should be: health measures, golden probes, the bundle?"""
    SLO_MET = "SLOMet"
    """Are all objectives kept over their period?"""


class ConditionStatus(StrEnum):
    """An answer."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Verdict(StrEnum):
    """What a gate says."""

    PASS = "Pass"  # noqa: S105 - no password
    FAIL = "Fail"
    WAIT = "Wait"


class Workload(StrEnum):
    """Which kind of object runs the pods."""

    AUTO = "Auto"
    KSERVE = "KServe"
    DEPLOYMENT = "Deployment"


class Condition(ApiModel):
    """One aspect of the object's state, as in Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316, pattern=r"^[A-Za-z][A-Za-z0-9]*$", examples=["Available"])]
    """The question, for example Available."""
    status: Annotated[ConditionStatus, Field(examples=["True"])]
    """The answer."""
    observed_generation: Count | None = None
    """Generation of the spec that the answer is about. No unit. Left out: unknown."""
    last_transition_time: Annotated[Timestamp, Field(examples=["2026-01-01T00:00:00Z"])]
    """When status last changed. Unit: RFC 3339 time."""
    reason: Annotated[str, Field(max_length=1024, pattern=r"^[A-Za-z][A-Za-z0-9]*$", examples=["Ready"])]
    """Why, as one documented CamelCase word."""
    message: Annotated[Story, Field(examples=["2 of 2 replicas are ready"])]
    """Why, as a sentence with numbers and the remedy."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=merge_by("type"))]


class GateVerdict(ApiModel):
    """What one gate says about the candidate."""

    gate: Annotated[Word, Field(examples=["golden"])]
    """Name of the gate."""
    verdict: Annotated[Verdict, Field(examples=["Pass"])]
    """Pass, Fail, or Wait while there is too little evidence."""
    reason: Word | None = None
    """Why, as one documented CamelCase word. Left out: nothing to add."""
    message: Story | None = None
    """Why, as a sentence with the number and the threshold. Left out: nothing to add."""


class StableStatus(ApiModel):
    """The revision that carries the traffic."""

    revision: Annotated[Word, Field(examples=["digits-vae-0a1b2c3d"])]
    """Name of the revision: the model's name and eight digits of its template's hash."""
    version: Word | None = None
    """The bundle's version. Left out: the bundle has not been read yet."""
    digest: Digest | None = None
    """The bundle's digest. Left out: the bundle has not been read yet."""
    ready_replicas: Count = 0
    """Replicas that answer. Unit: pods."""
    bundle_bytes: Bytes | None = None
    """Size of the bundle's files, as a pod found them. Unit: bytes, such as 120Mi. Left out: not read yet."""


class CandidateStatus(StableStatus):
    """The revision on trial."""

    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of the requests it gets. Unit: percent."""
    step: Count = 0
    """Step of the rollout it is at, the first is 1; 0 before traffic. No unit."""
    since: Timestamp | None = None
    """When it reached this step. Unit: RFC 3339 time. Left out: not started."""
    verdicts: Annotated[tuple[GateVerdict, ...], Field(max_length=32, json_schema_extra=merge_by("gate"))] = ()
    """What each gate says now."""


class RolloutStatus(ApiModel):
    """The operator's memory of the rollout: what it cannot see in the cluster. Times of stages are counted in seconds
    that were observed, so that a jumping clock or a stopped operator hurries nothing."""

    phase: Annotated[Word, Field(examples=["Stepping"])]
    """Idle, Preparing, Gating, Shadowing, Scaling, Stepping or Watching."""
    stable: Word | None = None
    """The revision that owns the promotion. Left out: none yet."""
    candidate: Word | None = None
    """The revision on trial. Left out: none."""
    previous: Word | None = None
    """The replaced revision that stays for an undo. Left out: none."""
    step: Count = 0
    """Stage of the traffic, the first is 1; 0 before traffic. No unit."""
    attempt: Count = 0
    """How often the candidate was judged anew after it was held. No unit."""
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of the requests that the candidate was given. Unit: percent."""
    since: Timestamp | None = None
    """When the stage began. Unit: RFC 3339 time. Left out: not begun."""
    looked: Timestamp | None = None
    """When the operator looked last. Unit: RFC 3339 time. Left out: never."""
    observed_seconds: Seconds = 0
    """Observed time in this stage. Unit: seconds."""
    healthy_seconds: Seconds = 0
    """Of these, with a candidate whose replicas answered and whose gates did not fail. Unit: seconds."""
    was_healthy: bool = False
    """Whether the candidate was so at the last look."""
    paused: bool = False
    """Whether somebody paused it."""
    forced: bool = False
    """Whether somebody promoted it past its gates."""
    relief: Word | None = None
    """The revision that carries all traffic because the stable one does not answer. Left out: none."""
    held: Word | None = None
    """Why the rollout is held for a decision. Left out: it is not."""
    held_message: Story | None = None
    """The same as a sentence. Left out: it is not held."""
    leaving: Word | None = None
    """The revision that is being drained. Left out: none."""
    leaving_weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Traffic it still has, because nothing else can serve. Unit: percent."""
    leaving_seconds: Seconds = 0
    """Observed time since it has none. Unit: seconds."""
    rejected: Word | None = None
    """The revision that is not tried again until the spec changes. Left out: none."""
    rejected_policy: Word | None = None
    """Fingerprint of the gates that rejected it. Left out: none was."""
    rejected_reason: Word | None = None
    """Why, as one documented CamelCase word. Left out: none was."""
    rejected_message: Story | None = None
    """Why, as a sentence. Left out: none was."""
    command: Sentence | None = None
    """The last command that was looked at. Left out: none."""
    command_reason: Word | None = None
    """What came of it, as one documented CamelCase word; CommandIgnored: nothing to act on. Left out: no command."""
    command_message: Story | None = None
    """The same as a sentence. Left out: no command."""


class ModelAddress(ApiModel):
    """Where clients reach the model."""

    http: Sentence | None = None
    """URL of the Open Inference Protocol over HTTP. Left out: not served yet."""
    grpc: Sentence | None = None
    """host:port of the Open Inference Protocol over gRPC. Left out: not served yet."""


class LatentModelStatus(ApiModel):
    """What the operator observed last."""

    observed_generation: Count | None = None
    """Generation of the spec that this status is about. No unit. Left out: not reconciled yet."""
    conditions: Conditions = ()
    """Accepted, Available, Progressing, Drifting, Healthy, SLOMet, each with a documented reason."""
    workload: Workload | None = None
    """What Auto became. Left out: not reconciled yet."""
    replicas: Count = 0
    """Replicas of the stable revision, ready or not. Unit: pods."""
    selector: Sentence | None = None
    """Label selector of the pods, for `kubectl scale` and autoscalers. Left out: not reconciled yet."""
    stable: StableStatus | None = None
    """The revision that carries the traffic. Left out: nothing serves yet."""
    candidate: CandidateStatus | None = None
    """The revision on trial. Left out: no rollout is under way."""
    rollout: RolloutStatus | None = None
    """The rollout's memory. Left out: none yet; it is then read off the traffic."""
    address: ModelAddress | None = None
    """Where clients reach the model. Left out: not served yet."""


class PoolUser(ApiModel):
    """A LatentModel that uses devices of the pool."""

    namespace: Annotated[Word, Field(examples=["default"])]
    """Namespace of the LatentModel."""
    name: Annotated[Word, Field(examples=["digits-vae"])]
    """Name of the LatentModel."""
    devices: Annotated[int, Field(ge=0, examples=[1])]
    """Devices in use by all its replicas. Unit: devices."""


class GPUPoolStatus(ApiModel):
    """What the operator counted last."""

    observed_generation: Count | None = None
    """Generation of the spec that this status is about. No unit. Left out: not reconciled yet."""
    conditions: Conditions = ()
    """Whether the pool is valid and has devices left, with reasons and numbers."""
    devices_in_use: Count = 0
    """Devices in use by all LatentModels. Unit: devices."""
    users: Annotated[tuple[PoolUser, ...], Field(max_length=1024, json_schema_extra=merge_by("namespace", "name"))] = ()
    """Devices in use by model, the largest user first."""
