"""One p-value per statistic of a closed window."""

import numpy as np

from latentry_serving.drift import bins, nulls
from latentry_serving.drift.profile import TensorProfile
from latentry_serving.drift.scores import Expected, deviations, likelihood_ratios
from latentry_serving.drift.types import Booleans, Statistic, WindowScore, WindowSummary
from latentry_serving.drift.windows import Filled

_WOKEN = 0.01  # of the median scale: a dimension dead in the reference that leaves its value by more has woken


def woken(profile: TensorProfile, filled: Filled) -> Booleans:
    """Dimensions [d] dead in the reference that moved in the window."""
    reference = profile.reference
    if filled.size == 0 or reference.alive.all():
        return np.zeros(reference.dimensions, np.bool_)
    reach = _WOKEN * float(np.median(reference.scale[reference.alive]))
    moved = np.maximum(filled.highest - reference.mean, reference.mean - filled.lowest)
    return np.asarray(~reference.alive & (moved > reach))


def judged(profile: TensorProfile, filled: Filled, min_window: int) -> list[WindowScore]:
    """Scores and p-values of all statistics the window allows; fewer than all means insufficient data for the others.

    - fewer than ``min_window`` finite vectors: only NON_FINITE, if the vectors seen with them are enough;
    - fewer than the profile's window: no DUPLICATES and no DEAD_DIMENSIONS, which depend on the size itself;
    - vectors of an hour the reference has none of: NON_FINITE only.
    """
    seen = filled.size + filled.non_finite
    scores = []
    if seen >= min_window and Statistic.NON_FINITE in profile.events:
        p = profile.events[Statistic.NON_FINITE].tail(filled.non_finite, seen)
        scores.append(WindowScore(Statistic.NON_FINITE, float(filled.non_finite), p, seen))
    if filled.size < max(2, min_window) or profile.baseline.counts[filled.slots > 0].min() == 0:
        return scores
    expected = profile.baseline.at(filled.slots)
    for statistic, deviation in deviations(filled.sums, expected, profile.geometry).items():
        if statistic in profile.tails:
            score = float(deviation @ deviation)
            scores.append(WindowScore(statistic, score, profile.tails[statistic].p(score), filled.size))
    scores += _worst(profile, filled, expected)
    if seen >= profile.window:
        scores += _counted(profile, filled)
    order = list(Statistic)
    return sorted(scores, key=lambda s: order.index(s.statistic))


def _worst(profile: TensorProfile, filled: Filled, expected: Expected) -> list[WindowScore]:
    null, degrees = profile.worst, profile.geometry.degrees
    if null is None:
        return []
    ratios = likelihood_ratios(filled.sums, expected)
    log_p = nulls.worst(ratios, degrees, null.scale, null.share, null.freedom) / null.tail_exponent
    relative = np.where(degrees > 0, ratios / null.scale / np.maximum(degrees, 1), 0)
    p = float(np.exp(max(log_p, np.log(nulls.SMALLEST_P))))
    return [WindowScore(Statistic.BINS_MAX, float(relative.max()), p, filled.size)]


def _counted(profile: TensorProfile, filled: Filled) -> list[WindowScore]:
    stuck = int(filled.still(profile.reference.alive).sum()) + int(woken(profile, filled).sum())
    scores = []
    for statistic, count, trials in (
        (Statistic.DUPLICATES, filled.duplicates, filled.size),
        (Statistic.DEAD_DIMENSIONS, stuck, profile.reference.dimensions),
    ):
        if statistic in profile.events:
            p = profile.events[statistic].tail(count, trials)
            scores.append(WindowScore(statistic, float(count), p, filled.size))
    return scores


def summary(profile: TensorProfile, filled: Filled) -> WindowSummary:
    """What the window held, for the explanation. Means of an empty window are zero."""
    sums, n = filled.sums, max(filled.size, 1)
    known = filled.size > 0 and profile.baseline.counts[filled.slots > 0].min() > 0
    expected = profile.baseline.at(filled.slots) if known else None
    reference = profile.reference
    return WindowSummary(
        tensor=profile.name,
        opened_s=filled.opened_s,
        closed_s=filled.closed_s,
        size=filled.size,
        mean=sums.z / n,
        second_moment=sums.z2 / n,
        bin_counts=bins.counts_from_above(sums.above, sums.size),
        expected_mean=np.zeros(reference.dimensions) if expected is None else expected.z,
        expected_bins=reference.bin_shares.astype(np.float64) if expected is None else expected.shares,
        subspace_mean=sums.coordinates / n,
        subspace_second_moment=sums.coordinates2 / n,
        residual_energy_log=sums.residual_log / n if Statistic.SPE in profile.tails else float("nan"),
        norm_log=sums.norm_log / n,
        non_finite=filled.non_finite,
        duplicates=filled.duplicates,
        stuck=filled.still(reference.alive),
        woken=woken(profile, filled),
    )
