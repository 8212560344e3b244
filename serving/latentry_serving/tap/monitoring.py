"""The tap's side of drift and model health: keeps the analysis process' latest line, and reads it when somebody asks.

The line is kept as it came: taking it costs the traffic's loop nothing, and the next process gets its state from it.
"""

from collections.abc import Callable
from typing import Any

from latentry_serving.contract.drift_report import (
    DriftReport,
    HealthState,
    ModelHealth,
    MonitoringReport,
    ScoreProbes,
    Watching,
)
from latentry_serving.contract.tap_config import DriftSettings, TapConfig
from latentry_serving.tap.analysis_frames import read_report

SILENT_SECONDS = 60.0
"""The process reports every few seconds: without a report for so long, nothing is watched."""
_WHY = {
    Watching.SAMPLING_OFF: "sampling is off: set sampling.maxPerSecond, or spec.monitoring.sampling.maxPerSecond",
    Watching.NO_BUNDLE: "there is no bundle: set bundleDir",
    Watching.NO_PROFILE: "the bundle has no profile: give its build reference inputs",
    Watching.STARTING: "the analysis process has not reported yet",
}


class MonitoringDesk:
    """What is known of drift and health. ``take`` is the traffic's thread's; the rest may be called from any."""

    def __init__(self, config: TapConfig, unix_clock: Callable[[], float]) -> None:
        """
        Args:
            unix_clock: seconds since 1970.
        """
        self._config = config
        self._unix_clock = unix_clock
        self._line: tuple[bytes, bytes] | None = None
        self._parsed: tuple[bytes, MonitoringReport] | None = None

    def take(self, line: bytes) -> bool:
        """Keeps a line of the process if it is a report; whether it was."""
        found = read_report(line)
        if found is not None:
            self._line = found
        return found is not None

    @property
    def state(self) -> bytes | None:
        """What the next process goes on from."""
        return self._line[1] if self._line is not None else None

    @property
    def watches(self) -> bool:
        """Whether there is anything to watch: a bundle, and samples."""
        return self._reason() is None

    def report(self) -> MonitoringReport:
        """How everything stands now."""
        now_s = self._unix_clock()
        reason = self._reason()
        line = self._line
        if reason is None and line is None:
            reason = Watching.STARTING
        if reason is not None or line is None:
            return not_watching(reason or Watching.STARTING, now_s, self._config.drift)
        if self._parsed is None or self._parsed[0] is not line[0]:
            self._parsed = line[0], MonitoringReport.model_validate_json(line[0])
        return _aged(self._parsed[1], now_s)

    def _reason(self) -> Watching | None:
        if not self._config.sampling.max_per_second:
            return Watching.SAMPLING_OFF
        return Watching.NO_BUNDLE if self._config.bundle_dir is None else None


def not_watching(
    state: Watching, now_s: float, settings: DriftSettings, *, detail: str = "", family: str = ""
) -> MonitoringReport:
    """The report where nothing is held against a profile."""
    why = detail or _WHY[state]
    drift = DriftReport(
        state=state,
        detail=why,
        alarm=False,
        sufficient=False,
        window=settings.window,
        expected_run_time_seconds=settings.expected_run_time_seconds,
        replicas=settings.replicas,
        tensors=[],
    )
    probes = ScoreProbes(wanted=False, answered=0, failed=0, last_failure="")
    health = ModelHealth(
        state=state,
        detail=why,
        family=family,
        verdict=HealthState.INSUFFICIENT_DATA,
        parts=[],
        scores=None,
        score_probes=probes,
    )
    return MonitoringReport(reported_seconds=now_s, drift=drift, health=health)


def _aged(report: MonitoringReport, now_s: float) -> MonitoringReport:
    """The report as of now: times go on, and silence is no health."""
    passed = max(0.0, now_s - report.reported_seconds)

    def later(part: Any) -> Any:
        return part.model_copy(update={"seconds_since_full_window": part.seconds_since_full_window + passed})

    drift = report.drift.model_copy(update={"tensors": [later(tensor) for tensor in report.drift.tensors]})
    health = report.health.model_copy(update={"parts": [later(part) for part in report.health.parts]})
    if report.drift.state is Watching.WATCHING and passed > SILENT_SECONDS:
        silence = {"state": Watching.STARTING, "detail": f"the analysis process has not reported for {passed:.0f} s"}
        drift = drift.model_copy(update=silence | {"sufficient": False})
        if health.verdict is HealthState.HEALTHY:
            silence |= {"verdict": HealthState.INSUFFICIENT_DATA}
        health = health.model_copy(update=silence)
    return MonitoringReport(reported_seconds=report.reported_seconds, drift=drift, health=health)
