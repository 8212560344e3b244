"""Where a function is zero. Pure. ``scipy.optimize`` would cost every watching process 23 MB for this one function."""

from collections.abc import Callable

_EPSILON = 2.0**-52
_MOST_STEPS = 200


def root(function: Callable[[float], float], low: float, high: float, *, xtol: float) -> float:
    """A zero of a continuous function between ``low`` and ``high``, to ``xtol`` or to the last bit.

    Inverse quadratic interpolation where it converges, bisection elsewhere.

    Raises:
        ValueError: the function has the same sign at both ends, or is NaN.

    Source: T. R. Chandrupatla, Advances in Engineering Software 28 (1997) 145.
    """
    # The zero lies between a, the latest point, and b; c is the one before, on either side.
    b, a, c = low, high, high
    at_b, at_a = function(b), function(a)
    at_c, part = at_a, 0.5
    if not at_a * at_b <= 0:
        raise ValueError(f"no zero between {low:g} and {high:g}: the function is {at_b:g} and {at_a:g} there")
    for _ in range(_MOST_STEPS):
        best, at_best = (a, at_a) if abs(at_a) < abs(at_b) else (b, at_b)
        least = (2 * _EPSILON * abs(best) + 0.5 * xtol) / abs(b - a) if b != a else 1.0
        if least > 0.5 or at_best == 0:
            return best
        x = a + min(max(part, least), 1 - least) * (b - a)
        at_x = function(x)
        if (at_x > 0) == (at_a > 0):
            c, at_c = a, at_a
        else:
            c, at_c, b, at_b = b, at_b, a, at_a
        a, at_a = x, at_x
        part = _step(a, b, c, at_a, at_b, at_c)
    raise ValueError(f"no zero found between {low:g} and {high:g} in {_MOST_STEPS} steps")


def _step(a: float, b: float, c: float, at_a: float, at_b: float, at_c: float) -> float:
    """How far from a to b to go: by interpolation if the three points lie well for it, else half."""
    if at_c in (at_a, at_b):
        return 0.5
    across, up = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
    if not (up**2 < across and (1 - up) ** 2 < 1 - across):
        return 0.5
    first = at_a / (at_b - at_a) * at_c / (at_b - at_c)
    return first + (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
