"""Intervals of the false-alarm benchmark: exact for one reference, wider for references that differ; coverage."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.drift_interval import onsets, rate_of, significant


def test_one_reference_gets_the_exact_interval() -> None:
    rate = rate_of([7], [1000])
    exact = stats.binomtest(7, 1000).proportion_ci(0.95, method="exact")
    assert (rate.ci_low, rate.ci_high) == pytest.approx((exact.low, exact.high), rel=1e-9)


@pytest.mark.parametrize(("events", "low", "high"), [([0, 0, 0], 0.0, 1 - 0.025 ** (1 / 300)), ([100] * 3, 0.0, 1.0)])
def test_none_and_all(events: list[int], low: float, high: float) -> None:
    rate = rate_of(events, [100] * 3)
    assert rate.ci_high == pytest.approx(high)
    assert rate.ci_low >= low


def test_references_that_differ_widen_the_interval() -> None:
    alike, apart = rate_of([10, 11, 9, 10], [1000] * 4), rate_of([2, 0, 30, 8], [1000] * 4)
    assert alike.measured == apart.measured
    assert apart.ci_high - apart.ci_low > 2 * (alike.ci_high - alike.ci_low)
    assert (apart.lowest, apart.highest) == (0.0, 0.03)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_it_covers_the_rate(spread: float) -> None:
    """Of 12 references whose rates differ by a factor e^±spread: 400 draws, so at 93 % covered 360 is 2.4 sd away."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        own = 0.01 * np.exp(spread * rng.standard_normal(12) - spread**2 / 2)
        rate = rate_of(rng.binomial(834, own).tolist(), [834] * 12)
        covered += rate.ci_low <= 0.01 <= rate.ci_high
    assert covered >= 360


def test_alarms_are_counted_when_they_go_on() -> None:
    assert onsets(np.array([True, True, False, True, False, False, True])) == 3
    assert onsets(np.zeros(0, bool)) == 0


def test_rounding() -> None:
    assert [significant(v) for v in (0.0, 0.012345, 1.0, 3.55e-5)] == [0.0, 0.0123, 1.0, 3.55e-5]
