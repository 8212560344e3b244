"""Recording rules and burn-rate alerts of one objective.

Windows up to an hour are measured from the taps' own counters. Longer ones are summed up from the 5-minute rates
recorded here: two series instead of every pod's, and counted by event, so that a quiet night weighs no more than its
requests. What happened in the 5 minutes before a window and at its end counts in part: an error of at most 5 minutes in
two hours (4 %), and 0.01 % of 30 days. Time in which Prometheus did not run is left out on both sides.
"""

from collections.abc import Iterable, Iterator

from latentry_operator.slo import names
from latentry_operator.slo.indicators import Indicator
from latentry_operator.slo.names import AlertName, Severity
from latentry_operator.slo.types import HOUR, MINUTE, Alert, Identity, Recording, RuleSettings, select
from latentry_operator.slo.windows import BurnWindow, burn_windows, recorded_windows
from latentry_serving.contract.units import Duration

_BASE = Duration(5 * MINUTE)
_LONGEST_RAW = Duration(HOUR)
_LONGEST_FAST = Duration(6 * HOUR)
_HOLD = {Severity.PAGE: Duration(MINUTE), Severity.TICKET: Duration(15 * MINUTE)}
"""A page comes after two evaluations, so that one odd scrape is not enough."""
_OUT_OF_REACH = 0.9
"""Where a loose objective times a burn rate asks for more errors than requests, this share of errors alerts."""


class Objective:
    """The rules of one objective; ``fast`` ones are evaluated at every turn, ``slow`` ones less often."""

    def __init__(self, model: Identity, indicator: Indicator, period: Duration, settings: RuleSettings) -> None:
        self._model = model
        self._indicator = indicator
        self._period = period
        self._settings = settings
        self._labels = model.labels | {names.SLO: indicator.slo}

    def fast(self) -> Iterator[Recording | Alert]:
        """Rates, the ratios of windows up to six hours, how fast the budget burns over them, and their alerts."""
        yield self._record(names.EVENTS_RATE, self._indicator.events(_BASE))
        yield self._record(names.ERROR_EVENTS_RATE, self._indicator.errors(_BASE))
        yield from self._ratios(window for window in recorded_windows(self._period) if window <= _LONGEST_FAST)
        yield from (self._alert(row) for row in burn_windows(self._period) if row.long <= _LONGEST_FAST)

    def slow(self) -> Iterator[Recording | Alert]:
        """The same of longer windows, the objective itself and what is left of its budget."""
        yield self._record(names.OBJECTIVE, f"vector({self._indicator.objective:.12g})")
        yield self._record(names.PERIOD_SECONDS, f"vector({self._period.seconds:.12g})")
        yield from self._ratios(window for window in recorded_windows(self._period) if window > _LONGEST_FAST)
        yield self._record(names.ERRORS_RATIO_PERIOD, self._summed_up(self._period))
        spent = f"{self._series(names.ERRORS_RATIO_PERIOD)} / {self._indicator.budget:.12g}"
        yield self._record(names.BUDGET_REMAINING, f"1 - {spent}")
        yield from (self._alert(row) for row in burn_windows(self._period) if row.long > _LONGEST_FAST)

    def _ratios(self, windows: Iterable[Duration]) -> Iterator[Recording]:
        shown = {_BASE, _LONGEST_RAW, *(row.long for row in burn_windows(self._period))}
        for window in windows:
            ratio = self._measured(window) if window <= _LONGEST_RAW else self._summed_up(window)
            yield self._record(names.errors_ratio(str(window)), ratio)
            if window in shown:
                rate = f"{self._series(names.errors_ratio(window))} / {self._indicator.budget:.12g}"
                yield self._record(names.BURN_RATE, rate, {names.WINDOW: str(window)})

    def _measured(self, window: Duration) -> str:
        return f"({self._indicator.errors(window)})\n/\n({self._indicator.events(window)} > 0)"

    def _summed_up(self, window: Duration) -> str:
        errors, events = self._series(names.ERROR_EVENTS_RATE), self._series(names.EVENTS_RATE)
        return f"sum_over_time({errors}[{window}])\n/\n(sum_over_time({events}[{window}]) > 0)"

    def _series(self, record: str) -> str:
        return select(record, **self._labels)

    def _record(self, record: str, expr: str, more: dict[str, str] | None = None) -> Recording:
        return Recording(record, expr, self._labels | (more or {}))

    def _alert(self, row: BurnWindow) -> Alert:
        one, budget = self._indicator, self._indicator.budget
        severity = row.severity if one.user_impact else Severity.TICKET
        threshold, derivation = _threshold(row.burn_rate, budget)
        spent = threshold / budget * row.long.seconds / self._period.seconds
        rate = f"sum_over_time({self._series(names.ERROR_EVENTS_RATE)}[{row.long}])"
        expr = (
            f"{self._series(names.errors_ratio(row.long))} > {derivation}\n"
            f"and {self._series(names.errors_ratio(row.short))} > {derivation}\n"
            # Half an error less, for rates are extrapolated to the ends of their windows.
            f"and {rate} * {self._settings.every.seconds:g} > {self._settings.minimum_errors - 0.5:g}"
        )
        return Alert(
            name=AlertName.ERROR_BUDGET_BURN,
            severity=severity,
            expr=expr,
            hold_for=_HOLD[severity],
            summary=f"{self._model.title}: the error budget of {one.slo} burns"
            f" {threshold / budget:.3g} times as fast as it may, or faster",
            description=f"{{{{ $value | humanizePercentage }}}} of the {one.noun} of the last {row.long} {one.bad}, and"
            f" the last {row.short} are no better. {_percent(one.objective)} over {self._period} allows"
            f" {_percent(budget)}; this alert is on above {_percent(threshold)}, at which {_percent(spent)} of"
            f" the period's budget is gone within {row.long}.",
            labels={names.SLO: one.slo, names.WINDOW: str(row.long)},
        )


def _threshold(burn_rate: float, budget: float) -> tuple[float, str]:
    """The error ratio above which an alert is on, and how PromQL writes it."""
    if burn_rate * budget < 1:
        return burn_rate * budget, f"({burn_rate:.6g} * {budget:.12g})"
    reachable = max(_OUT_OF_REACH, (1 + budget) / 2)
    return reachable, f"{reachable:.6g}"


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"
