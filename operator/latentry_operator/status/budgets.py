"""Error budgets rounded, so that a status that tells them changes rarely."""

import math

from latentry_operator.plan.tap_facts import coarse
from latentry_operator.status.facts import Budget

_STEP = 0.05
_SPENT_STEP = 1.0
"""Beyond twice the budget, whole budgets tell enough."""
_BURN_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)


def rounded(before: Budget | None, slo: str, remaining: float, burn: float | None) -> Budget:
    """What is said of an objective.

    What remains is rounded down at once, and up only after half a step more than it takes; see :func:`coarse` for the
    burn rate.

    Args:
        before: what was said last.
        remaining: share of the budget, negative beyond it; infinite values are taken for very large ones.
    """
    value = max(-1e6, min(1.0, remaining))
    step = _STEP if value > -1 else _SPENT_STEP
    down = round(math.floor(value / step + 1e-9) * step, 2)
    kept = (
        before.remaining
        if before is not None and before.remaining <= down and value < before.remaining + 1.5 * step
        else down
    )
    known = before.burn if before is not None else None
    return Budget(slo, kept, coarse(known, burn, _BURN_BOUNDS) if burn is not None else None)
