"""What a gate is given and what it answers."""

from dataclasses import dataclass

from latentry_operator.api.status import GateVerdict, Verdict
from latentry_operator.plan.rollout.facts import Evidence, Running
from latentry_operator.plan.rollout.policy import Policy
from latentry_operator.plan.rollout.reasons import GateName, GateReason

_LONGEST = 2_000
"""Characters of a message: it goes into status and events."""


@dataclass(frozen=True, slots=True)
class GateInput:
    """One look at one candidate.

    Attributes:
        candidate: what runs of it.
        stable: whether there is a stable revision to compare with.
    """

    evidence: Evidence
    policy: Policy
    candidate: Running
    stable: bool


@dataclass(frozen=True, slots=True)
class GateResult:
    """A verdict.

    Attributes:
        gate: a GateName, or ``promql/<name>``.
        hold: a fail that only people can decide about, whatever ``onFailure`` says.
    """

    gate: str
    verdict: Verdict
    reason: GateReason
    message: str
    hold: bool = False

    def to_status(self) -> GateVerdict:
        """As it stands in the LatentModel's status."""
        return GateVerdict(gate=self.gate, verdict=self.verdict, reason=self.reason, message=self.message)


def passed(gate: str, reason: GateReason, message: str) -> GateResult:
    """A pass."""
    return GateResult(gate, Verdict.PASS, reason, message[:_LONGEST])


def failed(gate: str, reason: GateReason, message: str, *, hold: bool = False) -> GateResult:
    """A fail."""
    return GateResult(gate, Verdict.FAIL, reason, message[:_LONGEST], hold)


def waits(gate: str, reason: GateReason, message: str) -> GateResult:
    """Too little evidence."""
    return GateResult(gate, Verdict.WAIT, reason, message[:_LONGEST])


def count(number: int, what: str) -> str:
    """``1 replica``, ``2 replicas``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def no_report(gate: GateName, what: str) -> GateResult:
    """A wait for the candidate's tap."""
    return waits(gate, GateReason.NOT_REPORTED, f"the candidate's tap has not told {what} yet")
