"""A LatentModel's rollout for people, from the object as the API server gives it: one line for each thing."""

from collections.abc import Iterator, Mapping
from typing import Any

from latentry_operator.api.status import ConditionStatus, ConditionType, RolloutStatus
from latentry_operator.plan.rollout.traffic import weights
from latentry_operator.status.rollout import rollout_state
from latentry_serving.contract.errors import OperationFailed

Obj = Mapping[str, Any]


def story(model: Obj) -> str:
    """Who has the traffic, where the rollout stands, what each gate says, and what else is not as it should be."""
    status = model.get("status") or {}
    lines = [*_revisions(status), *_state(model), *_gates(status), *_notes(model)]
    return "\n".join(lines) or "the operator has not looked at it yet"


def ignored(message: str) -> OperationFailed:
    """The error for a command that had nothing to act on; ``message`` says why."""
    return OperationFailed(message, remedy="nothing was changed; `latentry rollout status` tells where it stands")


def condition(model: Obj, kind: str) -> Obj:
    """A condition, empty where there is none of that type."""
    entries = (model.get("status") or {}).get("conditions") or ()
    return next((entry for entry in entries if entry["type"] == kind), {})


def _revisions(status: Obj) -> Iterator[str]:
    rollout = status.get("rollout") or {}
    shares = _shares(rollout)
    for role in ("stable", "candidate"):
        if revision := status.get(role):
            name, ready = revision["revision"], revision.get("readyReplicas", 0)
            yield _line(
                role,
                f"{name}, version {revision.get('version') or 'not told yet'}, {shares.pop(name, 0)} % of the traffic,"
                f" {ready} {'replica' if ready == 1 else 'replicas'} ready",
            )
    if previous := rollout.get("previous"):
        share = shares.pop(previous, 0)
        yield _line("previous", f"{previous}, {f'{share} % of the traffic, ' if share else ''}kept for an undo")
    for name, share in shares.items():
        yield _line("leaving", f"{name}, {share} % of the traffic")


def _shares(rollout: Obj) -> dict[str, int]:
    """Percent of the traffic by revision."""
    try:
        state = rollout_state(RolloutStatus.model_validate(rollout)) if rollout else None
    except ValueError:  # of another release
        return {}
    return dict(weights(state)) if state is not None else {}


def _state(model: Obj) -> Iterator[str]:
    if progressing := condition(model, ConditionType.PROGRESSING):
        yield _line("state", f"{progressing['reason']}: {progressing['message']}")


def _gates(status: Obj) -> Iterator[str]:
    for gate in (status.get("candidate") or {}).get("verdicts") or ():
        yield _line("gate", f"{gate['gate']} {gate['verdict']} ({gate.get('reason', '')}): {gate.get('message', '')}")


def _notes(model: Obj) -> Iterator[str]:
    seen, generation = (model.get("status") or {}).get("observedGeneration"), model["metadata"].get("generation")
    if seen is not None and seen != generation:
        yield _line("note", f"the spec is of generation {generation}, the operator has looked at {seen}")
    for kind in (ConditionType.ACCEPTED, ConditionType.AVAILABLE):
        found = condition(model, kind)
        if found and found["status"] != ConditionStatus.TRUE:
            yield _line("note", f"{kind} is {found['status']} ({found['reason']}): {found['message']}")


def _line(what: str, told: str) -> str:
    return f"{what:<10} {told}"
