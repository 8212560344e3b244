"""The user's own checks. No data is never a pass."""

import string
from math import isfinite

from latentry_operator.api.rollout import PromqlCheck
from latentry_operator.plan.rollout.facts import Answer
from latentry_operator.plan.rollout.gates.result import GateInput, GateResult, failed, passed, waits
from latentry_operator.plan.rollout.reasons import GateReason


def query(check: PromqlCheck, *, namespace: str, model: str, candidate: str, stable: str) -> str:
    """The check's PromQL with the rollout's names in it; any other ``$`` stays."""
    names = {"namespace": namespace, "model": model, "revision": candidate, "stable": stable}
    return string.Template(check.query).safe_substitute(names)


def checks(given: GateInput) -> tuple[GateResult, ...]:
    """One result for each check, in the spec's order."""
    return tuple(_check(check, given.evidence.answers.get(check.name)) for check in given.policy.gates.promql)


def _check(check: PromqlCheck, answer: Answer | None) -> GateResult:
    gate = f"promql/{check.name}"
    if answer is None:
        return waits(gate, GateReason.NO_DATA, "the query has not been asked yet")
    if answer.value is None or not isfinite(answer.value):
        why = answer.problem or "the query gave no number"
        return waits(gate, GateReason.NO_DATA, f"{why}; no data is no pass: try the query in Prometheus")
    if answer.age_seconds > 2 * check.every.seconds:
        message = f"the last answer is {answer.age_seconds:.0f} s old, it is asked every {check.every}"
        return waits(gate, GateReason.NO_DATA, message)
    span = " and ".join(
        text
        for bound, text in ((check.min, f"at least {check.min}"), (check.max, f"at most {check.max}"))
        if bound is not None
    )
    good = (check.min is None or answer.value >= check.min) and (check.max is None or answer.value <= check.max)
    message = f"the value is {answer.value:g}, {span} is asked for"
    if good:
        return passed(gate, GateReason.WITHIN_BOUNDS, message)
    return failed(gate, GateReason.OUT_OF_BOUNDS, message)
