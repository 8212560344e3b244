"""Whether two answers to a golden input are what was recorded. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latentry_serving.bundle.recorded import Array, largest_difference, within
from latentry_serving.contract.manifest import Tolerance
from latentry_serving.contract.metrics import ProbeOutcome

_SEVERITY = {outcome: number for number, outcome in enumerate(ProbeOutcome)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found.

    Attributes:
        detail: why it did not pass, as a sentence; empty when it did.
        largest_error: max |answer - recorded| over both answers, infinite where one is not finite or has another
            shape; None when there was no answer.
        determinism_error: max |first - second|; None when they cannot be compared.
    """

    outcome: ProbeOutcome
    detail: str = ""
    largest_error: float | None = None
    determinism_error: float | None = None

    def merged(self, other: "Verdict") -> "Verdict":
        """Both as one: the largest figures, and the reason that comes first in ProbeOutcome's order."""
        failed = [verdict for verdict in (self, other) if verdict.outcome is not ProbeOutcome.PASSED]
        first = min(failed, key=lambda verdict: _SEVERITY[verdict.outcome], default=self)
        return Verdict(
            first.outcome,
            first.detail,
            _largest(self.largest_error, other.largest_error),
            _largest(self.determinism_error, other.determinism_error),
        )


def judge(
    recorded: Mapping[str, Array], first: Mapping[str, Array], second: Mapping[str, Array], tolerance: Tolerance
) -> Verdict:
    """Compares two answers to the same call with the recorded one, output by output.

    Two calls may differ in the last digits when Triton joins them with those of users into batches of other sizes, so
    they are deterministic as long as they differ by no more than the tolerance.

    Args:
        recorded: output name -> array [rows, ...]; never empty.
        first, second: what came back; outputs that were not recorded do not matter.
        tolerance: |answer - recorded| <= absolute + relative * |recorded| in every element.
    """
    verdicts = [_judge_output(name, wanted, first, second, tolerance) for name, wanted in recorded.items()]
    merged = verdicts[0]
    for verdict in verdicts[1:]:
        merged = merged.merged(verdict)
    return merged


def _judge_output(
    name: str, wanted: Array, first: Mapping[str, Array], second: Mapping[str, Array], tolerance: Tolerance
) -> Verdict:
    answers = [answer[name] for answer in (first, second) if name in answer]
    if len(answers) < 2:
        return Verdict(ProbeOutcome.MISSING_OUTPUT, f"the answer has no output {name!r}", np.inf)
    for answer in answers:
        if answer.shape != wanted.shape:
            problem = f"{name} has shape {list(answer.shape)}, recorded is {list(wanted.shape)}"
            return Verdict(ProbeOutcome.WRONG_SHAPE, problem, np.inf)
    one, two = answers
    error = max(_difference(answer, wanted) for answer in answers)
    difference = _difference(one, two)
    lost = max(int(np.count_nonzero(np.isfinite(wanted) & ~np.isfinite(answer))) for answer in answers)
    allowed = f"allowed are {tolerance.absolute:g} + {tolerance.relative:g} |recorded|"
    outcome, detail = ProbeOutcome.PASSED, ""
    if lost:
        outcome, detail = ProbeOutcome.NON_FINITE, f"{name} has {lost} of {wanted.size} values that are not finite"
    elif not _within(*_where_unlike(one, two), tolerance):
        outcome = ProbeOutcome.NOT_DETERMINISTIC
        detail = f"{name} differs between two calls in a row by up to {difference:.3g}, {allowed}"
    elif not all(_within(answer, wanted, tolerance) for answer in answers):
        outcome = ProbeOutcome.OUT_OF_TOLERANCE
        detail = f"{name} differs from what was recorded by up to {error:.3g}, {allowed}"
    return Verdict(outcome, detail, error, difference)


def _within(one: Array, two: Array, tolerance: Tolerance) -> bool:
    return within(one, two, absolute=tolerance.absolute, relative=tolerance.relative)


def _difference(one: Array, two: Array) -> float:
    return largest_difference(*_where_unlike(one, two))


def _where_unlike(one: Array, two: Array) -> tuple[Array, Array]:
    """Both with 0 where they are alike: the same NaN or infinity twice is no difference."""
    alike = (one == two) | ((one != one) & (two != two))
    return np.where(alike, 0, one), np.where(alike, 0, two)


def _largest(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
