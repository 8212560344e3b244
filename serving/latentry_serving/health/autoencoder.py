"""Health of reconstructions: mean and 95th percentile of the error, anomaly rate, share within the objective's
value."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.health.nulls import Arrays, CountNull, Floats, Meta, Side, WindowNull, over_windows, window_slices
from latentry_serving.health.report import Finding, HealthReport, RowCount, change, count_finding

TAIL = 0.95
"""Percentile of the error that is held against validation data."""
RELATIVE_FLOOR = 1e-3
"""Relative changes of errors far below this are not looked at."""
_GRID = 2001
_TINY = 1e-30


class AutoencoderWindow(RowCount):
    """Accumulates reconstruction errors [n], one number per sample, in the unit of the bundle's error."""

    def __init__(self) -> None:
        super().__init__()
        self._errors: list[Floats] = []

    def update(self, *rows: NDArray[Any]) -> None:
        """Takes errors [n] or [n, 1]; NaN and infinities are counted and left out."""
        (given,) = rows
        errors = np.asarray(given, np.float64).reshape(-1)
        finite = errors[np.isfinite(errors)]
        self._errors.append(finite)
        self.seen += len(errors)
        self.samples += len(finite)

    def errors(self) -> Floats:
        """All finite errors of the window."""
        return np.concatenate(self._errors) if self._errors else np.zeros(0)


@dataclass(frozen=True, slots=True)
class AutoencoderBaseline:
    """What the validation data's errors show in windows of ``window`` samples.

    Attributes:
        quantile: beyond which a sample is an anomaly, such as .99. threshold: the error there.
        grid: [2001] quantiles of the errors at equal steps from 0 to 1.
        logs: whether the null is of logarithms (all errors positive) or of the errors themselves (log-likelihoods).
        null: of mean and 95th percentile. anomaly, non_finite: nulls of counts.
        within, objective: of the quality objective: the largest good error, and the percent of samples within it.
        anomaly_objective: largest share of anomalies the objective accepts, in percent.
    """

    window: int
    samples: int
    mean: float
    tail: float
    quantile: float
    threshold: float
    grid: Floats
    logs: bool
    null: WindowNull
    anomaly: CountNull
    non_finite: CountNull
    within: float | None = None
    objective: float | None = None
    anomaly_objective: float | None = None

    @classmethod
    def fit(cls, errors: NDArray[Any], *, window: int, quantile: float = 0.99) -> "AutoencoderBaseline":
        """
        Args:
            errors: of validation data the model was not trained on, [n], in their time order.
            window: samples judged together.
            quantile: beyond which a sample is an anomaly.

        Raises:
            InvalidInput: fewer than four windows, or fewer than ten validation samples beyond ``quantile``.
        """
        given = np.asarray(errors, np.float64).reshape(-1)
        finite = given[np.isfinite(given)]
        logs = bool(finite.min(initial=np.inf) > 0)
        values = over_windows(len(finite), window, lambda rows: _measures(finite[rows], logs))
        _check_quantile(quantile, len(finite))
        threshold = float(np.quantile(finite, quantile, method="higher"))
        slices = window_slices(len(finite), window)
        counts = np.asarray([_anomalies_left_out(finite, rows, quantile) for rows in slices])
        floor = RELATIVE_FLOOR if logs else RELATIVE_FLOOR * float(np.std(finite))
        # A new error is beyond the k-th of n validation errors with a Beta(n - k + 1, k) probability.
        rate = (int((finite > threshold).sum()) + 1) / (len(finite) + 1)
        return cls(
            window, len(finite), float(finite.mean()), float(np.quantile(finite, TAIL)), quantile, threshold,
            np.quantile(finite, np.linspace(0, 1, _GRID)), logs, WindowNull.fit(values, floor=floor),
            CountNull.fit(counts, window, rate=rate), CountNull.of_rows(~np.isfinite(given), window),
        )  # fmt: skip

    def error_at(self, percent: float) -> float:
        """The validation error at a percentile: what ``reconstructionErrorWithin: p99`` means for this bundle."""
        return float(np.interp(percent / 100, np.linspace(0, 1, _GRID), self.grid))

    def with_objective(
        self, *, within: float | None = None, objective: float | None = None, anomaly_rate: float | None = None
    ) -> "AutoencoderBaseline":
        """The same baseline, reporting against a quality objective: an error, and two shares in percent."""
        return replace(self, within=within, objective=objective, anomaly_objective=anomaly_rate)

    def new_window(self) -> AutoencoderWindow:
        return AutoencoderWindow()

    def judge(self, window: AutoencoderWindow) -> HealthReport:
        """The window's measures against the validation data's."""
        errors, size = window.errors(), window.samples
        sufficient = self.null.covers(size)
        findings = [self._non_finite(window)]
        if sufficient:
            values = _measures(errors, self.logs)
            mean_p, tail_p = self.null.p_values(size, values, Side.UPPER)
            usual = self._plain(self.null.at(size)[0])
            findings += [
                self._mean(float(errors.mean()), float(usual[0]), float(mean_p)),
                self._tail(float(np.quantile(errors, TAIL)), float(tail_p)),
                self._anomalies(int((errors > self.threshold).sum()), size),
            ]
            if self.within is not None:
                findings.append(self._within(int((errors <= self.within).sum()), size, self.within))
        return HealthReport("Autoencoder", size, window.non_finite, sufficient, tuple(findings))

    def _plain(self, values: Floats) -> Floats:
        return np.exp(values) if self.logs else values

    def _non_finite(self, window: AutoencoderWindow) -> Finding:
        count, seen = window.non_finite, window.seen
        reason = f"{count} of {seen} reconstruction errors are NaN or infinite"
        return count_finding("non_finite", count, seen, self.non_finite, reason)

    def _mean(self, value: float, expected: float, p: float) -> Finding:
        reason = f"mean reconstruction error is {change(value, expected)}"
        return Finding("reconstruction_mean", value, expected, "model", reason, p)

    def _tail(self, value: float, p: float) -> Finding:
        ratio = value / self.tail if self.tail > 0 else float("nan")
        reason = f"95th percentile of the reconstruction error is {change(value, self.tail)}"
        reason += f", {ratio:.3g} times validation's" if self.tail > 0 else " in validation"
        details = {"p95": value, "validationP95": self.tail}
        if self.tail <= 0:  # a ratio of log-likelihoods means nothing
            return Finding("reconstruction_p95", value, self.tail, "model", reason, p, details)
        return Finding("reconstruction_p95_ratio", ratio, 1.0, "ratio", reason, p, details)

    def _anomalies(self, count: int, size: int) -> Finding:
        """Against the validation data (beta-binomial: their finite number counts) and the exact binomial at the stated
        rate."""
        stated = 1 - self.quantile if self.anomaly_objective is None else self.anomaly_objective / 100
        binomial = float(special.bdtrc(count - 1, size, stated))
        reason = (
            f"{count} of {size} samples ({count / size:.2%}) have an error beyond {self.threshold:.4g}, validation's "
            f"{self.quantile:.4g} quantile; {self.anomaly.rate:.2%} do there"
        )
        details = {"threshold": self.threshold, "statedRate": stated, "binomialPValue": binomial}
        return count_finding("anomaly_rate", count, size, self.anomaly, reason, **details)

    def _within(self, count: int, size: int, within: float) -> Finding:
        """Information: whether an objective is kept is for its error budget to say, not for a false-alarm budget."""
        share, expected = count / size, float(np.interp(within, self.grid, np.linspace(0, 1, _GRID)))
        reason = f"{count} of {size} samples ({share:.2%}) are reconstructed within {within:.4g}"
        reason += f"; {expected:.2%} of validation"
        details: dict[str, Any] = {"count": count, "within": within}
        if self.objective is not None:
            goal = self.objective / 100
            kept = float(special.bdtr(count, size, goal))
            reason += f", the objective is {goal:.2%}"
            details |= {"objective": goal, "binomialPValue": kept}
        return Finding("within_objective", share, expected, "ratio", reason, None, details)

    def to_arrays(self) -> tuple[Arrays, Meta]:
        """Arrays and a JSON friendly dict; ``from_arrays`` takes both back. The objective is not part of a profile."""
        arrays: Arrays = {"grid": self.grid, **self.null.to_arrays()}
        meta = {
            "window": self.window, "samples": self.samples, "mean": self.mean, "tail": self.tail,
            "quantile": self.quantile, "threshold": self.threshold, "logs": self.logs,
            "anomaly": self.anomaly.to_meta(), "nonFinite": self.non_finite.to_meta(),
        }  # fmt: skip
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> "AutoencoderBaseline":
        return cls(
            int(meta["window"]), int(meta["samples"]), float(meta["mean"]), float(meta["tail"]),
            float(meta["quantile"]), float(meta["threshold"]), arrays["grid"], bool(meta["logs"]),
            WindowNull.from_arrays(arrays), CountNull.from_meta(meta["anomaly"]),
            CountNull.from_meta(meta["nonFinite"]),
        )  # fmt: skip


def _check_quantile(quantile: float, samples: int) -> None:
    if not 0.5 <= quantile < 1 or (1 - quantile) * samples < 9.5:
        raise InvalidInput.one(
            "health baseline",
            path="quantile",
            problem=f"beyond the {quantile:.4g} quantile lie {max(0.0, (1 - quantile) * samples):.0f} of {samples} "
            "validation samples: too few to place a threshold",
            remedy=f"use a quantile of at most {1 - 10 / samples:.4g}, or more validation samples",
        )


def _anomalies_left_out(errors: Floats, rows: slice, quantile: float) -> int:
    """Anomalies of one window by the threshold of all others."""
    rest = np.concatenate([errors[: rows.start], errors[rows.stop :]])
    return int((errors[rows] > np.quantile(rest, quantile, method="higher")).sum())


def _measures(errors: Floats, logs: bool) -> Floats:
    """[2] mean and 95th percentile, as logarithms where errors are positive."""
    values = np.array([errors.mean(), np.quantile(errors, TAIL)])
    return np.log(np.maximum(values, _TINY)) if logs else values
