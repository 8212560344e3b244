"""What keeps a watching process small: no heavy part of scipy, and the small forms in their place say the same.

- the modules of detector, health and analysis process load neither scipy.stats nor its kin, also when they judge
- zeros, ranks and tails against scipy's
"""

import subprocess
import sys

import numpy as np
import pytest
from scipy import optimize, stats

from latentry_serving.drift import nulls
from latentry_serving.drift.budget import correlation_of
from latentry_serving.drift.roots import root
from latentry_serving.health.nulls import CountNull

HEAVY = ("scipy.stats", "scipy.interpolate", "scipy.optimize", "scipy.sparse", "scipy.linalg", "scipy.integrate")
WATCHES = """
import sys
import numpy as np
import latentry_serving.drift.explain
import latentry_serving.health.encoder, latentry_serving.health.autoencoder, latentry_serving.health.vae
import latentry_serving.tap.analysis_worker, latentry_serving.tap.monitor
from latentry_serving.drift.run_length import cusum_design
from latentry_serving.drift.budget import correlation_of
cusum_design(1e4, 0.01)
correlation_of(np.random.default_rng(0).random((20, 3)))
print(*[name for name in sys.modules if name.startswith("scipy.")])
"""


def test_watching_loads_no_heavy_part_of_scipy() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHES], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "scipy.special" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (lambda x: x**3 - 2 * x - 5, 2.0, 3.0),
        (lambda x: np.exp(x) - 1e6, 0.0, 40.0),
        (lambda x: np.log(x), 1e-9, 1e3),
        (lambda x: np.tanh(50 * (x - 0.3)), -4.0, 4.0),
        (lambda x: x**5 + x - 1, -3.0, 4.5),
    ],
)
def test_a_zero_is_where_scipy_finds_it(function, low: float, high: float) -> None:
    expected = optimize.brentq(function, low, high, xtol=1e-10)
    for ends in ((low, high), (high, low)):
        found = root(function, *ends, xtol=1e-10)
        assert found == pytest.approx(expected, abs=1e-9)


def test_a_zero_at_an_end_is_found_and_none_is_an_error() -> None:
    assert root(lambda x: x - 2, 2.0, 5.0, xtol=1e-9) == pytest.approx(2.0, abs=1e-9)
    for function in (lambda x: x + 1, lambda _: float("nan")):
        with pytest.raises(ValueError, match="no zero between"):
            root(function, 0.0, 1.0, xtol=1e-9)


def test_few_evaluations_are_enough() -> None:
    asked = []
    root(lambda x: asked.append(x) or np.log(x / 7.0), 1e-9, 40.0, xtol=1e-10)
    assert len(asked) < 25


def test_correlations_rank_ties_and_gaps_as_scipy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    p = np.round(np.random.Generator(np.random.PCG64(3)).random((40, 4)), 1)
    p[::7, 1], p[:, 2] = np.nan, 1.0
    found = correlation_of(p)

    def ranked(column: np.ndarray) -> np.ndarray:
        return stats.rankdata(column, nan_policy="omit")

    monkeypatch.setattr("latentry_serving.drift.budget._ranks", ranked)
    assert found == pytest.approx(correlation_of(p))


def test_the_worst_dimensions_tail_is_scipys() -> None:
    degrees, kinds = np.array([9, 9, 1, 0, 4]), np.array([1, 4, 9])
    for ratios in (np.array([9.0, 20.0, 3.0, 5.0, 1.0]), np.array([90.0, 8.0, 0.0, 0.0, 30.0])):
        largest = np.array([ratios[degrees == kind].max() for kind in kinds])
        smallest = stats.chi2.logsf(largest, kinds).min()
        expected = np.log(-np.expm1(4 * np.log1p(-np.exp(smallest))))
        assert nulls.worst(ratios, degrees, np.ones(5), 1.0, np.inf) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("count", "size"), [(1, 10), (7, 10), (10, 10), (40, 500)])
def test_counts_tail_is_scipys_beta_binomial(count: int, size: int) -> None:
    null = CountNull(0.02, 0.01)
    expected = stats.betabinom.sf(count - 1, size, 0.02 * 99, 0.98 * 99)
    assert null.p_value(count, size) == pytest.approx(expected, rel=1e-8)
