"""How fast a budget may burn over which windows, for a period of any length.

Source: Google, The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts", table 5-8, with the row
of 10 % in a day that the chapter's text and Sloth add.
"""

from dataclasses import dataclass

from latentry_operator.slo.names import STANDARD_WINDOWS, Severity
from latentry_operator.slo.types import DAY, HOUR, MINUTE
from latentry_serving.contract.units import Duration

_MONTH = 30 * DAY
_SHORTEST = 5 * MINUTE
"""A rate needs a few scrapes, and scrapes are up to a minute apart."""
_TOLERANCE = 0.1
"""Four weeks and 31 days keep the windows of 30 days; the burn rates differ instead."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the Workbook's table, which is for 30 days: a share of the budget spent within ``long`` alerts."""

    severity: Severity
    budget_share: float
    long: int
    short: int


_TABLE = (
    _Row(Severity.PAGE, 0.02, 1 * HOUR, 5 * MINUTE),
    _Row(Severity.PAGE, 0.05, 6 * HOUR, 30 * MINUTE),
    _Row(Severity.TICKET, 0.10, 1 * DAY, 2 * HOUR),
    _Row(Severity.TICKET, 0.10, 3 * DAY, 6 * HOUR),
)


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """One multi-window alert.

    Attributes:
        burn_rate: how many times faster than the objective allows errors must come, over both windows.
        long: shows that it matters.
        short: shows that it still goes on, and ends the alert soon after the errors do.
    """

    severity: Severity
    burn_rate: float
    long: Duration
    short: Duration


def burn_windows(period: Duration) -> tuple[BurnWindow, ...]:
    """The alerts of an objective over ``period``, 1h to 90d.

    Windows grow and shrink with the period, to whole minutes, so that each row keeps its share of the budget; the burn
    rate follows as share x period / window: 14.4, 6, 3 and 1 for 30 days. No window is shorter than 5 minutes and no
    burn rate below 1, at which the budget lasts the period; so short periods have fewer rows.
    """
    scale = period.nanoseconds / _MONTH
    if abs(scale - 1) <= _TOLERANCE:
        scale = 1.0
    found: dict[tuple[Severity, Duration], BurnWindow] = {}
    for row in _TABLE:
        long, short = _scaled(row.long, scale), _scaled(row.short, scale)
        burn_rate = max(1.0, row.budget_share * period.nanoseconds / long.nanoseconds)
        found.setdefault((row.severity, long), BurnWindow(row.severity, burn_rate, long, short))
    return tuple(found.values())


def recorded_windows(period: Duration) -> tuple[Duration, ...]:
    """The windows whose error ratios are recorded, ascending: the usual ones and what the alerts read."""
    usual = {window for text in STANDARD_WINDOWS if (window := Duration.parse(text)) <= period}
    read = {window for row in burn_windows(period) for window in (row.long, row.short)}
    return tuple(sorted(usual | read))


def _scaled(window: int, scale: float) -> Duration:
    return Duration(max(_SHORTEST, round(window * scale / MINUTE) * MINUTE))
