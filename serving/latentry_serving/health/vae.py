"""Health of a VAE's posterior: KL per dimension, active units, aggregate posterior, collapse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.health.nulls import Arrays, CountNull, Floats, Meta, Side, WindowNull, over_windows
from latentry_serving.health.report import Finding, HealthReport, RowCount, change, count_finding, finite_rows

ACTIVE_VARIANCE = 0.01
"""A unit is active when the variance over inputs of its posterior mean is above this (Burda et al., 1509.00519,
5.2)."""
DEAD_KL = 0.01
"""Nats per sample below which a dimension carries nothing."""
SMALLEST_KL = 1e-3
"""Nats; totals below are taken for it, so that a collapsed model's remaining noise alarms nobody."""
FULL_COVARIANCE = 256
"""Up to this many latents the aggregate posterior has a full covariance; beyond, a diagonal one (a lower bound of the
KL)."""
COLLAPSED_SHARE = 0.5
"""Collapse: at least this share of the baseline's active units is lost."""
RELATIVE_FLOOR = 1e-3
"""Relative changes far below this are not looked at."""
_TINY = 1e-12
_LARGEST_LOG_VARIANCE = 80.0


def kl_per_dimension(mean: NDArray[Any], log_variance: NDArray[Any]) -> Floats:
    """KL(N(mean, exp(log_variance)) to N(0, 1)) in nats, elementwise: (mu² + sigma² - 1 - ln sigma²) / 2.

    Source: Kingma and Welling 2013, appendix B.
    """
    mu, log = np.asarray(mean, np.float64), np.asarray(log_variance, np.float64)
    return np.asarray(0.5 * (mu**2 + np.expm1(log) - log))


def gaussian_kl(mean: Floats, covariance: Floats) -> float:
    """KL(N(mean, covariance) to N(0, I)) in nats: (tr S + m.m - d - ln det S) / 2.

    Args:
        mean: [d]. covariance: [d, d] positive definite, or [d] its diagonal.
    """
    if covariance.ndim == 1:
        return float(0.5 * (covariance.sum() + mean @ mean - len(mean) - np.log(np.maximum(covariance, _TINY)).sum()))
    eigenvalues = np.maximum(np.linalg.eigvalsh(covariance), _TINY)
    return float(0.5 * (eigenvalues.sum() + mean @ mean - len(mean) - np.log(eigenvalues).sum()))


def frechet_distance(mean_1: Floats, covariance_1: Floats, mean_2: Floats, covariance_2: Floats) -> float:
    """Squared 2-Wasserstein distance of two Gaussians: |m1 - m2|² + tr(S1 + S2 - 2 (S1^½ S2 S1^½)^½); biased for
    samples.

    Args:
        mean_1, mean_2: [d]. covariance_1, covariance_2: [d, d] positive semidefinite.

    Source: Dowson and Landau 1982; as FID, Heusel et al. 2017.
    """
    values, vectors = np.linalg.eigh(covariance_1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_2 @ root), 0)).sum()
    return float((mean_1 - mean_2) @ (mean_1 - mean_2) + np.trace(covariance_1) + np.trace(covariance_2) - 2 * cross)


@dataclass(frozen=True, slots=True)
class PosteriorMoments:
    """Of the posteriors of a set of inputs.

    Attributes:
        kl: [d] mean nats per sample. variance: [d] variance over inputs of the posterior mean.
        aggregate_mean: [d], aggregate_covariance: [d, d] or [d]: Cov(mu) + diag(mean sigma²), what ``aggregate_kl`` is
            of.
    """

    kl: Floats
    variance: Floats
    aggregate_mean: Floats
    aggregate_covariance: Floats

    @property
    def aggregate_kl(self) -> float:
        """KL of the moment-matched aggregate posterior to the prior N(0, I), nats."""
        return gaussian_kl(self.aggregate_mean, self.aggregate_covariance)

    @property
    def active_units(self) -> int:
        return int((self.variance > ACTIVE_VARIANCE).sum())

    def measures(self) -> Floats:
        """[2 + d] logarithms of the total KL, the aggregate posterior's KL and each unit's variance."""
        divergences = np.maximum([self.kl.sum(), self.aggregate_kl], SMALLEST_KL)
        return np.asarray(np.log(np.concatenate([divergences, np.maximum(self.variance, _TINY)])))


class VaeWindow(RowCount):
    """Accumulates posterior means and log-variances, [n, d] each (more axes are flattened)."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self._full = dimensions <= FULL_COVARIANCE
        self._dimensions = dimensions
        self._sum = np.zeros(dimensions)
        self._products = np.zeros((dimensions, dimensions) if self._full else dimensions)
        self._variances = np.zeros(dimensions)
        self._kl = np.zeros(dimensions)

    def update(self, *rows: NDArray[Any]) -> None:
        """Takes posterior means and log-variances. Rows with a NaN, an infinity or a variance beyond e^80 are counted
        and left out."""
        mean, log_variance = (np.asarray(part, np.float64).reshape(len(part), self._dimensions) for part in rows)
        keep = finite_rows(mean, log_variance) & (log_variance.max(axis=1, initial=-np.inf) <= _LARGEST_LOG_VARIANCE)
        self.seen += len(mean)
        if not keep.all():
            mean, log_variance = mean[keep], log_variance[keep]
        self._sum += mean.sum(axis=0)
        self._products += mean.T @ mean if self._full else (mean**2).sum(axis=0)
        self._variances += np.exp(log_variance).sum(axis=0)
        self._kl += kl_per_dimension(mean, log_variance).sum(axis=0)
        self.samples += len(mean)

    def moments(self) -> PosteriorMoments:
        """Of all finite rows; needs two."""
        n = self.samples
        mean = self._sum / n
        outer = np.outer(mean, mean) if self._full else mean**2
        spread = np.asarray((self._products - n * outer) / (n - 1))
        noise = self._variances / n
        variance = np.maximum(np.diagonal(spread) if self._full else spread, 0.0)
        covariance = spread + np.diag(noise) if self._full else variance + noise
        return PosteriorMoments(self._kl / n, variance, mean, covariance)


@dataclass(frozen=True, slots=True)
class VaeBaseline:
    """What the reference's posteriors show in windows of ``window`` samples.

    Attributes:
        moments: of the whole reference.
        null: of ``PosteriorMoments.measures``. kl_null: of the logarithm of each dimension's KL, to explain.
        non_finite: null of the count of rows.
    """

    window: int
    moments: PosteriorMoments
    null: WindowNull
    kl_null: WindowNull
    non_finite: CountNull

    @classmethod
    def fit(cls, mean: NDArray[Any], log_variance: NDArray[Any], *, window: int) -> "VaeBaseline":
        """
        Args:
            mean, log_variance: posterior of the reference, [n, d] each, in their time order, not the training data.
            window: samples judged together.

        Raises:
            InvalidInput: shapes that differ, or fewer than four windows.
        """
        if mean.shape != log_variance.shape:
            raise InvalidInput.one(
                "health baseline",
                path="log_variance",
                problem=f"its shape {log_variance.shape} is not the posterior mean's {mean.shape}",
                remedy="give both outputs for the same inputs",
            )
        keep = finite_rows(mean, log_variance)
        mu, log = mean[keep].reshape(int(keep.sum()), -1), log_variance[keep].reshape(int(keep.sum()), -1)
        windows = over_windows(len(mu), window, lambda rows: _moments(mu[rows], log[rows]))
        values = {size: [each.measures() for each in cut] for size, cut in windows.items()}
        kls = {size: [np.log(np.maximum(each.kl, _TINY)) for each in cut] for size, cut in windows.items()}
        return cls(
            window, _moments(mu, log), WindowNull.fit(values, floor=RELATIVE_FLOOR),
            WindowNull.fit(kls, floor=RELATIVE_FLOOR), CountNull.of_rows(~keep, window),
        )  # fmt: skip

    @property
    def collapsed(self) -> bool:
        """Whether the model has no active unit on its own reference: that is its fault, whatever live windows show."""
        return self.moments.active_units == 0

    def new_window(self) -> VaeWindow:
        return VaeWindow(len(self.moments.kl))

    def judge(self, window: VaeWindow) -> HealthReport:
        """The window's posterior against the reference's."""
        size, count = window.samples, window.non_finite
        sufficient = self.null.covers(size)
        reason = f"{count} of {window.seen} posteriors have a NaN, an infinity or a variance beyond e^80"
        findings = [count_finding("non_finite", count, window.seen, self.non_finite, reason)]
        if sufficient:
            findings += self._posterior(window.moments(), size)
        notes: tuple[str, ...] = ()
        if self.collapsed:
            # No window is needed to know it, and no profile fitted on such a model may make it usual.
            notes = (self._collapsed_note(),)
            findings.append(Finding("posterior_collapse", 1.0, 0.0, "ratio", notes[0], 0.0))
        return HealthReport("VAE", size, count, sufficient, tuple(findings), notes)

    def _collapsed_note(self) -> str:
        moments = self.moments
        return (
            f"posterior collapse in the bundle itself: none of {len(moments.kl)} latents varies by more than "
            f"{ACTIVE_VARIANCE} over the reference (KL {moments.kl.sum():.3g} nats); train with a smaller KL weight"
        )

    def _posterior(self, live: PosteriorMoments, size: int) -> list[Finding]:
        values = live.measures()
        expected = np.exp(self.null.at(size)[0])
        sides = [Side.BOTH, Side.UPPER, *[Side.LOWER] * len(live.kl)]
        p_values = self.null.p_values(size, values, sides)
        return [
            self._kl(live, float(expected[0]), float(p_values[0]), size),
            self._aggregate(live, float(expected[1]), float(p_values[1])),
            *self._units(live, expected[2:], p_values[2:]),
        ]

    def _kl(self, live: PosteriorMoments, expected: float, p: float, size: int) -> Finding:
        total = float(live.kl.sum())
        usual, spread = self.kl_null.at(size)
        z = (np.log(np.maximum(live.kl, _TINY)) - usual) / spread
        furthest = np.argsort(-np.abs(z) * (np.maximum(live.kl, self.moments.kl) > DEAD_KL), kind="stable")[:5]
        named = ", ".join(f"{d}: {change(live.kl[d], self.moments.kl[d])}" for d in furthest[:3])
        reason = f"total KL is {change(total, expected)} nats per sample; furthest dimensions {named}"
        details = {"perDimension": live.kl.tolist(), "furthest": furthest.tolist()}
        return Finding("kl_total", total, expected, "nats", reason, p, details)

    def _aggregate(self, live: PosteriorMoments, expected: float, p: float) -> Finding:
        value = live.aggregate_kl
        reason = (
            f"aggregate posterior is {change(value, expected)} nats from the prior: "
            "the inputs as a whole fill another part of the latent space"
        )
        kind = "full" if live.aggregate_covariance.ndim == 2 else "diagonal"
        return Finding("aggregate_posterior_kl", value, expected, "nats", reason, p, {"covariance": kind})

    def _units(self, live: PosteriorMoments, expected: Floats, p_values: Floats) -> list[Finding]:
        """Active units, and collapse.

        A unit counts as lost when it is below the cut *and* lower than the reference's windows explain, so that units
        near the cut do not flicker. P(at least k of n p-values at most t) <= n t / k under any dependence (Markov),
        which gives the p-value of "one unit or more" (k = 1) and of "half of them or more".
        """
        active = expected > ACTIVE_VARIANCE
        units = int(active.sum())
        if not units:
            return []
        below = np.where(live.variance <= ACTIVE_VARIANCE, p_values, 1.0)[active]
        ordered, half = np.sort(below), max(1, int(np.ceil(COLLAPSED_SHARE * units)))
        lost = np.flatnonzero(active)[below < 0.05 / units]
        return [
            self._lost(live, units, lost, float(ordered[0])),
            self._collapse(units, lost, half, float(ordered[half - 1])),
        ]

    def _lost(self, live: PosteriorMoments, units: int, lost: NDArray[np.int64], smallest: float) -> Finding:
        reason = f"{live.active_units} units are active, {units} in the reference"
        reason += f"; lost: {', '.join(str(d) for d in lost[:8])}" if len(lost) else "; the difference is within chance"
        value, p = float(live.active_units), min(1.0, units * smallest)
        return Finding("active_units", value, float(units), "dimensions", reason, p, {"lost": lost.tolist()})

    def _collapse(self, units: int, lost: NDArray[np.int64], half: int, p_half: float) -> Finding:
        share = len(lost) / units
        reason = f"posterior collapse: {len(lost)} of {units} active units stopped answering to their input"
        if len(lost) < half:
            reason = f"no posterior collapse: {len(lost)} of {units} active units lost, {half} are needed"
        return Finding("posterior_collapse", share, 0.0, "ratio", reason, min(1.0, units * p_half / half))

    def to_arrays(self) -> tuple[Arrays, Meta]:
        """Arrays and a JSON friendly dict; ``from_arrays`` takes both back."""
        moments = self.moments
        arrays: Arrays = {
            "kl": moments.kl, "variance": moments.variance,
            "aggregate_mean": moments.aggregate_mean, "aggregate_covariance": moments.aggregate_covariance,
        }  # fmt: skip
        arrays |= self.null.to_arrays() | self.kl_null.to_arrays("klnull_")
        return arrays, {"window": self.window, "nonFinite": self.non_finite.to_meta()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> "VaeBaseline":
        names = ("kl", "variance", "aggregate_mean", "aggregate_covariance")
        moments = PosteriorMoments(*(arrays[name] for name in names))
        null, kl_null = WindowNull.from_arrays(arrays), WindowNull.from_arrays(arrays, "klnull_")
        return cls(int(meta["window"]), moments, null, kl_null, CountNull.from_meta(meta["nonFinite"]))


def _moments(mean: NDArray[Any], log_variance: NDArray[Any]) -> PosteriorMoments:
    window = VaeWindow(mean.shape[1])
    window.update(mean, log_variance)
    return window.moments()
