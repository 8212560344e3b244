"""Is a share of bad requests good enough? Against an objective and against stable, right at every look."""

from dataclasses import dataclass

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.statistics import Count, bounds

FALSE_FAIL = 0.001
"""Probability that one check ever fails a candidate that is as good as allowed, over all looks of one stage. Half of it
goes to the candidate's bounds, half to stable's."""
FALSE_PASS = 0.05
"""Probability that one check ever passes a candidate that is worse than allowed and tolerated."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict about a share and the numbers behind it; shares are 0 to 1.

    Attributes:
        value: the candidate's share.
        low, high: what it may be in truth; fails look at ``low``, passes at ``high``.
        allowed: the largest that is no failure.
        passing: what ``high`` must not exceed for a pass.
    """

    verdict: Verdict
    value: float
    low: float
    high: float
    allowed: float
    passing: float


def judge(surely: Count, perhaps: Count, stable: Count | None, budget: float | None, tolerance: float) -> Judged:
    """Fail: surely more than the objective and than stable. Pass: surely within the tolerance of the worse of the two.

    Args:
        surely, perhaps: the candidate's, counting as bad only what surely is, or all that may be.
        stable: the stable revision's; None without one.
        budget: share that the objective leaves, None without an objective; then stable plus tolerance is allowed. What
            stable does counts in its place once stable is seen to do worse.
        tolerance: as a share.
    """
    before = stable if stable is not None and stable.total else None
    most = bounds(before, FALSE_FAIL / 2)[1] if before is not None else 0.0
    least = bounds(before, FALSE_PASS / 2)[0] if before is not None else 0.0
    if budget is None:
        allowed = most + tolerance
    else:
        worse = before is not None and before.bad > budget * before.total
        allowed = max(budget, most) if worse else budget
    passing = max(budget or 0.0, least) + tolerance
    low, high = bounds(surely, FALSE_FAIL / 2)[0], bounds(perhaps, FALSE_PASS / 2)[1]
    verdict = Verdict.FAIL if low > allowed else Verdict.PASS if high <= passing else Verdict.WAIT
    value = perhaps.bad / perhaps.total if perhaps.total else 0.0
    return Judged(verdict, value, low, high, allowed, passing)
