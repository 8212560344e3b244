"""Random features and the subspace against definitions written out.

- MMD² of random features against the double sum of the kernel they stand for, and against the exact Gaussian kernel
- the bandwidth is the median heuristic
- T² and its contributions against a dense Gaussian; basis against a full SVD
- SPE: residual energy as defined; in-sample energy is too small, held-out is not
- operations across rows give what numpy gives
"""

import numpy as np
import pytest

from latentry_serving.drift import rff, subspace
from latentry_serving.drift.across import across, repeated


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _mmd2(one: np.ndarray, other: np.ndarray) -> float:
    """Of two mean feature vectors [D]: their squared distance, as the detector scores it."""
    return float(np.square(one - other).sum())


def test_mmd2_is_the_double_sum_over_the_feature_kernel() -> None:
    rng = _rng()
    x, y = rng.standard_normal((40, 5), np.float32), rng.standard_normal((30, 5), np.float32) + np.float32(0.5)
    omega, phase = rff.draw(5, 64, 2.0, rng)
    a, b = (rff.features(v @ omega, phase).astype(np.float64) for v in (x, y))

    def kernel_mean(u: np.ndarray, v: np.ndarray) -> float:
        return sum(float(p @ q) for p in u for q in v) / (len(u) * len(v))

    brute = kernel_mean(a, a) + kernel_mean(b, b) - 2 * kernel_mean(a, b)
    assert _mmd2(a.mean(axis=0), b.mean(axis=0)) == pytest.approx(brute, rel=1e-9)


def test_many_features_approach_the_gaussian_kernel() -> None:
    rng = _rng(1)
    x, y = rng.standard_normal((60, 4)), rng.standard_normal((50, 4)) * 1.3 + 0.4
    sigma = 1.5

    def kernel_mean(u: np.ndarray, v: np.ndarray) -> float:
        return float(np.mean(np.exp(-((u[:, None] - v[None]) ** 2).sum(axis=-1) / (2 * sigma**2))))

    exact = kernel_mean(x, x) + kernel_mean(y, y) - 2 * kernel_mean(x, y)
    omega, phase = rff.draw(4, 40_000, sigma, rng)
    means = [rff.features(v.astype(np.float32) @ omega, phase).mean(axis=0, dtype=np.float64) for v in (x, y)]
    assert _mmd2(*means) == pytest.approx(exact, rel=0.05)  # standard error about 1 %


def test_bandwidth_is_half_the_median_squared_distance() -> None:
    z = _rng(2).standard_normal((400, 8)).astype(np.float32)
    squared = ((z[:, None].astype(np.float64) - z[None]) ** 2).sum(axis=-1)[np.triu_indices(400, 1)]
    assert rff.bandwidth(z, _rng()) ** 2 == pytest.approx(np.median(squared) / 2, rel=0.05)


def test_bandwidth_of_equal_rows_is_one() -> None:
    assert rff.bandwidth(np.ones((10, 3), np.float32), _rng()) == 1.0


def test_basis_spans_the_leading_singular_directions() -> None:
    rng = _rng(3)
    z = (rng.standard_normal((500, 6)) * [9, 7, 5, 1, 1, 1] @ np.linalg.qr(rng.standard_normal((6, 6)))[0]).astype(
        np.float32
    )
    basis = subspace.fit_basis(z, 3, rng)
    _, _, right = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    assert np.linalg.svd(right[:3] @ basis)[1] == pytest.approx(np.ones(3), abs=1e-4)  # angles between the spans: none
    assert basis.T @ basis == pytest.approx(np.eye(3), abs=1e-5)


def test_t2_is_the_mahalanobis_distance_of_the_low_rank_plus_diagonal_gaussian() -> None:
    rng = _rng(4)
    basis = np.linalg.qr(rng.standard_normal((7, 2)))[0].astype(np.float32)
    along, residual = rng.uniform(1, 5, 2), rng.uniform(0.2, 1, 7)
    metric = subspace.Metric(basis, along, residual, np.ones(7, bool))
    shift = rng.standard_normal(7)
    wide = basis.astype(np.float64)
    projector = np.eye(7) - wide @ wide.T
    dense = wide @ np.diag(1 / along) @ wide.T + projector @ np.diag(1 / residual) @ projector
    t2 = float(shift @ dense @ shift)
    whitened = metric.whiten(shift, wide.T @ shift)
    assert whitened @ whitened == pytest.approx(t2, rel=1e-5)
    assert metric.contributions(shift, wide.T @ shift).sum() == pytest.approx(t2, rel=1e-5)


def test_dead_dimensions_add_nothing() -> None:
    metric = subspace.Metric(np.zeros((3, 0), np.float32), np.zeros(0), np.ones(3), np.array([True, False, True]))
    assert metric.contributions(np.array([1.0, 9.0, 2.0]), np.zeros(0)).tolist() == [1.0, 0.0, 4.0]


def test_residual_energy_is_the_mean_square_outside_the_basis() -> None:
    rng = _rng(5)
    z = rng.standard_normal((20, 6)).astype(np.float32)
    basis = subspace.fit_basis(z, 2, rng)
    coordinates = z @ basis
    residual = (z - coordinates @ basis.T).astype(np.float64)
    energy = np.einsum("ij,ij->i", z, z)
    assert subspace.log_residual_energy(energy, coordinates, 4) == pytest.approx(
        np.log((residual**2).sum(axis=1) / 4), abs=1e-4
    )


def test_energy_outside_the_subspace_is_larger_on_vectors_it_was_not_fitted_on() -> None:
    rng = _rng(6)
    z = rng.standard_normal((600, 100)).astype(np.float32)
    basis = subspace.fit_basis(z[:300], 30, rng)

    def energy(rows: np.ndarray) -> float:
        return float(np.exp(subspace.log_residual_energy(np.einsum("ij,ij->i", rows, rows), rows @ basis, 70)).mean())

    assert energy(z[:300]) < 0.85 < 0.95 < energy(z[300:])


@pytest.mark.parametrize(("n", "d"), [(1, 3), (7, 3), (250, 33), (3, 4096), (5, 9000)])
def test_operations_across_rows_are_numpys(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    rows, vector = rng.standard_normal((n, d), np.float32), rng.standard_normal(d, np.float32)
    for operation, dtype in ((np.subtract, np.float32), (np.greater, bool)):
        out = np.empty((n, d), dtype)
        across(operation, rows, repeated(vector), out)
        assert (out == operation(rows, vector)).all()
    assert (repeated(np.stack([vector, -vector]))[1, -d:] == -vector).all()
