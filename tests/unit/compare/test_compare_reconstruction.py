"""Reconstruction errors of two versions on the same inputs. Covered: every definition against its formula, what cannot
be avoided and what the mean of the inputs would give, ratios with bounds that hold, and nearly perfect models."""

import numpy as np
import pytest

from latentry_serving.compare.bounds import bootstrap_ratio
from latentry_serving.compare.reconstruction import NEGLIGIBLE, error_ratio, unavoidable, uninformed
from latentry_serving.contract.manifest import ReconstructionError

BCE, MSE = ReconstructionError.BINARY_CROSS_ENTROPY, ReconstructionError.MEAN_SQUARED
SQUARED = (MSE, ReconstructionError.SUM_SQUARED, ReconstructionError.MEAN_ABSOLUTE)


def levels(n: int = 60, seed: int = 0) -> np.ndarray:
    """Pictures [n, 1, 3, 3] in [0, 1]."""
    return np.random.default_rng(seed).random((n, 1, 3, 3)).astype(np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_a_perfect_reconstruction_still_has_the_entropy_of_grey_levels() -> None:
    x = np.array([[0.5, 0.5], [0, 1], [0.25, 1]], np.float32)
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert unavoidable(BCE, x) == pytest.approx([2 * np.log(2), 0, quarter], abs=1e-5)
    for kind in SQUARED:
        assert unavoidable(kind, x).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (MSE, lambda x, m: ((x - m) ** 2).mean(axis=(1, 2, 3))),
        (ReconstructionError.SUM_SQUARED, lambda x, m: ((x - m) ** 2).sum(axis=(1, 2, 3))),
        (ReconstructionError.MEAN_ABSOLUTE, lambda x, m: np.abs(x - m).mean(axis=(1, 2, 3))),
        # KL of two Bernoulli distributions, summed: what is left of the cross-entropy without the entropy
        (BCE, lambda x, m: (x * np.log(x / m) + (1 - x) * np.log((1 - x) / (1 - m))).sum(axis=(1, 2, 3))),
    ],
)
def test_who_knows_the_mean_only(kind, formula) -> None:
    x = levels().astype(np.float64)
    assert uninformed(kind, x) == pytest.approx(formula(x, x.mean(axis=0)), rel=1e-6)


def test_integers_are_reconstructed_too() -> None:
    x = np.array([[0], [255]], np.uint8)
    assert uninformed(MSE, x) == pytest.approx([127.5**2, 127.5**2])


def test_the_ratio_and_its_bounds() -> None:
    old = rng().gamma(4, size=200)
    found = error_ratio(old, 3 * old, 0.0, rng())
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3)), "pairs are drawn together"
    noisy = error_ratio(old, np.random.default_rng(1).gamma(4, size=200), 0.0, rng())
    assert noisy.low < 1 < noisy.high


def test_bounds_hold_as_often_as_they_say() -> None:
    missed = 0
    for seed in range(300):
        draws = np.random.default_rng(seed)
        old = draws.gamma(4, size=40)
        found = error_ratio(old, old * draws.gamma(8, 1 / 8, size=40) * 2, 0.0, draws)
        missed += not found.low <= 2 <= found.high
    assert missed <= 36  # 5 % stated; a percentile bootstrap of 40 pairs may do a little worse


def test_nearly_perfect_models_are_alike() -> None:
    old, new = np.full(50, 1e-9), np.full(50, 1e-6)
    assert error_ratio(old, new, 0.0, rng()).value == pytest.approx(1000)
    assert error_ratio(old, new, NEGLIGIBLE * 0.1, rng()).value == pytest.approx(1.001, abs=1e-4)


def test_rounding_below_what_is_unavoidable_is_no_quality() -> None:
    assert error_ratio(np.full(20, -1e-7), np.full(20, 1e-7), 1e-3, rng()).value == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("old", "new", "ratio"), [(0.0, 0.0, 1.0), (0.0, 1.0, 1e9), (1.0, 0.0, 0.0)])
def test_errors_of_zero(old: float, new: float, ratio: float) -> None:
    assert error_ratio(np.full(9, old), np.full(9, new), 0.0, rng()).value == ratio


def test_of_one_pair_nothing_is_known() -> None:
    found = error_ratio(np.ones(1), np.full(1, 9.0), 0.0, rng())
    assert (found.low, found.high) == (0, 1e9)


def test_a_ratio_to_zero_within_the_draws() -> None:
    found = bootstrap_ratio(np.ones(4), np.array([0.0, 0, 0, 1]), 0.05, rng(), 50.0)
    assert (found.value, found.high) == (4, 50)
