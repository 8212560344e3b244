"""Nulls: the stated false-alarm rate for new windows, for partial windows, for overdispersed counts; refusals."""

import json

import numpy as np
import pytest
from scipy import stats

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.health.nulls import CountNull, Side, WindowNull, calibration_sizes, window_slices


def sticky(rng: np.random.Generator, n: int, run: int) -> np.ndarray:
    """Rows whose level stays for ``run`` rows."""
    return np.repeat(rng.normal(size=n // run + 1), run)[:n] + rng.normal(size=n)


@pytest.mark.parametrize("run", [1, 10, 50])
@pytest.mark.parametrize("size", [100, 60, 25])
def test_new_windows_alarm_at_the_stated_rate(run: int, size: int) -> None:
    rng, alpha, p_values = np.random.default_rng(run * size), 0.05, []
    for _ in range(400):  # a fresh reference each time: the rate is over references and windows
        reference = sticky(rng, 1500, run)
        values = {w: np.array([[reference[r].mean()] for r in window_slices(1500, w)]) for w in (100, 50, 25)}
        null = WindowNull.fit(values)
        p_values += [null.p_values(size, np.array([sticky(rng, size, run).mean()]), Side.BOTH)[0] for _ in range(5)]
    rate = np.mean(np.array(p_values) <= alpha)
    # 400 references: sd of the rate < .01 even were windows of one reference fully dependent; 4 sd.
    assert 0.01 < rate < alpha + 0.04


def test_sides() -> None:
    values = {w: np.random.default_rng(w).normal(size=(50, 1)) for w in (8, 4, 2)}
    null = WindowNull.fit(values)
    upper, lower, both = (null.p_values(8, np.array([2.5]), side)[0] for side in (Side.UPPER, Side.LOWER, Side.BOTH))
    assert upper < 0.05 < 0.95 < lower
    assert both == pytest.approx(2 * upper)


def test_a_constant_measure_is_judged_down_to_its_floor() -> None:
    null = WindowNull.fit({w: np.ones((10, 1)) for w in (8, 4, 2)}, floor=1e-4)
    assert null.p_values(8, np.array([1 + 1e-7]), Side.BOTH)[0] > 0.9
    assert null.p_values(8, np.array([1.01]), Side.BOTH)[0] < 1e-9


def test_windows_between_the_learnt_sizes_are_interpolated_in_one_over_w() -> None:
    sizes = (100, 50, 25)
    # two windows at mean -+ sd/sqrt(2) have exactly that mean and standard deviation
    values = {w: np.array([[3 + 10 / w - np.sqrt(2 / w)], [3 + 10 / w + np.sqrt(2 / w)]]) for w in sizes}
    mean, sd = WindowNull.fit(values).at(75)
    assert mean[0] == pytest.approx(3 + 10 / 75)
    assert sd[0] ** 2 == pytest.approx(4 / 75)


def test_a_null_survives_its_arrays() -> None:
    null = WindowNull.fit({w: np.random.default_rng(w).normal(size=(9, 3)) for w in (8, 4, 2)})
    again = WindowNull.from_arrays(null.to_arrays())
    x = np.array([1.0, -2.0, 0.5])
    np.testing.assert_array_equal(again.p_values(6, x, Side.BOTH), null.p_values(6, x, Side.BOTH))


def test_counts_of_independent_rows_are_the_exact_predictive_distribution() -> None:
    counts = np.full(20, 5)  # less spread than chance: rho is zero
    null = CountNull.fit(counts, 500)
    a, b = 100.5, 10_000 - 100 + 0.5
    assert null.p_value(14, 500) == pytest.approx(stats.betabinom.sf(13, 500, a, b), rel=1e-3)
    assert null.p_value(0, 500) == 1.0
    assert 0 < null.p_value(200, 500) < 1e-100  # no cancellation far out


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_overdispersed_counts_alarm_at_most_at_the_stated_rate(spread: float) -> None:
    rng, alpha, alarms, windows = np.random.default_rng(3), 0.01, 0, 0
    for _ in range(150):
        rates = 0.02 * np.exp(spread * rng.normal(size=40) - spread**2 / 2)
        null = CountNull.fit(rng.binomial(200, rates[:20]), 200)
        alarms += sum(null.p_value(int(x), 200) <= alpha for x in rng.binomial(200, rates[20:]))
        windows += 20
    assert alarms / windows < 2 * alpha  # 3000 windows: sd .002 for independent ones


def test_count_null_json() -> None:
    null = CountNull.fit(np.array([1, 0, 2, 0]), 50)
    assert CountNull.from_meta(json.loads(json.dumps(null.to_meta()))) == null


def test_too_little_data_is_refused_with_numbers() -> None:
    with pytest.raises(InvalidInput, match=r"1900 samples are 3 windows of 500.*at least 2000 samples"):
        calibration_sizes(1900, 500)
    assert calibration_sizes(2000, 500) == [500, 250, 125]
