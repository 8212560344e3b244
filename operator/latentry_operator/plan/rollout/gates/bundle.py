"""Gates about the candidate itself: its contract, its golden outputs, whether its containers stay up."""

from latentry_operator.plan.rollout.facts import ProbeResult
from latentry_operator.plan.rollout.gates.result import GateInput, GateResult, count, failed, no_report, passed, waits
from latentry_operator.plan.rollout.reasons import GateName, GateReason

SPACE_PATH = "embeddingSpace"
"""Of a contract change. Another declared space is the compatibility gate's matter."""


def contract(given: GateInput) -> GateResult | None:
    """Are calls that clients make of stable still valid, and do they mean the same?"""
    gate = GateName.CONTRACT
    if not given.policy.gates.contract:
        return None
    if not given.stable:
        return passed(gate, GateReason.NO_STABLE, "there is no stable revision whose contract clients rely on")
    changes = given.evidence.changes
    if changes is None:
        return no_report(gate, "its contract")
    breaking = [change for change in changes if change.breaking and change.path != SPACE_PATH]
    if breaking:
        told = "; ".join(f"{change.path}: {change.reason}" for change in breaking)
        return failed(
            gate,
            GateReason.CONTRACT_BROKEN,
            f"{count(len(breaking), 'change')} would break clients, 0 are allowed: {told}. Rebuild the bundle with"
            " the old contract, or serve it as another LatentModel",
        )
    return passed(gate, GateReason.CONTRACT_KEPT, f"{count(len(changes), 'difference')}, none breaks clients")


def golden(given: GateInput) -> GateResult | None:
    """Does the candidate give the recorded outputs on its own hardware?"""
    gate, probes = GateName.GOLDEN, given.evidence.golden
    if not given.policy.gates.golden:
        return None
    missed = [probe for probe in probes if probe.result is ProbeResult.FAILED]
    if missed:
        told = "; ".join(f"{probe.operation}: {probe.detail}" for probe in missed)
        return failed(
            gate,
            GateReason.GOLDEN_MISSED,
            f"{len(missed)} of {count(len(probes), 'operation')} missed the recorded outputs: {told}. Compare with"
            " `latentry bundle verify` on this hardware, or rebuild with another tolerance",
        )
    if silent := [probe for probe in probes if probe.result is ProbeResult.UNANSWERED]:
        told = "; ".join(f"{probe.operation}: {probe.detail}" for probe in silent)
        return waits(gate, GateReason.GOLDEN_UNANSWERED, f"the last golden probe got no answer: {told}")
    if not probes or any(probe.result is ProbeResult.NOT_RUN for probe in probes):
        return no_report(gate, "the result of a golden probe of every operation")
    return passed(gate, GateReason.GOLDEN_REPRODUCED, f"{count(len(probes), 'operation')} gave the recorded outputs")


def stability(given: GateInput) -> GateResult:
    """Do the candidate's containers stay up?"""
    most, restarts = given.policy.gates.max_restarts, given.candidate.restarts
    message = f"{count(restarts, 'restart')} of its containers, {most} are allowed"
    if restarts > most:
        why = f": {given.candidate.problem}" if given.candidate.problem else "; see the containers' last state and logs"
        return failed(GateName.STABILITY, GateReason.RESTARTING, f"{message}{why}")
    return passed(GateName.STABILITY, GateReason.STEADY, message)
