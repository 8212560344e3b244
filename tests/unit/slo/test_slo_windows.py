"""Burn-rate windows: the Workbook's numbers for 30 days, what becomes of them for other periods, the bounds."""

import pytest

from latentry_operator.slo.names import Severity
from latentry_operator.slo.windows import burn_windows, recorded_windows
from latentry_serving.contract.units import Duration

PERIODS = [Duration.parse(text) for text in ("1h", "90m", "6h", "1d", "3d", "7d", "28d", "30d", "31d", "90d")]


def rows(period: str) -> list[tuple[str, float, str, str]]:
    found = burn_windows(Duration.parse(period))
    return [(row.severity.value, round(row.burn_rate, 2), str(row.long), str(row.short)) for row in found]


def test_thirty_days_are_the_workbooks_table() -> None:
    assert rows("30d") == [
        ("page", 14.4, "1h", "5m"),
        ("page", 6.0, "6h", "30m"),
        ("ticket", 3.0, "1d", "2h"),
        ("ticket", 1.0, "3d", "6h"),
    ]


def test_four_weeks_keep_the_windows_and_so_burn_at_other_rates() -> None:
    assert rows("28d") == [
        ("page", 13.44, "1h", "5m"),
        ("page", 5.6, "6h", "30m"),
        ("ticket", 2.8, "1d", "2h"),
        ("ticket", 1.0, "3d", "6h"),
    ]


def test_ninety_days_have_windows_three_times_as_long() -> None:
    assert rows("90d") == [
        ("page", 14.4, "3h", "15m"),
        ("page", 6.0, "18h", "90m"),
        ("ticket", 3.0, "3d", "6h"),
        ("ticket", 1.0, "9d", "18h"),
    ]


def test_an_hour_has_what_can_be_measured_in_it() -> None:
    assert rows("1h") == [("page", 1.0, "5m", "5m"), ("ticket", 1.2, "5m", "5m"), ("ticket", 1.0, "6m", "5m")]


@pytest.mark.parametrize("period", PERIODS, ids=str)
def test_of_every_period(period: Duration) -> None:
    found = burn_windows(period)
    assert {row.severity for row in found} == {Severity.PAGE, Severity.TICKET}
    assert len({(row.severity, row.long) for row in found}) == len(found), "alerts of equal labels"
    for row in found:
        assert Duration.parse("5m") <= row.short <= row.long <= period
        assert row.burn_rate >= 1
        assert {row.long, row.short} <= set(recorded_windows(period))
    assert list(recorded_windows(period)) == sorted(recorded_windows(period))
    assert recorded_windows(period)[-1] <= period
