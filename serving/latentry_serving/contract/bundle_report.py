"""The documents behind the tap's `/bundle` and `/probes`: what the operator's gates and people read."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from latentry_serving.contract.manifest import Sha256
from latentry_serving.contract.metrics import BundleState, PostponedReason, ProbeOutcome
from latentry_serving.contract.operations import Operation


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class BundleReport(_Document):
    """The bundle that is there, against the one that was promised."""

    state: BundleState
    version: str
    digest: Sha256
    """Of the manifest that is there."""
    promised: Sha256 | None
    bytes: int
    """Size of all listed files."""
    problems: list[str]
    """Why it is refused."""
    models: dict[str, bool]
    """Triton model -> whether it is loaded as asked; empty when loading is Triton's own business."""


class OperationProbe(_Document):
    """The golden probes of one operation. Figures are of the last one; None before it, or when it got no answer."""

    operation: Operation
    outcome: ProbeOutcome | None
    detail: str
    """Why it did not pass, as a sentence."""
    largest_error: float | None
    """Largest absolute difference from a recorded output; None also when infinite."""
    determinism_error: float | None
    """Largest absolute difference between two calls in a row; None also when infinite."""
    last_run_timestamp_seconds: float | None
    """Unix time of its end."""
    duration_seconds: float | None
    outcomes: dict[ProbeOutcome, int]
    """Since the start; those that happened."""


class ProbesReport(_Document):
    """Every operation's golden probes."""

    passed: bool
    """Whether the last probe of every operation passed."""
    postponed: dict[PostponedReason, int]
    operations: list[OperationProbe]
