"""The family's health in the analysis process: rows in, a report and the state for a successor out. No clock.

A window is unhealthy when a measure's p-value is at or below the part's alpha shared among its measures (Bonferroni).
All parts together are to alarm once per run time: alpha = window duration / (run time x replicas x parts).
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentry_serving.bundle.profile import Health
from latentry_serving.contract.drift_report import HealthMeasure, HealthPart, HealthState, Scores
from latentry_serving.contract.operations import (
    EMBEDDING,
    POSTERIOR_LOG_VARIANCE,
    POSTERIOR_MEAN,
    RECONSTRUCTION_ERROR,
)
from latentry_serving.contract.tap_config import DriftSettings, QualitySettings
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.report import DisjointWindows, HealthReport
from latentry_serving.tap.monitor_rows import Rows

log = logging.getLogger(__name__)

_CLEAN_WINDOWS = 3
"""Judged windows in a row without an alarm of a measure that end its alarm."""
_MEMORY = 0.2
"""Weight of the newest window in the mean window duration."""
_SHORTEST_S = 1e-3
_LARGEST_ALPHA = 0.1
_TENSORS: Mapping[str, tuple[str, ...]] = {
    "encoder": (EMBEDDING,),
    "reconstruction": (RECONSTRUCTION_ERROR,),
    "posterior": (POSTERIOR_MEAN, POSTERIOR_LOG_VARIANCE),
}


@dataclass(slots=True)
class _Alarm:
    """Of one measure: when it was raised, and how many windows in a row were without it."""

    since_s: float
    clean: int = 0


class HealthWatch:
    """All parts that the bundle has a baseline of."""

    def __init__(
        self, health: Health, settings: DriftSettings, quality: QualitySettings, *, budget_share: float
    ) -> None:
        """
        Args:
            budget_share: of the false-alarm budget.
        """
        baselines: dict[str, Any] = dict(health.present)
        self._reconstruction = health.reconstruction and _with_objective(health.reconstruction, quality)
        if self._reconstruction is not None:
            baselines["reconstruction"] = self._reconstruction
        share = budget_share / max(1, len(baselines))
        self._parts = {name: _Part(name, baseline, settings, share) for name, baseline in baselines.items()}
        self._scores = dict.fromkeys(("traffic", "probes", "within", "anomalous"), 0)

    @property
    def closed(self) -> int:
        """Windows closed, judged or not."""
        return sum(part.windows + part.insufficient for part in self._parts.values())

    def needs(self) -> dict[str, tuple[str, ...]]:
        """Part -> the watched tensors it takes rows of, together."""
        return {name: _TENSORS[name] for name in self._parts}

    def update(self, part: str, now_s: float, *rows: Rows) -> None:
        """Takes rows of the part's tensors."""
        self._parts[part].update(now_s, *rows)

    def scored(self, errors: Rows, *, probe: bool) -> None:
        """Counts reconstruction errors [n, 1]."""
        baseline = self._reconstruction
        if baseline is None:
            return
        self._scores["probes" if probe else "traffic"] += errors.size
        self._scores["within"] += int(np.count_nonzero(errors <= (baseline.within or 0.0)))
        self._scores["anomalous"] += int(np.count_nonzero(errors > baseline.threshold))

    def tick(self, now_s: float) -> None:
        """Closes the windows that have waited long enough."""
        for part in self._parts.values():
            part.tick(now_s)

    def state(self) -> dict[str, Any]:
        """All but the open windows, as JSON."""
        return {"parts": {name: part.state() for name, part in self._parts.items()}, "scores": dict(self._scores)}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from there.

        Raises:
            ValueError: the state is of other baselines, or none; this watch must not be used then.
        """
        try:
            if state["parts"].keys() != self._parts.keys():
                raise ValueError(f"the state is of {list(state['parts'])}, not of {list(self._parts)}")
            for name, part in self._parts.items():
                part.restore(state["parts"][name])
            self._scores = {name: int(state["scores"][name]) for name in self._scores}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no state of a health watch: {error!r}") from error

    def parts(self, now_s: float) -> list[HealthPart]:
        """How each part stands."""
        return [part.report(now_s) for part in self._parts.values()]

    def scores(self) -> Scores | None:
        """Reconstruction errors counted; None without a baseline of them."""
        if self._reconstruction is None:
            return None
        return Scores(
            traffic=self._scores["traffic"],
            probes=self._scores["probes"],
            within_threshold=self._scores["within"],
            anomalous=self._scores["anomalous"],
            threshold=self._reconstruction.within or 0.0,
            anomaly_threshold=self._reconstruction.threshold,
        )


def verdict(parts: list[HealthPart]) -> HealthState:
    """Of the whole: the worst is unhealthy; healthy only when every part is."""
    states = {part.state for part in parts}
    if HealthState.UNHEALTHY in states:
        return HealthState.UNHEALTHY
    return HealthState.HEALTHY if states == {HealthState.HEALTHY} else HealthState.INSUFFICIENT_DATA


class _Part:
    """One accumulator: its open window, the last report, its alarms."""

    def __init__(self, name: str, baseline: Any, settings: DriftSettings, budget_share: float) -> None:
        self._name = name
        self._window: int = baseline.window
        self._windows: DisjointWindows[Any] = DisjointWindows(baseline)
        self._max_wait_s = settings.max_wait_seconds
        self._run_time_s = settings.expected_run_time_seconds * settings.replicas / budget_share
        self._duration_s: float | None = None
        self._opened_s: float | None = None
        self._first_look_s: float | None = None
        self._last_full_s: float | None = None
        self._last_judged_s: float | None = None
        self._last: dict[str, Any] | None = None
        self._alarms: dict[str, _Alarm] = {}
        self.windows = 0
        self.insufficient = 0

    @property
    def alpha(self) -> float:
        return min(_LARGEST_ALPHA, (self._duration_s or self._max_wait_s) / self._run_time_s)

    def update(self, now_s: float, *rows: Rows) -> None:
        self.tick(now_s)
        if self._opened_s is None:
            self._opened_s = now_s
        for report in self._windows.update(*rows):
            self._last_full_s = now_s
            self._close(report, now_s)
        self._opened_s = (self._opened_s or now_s) if self._windows.filled else None

    def tick(self, now_s: float) -> None:
        if self._first_look_s is None:
            self._first_look_s = now_s
        if self._opened_s is not None and now_s - self._opened_s >= self._max_wait_s:
            self._close(self._windows.flush(), now_s)

    def _close(self, report: HealthReport, now_s: float) -> None:
        lasted = max(_SHORTEST_S, now_s - (now_s if self._opened_s is None else self._opened_s))
        before = self._duration_s
        self._duration_s = lasted if before is None else (1 - _MEMORY) * before + _MEMORY * lasted
        self._opened_s = None
        self._last = report.to_json()
        if not report.sufficient:
            self.insufficient += 1
        else:
            self.windows += 1
            self._last_judged_s = now_s
        alarming = {finding.measure: finding.reason for finding in report.alarming(self.alpha)}
        for measure, reason in alarming.items():
            if measure not in self._alarms:
                log.warning("health alarm raised: %s of %s: %s", measure, self._name, reason)
            self._alarms[measure] = _Alarm(self._alarms[measure].since_s if measure in self._alarms else now_s)
        for measure in [m for m in self._alarms if m not in alarming and report.sufficient]:
            alarm = self._alarms[measure]
            alarm.clean += 1
            if alarm.clean >= _CLEAN_WINDOWS:
                del self._alarms[measure]
                log.warning("health alarm ended: %s of %s after %.0f s", measure, self._name, now_s - alarm.since_s)

    def report(self, now_s: float) -> HealthPart:
        last = self._last or {"samples": 0, "nonFinite": 0, "notes": [], "findings": []}
        first = now_s if self._first_look_s is None else self._first_look_s
        return HealthPart(
            part=self._name,
            state=self._state(now_s),
            window=self._window,
            held=self._windows.filled,
            windows=self.windows,
            insufficient_windows=self.insufficient,
            seconds_since_full_window=max(0.0, now_s - (self._last_full_s or first)),
            alpha=self.alpha,
            samples=last["samples"],
            non_finite=last["nonFinite"],
            notes=last["notes"],
            measures=[self._measure(finding) for finding in last["findings"]],
        )

    def _state(self, now_s: float) -> HealthState:
        if self._alarms:
            return HealthState.UNHEALTHY
        judged = self._last_judged_s is not None and now_s - self._last_judged_s <= 2 * self._max_wait_s
        return HealthState.HEALTHY if judged else HealthState.INSUFFICIENT_DATA

    def _measure(self, finding: dict[str, Any]) -> HealthMeasure:
        alarm = self._alarms.get(finding["measure"])
        return HealthMeasure(
            measure=finding["measure"],
            value=_finite(finding["value"]),
            expected=_finite(finding["expected"]),
            unit=finding["unit"],
            p_value=_finite(finding["pValue"]),
            reason=finding["reason"],
            details=finding["details"],
            alarm_since_seconds=None if alarm is None else alarm.since_s,
        )

    def state(self) -> dict[str, Any]:
        return {
            "duration_s": self._duration_s,
            "first_look_s": self._first_look_s,
            "last_full_s": self._last_full_s,
            "last_judged_s": self._last_judged_s,
            "last": self._last,
            "alarms": {measure: [alarm.since_s, alarm.clean] for measure, alarm in self._alarms.items()},
            "windows": self.windows,
            "insufficient": self.insufficient,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._duration_s = state["duration_s"]
        self._first_look_s = state["first_look_s"]
        self._last_full_s = state["last_full_s"]
        self._last_judged_s = state["last_judged_s"]
        self._last = state["last"]
        self._alarms = {
            measure: _Alarm(float(since), int(clean)) for measure, (since, clean) in state["alarms"].items()
        }
        self.windows, self.insufficient = int(state["windows"]), int(state["insufficient"])


def _with_objective(baseline: AutoencoderBaseline, quality: QualitySettings) -> AutoencoderBaseline:
    bound = quality.reconstruction_error_within
    within = baseline.error_at(float(bound[1:])) if bound.startswith("p") else float(bound)
    return baseline.with_objective(within=within, objective=quality.objective, anomaly_rate=quality.anomaly_rate)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
