"""What judging inputs offline found: windows, alarms, health; as typed values and JSON."""

from dataclasses import dataclass
from typing import Any

from latentry_serving.drift.explain import Explanation
from latentry_serving.drift.types import Statistic, Thresholds
from latentry_serving.health.report import HealthReport

NO_SUCH_HOURS = "the profile knows no such hours of the day"
"""The only reason for which windows without non-finite values stay unjudged."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """One alarm. ``window`` raised it, counted from 0; ``since_row``: first input of the windows that led there."""

    explanation: Explanation
    window: int
    since_row: int
    smallest_p: float


@dataclass(frozen=True, slots=True)
class StatisticWindow:
    """One statistic in one window. ``p``: None where not judged; ``evidence``: the CUSUM's S after it."""

    statistic: Statistic
    p: float | None
    evidence: float
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class TensorWindow:
    """One tensor in one window: its most suspicious statistic, those whose alarm is on after it, and all of them."""

    tensor: str
    statistic: Statistic | None
    p: float
    alarms: tuple[Statistic, ...]
    statistics: tuple[StatisticWindow, ...]

    @property
    def judged(self) -> bool:
        """Whether more than the number of finite vectors could be looked at."""
        return any(s.p is not None for s in self.statistics if s.statistic is not Statistic.NON_FINITE)


@dataclass(frozen=True, slots=True)
class JudgedWindow:
    """Inputs ``first`` to ``last``, inclusive."""

    first: int
    last: int
    tensors: tuple[TensorWindow, ...]


@dataclass(frozen=True, slots=True)
class HealthWindow:
    """The health of one part in one window, from input ``first`` on. ``part``: the baseline's name."""

    part: str
    window: int
    first: int
    report: HealthReport
    alpha: float

    @property
    def unhealthy(self) -> bool:
        """Whether measures left the reference's range."""
        return bool(self.report.alarming(self.alpha))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the inputs show. ``left_over``: inputs at the end that fill no window and were not judged."""

    rows: int
    window: int
    windows: tuple[JudgedWindow, ...]
    left_over: int
    alarms: tuple[Drifted, ...]
    health_windows: tuple[HealthWindow, ...]
    health_parts: tuple[str, ...]

    @property
    def health(self) -> tuple[HealthWindow, ...]:
        """The unhealthy windows."""
        return tuple(window for window in self.health_windows if window.unhealthy)

    @property
    def drifted(self) -> bool:
        return bool(self.alarms or self.health)

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Tensors of which no window could be judged: without drift, that is no good verdict either."""
        judged = {tensor.tensor for window in self.windows for tensor in window.tensors if tensor.judged}
        return tuple(tensor.tensor for tensor in self.windows[0].tensors if tensor.tensor not in judged)

    def first_by_tensor(self) -> dict[str, list[Drifted]]:
        """Alarms by tensor, each tensor's clearest one of its first window in front."""
        found: dict[str, list[Drifted]] = {}
        for alarm in sorted(self.alarms, key=lambda a: (a.window, a.smallest_p)):
            found.setdefault(alarm.explanation.alarm.tensor, []).append(alarm)
        return found

    def to_json(self) -> dict[str, Any]:
        """JSON friendly, camelCase."""
        return {
            "drift": self.drifted,
            "inputs": self.rows,
            "window": self.window,
            "leftOver": self.left_over,
            "unjudged": list(self.unjudged),
            "alarms": [
                alarm.explanation.to_json()
                | {"window": alarm.window, "sinceInput": alarm.since_row, "smallestPValue": alarm.smallest_p}
                for alarm in self.alarms
            ],
            "windows": [
                {
                    "first": window.first,
                    "last": window.last,
                    "tensors": [
                        {
                            "tensor": t.tensor,
                            "statistic": t.statistic and t.statistic.value,
                            "pValue": t.p,
                            "alarms": [s.value for s in t.alarms],
                        }
                        for t in window.tensors
                    ],
                }
                for window in self.windows
            ],
            "health": [
                {"part": h.part, "window": h.window, "alpha": h.alpha}
                | {"reasons": [f.reason for f in h.report.alarming(h.alpha)], "report": h.report.to_json()}
                for h in self.health
            ],
        }
