"""Every reason that a condition or an event can have. Scripts may rely on these words; docs/operator.md lists them."""

from enum import StrEnum

from latentry_operator.plan.outcome import WaitingReason

__all__ = [
    "AcceptedReason",
    "AvailableReason",
    "DriftingReason",
    "EventReason",
    "HealthyReason",
    "PoolReason",
    "ProgressingReason",
    "SloMetReason",
    "WaitingReason",
]


class AcceptedReason(StrEnum):
    """Why a spec is accepted or not; a WaitingReason where the cluster cannot run it now."""

    VALID = "Valid"
    """The spec is valid and has been planned."""
    INVALID_SPEC = "InvalidSpec"
    """The spec has problems, the message lists them all; what ran before goes on."""
    NAME_TAKEN = "NameTaken"
    """An object of a name that this model needs exists and belongs to somebody else."""


class AvailableReason(StrEnum):
    """Why requests get answers or not."""

    READY = "Ready"
    """Every replica that should run answers."""
    PARTLY_READY = "PartlyReady"
    """Some replicas answer."""
    NO_REPLICA_READY = "NoReplicaReady"
    """Pods should run, none answers."""
    NOT_DEPLOYED = "NotDeployed"
    """Nothing of this model runs yet."""


class ProgressingReason(StrEnum):
    """What the latest change is doing; the ROLLOUT column."""

    COMPLETE = "Complete"
    """The spec is what runs and carries the traffic."""
    DEPLOYING = "Deploying"
    """The revision that the spec asks for is getting ready, and none answers yet."""
    REPLACING = "Replacing"
    """A new revision is getting ready beside the one that carries the traffic, or pods are being updated in place."""
    SCALING = "Scaling"
    """The number of replicas is changing."""
    STALLED = "Stalled"
    """The new pods did not get ready within Kubernetes' progress deadline; it keeps trying."""
    NOT_ACCEPTED = "NotAccepted"
    """Nothing is changed, see Accepted."""
    APPLY_FAILED = "ApplyFailed"
    """The API server refused an object of the model; the message has its words, and it is tried again."""
    WAITING_FOR_CLEANUP = "WaitingForCleanup"
    """Objects of a deleted LatentModel of the same name are still being removed."""


class DriftingReason(StrEnum):
    """What is known of drift."""

    NO_DRIFT = "NoDrift"
    """No ready replica's tap alarms, and at least one has judged every watched tensor."""
    DRIFT_DETECTED = "DriftDetected"
    """A ready replica's tap alarms; the message has the tensor, the statistic, since when and what it looks like."""
    INSUFFICIENT_DATA = "InsufficientData"
    """No tap alarms, and none has judged every watched tensor yet: too little traffic so far."""
    NOT_WATCHED = "NotWatched"
    """Nothing is held against a profile; the message says why and what to do."""
    TAPS_UNREACHABLE = "TapsUnreachable"
    """No tap that answers alarms, but a ready replica's does not answer as a tap would; the message names it."""
    NO_REPLICA_READY = "NoReplicaReady"
    """No replica takes calls, so there is nothing to judge."""
    NOT_EVALUATED = "NotEvaluated"
    """The operator has not asked every tap yet since it began to lead; a matter of seconds."""


class HealthyReason(StrEnum):
    """What is known of the model's own health: its outputs, golden probes and bundle."""

    HEALTHY = "Healthy"
    """Golden probes pass, and at least one replica has judged every measure; none alarms."""
    MODEL_UNHEALTHY = "ModelUnhealthy"
    """A measure of the encoder, the reconstruction or the posterior alarms; the message names it."""
    GOLDEN_PROBE_FAILING = "GoldenProbeFailing"
    """A replica gives other outputs than recorded for a golden input."""
    BUNDLE_REFUSED = "BundleRefused"
    """A replica found another bundle than the promised one, or damaged files."""
    INSUFFICIENT_DATA = "InsufficientData"
    """Nothing is wrong so far, but there was too little traffic to judge every measure."""
    NOT_WATCHED = "NotWatched"
    """Golden probes pass; outputs are not watched, the message says why."""
    TAPS_UNREACHABLE = "TapsUnreachable"
    """Nothing is known to be wrong, but a ready replica's tap does not answer; the message names it."""
    NO_REPLICA_READY = "NoReplicaReady"
    """No replica takes calls, so there is nothing to judge."""
    NOT_EVALUATED = "NotEvaluated"
    """The operator has not asked every tap yet since it began to lead; a matter of seconds."""


class SloMetReason(StrEnum):
    """What is known of the objectives."""

    OBJECTIVES_MET = "ObjectivesMet"
    """Every objective has error budget left."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """An objective has used up its error budget; the message names it."""
    NO_DATA = "NoData"
    """Prometheus has no series of an objective: no traffic yet, or its rules or scrapes are missing."""
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"
    """Prometheus did not answer, or answered with an error; the message has its words."""
    NO_PROMETHEUS = "NoPrometheus"
    """The setting cluster.prometheusUrl is empty, so objectives cannot be followed over their period."""
    NO_OBJECTIVES = "NoObjectives"
    """The spec sets no objective."""
    NOT_EVALUATED = "NotEvaluated"
    """Prometheus has not been asked yet since this operator began to lead; a matter of seconds."""


class PoolReason(StrEnum):
    """What a GPUPool's conditions say."""

    VALID = "Valid"
    """The pool's spec is valid."""
    INVALID_SPEC = "InvalidSpec"
    """The pool's spec has problems, the message lists them all; models that name it wait."""
    DEVICES_LEFT = "DevicesLeft"
    """More models fit."""
    USED_UP = "UsedUp"
    """All devices are in use or promised."""


class EventReason(StrEnum):
    """What events tell beside conditions that change."""

    OBJECT_RESTORED = "ObjectRestored"
    """Somebody changed or deleted an object of the model; it is again as it should be."""
    FIELD_LEFT_TO_OTHERS = "FieldLeftToOthers"
    """Another manager applied a field that we would set; it is left to that manager."""
