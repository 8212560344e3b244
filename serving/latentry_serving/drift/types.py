"""The values every part of drift detection shares: names, settings, window results, alarms, reference arrays.

Shapes: ``d`` dimensions of a tensor, ``k`` of its principal subspace, ``B`` bins, ``w`` vectors in a window. Dead
dimensions keep their place in every array of length ``d`` and are marked by ``alive``.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class Tensor(StrEnum):
    """What can be watched. A bundle with several tensors of one kind names them ``kind/name``; so names are ``str``."""

    INPUT = "input"
    EMBEDDING = "embedding"
    POSTERIOR_MEAN = "posterior_mean"
    POSTERIOR_LOG_VARIANCE = "posterior_log_variance"
    RECONSTRUCTION_ERROR = "reconstruction_error"


class Statistic(StrEnum):
    """What is computed per window; each has one p-value per window under "the traffic is as the reference was"."""

    MMD2 = "mmd2"  # random Fourier features: any change of distribution
    T2 = "t2"  # mean shift, on a low-rank-plus-diagonal Gaussian
    SPE = "spe"  # energy outside the principal subspace
    BINS_MEAN = "bins_mean"  # Pearson chi² of binned dimensions, mean over dimensions
    BINS_MAX = "bins_max"  # likelihood ratio of binned dimensions, worst dimension
    NORM = "norm"  # Euclidean norm
    NON_FINITE = "non_finite"  # vectors with NaN or infinity
    DUPLICATES = "duplicates"  # vectors seen before in the window
    DEAD_DIMENSIONS = "dead_dimensions"  # dimensions that do not move, though they did in the reference


class Rule(StrEnum):
    """How p-values become alarms: one very small (big shifts), or many small ones in a row (small shifts)."""

    SHEWHART = "shewhart"
    CUSUM = "cusum"


class AlarmState(StrEnum):
    """Of one statistic of one tensor. Never ``OK`` without a judged window behind it."""

    INSUFFICIENT_DATA = "insufficient_data"
    OK = "ok"
    ALARM = "alarm"


CHUNK = 255
"""Most vectors measured at once: bins count in bytes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user states.

    Attributes:
        window: vectors per window.
        expected_run_time_s: mean seconds between false alarms of the whole model on undrifted traffic.
        max_wait_s: a window that has not filled by then is judged at its true size, or is insufficient.
        replicas: taps that watch the same model independently and share its budget.
        clean_windows: judged windows in a row without any signal that end an alarm.
        min_window: fewest vectors a window is judged on; below it, insufficient data.
        chunk: most vectors measured at once. With fewer each takes longer, and a caller who gives way in
            between does so sooner.
    """

    window: int = 500
    expected_run_time_s: float = 30 * 86400.0
    max_wait_s: float = 3600.0
    replicas: int = 1
    clean_windows: int = 3
    min_window: int = 50
    chunk: int = CHUNK


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What one statistic is held against.

    Attributes:
        alpha: Shewhart: alarm at a p-value at or below it.
        cusum_k, cusum_h: CUSUM: S = max(0, S + z - k) over z = InvNormal(1 - p); alarm at S > h.
    """

    alpha: float
    cusum_k: float
    cusum_h: float


@dataclass(frozen=True, slots=True)
class WindowScore:
    """One statistic of one window. ``score`` is in units of its mean on undrifted traffic where not said otherwise.

    ``p`` is the probability of a score at least as large on undrifted traffic, in (0, 1].
    """

    statistic: Statistic
    score: float
    p: float
    size: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """One statistic of one tensor left the undrifted range.

    Attributes:
        since_s: opening time of the first window of the run that led here: of the window itself for Shewhart, of the
            window in which the CUSUM last left zero for CUSUM.
        raised_s: closing time of the window that raised it.
        value: the p-value (Shewhart) or the CUSUM's S.
        threshold: what it was held against.
    """

    tensor: str
    statistic: Statistic
    rule: Rule
    since_s: float
    raised_s: float
    value: float
    threshold: float
    window: "WindowSummary"


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """What a closed window held: enough to explain it. Moments are in the reference's standard units.

    Standard units: ``z = (clip(x, lower, upper) - mean) / scale`` of the reference; zero for dead dimensions.

    Attributes:
        size: finite vectors.
        mean, second_moment: [d] means of z and z².
        bin_counts: [d, B] vectors per bin.
        expected_mean: [d] what the reference says the mean of z is (zero without hour-of-day slots).
        expected_bins: [d, B] what it says the shares of the bins are.
        subspace_mean, subspace_second_moment: [k] of the coordinates ``z @ basis``.
        residual_energy_log: mean of ln(mean squared residual), or NaN where there is no subspace.
        norm_log: mean of ln(Euclidean norm of the raw vector).
        non_finite, duplicates: vectors. ``stuck``: [d] alive dimensions with one single value in the whole window.
        woken: [d] dimensions dead in the reference that moved.
    """

    tensor: str
    opened_s: float
    closed_s: float
    size: int
    mean: Floats
    second_moment: Floats
    bin_counts: Integers
    expected_mean: Floats
    expected_bins: Floats
    subspace_mean: Floats
    subspace_second_moment: Floats
    residual_energy_log: float
    norm_log: float
    non_finite: int
    duplicates: int
    stuck: Booleans
    woken: Booleans


@dataclass(frozen=True, slots=True)
class WindowResult:
    """A closed window, judged.

    Attributes:
        scores: of the statistics the window allowed. insufficient: the watched statistics it did not.
        alarms: raised by this window; an alarm that goes on is not raised again.
        ended: statistics whose alarm ended with this window.
    """

    window: WindowSummary
    scores: tuple[WindowScore, ...]
    insufficient: tuple[Statistic, ...]
    alarms: tuple[Alarm, ...]
    ended: tuple[Statistic, ...]


@dataclass(frozen=True, slots=True)
class StatisticStatus:
    """One statistic as it stands. ``last`` is the latest judged window's score; None before the first.

    ``evidence``: the CUSUM's S. ``alarm``: what raised the alarm that is on, else None. ``windows``: judged so far.
    """

    statistic: Statistic
    state: AlarmState
    last: WindowScore | None
    evidence: float
    thresholds: Thresholds
    windows: int
    alarm: Alarm | None


@dataclass(frozen=True, slots=True)
class TensorStatus:
    """One tensor as it stands.

    Attributes:
        held: vectors in the open window. opened_s: when it opened, None while empty.
        windows: closed and judged in at least one statistic. insufficient: closed without any judgement.
        last_full_s: when a window last filled, None before the first. since_full_s: seconds from then (from the first
            look before that).
        window_s: seconds a window takes, as the thresholds assume.
    """

    tensor: str
    held: int
    opened_s: float | None
    windows: int
    insufficient: int
    last_full_s: float | None
    since_full_s: float
    window_s: float
    statistics: tuple[StatisticStatus, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """Per-dimension description of the reference, as arrays of the profile.

    Attributes:
        alive: [d] dimensions that move; the others are left out of every statistic but DEAD_DIMENSIONS.
        mean, scale: [d] of the clipped values; scale is the standard deviation, 1 for dead dimensions.
        lower, upper: [d] clipping bounds (reference quantiles .001 and .999), so that heavy tails keep finite moments.
        bin_edges: [d, B - 1] inner edges in raw units, ascending; repeated edges make empty bins.
        bin_shares: [d, B] share of the reference in each bin.
        basis: [d, k] orthonormal principal directions of z. basis_variance: [k] held-out variances of ``z @ basis``.
        residual_variance: [d] held-out variances of ``z - basis basisᵀ z``.
        residual_energy_log, residual_energy_log_sd: of ln(mean squared residual) per vector, held out.
        norm_log, norm_log_sd: of ln(norm) per vector.
        non_finite_rate, duplicate_rate: shares of vectors.
    """

    alive: Booleans
    mean: Singles
    scale: Singles
    lower: Singles
    upper: Singles
    bin_edges: Singles
    bin_shares: Singles
    basis: Singles
    basis_variance: Floats
    residual_variance: Floats
    residual_energy_log: float
    residual_energy_log_sd: float
    norm_log: float
    norm_log_sd: float
    non_finite_rate: float
    duplicate_rate: float

    @property
    def dimensions(self) -> int:
        return int(self.alive.size)
