"""What a drifted window looks like: a stated rule from its moments against the profile.

1. Counted events need no statistics and come first: dead dimensions, duplicates, non-finite vectors.
2. If the variances are as they were and the mean moved, it is a shift, or a change of mixture when the mean moved
   inside the principal subspace only, where the reference's own groups lie.
3. If variances changed, each kind predicts with one magnitude how they change along the principal directions and
   outside them. The kind that fits best is the answer, unless the next one is within ``MARGIN`` or more than
   ``UNEXPLAINED`` of the change is left over: then it is "unclear". Errors are the standard errors and a tenth of the
   change itself.

========  ======================  ======================  ==============================================
kind      along the basis          outside it               mean
========  ======================  ======================  ==============================================
shift     as it was                as it was                moved, also outside the subspace
mixture   any change               as it was, or less *     moved, inside the subspace (or not at all)
scale     (1 + s)²                 (1 + s)²                 in proportion to itself, or as it was
noise     1 + s² / variance        1 + s² / variance        as it was, but for clipping
rotation  leaks to the average     takes up what leaks      any
========  ======================  ======================  ==============================================

At the star: a window of fewer groups than the reference has is narrower in every direction, its mean moved anywhere but
in proportion to itself, which tells it from a scale.

Standard errors are those of independent vectors. Traffic that comes in long runs of one kind changes its mixture from
window to window, and is called so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import special

from latentry_serving.drift.types import Booleans, Floats, Reference, Statistic, WindowSummary

MARGIN = 6.0
"""Smallest lead in chi² over the next kind: a likelihood ratio of 20, "strong" (Kass and Raftery 1995)."""
CERTAIN = 1e-6
"""P-value from which counted events, a moved mean or changed variances are taken for real."""
UNEXPLAINED = 0.3
"""Largest share of the change, in chi², that the best kind may leave over."""
INSIDE = 0.85
OUTSIDE = 0.7
"""Share of a mean shift's energy inside the principal subspace: above INSIDE it is one between the reference's own
groups, below OUTSIDE it is not, between them it is unclear."""
QUIET = 0.05
"""Noise leaves the mean alone: at most this part of its variance shows as a squared shift."""
PROPORTIONAL = 0.5
"""Share of a mean shift's energy along the mean itself, the way the scale's factor says, from which it is scaled."""
_GROUPS = 4
_REFERENCE_ERROR = 1.25
"""Variance of "window minus reference" over the window's own, for the smallest accepted reference (four windows)."""
_TOLERANCE = 0.1
_CLIPPED = 0.2
_ROUGH = 0.25


class Kind(StrEnum):
    """What the drift looks like."""

    SHIFT = "shift"
    SCALE = "scale"
    ROTATION = "rotation"
    MIXTURE = "mixture change"
    NOISE = "noise"
    DUPLICATES = "duplicates"
    DEAD_DIMENSIONS = "dead dimensions"
    NON_FINITE = "non-finite values"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Look:
    """The kind and how big.

    Attributes:
        magnitude: shift: root mean square in reference standard deviations; scale: the factor; noise: its standard
            deviation in a (median) dimension's; rotation: share of the principal energy that left; mixture: as shift;
            counted kinds: the share of vectors or the number of dimensions. NaN when unclear.
        next: the kind that fits second best, None for counted kinds.
        lead: how much worse in chi² it fits.
    """

    kind: Kind
    magnitude: float
    next: Kind | None = None
    lead: float = float("inf")

    @property
    def sentence(self) -> str:
        """For a person."""
        size = self.magnitude
        other = f", which is between {self.next} and others" if self.next else ""
        return {
            Kind.SHIFT: f"a shift of the mean by {size:.2g} standard deviations (root mean square)",
            Kind.SCALE: f"values scaled by {size:.3g}",
            Kind.ROTATION: f"a rotation: {size:.0%} of the energy of the principal directions went elsewhere",
            Kind.MIXTURE: "a change of the mixture: the reference's groups in other proportions",
            Kind.NOISE: f"added noise of {size:.2g} standard deviations",
            Kind.DUPLICATES: f"duplicates: {size:.1%} of the vectors repeat an earlier one",
            Kind.DEAD_DIMENSIONS: f"dead dimensions: {size:.0f} do not move any more",
            Kind.NON_FINITE: f"non-finite values in {size:.1%} of the vectors",
            Kind.UNCLEAR: f"nothing simple{other}",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class _Moments:
    """Changes of a window against the reference, with standard errors.

    ``changes``, ``errors``: [G + 1] logarithms of variance ratios of G groups of principal directions, then of the
    energy outside. ``levels``: [G + 1] the reference's variance per direction in them. ``average``: variance per
    dimension. ``moved``: p-value of the mean. ``energy``: mean squared shift per dimension. ``inside``: its share in
    the subspace. ``weights``: [G + 1, d] what a dimension's variance adds to each level. ``raw_gain``, ``raw_cap``: [d]
    the squared ratio of the median scale to the dimension's, and its half range squared, in standard units.
    ``outside_shift``: what the moved mean adds to the last of ``changes``, and was taken off it. ``proportional``: the
    share of the shift's energy along the mean itself, negative where that became smaller.
    """

    changes: Floats
    errors: Floats
    levels: Floats
    average: float
    moved: float
    energy: float
    inside: float
    weights: Floats
    raw_gain: Floats
    raw_cap: Floats
    outside_shift: float
    proportional: float


def look(window: WindowSummary, reference: Reference) -> Look:
    """The rule at the head of this module."""
    counted = _counted(window, reference)
    if counted is not None:
        return counted
    moments = _moments(window, reference)
    freedom = len(moments.changes)
    if special.chdtrc(freedom, np.sum((moments.changes / moments.errors) ** 2)) > CERTAIN:
        return _mean_only(moments)
    scored = sorted(_candidates(moments), key=lambda entry: entry[0])
    (best, kind, magnitude), (second, runner_up, _) = scored[0], scored[1]
    lead = second - best
    if lead < MARGIN or best > UNEXPLAINED * _total(moments) + 2 * freedom:
        return Look(Kind.UNCLEAR, float("nan"), kind, lead)
    return Look(kind, magnitude, runner_up, lead)


def _mean_only(moments: "_Moments") -> Look:
    """Variances as they were: where did the mean go?"""
    if moments.moved > CERTAIN or OUTSIDE < moments.inside < INSIDE:
        return Look(Kind.UNCLEAR, float("nan"))
    kind = Kind.MIXTURE if moments.inside >= INSIDE else Kind.SHIFT
    return Look(kind, float(np.sqrt(moments.energy)))


def look_of_count(statistic: Statistic, window: WindowSummary) -> Look | None:
    """What an alarm of a counted statistic looks like: its own count. None for the other statistics."""
    if statistic is Statistic.DEAD_DIMENSIONS:
        return Look(Kind.DEAD_DIMENSIONS, float(died(window).sum() or window.stuck.sum()))
    if statistic is Statistic.DUPLICATES:
        return Look(Kind.DUPLICATES, window.duplicates / max(window.size, 1))
    if statistic is Statistic.NON_FINITE:
        return Look(Kind.NON_FINITE, window.non_finite / max(window.size + window.non_finite, 1))
    return None


def _counted(window: WindowSummary, reference: Reference) -> Look | None:
    """Events that are what they are, whatever else moved with them."""
    if died(window).any():
        return look_of_count(Statistic.DEAD_DIMENSIONS, window)
    if _rare(window.duplicates, window.size, reference.duplicate_rate):
        return look_of_count(Statistic.DUPLICATES, window)
    if _rare(window.non_finite, window.size + window.non_finite, reference.non_finite_rate):
        return look_of_count(Statistic.NON_FINITE, window)
    return None


def died(window: WindowSummary) -> Booleans:
    """[d] dimensions that stand still though the reference makes that next to impossible.

    A dimension whose commonest bin has the share p stays in it through a window with a probability of at most
    p^(w - 1): features that are nearly always zero, as border pixels are, stand still now and then and are not dead.
    """
    chance = window.expected_bins.max(axis=1) ** max(0, window.size - 1)
    return np.asarray(window.stuck & (chance * len(chance) < CERTAIN))


def _rare(count: int, size: int, rate: float) -> bool:
    # A rate of nothing is known to one event per window at best.
    return count > 0 and float(special.bdtrc(count - 1, size, min(1.0, rate + 1 / size))) < CERTAIN


def _moments(window: WindowSummary, reference: Reference) -> _Moments:
    alive, noise = reference.alive, _REFERENCE_ERROR / window.size
    shift = np.where(alive, window.mean - window.expected_mean, 0.0)
    basis = reference.basis.astype(np.float64)
    along = basis.T @ shift
    residual = np.where(alive, shift - basis @ along, 0.0)
    level, outside = reference.basis_variance, reference.residual_variance[alive]
    free = max(1, int(alive.sum()) - len(level))
    inside_energy = max(0.0, float(along @ along) - noise * float(level.sum()))
    outside_energy = max(0.0, float(residual @ residual) - noise * float(outside.sum()))
    total = inside_energy + outside_energy
    changes, errors, levels, weights = _groups(window, reference, noise)
    if len(level) and np.isfinite(window.residual_energy_log):
        per_dimension = float(outside.sum()) / free
        energy = window.residual_energy_log - reference.residual_energy_log
        # A shift adds its own energy: what is left is the change of variance.
        changes.append(energy - float(np.log1p(outside_energy / max(outside.sum(), 1e-12))))
        errors.append(max(reference.residual_energy_log_sd, 1e-3) * np.sqrt(noise))
        levels.append(per_dimension)
        weights.append(np.where(alive, 1 - (basis**2).sum(axis=1), 0.0) / free)
    scale = np.where(alive, reference.scale, np.inf)
    half_range = (reference.upper - reference.lower) / (2 * scale)
    average = (float(level.sum()) + float(outside.sum())) / max(1, int(alive.sum()))
    return _Moments(
        np.array(changes), np.array(errors), np.array(levels), average,
        _moved(along, residual[alive], reference, noise),
        total / max(1, int(alive.sum())), inside_energy / total if total > 0 else 0.0,
        np.array(weights), (float(np.median(reference.scale[alive])) / scale) ** 2, half_range**2,
        float(np.log1p(outside_energy / max(outside.sum(), 1e-12))), _proportional(shift, total, reference),
    )  # fmt: skip


def _proportional(shift: Floats, total: float, reference: Reference) -> float:
    """Share of a shift's energy along the reference's mean, both in standard units; with the sign of their product."""
    mean = np.where(reference.alive, reference.mean / reference.scale, 0.0)
    product, length = float(shift @ mean), float(mean @ mean)
    if total <= 0 or length <= 0:
        return 0.0
    return float(np.sign(product)) * min(1.0, product**2 / (length * total))


def _groups(
    window: WindowSummary, reference: Reference, noise: float
) -> tuple[list[float], list[float], list[float], list[Floats]]:
    """Log variance ratios of groups of principal directions of about equal energy, largest variances first."""
    level = reference.basis_variance
    if not len(level):
        variance = window.second_moment[reference.alive] - window.mean[reference.alive] ** 2
        change, error = float(np.log(max(variance.mean(), 1e-12))), float(np.sqrt(2 * noise / len(variance)))
        return [change], [error], [1.0], [np.ones(reference.alive.size)]
    live = np.maximum(window.subspace_second_moment - window.subspace_mean**2, 1e-12)
    order = np.argsort(-level, kind="stable")
    share = np.cumsum(level[order]) / level.sum()
    group = np.minimum((share - 1e-9) * _GROUPS, _GROUPS - 1).astype(int)
    changes, errors, levels, weights = [], [], [], []
    for index in np.unique(group):
        chosen = order[group == index]
        was = level[chosen]
        changes.append(float(np.log(live[chosen].sum() / was.sum())))
        errors.append(float(np.sqrt(2 * noise * (was**2).sum()) / was.sum()))
        levels.append(float(was.mean()))
        weights.append((reference.basis[:, chosen].astype(np.float64) ** 2).mean(axis=1))
    return changes, errors, levels, weights


def _moved(along: Floats, residual: Floats, reference: Reference, noise: float) -> float:
    """P-value of "the mean has not moved": inside, outside (chi² each) and the furthest dimension, Bonferroni."""
    outside = np.maximum(reference.residual_variance[reference.alive], 1e-4)
    squares = residual**2 / (outside * noise)
    inside = float(np.sum(along**2 / (np.maximum(reference.basis_variance, 1e-4) * noise)))
    tests = [special.chdtrc(len(squares), squares.sum()), len(squares) * special.chdtrc(1, squares.max(initial=0.0))]
    if len(along):
        tests.append(special.chdtrc(len(along), inside))
    return float(min(1.0, len(tests) * min(tests)))


def _candidates(moments: _Moments) -> list[tuple[float, Kind, float]]:
    """(misfit with 2 per fitted number, kind, magnitude) of every kind that moments can tell; at least two."""
    scale, factor = _fit(moments, np.geomspace(0.1, 10, 801), _scaled)
    magnitude, moved = float(np.sqrt(moments.energy)), moments.moved <= CERTAIN
    shift = (_shifted(moments), Kind.SHIFT, magnitude)
    if len(moments.changes) == 1:  # one second moment fits any change of spread: scale stands for them all
        return [(scale, Kind.SCALE, factor), shift]
    elsewhere = moved and moments.proportional * np.sign(factor - 1) < PROPORTIONAL
    scale += elsewhere * (2 * MARGIN + _total(moments))
    noise, sd = _fit(moments, np.geomspace(0.01, 10, 400), _noised)
    raw, raw_sd = _fit(_with_clipped_noise(moments), np.geomspace(0.01, 10, 100), _noised_raw)
    gain = np.minimum(raw_sd**2 * moments.raw_gain, moments.raw_cap).sum() / np.count_nonzero(moments.raw_gain)
    if moved:
        noise += 2 * MARGIN * (moments.energy > QUIET * sd**2)
        raw += 2 * MARGIN * (moments.energy > QUIET * gain)
    noise, sd = min((noise, sd), (raw + 2, raw_sd))
    rotation, leak = _fit(moments, np.linspace(0.002, 1, 400), _rotated)
    found = [(scale, Kind.SCALE, factor), shift, (noise, Kind.NOISE, sd), (rotation, Kind.ROTATION, leak)]
    narrower = elsewhere and bool((moments.changes < 0).all())
    if not moved or moments.inside > OUTSIDE or narrower:
        outside = 0.0 if narrower else float((moments.changes[-1] / _errors(moments)[-1]) ** 2)
        found.append((outside + 2 * (len(moments.changes) - 1 + narrower), Kind.MIXTURE, magnitude))
    return found


def _errors(moments: _Moments) -> Floats:
    """[G + 1] what a right prediction may be off by."""
    return np.hypot(moments.errors, _TOLERANCE * moments.changes)


def _total(moments: _Moments) -> float:
    return float(np.sum((moments.changes / _errors(moments)) ** 2))


def _shifted(moments: _Moments) -> float:
    """Misfit of a pure shift. Clipping to the reference's range takes variance from values that moved far."""
    if moments.moved > CERTAIN or moments.inside >= INSIDE:
        return float("inf")
    clipped = np.where(moments.changes < 0, _CLIPPED * np.minimum(1.0, moments.energy / moments.levels), 0.0)
    return float(np.sum((moments.changes / np.hypot(_errors(moments), clipped)) ** 2)) + 2


def _fit(moments: _Moments, grid: Floats, predict: Callable[[_Moments, Floats], Floats]) -> tuple[float, float]:
    """Misfit and magnitude of that of a grid whose predicted changes [len(grid), G + 1] fit best."""
    predicted = predict(moments, grid[:, None])
    misfit = (((moments.changes - predicted) / _errors(moments)) ** 2).sum(axis=1)
    best = int(misfit.argmin())
    return float(misfit[best]) + 2, float(grid[best])


def _scaled(moments: _Moments, factor: Floats) -> Floats:
    return 2 * np.log(factor) + np.zeros(len(moments.levels))


def _noised(moments: _Moments, sd: Floats) -> Floats:
    return np.log1p(sd**2 / np.maximum(moments.levels, 1e-9))


def _with_clipped_noise(moments: _Moments) -> _Moments:
    """Noise at a bound is clipped to one side: the mean that moves there is noise too, and outside the subspace, where
    rarely moving dimensions count most, the prediction is a rough one."""
    changes, errors = moments.changes.copy(), moments.errors.copy()
    changes[-1] += moments.outside_shift
    errors[-1] = np.hypot(errors[-1], _ROUGH * min(abs(changes[-1]), moments.outside_shift))
    return replace(moments, changes=changes, errors=errors)


def _noised_raw(moments: _Moments, sd: Floats) -> Floats:
    """Noise that is the same in the tensor's own unit in every dimension, ``sd`` in units of the median dimension's;
    clipped as values are, so that no dimension's variance gains more than half its range, squared."""
    gains = np.minimum(sd**2 * moments.raw_gain, moments.raw_cap)
    return np.asarray(np.log1p(gains @ moments.weights.T / np.maximum(moments.levels, 1e-9)))


def _rotated(moments: _Moments, leak: Floats) -> Floats:
    """Each principal direction keeps 1 - leak of its energy and takes ``leak`` of an average dimension's; what the
    subspace loses in sum is taken up outside."""
    return np.log((1 - leak) + leak * moments.average / np.maximum(moments.levels, 1e-9))
