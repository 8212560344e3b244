"""Every reason that a condition or an event can have. Scripts may rely on these words; docs/operator.md lists them."""

from enum import StrEnum

from latentry_operator.plan.outcome import WaitingReason

__all__ = [
    "AcceptedReason",
    "AvailableReason",
    "DriftingReason",
    "EventReason",
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

    NOT_EVALUATED = "NotEvaluated"
    """The operator does not read the taps' drift reports in this release; each tap's admin port serves its own."""


class SloMetReason(StrEnum):
    """What is known of the objectives."""

    NOT_EVALUATED = "NotEvaluated"
    """The operator does not evaluate objectives in this release; each tap's admin port serves its measurements."""
    NO_OBJECTIVES = "NoObjectives"
    """The spec sets no objective."""


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
