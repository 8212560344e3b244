"""What a health check says: measures with reasons and p-values, as typed value, JSON and text; and the disjoint
windows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from latentry_serving.health.nulls import CountNull


class HealthState(StrEnum):
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    INSUFFICIENT_DATA = "insufficient data"


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure of one window.

    Attributes:
        measure: name, such as ``anomaly_rate``; stable, fit for a metric label.
        value: in the window; in ``unit``. None when it cannot be computed (no finite row).
        expected: in a window of the same size of the reference.
        unit: ``nats``, ``ratio``, ``dimensions``, or the model's own.
        reason: one sentence with the numbers, for a person.
        p_value: probability of a value at least as far out in an undrifted window; None: information, never an alarm.
        details: more numbers, JSON friendly.
    """

    measure: str
    value: float | None
    expected: float | None
    unit: str
    reason: str
    p_value: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "value": self.value,
            "expected": self.expected,
            "unit": self.unit,
            "pValue": self.p_value,
            "reason": self.reason,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All measures of one window.

    Attributes:
        family: ``Encoder``, ``Autoencoder`` or ``VAE``.
        samples: rows that were judged, all finite.
        non_finite: rows left out because a value was NaN or infinite.
        sufficient: whether the window held enough rows to be judged; without, only rows are counted.
        notes: what is wrong with the baseline itself.
    """

    family: str
    samples: int
    non_finite: int
    sufficient: bool
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def p_values(self) -> dict[str, float]:
        """Per measure that can alarm: what goes to the rules that share the false-alarm budget."""
        return {finding.measure: finding.p_value for finding in self.findings if finding.p_value is not None}

    def finding(self, measure: str) -> Finding:
        """The finding of a measure. Raises KeyError when this family has none of that name."""
        for finding in self.findings:
            if finding.measure == measure:
                return finding
        raise KeyError(measure)

    def alarming(self, alpha: float) -> tuple[Finding, ...]:
        """Findings against the reference when one false alarm in ``1 / alpha`` windows is accepted for all of them
        together (Bonferroni over the measures that can alarm), most certain first."""
        share = alpha / max(1, len(self.p_values))
        found = [finding for finding in self.findings if finding.p_value is not None and finding.p_value <= share]
        return tuple(sorted(found, key=lambda finding: finding.p_value or 0.0))

    def state(self, alpha: float) -> HealthState:
        """Unhealthy, healthy or insufficient data at ``alpha``: the probability that an undrifted window is called
        unhealthy."""
        if self.alarming(alpha):
            return HealthState.UNHEALTHY
        return HealthState.HEALTHY if self.sufficient else HealthState.INSUFFICIENT_DATA

    def to_json(self) -> dict[str, Any]:
        """JSON friendly, camelCase like the other documents of the admin API."""
        return {
            "family": self.family,
            "samples": self.samples,
            "nonFinite": self.non_finite,
            "sufficient": self.sufficient,
            "notes": list(self.notes),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def text(self, alpha: float) -> str:
        """The verdict and its reasons, a line each."""
        rows = f"{self.samples} samples" + (f" and {self.non_finite} non-finite" if self.non_finite else "")
        reasons = (*self.notes, *(finding.reason for finding in self.alarming(alpha)))
        return "\n".join([f"{self.family}: {self.state(alpha)} ({rows})", *(f"  {reason}" for reason in reasons)])


class RowCount:
    """What every window counts: rows ``seen``, and ``samples``, those of them that are finite and were taken."""

    def __init__(self) -> None:
        self.seen = self.samples = 0

    @property
    def non_finite(self) -> int:
        """Rows left out."""
        return self.seen - self.samples


class Window(Protocol):
    """Accumulates the rows of one window; ``seen`` counts them, finite or not."""

    @property
    def seen(self) -> int: ...
    def update(self, *rows: NDArray[Any]) -> None: ...


W = TypeVar("W", bound=Window)


class Baseline(Protocol[W]):
    """What the reference taught: makes empty windows and judges full ones."""

    @property
    def window(self) -> int: ...
    def new_window(self) -> W: ...
    def judge(self, window: W) -> HealthReport: ...


class DisjointWindows(Generic[W]):
    """Cuts a stream of batches into disjoint windows and judges each. No clock: the caller flushes when its wait is
    over."""

    def __init__(self, baseline: Baseline[W]) -> None:
        self._baseline = baseline
        self._open = baseline.new_window()
        self.judged = 0
        """Windows that were full, or flushed with enough rows."""

    @property
    def filled(self) -> int:
        """Rows in the open window."""
        return self._open.seen

    def update(self, *rows: NDArray[Any]) -> list[HealthReport]:
        """Takes a batch (each array [n, ...], the same rows) and returns the reports of the windows it completed."""
        reports: list[HealthReport] = []
        start, total = 0, len(rows[0])
        while start < total:
            stop = min(total, start + self._baseline.window - self._open.seen)
            self._open.update(*(part[start:stop] for part in rows))
            start = stop
            if self._open.seen >= self._baseline.window:
                reports.append(self.flush())
        return reports

    def flush(self) -> HealthReport:
        """Judges the open window at its true size and opens the next."""
        report = self._baseline.judge(self._open)
        self.judged += report.sufficient
        self._open = self._baseline.new_window()
        return report


def finite_rows(*arrays: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows [n] in which every value of every array [n, ...] is finite."""
    keep = np.ones(len(arrays[0]), bool)
    for array in arrays:
        keep &= np.isfinite(array.reshape(len(array), math.prod(array.shape[1:]))).all(axis=1)
    return keep


def count_finding(measure: str, count: int, size: int, null: CountNull, reason: str, **details: Any) -> Finding:
    """``count`` of ``size`` rows have what ``null`` knows the reference's share of."""
    share, p = count / max(1, size), null.p_value(count, size)
    return Finding(measure, share, null.rate, "ratio", reason, p, {"count": count, **details})


def change(value: float, expected: float) -> str:
    """``2.25 instead of 3.17`` with four digits."""
    return f"{value:.4g} instead of {expected:.4g}"
