"""Timelines in charts: p-values and cumulative sums per window with their limits and alarms; lanes of states."""

from collections.abc import Callable, Sequence
from math import log10

from latentry_serving.drift.types import Rule
from latentry_serving.drift_cli.report_svg import LEFT, RIGHT, TOP, WIDTH, Figure, Scale, Svg, Table, x_scale, y_scale
from latentry_serving.drift_cli.report_types import Column, State, StatisticLine, TensorView

_FARTHEST = 20.0
"""Powers of ten of p shown; smaller ones lie at the edge."""
_FEW_COLUMNS = 40
STATES = {State.OK: "ok", State.BAD: "alarm", State.UNKNOWN: "not judged"}
LANE_WIDTH, LANE_HEIGHT = 1000.0, 20.0


def p_figure(view: TensorView, columns: Sequence[Column]) -> Figure:
    """p-values per window of all statistics, smaller ones higher, with the range of their limits and the alarms."""
    svg = Svg(f"{view.name}: p-values per window")
    limits = [-log10(line.alpha) for line in view.lines]
    seen = [_power(p) for line in view.lines for p in line.p if p is not None]
    x, y = _columns_scale(columns), y_scale(0, min(max([*limits, *seen]) * 1.1, _FARTHEST))
    svg.rect(LEFT, TOP, WIDTH - LEFT - RIGHT, y(max(limits)) - TOP, "zone", "every statistic alarms")
    svg.y_axis(y, [(v, "1" if v == 0 else f"1e-{v:.0f}") for v in y.ticks() if v == round(v)])
    for edge in sorted({min(limits), max(limits)}):
        svg.line(LEFT, y(edge), WIDTH - RIGHT, y(edge), "limit", f"alarm at p = {10**-edge:.1e}")
    for line in sorted(view.lines, key=lambda line: line.alarmed):
        points = [None if p is None else (x(i), y(_power(p))) for i, p in enumerate(line.p)]
        _statistic(svg, line, points, [None if p is None else f"p {p:.1e}" for p in line.p], columns)
    _numbers(svg, view, Rule.SHEWHART, lambda line, i: (x(i), y(_power(line.p[i] or 1.0))))
    svg.x_axis(x, "window", _column_ticks(columns))
    header = ("windows", "inputs", *(line.statistic.value for line in view.lines))
    table = Table(header, _rows(columns, [[_p(p) for p in line.p] for line in view.lines]))
    note = "Higher is stranger. Above the dashed line (each statistic has its own, between the two): an alarm at once."
    note += f" Beyond 1e-{_FARTHEST:.0f}: at the edge." if max(seen, default=0) >= _FARTHEST else ""
    return Figure(f"{view.name}: p-values", note, svg, _legend(view), table)


def cusum_figure(view: TensorView, columns: Sequence[Column]) -> Figure:
    """The CUSUM of each statistic as a share of its limit, with the alarms it raised."""
    svg = Svg(f"{view.name}: evidence summed up over the windows")
    x, y = _columns_scale(columns), y_scale(0, 1.1)
    svg.rect(LEFT, TOP, WIDTH - LEFT - RIGHT, y(1.0) - TOP, "zone")
    svg.y_axis(y, [(v, f"{v:.0%}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)])
    svg.line(LEFT, y(1.0), WIDTH - RIGHT, y(1.0), "limit", "alarm above this line")
    for line in sorted(view.lines, key=lambda line: line.alarmed):
        points: list[tuple[float, float] | None] = [(x(i), y(share)) for i, share in enumerate(line.evidence)]
        _statistic(svg, line, points, [f"{share:.0%} of the limit" for share in line.evidence], columns)
    _numbers(svg, view, Rule.CUSUM, lambda line, i: (x(i), y(line.evidence[i])))
    svg.x_axis(x, "window", _column_ticks(columns))
    header = ("windows", "inputs", *(line.statistic.value for line in view.lines))
    table = Table(header, _rows(columns, [[f"{share:.0%}" for share in line.evidence] for line in view.lines]))
    note = "Slightly strange windows in a row add up (CUSUM). At 100 %: an alarm."
    return Figure(f"{view.name}: cumulative sums", note, svg, _legend(view), table)


def _power(p: float) -> float:
    return min(-log10(max(p, 1e-300)), _FARTHEST)


def _p(p: float | None) -> str:
    return "not judged" if p is None else f"{p:.1e}"


def _columns_scale(columns: Sequence[Column]) -> Scale:
    return x_scale(-0.5, max(len(columns) - 0.5, 0.5))


def _column_ticks(columns: Sequence[Column]) -> list[tuple[float, str]]:
    each = -(-len(columns) // 6) or 1
    return [(float(i), str(columns[i].first_window)) for i in range(0, len(columns), each)]


def _windows(column: Column) -> str:
    first, last = column.first_window, column.last_window
    return str(first) if first == last else f"{first} to {last}"


def _rows(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple((_windows(c), f"{c.first} to {c.last}", *(cell[i] for cell in cells)) for i, c in enumerate(columns))


def _legend(view: TensorView) -> tuple[tuple[str, str], ...]:
    quiet, limit = ("quiet", "statistics without alarm"), ("limit", "alarm limit")
    return (("bad", "with alarm"), quiet, limit) if any(line.alarmed for line in view.lines) else (quiet, limit)


def _statistic(
    svg: Svg,
    line: StatisticLine,
    points: Sequence[tuple[float, float] | None],
    tips: Sequence[str | None],
    columns: Sequence[Column],
) -> None:
    css = "bad" if line.alarmed else "quiet"
    svg.path(points, f"{css} line", line.statistic.value)
    if len(points) > _FEW_COLUMNS:
        return
    for column, point, tip in zip(columns, points, tips, strict=True):
        if point is not None:
            svg.circle(*point, 2, f"{css} point", f"{line.statistic}, window {_windows(column)}: {tip}")


def _numbers(
    svg: Svg, view: TensorView, rule: Rule, place: Callable[[StatisticLine, int], tuple[float, float]]
) -> None:
    """The alarms of one rule, by their numbers; those at one place share a mark."""
    lines = {line.statistic: line for line in view.lines}
    marks: dict[tuple[int, int], list[int]] = {}
    for alarm in view.alarms:
        if alarm.rule == rule.value:
            x, y = place(lines[alarm.statistic], alarm.column)
            marks.setdefault((round(x), round(y / 16)), []).append(alarm.number)
    looks = {alarm.number: alarm for alarm in view.alarms}
    for (x, row), numbers in marks.items():
        words = _ranges(numbers)
        tip = "; ".join(f"{n}: {looks[n].statistic}, {looks[n].looks_like}" for n in numbers)
        width = 8 + 6 * len(words)
        left = min(max(x - width / 2, LEFT), WIDTH - RIGHT - width)
        top = max(row * 16 - 7, TOP - 8)
        svg.rect(left, top, width, 14, "badge", f"alarm {tip}")
        svg.text(left + width / 2, top + 10.5, words, "number")


def _ranges(numbers: Sequence[int]) -> str:
    """``1-3, 7`` of ascending numbers."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def lane(name: str, states: Sequence[State], columns: Sequence[Column], rows: int) -> Svg:
    """A strip over all inputs: a field for each column, by its state. Stretched to any width, so without texts."""
    svg = Svg(f"{name}: {lane_words(states, columns)}", LANE_WIDTH, LANE_HEIGHT, stretched=True)
    x, gap = Scale(0, rows, 0, LANE_WIDTH), 2.0 if len(columns) <= _FEW_COLUMNS else 0.5
    for state, column in zip(states, columns, strict=True):
        tip = f"window {_windows(column)}, inputs {column.first} to {column.last}: {STATES[state]}"
        left, right = x(column.first), x(column.last + 1)
        svg.rect(left, 0, max(right - left - gap, 1), LANE_HEIGHT, f"lane {state.value}", tip)
    return svg


def lane_words(states: Sequence[State], columns: Sequence[Column]) -> str:
    """The strip in words: how many windows alarm, from which on, how many could not be judged."""
    bad = [column for state, column in zip(states, columns, strict=True) if state is State.BAD]
    unknown = sum(state is State.UNKNOWN for state in states)
    words = [f"alarm in {len(bad)} of {len(states)}, first in window {_windows(bad[0])}"] if bad else ["no alarm"]
    return ", ".join(words + ([f"{unknown} of {len(states)} not judged"] if unknown else []))
