"""The windows of a verdict as timelines: a bounded number of columns, alarms numbered, states of tensors and parts."""

from collections.abc import Sequence

from latentry_serving.drift.types import Statistic
from latentry_serving.drift_cli.report_types import (
    MOST_ALARMS,
    MOST_COLUMNS,
    AlarmView,
    Column,
    PartView,
    State,
    StatisticLine,
)
from latentry_serving.drift_cli.verdict import Drifted, HealthWindow, StatisticWindow, TensorWindow, Verdict


def columns(spans: Sequence[tuple[int, int]]) -> tuple[Column, ...]:
    """Windows of the given first and last inputs, put together evenly where there are more than ``MOST_COLUMNS``."""
    each = -(-len(spans) // MOST_COLUMNS) or 1
    groups = [range(start, min(start + each, len(spans))) for start in range(0, len(spans), each)]
    return tuple(Column(spans[g[0]][0], spans[g[-1]][1], g[0], g[-1]) for g in groups)


def of_tensor(verdict: Verdict, name: str) -> list[TensorWindow]:
    """One tensor's windows, in order."""
    return [tensor for window in verdict.windows for tensor in window.tensors if tensor.tensor == name]


def lines(
    windows: Sequence[TensorWindow], shape: Sequence[Column], alarmed: set[Statistic]
) -> tuple[StatisticLine, ...]:
    """Each statistic over the columns: its smallest p and its largest evidence in each."""
    by_statistic = zip(*(window.statistics for window in windows), strict=True)
    return tuple(_line(each, shape, each[0].statistic in alarmed) for each in by_statistic)


def _line(windows: Sequence[StatisticWindow], shape: Sequence[Column], alarmed: bool) -> StatisticLine:
    grouped = [windows[column.first_window : column.last_window + 1] for column in shape]
    return StatisticLine(
        windows[0].statistic,
        tuple(min((w.p for w in group if w.p is not None), default=None) for group in grouped),
        tuple(max(min(w.evidence / w.thresholds.cusum_h, 1.0) for w in group) for group in grouped),
        windows[-1].thresholds.alpha,
        alarmed,
    )


def tensor_lane(windows: Sequence[TensorWindow], shape: Sequence[Column]) -> tuple[State, ...]:
    """A state for each column: bad while an alarm is on."""
    states = [State.BAD if w.alarms else State.OK if w.judged else State.UNKNOWN for w in windows]
    return _worst(states, shape)


def alarm_views(verdict: Verdict, shape: Sequence[Column]) -> tuple[AlarmView, ...]:
    """The first ``MOST_ALARMS`` alarms, in order of their windows, the clearest of each window first."""
    ordered = sorted(verdict.alarms, key=lambda alarm: (alarm.window, alarm.smallest_p))[:MOST_ALARMS]
    return tuple(_alarm_view(number, alarm, shape) for number, alarm in enumerate(ordered, start=1))


def _alarm_view(number: int, alarm: Drifted, shape: Sequence[Column]) -> AlarmView:
    seen = alarm.explanation
    place = next(i for i, column in enumerate(shape) if column.first_window <= alarm.window <= column.last_window)
    return AlarmView(
        number,
        seen.alarm.tensor,
        seen.alarm.statistic,
        seen.alarm.rule.value,
        alarm.window,
        place,
        alarm.since_row,
        seen.outside,
        seen.look.sentence,
    )


def part_views(verdict: Verdict) -> tuple[PartView, ...]:
    """Each part of the model's health, over its own windows."""
    by_part = {part: [w for w in verdict.health_windows if w.part == part] for part in verdict.health_parts}
    return tuple(_part_view(part, windows) for part, windows in by_part.items())


def _part_view(part: str, windows: Sequence[HealthWindow]) -> PartView:
    bad = [window for window in windows if window.unhealthy]
    states = [_health_state(window) for window in windows]
    shape = columns([(w.first, w.first + w.report.samples + w.report.non_finite - 1) for w in windows])
    state = State.BAD if bad else State.OK if State.OK in states else State.UNKNOWN
    reasons: tuple[str, ...] = ()
    if bad:
        worst = min(bad, key=lambda window: min(window.report.p_values.values()))
        reasons = tuple(finding.reason for finding in worst.report.alarming(worst.alpha))
    notes = windows[0].report.notes if windows else ()
    return PartView(part, state, len(bad), len(windows), reasons, notes, shape, _worst(states, shape))


def _health_state(window: HealthWindow) -> State:
    if window.unhealthy:
        return State.BAD
    return State.OK if window.report.sufficient else State.UNKNOWN


def _worst(states: Sequence[State], shape: Sequence[Column]) -> tuple[State, ...]:
    """Bad where one of a column's windows is; unknown where none could be judged."""
    grouped = [states[column.first_window : column.last_window + 1] for column in shape]
    return tuple(
        State.BAD if State.BAD in group else State.OK if State.OK in group else State.UNKNOWN for group in grouped
    )
