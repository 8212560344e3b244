"""The drift detector in the analysis process: rows in, a report and the state for a successor out. No clock."""

import logging
import math
from typing import Any

from latentry_serving.contract.drift_report import (
    DriftAlarm,
    DriftReport,
    DriftState,
    StatisticDrift,
    TensorDrift,
    Watching,
)
from latentry_serving.contract.tap_config import DriftSettings
from latentry_serving.drift.detector import Detector
from latentry_serving.drift.explain import explain
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.types import Settings, StatisticStatus, TensorStatus, WindowResult
from latentry_serving.tap.monitor_rows import BATCH_ROWS, Rows

log = logging.getLogger(__name__)

_PIECES = 8
"""Parts of a window whose rows are taken to have come at once."""
_FEWEST = 50
"""Fewest vectors a window is judged on, or the whole window where that is smaller."""


class DriftWatch:
    """Feeds the detector and keeps what its alarms were explained with."""

    def __init__(self, profile: Profile, settings: DriftSettings, *, budget_share: float) -> None:
        """
        Args:
            budget_share: of the false-alarm budget.

        Raises:
            InvalidInput: settings the detector does not take.
        """
        calibrated = min(tensor.window for tensor in profile.tensors.values())
        window = min(settings.window or calibrated, calibrated)
        self._profile = profile
        self._settings = settings
        self._window = window
        self._detector = Detector(
            profile,
            Settings(
                window=window,
                expected_run_time_s=settings.expected_run_time_seconds / budget_share,
                max_wait_s=settings.max_wait_seconds,
                replicas=settings.replicas,
                min_window=min(_FEWEST, window),
                chunk=BATCH_ROWS,
            ),
        )
        self._alarms: dict[tuple[str, str], DriftAlarm] = {}
        self.closed = 0
        """Windows closed, judged or not."""
        asked = settings.window
        self.detail = (
            f"windows of {window} vectors: the profile was calibrated for no more, {asked} were asked for"
            if asked is not None and asked > window
            else ""
        )

    @property
    def tensors(self) -> dict[str, int]:
        """Watched tensor -> dimensions."""
        return {name: tensor.reference.dimensions for name, tensor in self._profile.tensors.items()}

    def update(self, tensor: str, rows: Rows, since_s: float, now_s: float) -> None:
        """Takes rows [n, d] that came between two times, as if evenly: a window's duration decides its thresholds."""
        count, piece = len(rows), max(1, self._window // _PIECES)
        for start in range(0, count, piece):
            part = rows[start : start + piece]
            at_s = since_s + (now_s - since_s) * (start + len(part)) / count
            for result in self._detector.update(tensor, part, at_s):
                self._note(result)

    def tick(self, now_s: float) -> None:
        """Closes the windows that have waited long enough."""
        for result in self._detector.tick(now_s):
            self._note(result)

    def state(self) -> dict[str, Any]:
        """All but the open windows, as JSON."""
        alarms = [alarm.model_dump(mode="json") for alarm in self._alarms.values()]
        return {"detector": self._detector.state(), "alarms": alarms}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from there.

        Raises:
            ValueError: the state is of another profile, or none; this watch must not be used then.
        """
        try:
            self._detector.restore(state["detector"])
            alarms = [DriftAlarm.model_validate(alarm) for alarm in state["alarms"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"no state of a drift watch: {error!r}") from error
        self._alarms = {(alarm.tensor, alarm.statistic): alarm for alarm in alarms}

    def report(self, now_s: float) -> DriftReport:
        """How everything stands."""
        tensors = [self._tensor(status) for status in self._detector.status(now_s)]
        states = [[one.state for one in tensor.statistics] for tensor in tensors]
        return DriftReport(
            state=Watching.WATCHING,
            detail=self.detail,
            alarm=any(DriftState.ALARM in each for each in states),
            sufficient=all(set(each) - {DriftState.INSUFFICIENT_DATA} for each in states),
            window=self._window,
            expected_run_time_seconds=self._settings.expected_run_time_seconds,
            replicas=self._settings.replicas,
            tensors=tensors,
        )

    def _note(self, result: WindowResult) -> None:
        self.closed += 1
        reference = self._profile.tensors[result.window.tensor].reference
        for alarm in result.alarms:
            explanation = explain(alarm, reference, top=self._settings.top_contributors)
            self._alarms[alarm.tensor, alarm.statistic] = DriftAlarm.model_validate(
                explanation.to_json() | {"text": explanation.text(), "event": explanation.event()}
            )
            log.warning("drift alarm raised: %s", explanation.event())
        for statistic in result.ended:
            ended = self._alarms.pop((result.window.tensor, statistic), None)
            lasted = "" if ended is None else f" after {result.window.closed_s - ended.raised_seconds:.0f} s"
            log.warning("drift alarm ended: %s (%s)%s", result.window.tensor, statistic, lasted)

    def _tensor(self, status: TensorStatus) -> TensorDrift:
        return TensorDrift(
            tensor=status.tensor,
            held=status.held,
            windows=status.windows,
            insufficient_windows=status.insufficient,
            seconds_since_full_window=max(0.0, status.since_full_s),
            window_seconds=status.window_s,
            statistics=[self._statistic(status.tensor, one) for one in status.statistics],
        )

    def _statistic(self, tensor: str, status: StatisticStatus) -> StatisticDrift:
        last, limits = status.last, status.thresholds
        return StatisticDrift(
            statistic=status.statistic,
            state=DriftState(status.state),
            score=last.score if last and math.isfinite(last.score) else None,
            p_value=last.p if last else None,
            window_size=last.size if last else None,
            evidence=status.evidence,
            alpha=limits.alpha,
            cusum_k=limits.cusum_k,
            cusum_h=limits.cusum_h,
            windows=status.windows,
            alarm=self._alarms.get((tensor, status.statistic)) if status.alarm is not None else None,
        )
