"""What the machine remembers between two looks. Everything else is observed anew."""

from dataclasses import dataclass
from enum import StrEnum

from latentry_operator.plan.rollout.reasons import RolloutReason


class Phase(StrEnum):
    """Where the candidate stands."""

    IDLE = "Idle"
    """There is no candidate."""
    PREPARING = "Preparing"
    """Its replicas are getting ready."""
    GATING = "Gating"
    """It is ready and judged by the gates that need no traffic."""
    SHADOWING = "Shadowing"
    """It gets copies of requests."""
    SCALING = "Scaling"
    """It gets the replicas for its next share, and still has the share before."""
    STEPPING = "Stepping"
    """It has a share of the traffic and is watched."""
    WATCHING = "Watching"
    """It has all the traffic and is watched; the stable revision stays beside it at full size."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A revision that is not tried again until the spec changes or somebody says so.

    Attributes:
        policy: fingerprint of the rollout's rules at that time; other rules are a changed spec.
    """

    revision: str
    policy: str
    reason: RolloutReason
    message: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """A revision on its way out.

    Attributes:
        weight: traffic it still has because nothing else may serve, percent; else 0.
        seconds: observed time since it has none; it stays a while for requests in flight.
    """

    revision: str
    weight: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """Why the rollout waits for a decision."""

    reason: RolloutReason
    message: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of the last command."""

    reason: RolloutReason
    message: str


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The machine's memory. Revisions are names, empty for none; times are observed seconds unless said otherwise.

    Attributes:
        stable: owns the promotion: serves unless a candidate has the traffic on trial.
        candidate: on trial.
        previous: what ``stable`` replaced, kept at full size for an undo.
        step: stage of the traffic that the candidate is at or is scaling for, the first is 1; 0 before.
        attempt: how often this candidate was judged anew after it was held.
        weight: the candidate's share, percent.
        since: Unix time at which the phase or step began, for people only.
        looked: Unix time of the last look.
        seconds: observed in this phase and step.
        healthy: of these, with enough replicas that answer and no failed gate.
        was_healthy: whether the last look found it so; only time between two such looks counts.
        forced: somebody promoted it past its gates.
        relief: the revision that carries all traffic because ``stable`` does not answer.
        command: the last command that was carried out or had nothing to act on, in its words; ``answered`` says which.
    """

    phase: Phase = Phase.IDLE
    stable: str = ""
    candidate: str = ""
    previous: str = ""
    step: int = 0
    attempt: int = 0
    weight: int = 0
    since: float = 0.0
    looked: float = 0.0
    seconds: float = 0.0
    healthy: float = 0.0
    was_healthy: bool = False
    paused: bool = False
    forced: bool = False
    relief: str = ""
    held: Held | None = None
    leaving: Leaving | None = None
    rejection: Rejection | None = None
    command: str = ""
    answered: Answered | None = None

    @property
    def stage(self) -> str:
        """Names what evidence must be about: counts of traffic begin anew with each stage."""
        return f"{self.candidate}/{self.step}.{self.attempt}" if self.candidate else ""

    @property
    def resting(self) -> bool:
        """Whether nothing will change by itself, however long one waits."""
        return self.phase is Phase.IDLE and not self.previous and self.leaving is None
