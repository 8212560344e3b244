"""From an alarm to what a person can act on: where, since when, how far outside, which dimensions, what kind."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from latentry_serving.drift import bins
from latentry_serving.drift.looks import Look, died, look, look_of_count
from latentry_serving.drift.subspace import Metric
from latentry_serving.drift.types import Alarm, Floats, Reference, Rule, Statistic, WindowSummary

TOP = 8
"""Dimensions named in an explanation."""
_TINY = 1e-12
_WORDS = {
    Statistic.MMD2: "the distribution as a whole (MMD²)",
    Statistic.T2: "the mean (T²)",
    Statistic.SPE: "the energy outside the principal subspace (SPE)",
    Statistic.BINS_MEAN: "the histograms of the dimensions",
    Statistic.BINS_MAX: "the histogram of one dimension",
    Statistic.NORM: "the vectors' norm",
    Statistic.NON_FINITE: "the number of non-finite vectors",
    Statistic.DUPLICATES: "the number of repeated vectors",
    Statistic.DEAD_DIMENSIONS: "the number of dimensions that do not move",
}


@dataclass(frozen=True, slots=True)
class Contribution:
    """One dimension's part in an alarm.

    Attributes:
        share: of all dimensions' contributions to the statistic, 0 to 1.
        mean_shift: in reference standard deviations. spread: standard deviation over the reference's, both clipped.
    """

    dimension: int
    share: float
    mean_shift: float
    spread: float

    def __str__(self) -> str:
        return f"{self.dimension} ({self.share:.0%}: mean {self.mean_shift:+.2g} sd, spread x {self.spread:.3g})"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a statistic of a tensor alarms. Times are in Unix seconds; ``size`` is of the window that raised it."""

    alarm: Alarm
    look: Look
    dimensions: tuple[Contribution, ...]

    @property
    def outside(self) -> str:
        """How far outside the undrifted range, in the rule's own terms."""
        value, threshold = self.alarm.value, self.alarm.threshold
        if self.alarm.rule is Rule.SHEWHART:
            return f"probability {value:.1e} on undrifted traffic, alarm from {threshold:.1e}"
        return f"cumulative sum {value:.3g}, alarm above {threshold:.3g}"

    def to_json(self) -> dict[str, Any]:
        """JSON friendly, camelCase like the other documents of the admin API; numbers are finite or None."""
        alarm = self.alarm
        magnitude = self.look.magnitude
        return {
            "tensor": alarm.tensor,
            "statistic": alarm.statistic.value,
            "rule": alarm.rule.value,
            "sinceSeconds": alarm.since_s,
            "raisedSeconds": alarm.raised_s,
            "value": alarm.value,
            "threshold": alarm.threshold,
            "windowSize": alarm.window.size,
            "looksLike": self.look.kind.value,
            "magnitude": magnitude if np.isfinite(magnitude) else None,
            "nearest": None if self.look.next is None else self.look.next.value,
            "dimensions": [
                {
                    "dimension": part.dimension,
                    "share": part.share,
                    "meanShift": part.mean_shift,
                    "spread": part.spread,
                }
                for part in self.dimensions
            ],
        }

    def text(self) -> str:
        """A few lines for a terminal or a log."""
        alarm = self.alarm
        lasting = alarm.raised_s - alarm.since_s
        lines = [
            f"drift of {alarm.tensor}: {_WORDS[alarm.statistic]} left the undrifted range",
            f"  how far: {self.outside} ({alarm.rule} rule, {alarm.window.size} vectors)",
            f"  since: {lasting:.0f} s before the alarm",
            f"  looks like: {self.look.sentence}",
        ]
        if self.dimensions:
            lines.append("  dimensions: " + ", ".join(str(part) for part in self.dimensions))
        return "\n".join(lines)

    def event(self) -> str:
        """One line, as for a Kubernetes event."""
        named = (
            f"; most in dimensions {', '.join(str(p.dimension) for p in self.dimensions[:3])}"
            if self.dimensions
            else ""
        )
        return f"{self.alarm.tensor} drifted ({self.alarm.statistic}): looks like {self.look.sentence}{named}"


def explain(alarm: Alarm, reference: Reference, *, top: int = TOP) -> Explanation:
    """Explains an alarm by the window that raised it.

    Args:
        alarm: with its window's moments. reference: of the same tensor, from the profile. top: dimensions to name.
    """
    window = alarm.window
    parts = contributions(alarm.statistic, window, reference)
    total = float(parts.sum())
    order = np.argsort(-parts, kind="stable")[:top]
    spread = np.sqrt(np.maximum(window.second_moment - window.mean**2, 0.0))
    shift = window.mean - window.expected_mean
    named = tuple(
        Contribution(int(d), float(parts[d] / total), float(shift[d]), float(spread[d])) for d in order if parts[d] > 0
    )
    seen = look_of_count(alarm.statistic, window) or look(window, reference)
    return Explanation(alarm, seen, named)


def contributions(statistic: Statistic, window: WindowSummary, reference: Reference) -> Floats:
    """What each dimension [d] adds to a statistic, at least 0; all zero where no dimension is to blame.

    T²: the parts of its sum. Bins: G² per dimension. Dead dimensions: 1 each. Counts of vectors: none. The others
    have no sum over dimensions: there it is the divergence of the dimension, as a Gaussian, from the reference,
    ``w (m² + v - 1 - ln v) / 2`` nats for its mean shift m and variance v in standard units.
    """
    alive = reference.alive
    if window.size == 0 or statistic in (Statistic.NON_FINITE, Statistic.DUPLICATES):
        return np.zeros(alive.size)
    if statistic is Statistic.DEAD_DIMENSIONS:
        return died(window).astype(np.float64)
    shift = np.where(alive, window.mean - window.expected_mean, 0.0)
    if statistic is Statistic.T2:
        metric = Metric(reference.basis, reference.basis_variance, reference.residual_variance, alive)
        parts = metric.contributions(shift, shift @ reference.basis.astype(np.float64))
        return np.asarray(np.maximum(parts, 0.0) * window.size)
    if statistic in (Statistic.BINS_MEAN, Statistic.BINS_MAX):
        return np.where(alive, np.maximum(bins.likelihood_ratio(window.bin_counts, window.expected_bins), 0.0), 0.0)
    variance = np.maximum(window.second_moment - window.mean**2, _TINY)
    return np.where(alive, 0.5 * window.size * (shift**2 + variance - 1 - np.log(variance)), 0.0)
