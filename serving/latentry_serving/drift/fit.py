"""Fits a profile from reference vectors: the statistics, and how much undrifted windows vary.

The reference is cut into contiguous windows in its order. Odd windows fit the subspace, even ones measure all variances
(held out); then each window is judged against the reference without it. That is affordable because only sums depend on
which window is left out: they are subtracted, nothing is refitted. In T² the odd windows are judged with the halves
exchanged (``halves``), in SPE only the even ones are: no window is judged by a subspace that has seen it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from latentry_serving.drift import describe, leave_out, order, rff
from latentry_serving.drift.calibrate import Calibration, Featured
from latentry_serving.drift.profile import TensorProfile
from latentry_serving.drift.source import Source
from latentry_serving.drift.types import Integers, Singles
from latentry_serving.drift.windows import Bounds, Kernel

_CYCLE_ROWS = 40_000


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fit.

    Attributes:
        window: vectors per window; the profile judges smaller windows too, at their true size.
        features: random Fourier features D.
        seed: of every random draw.
        hours: whether to consider hour-of-day slots where times are given.
    """

    window: int = 500
    features: int = 192
    seed: int = 0
    hours: bool = True


Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, 0 to 1."""


def _silent(_: str, __: float) -> None:
    return None


def fit_tensor(
    name: str,
    vectors: ArrayLike,
    settings: FitSettings | None = None,
    *,
    times_s: ArrayLike | None = None,
    ordered: bool = True,
    progress: Progress = _silent,
) -> TensorProfile:
    """Fits one tensor.

    Args:
        name: of the tensor.
        vectors: [n, d] or [n] (taken as d = 1), in the order of the traffic; a memory map is read in parts. Rows with
            NaN or infinity are counted and left out.
        times_s: [n] Unix times; the vectors are put in their order.
        ordered: False when the vectors are known to be shuffled or unordered.
        progress: see ``Progress``.

    Raises:
        InvalidInput: fewer than 4 windows, no dimension varies, shapes that do not fit, times that are not finite.
    """
    how = settings or FitSettings()
    source = Source(name, vectors, times_s, how.window)
    rng = np.random.Generator(np.random.PCG64(how.seed))
    progress(f"{name}: quantiles", 0.0)
    usable = source.finite_sample
    table = describe.quantiles(name, source.rows, describe.sampled(usable, describe.QUANTILE_SAMPLE), source.dimensions)
    z = table.standardise(source.rows(describe.sampled(usable, describe.SAMPLE)))
    omega, phase = describe.bandwidth_and_map(z, how.features, rng)
    omega[~table.alive] = 0

    def featured(rows: Integers) -> Singles:
        return rff.features(table.standardise(source.rows(rows)) @ omega, phase)

    progress(f"{name}: order and daily cycle", 0.1)
    cycle = _cycle(source, featured, usable, how, rng)
    slot = source.slots(cycle)
    progress(f"{name}: subspace", 0.2)
    half = (usable // how.window) % 2
    split = describe.Split(
        describe.sampled(usable[half == 1], describe.SAMPLE),
        describe.sampled(usable[half == 0], describe.SAMPLE),
        slot,
        how.window,
    )
    description = describe.describe(source.rows, split, table, rng)
    kernel = Kernel(
        description.reference, omega, phase, Bounds(description.residual_log_bounds, description.norm_log_bounds)
    )
    found = leave_out.run_pass(
        kernel,
        source.part,
        slot,
        how.window,
        table.alive,
        lambda done: progress(f"{name}: windows", 0.3 + 0.5 * done / source.size),
    )
    progress(f"{name}: nulls", 0.8)
    calibration = Calibration(source, how.window, description, found, cycle, featured, ordered)
    profile = calibration.profile(omega, phase)
    progress(f"{name}: done", 1.0)
    return profile


def _cycle(
    source: Source, featured: Featured, usable: Integers, how: FitSettings, rng: np.random.Generator
) -> order.Cycle:
    if source.times_s is None or not how.hours:
        return order.one_slot("no hour-of-day slots: no timestamps" if how.hours else "no hour-of-day slots: not asked")
    sample = describe.sampled(usable, _CYCLE_ROWS)
    hours = np.bincount(order.hour_of(source.times_s), minlength=order.HOURS)
    return order.daily_cycle(featured(sample).astype(np.float64), source.times_s[sample], hours, how.window, rng)
