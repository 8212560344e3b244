"""Rates of rare events counted on several references: the exact interval, widened for what references share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class Rate:
    """Events per window with its 95 % interval; ``lowest`` and ``highest``: of the single references."""

    events: int
    windows: int
    measured: float
    ci_low: float
    ci_high: float
    lowest: float
    highest: float


def rate_of(events: Sequence[int], windows: Sequence[int]) -> Rate:
    """Of events and windows per reference.

    Windows judged by one reference share its luck, so they count for less than independent ones. Clopper and Pearson's
    exact interval is taken at the effective number of windows ``n / deff``, where ``deff`` is the variance of the ratio
    estimate over that of independent windows (at least 1), times ``(t(n - 1) / t(R - 1))²`` for the R references that
    ``deff`` itself is estimated from. A single reference gets the plain exact interval.

    Source: E. L. Korn, B. I. Graubard, Survey Methodology 24 (1998) 193.
    """
    counts, sizes = np.asarray(events, np.float64), np.asarray(windows, np.float64)
    n, total, references = float(sizes.sum()), float(counts.sum()), len(counts)
    rate = total / n
    effective = n
    if references > 1 and 0 < total < n:
        spread = references / (references - 1) * float(np.sum((counts - rate * sizes) ** 2)) / n**2
        design = max(1.0, spread / (rate * (1 - rate) / n))
        effective *= float(stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, references - 1)) ** 2 / design
        effective = min(n, effective)
    seen = rate * effective
    low = 0.0 if total == 0 else float(stats.beta.ppf(0.025, seen, effective - seen + 1))
    high = 1.0 if total == n else float(stats.beta.ppf(0.975, seen + 1, effective - seen))
    each = counts / sizes
    return Rate(int(total), int(n), rate, low, high, float(each.min()), float(each.max()))


def onsets(alarmed: np.ndarray) -> int:
    """How often a series [n] of alarm states went on."""
    return int(np.count_nonzero(alarmed[1:] & ~alarmed[:-1]) + int(alarmed[0])) if alarmed.size else 0


def significant(value: float, digits: int = 3) -> float:
    """Rounded for the results file."""
    return 0.0 if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))
