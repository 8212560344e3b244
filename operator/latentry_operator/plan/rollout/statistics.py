"""Shares of bad requests, with bounds that hold at every look.

A rollout looks at its counts again and again, and stops when it likes what it sees; ordinary tests then lie. The bounds
here hold at all looks together: with probability ``1 - error`` the true share is within them at every count of the
whole run. They invert Robbins' mixture martingale with the Beta(1/2, 1/2) prior,

    M_n(p) = B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (p^k (1 - p)^(n - k)),

which for the true p is a non-negative martingale of mean 1, so that by Ville's inequality P(M_n(p) >= 1/error at any
n) <= error. Source: Ville 1939; Robbins, Annals of Mathematical Statistics 41 (1970); Howard, Ramdas, McAuliffe,
Sekhon, Annals of Statistics 49 (2021), section 3. It assumes requests that fail independently of each other.
"""

from dataclasses import dataclass
from math import lgamma, log

_BISECTIONS = 60
_LOG_PRIOR = 2 * lgamma(0.5)


@dataclass(frozen=True, slots=True)
class Count:
    """Bad among all; ``bad`` at most ``total``."""

    bad: int
    total: int


def bounds(count: Count, error: float) -> tuple[float, float]:
    """Smallest and largest share that the counts leave possible; 0 and 1 without counts.

    Args:
        error: probability that the true share is ever outside, both sides together.

    >>> low, high = bounds(Count(0, 700), 0.05)
    >>> (low, round(high, 4))
    (0.0, 0.0098)
    """
    if count.total == 0:
        return 0.0, 1.0
    centre = count.bad / count.total
    low = 0.0 if count.bad == 0 else _edge(count, error, 0.0, centre)
    high = 1.0 if count.bad == count.total else _edge(count, error, 1.0, centre)
    return low, high


def _edge(count: Count, error: float, outside: float, inside: float) -> float:
    """Where the martingale reaches 1/error between a share that is ruled out and one that is not."""
    limit = -log(error)
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        if _log_martingale(count, middle) >= limit:
            outside = middle
        else:
            inside = middle
    return outside


def _log_martingale(count: Count, share: float) -> float:
    good = count.total - count.bad
    mixture = lgamma(count.bad + 0.5) + lgamma(good + 0.5) - lgamma(count.total + 1) - _LOG_PRIOR
    if not 0 < share < 1:
        return float("inf")
    return mixture - count.bad * log(share) - good * log(1 - share)
