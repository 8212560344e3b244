"""Encoder health: each measure against a direct computation, each fault named, streaming, storing."""

import json

import numpy as np
import pytest

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.health.encoder import EncoderBaseline, EncoderWindow, participation_ratio
from latentry_serving.health.report import DisjointWindows, HealthReport, HealthState

WINDOW, D = 200, 48
ALPHA = 1e-3
SPECTRUM = np.arange(1, D + 1) ** -0.5


def vectors(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = 1.0 + rng.normal(size=(n, D)) * SPECTRUM
    x[:, 5] = 0.25  # dead from the start
    x[:, 6] *= rng.random(n) < 0.03  # a sparse feature: mostly zero, alive all the same
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def baseline() -> EncoderBaseline:
    return EncoderBaseline.fit(vectors(20 * WINDOW, 1), window=WINDOW, seed=4)


def judged(baseline: EncoderBaseline, x: np.ndarray) -> HealthReport:
    window = baseline.new_window()
    window.update(x)
    return baseline.judge(window)


def test_measures_are_those_computed_directly(baseline: EncoderBaseline) -> None:
    x = vectors(WINDOW, 2)
    report = judged(baseline, x)
    exact = x.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    assert report.finding("norm_p50").value == pytest.approx(np.median(norms), rel=1e-5)
    assert report.finding("norm_p99").value == pytest.approx(np.quantile(norms, 0.99), rel=1e-5)
    anisotropy = (exact.mean(axis=0) ** 2).sum() / (norms**2).mean()
    assert report.finding("anisotropy").value == pytest.approx(anisotropy, rel=1e-5)


def test_participation_ratio_of_far_fewer_rows_than_dimensions() -> None:
    rng, spectrum = np.random.default_rng(0), np.arange(1, 257) ** -0.5
    exact = spectrum.sum() ** 2 / (spectrum**2).sum()
    found = [participation_ratio(rng.normal(size=(60, 256)) * np.sqrt(spectrum)) for _ in range(60)]
    assert np.mean(found) == pytest.approx(exact, rel=0.08)  # the plug-in estimate says 28 instead of 42
    assert participation_ratio(np.outer(rng.normal(size=50), np.ones(8))) == pytest.approx(1.0, abs=0.1)


def test_participation_ratio_in_place_of_the_vectors() -> None:
    given = np.random.default_rng(1).normal(3, 1, (60, 256)).astype(np.float32)
    kept = given.copy()
    ratio = participation_ratio(given)
    assert np.array_equal(given, kept)
    assert participation_ratio(given, overwrite=True) == ratio


def test_undrifted_windows_are_healthy(baseline: EncoderBaseline) -> None:
    reports = DisjointWindows(baseline).update(vectors(30 * WINDOW, 3))
    assert len(reports) == 30
    # at 1e-3 per window one alarm in 30 windows has probability .03, two .0004
    assert sum(report.state(ALPHA) is HealthState.UNHEALTHY for report in reports) <= 1
    assert all(report.finding("dead_dimensions").p_value == 1.0 for report in reports)


def test_false_alarm_rate_over_references() -> None:
    rng, seen = np.random.default_rng(11), []
    for _ in range(60):
        x = rng.normal(size=(100 * 40, 8)).astype(np.float32)
        fitted = EncoderBaseline.fit(x[:2000], window=100)
        seen += [judged(fitted, x[start : start + 100]).p_values for start in range(2000, 4000, 100)]
    for measure in ("norm_p01", "norm_p50", "norm_p99", "anisotropy", "participation_ratio"):
        rate = np.mean([p_values[measure] <= 0.05 for p_values in seen])
        # 1,200 windows of 60 references; sd below .012 with the dependence inside a reference
        assert 0.01 < rate < 0.1, measure


@pytest.mark.parametrize(
    ("measure", "fault"),
    [
        ("norm_p50", lambda x: x * 1.3),
        ("anisotropy", lambda x: x + 1),
        ("participation_ratio", lambda x: np.concatenate([x[:, :1] * 2, x[:, 1:] * 0.5], axis=1)),
        ("duplicates", lambda x: x[np.arange(WINDOW) % 150]),
        ("non_finite", lambda x: np.where(np.arange(WINDOW)[:, None] % 10 == 0, np.nan, x)),
        ("dead_dimensions", lambda x: np.where(np.arange(D) == 7, 0.5, x)),
    ],
)
def test_each_fault_is_found_and_named(baseline: EncoderBaseline, measure: str, fault: object) -> None:
    report = judged(baseline, np.asarray(fault(vectors(WINDOW, 5)), np.float32))  # type: ignore[operator]
    assert report.state(ALPHA) is HealthState.UNHEALTHY
    assert measure in [finding.measure for finding in report.alarming(ALPHA)]
    assert report.finding(measure).reason in report.text(ALPHA)


def test_reasons_carry_numbers(baseline: EncoderBaseline) -> None:
    x = vectors(WINDOW, 5)
    x[:, 7] = 0.5
    x[150:] = x[:50]
    report = judged(baseline, x)
    assert report.finding("dead_dimensions").reason == (
        "1 of 47 dimensions that moved in the reference are constant: 7"
    )
    assert report.finding("duplicates").reason.startswith("50 of 200 vectors (25.00%) repeat an earlier one")


def test_a_sparse_feature_that_stays_at_zero_is_no_alarm(baseline: EncoderBaseline) -> None:
    x = vectors(WINDOW, 5)
    x[:, 6] = 0.0  # happens to .97^200 = .002 of the windows: times 47 dimensions, nothing to say
    report = judged(baseline, x)
    assert report.finding("dead_dimensions").value == 1.0
    assert report.finding("dead_dimensions").p_value > 0.01


def test_non_finite_rows_poison_nothing(baseline: EncoderBaseline) -> None:
    x = vectors(WINDOW, 6)
    clean, dirty = baseline.new_window(), baseline.new_window()
    clean.update(x)
    bad = np.full((3, D), np.nan, np.float32)
    bad[1] = np.inf
    dirty.update(np.concatenate([x[:100], bad, x[100:]]))
    assert (dirty.seen, dirty.samples, dirty.non_finite) == (WINDOW + 3, WINDOW, 3)
    np.testing.assert_allclose(dirty.measures(), clean.measures(), rtol=1e-6)


def test_batches_of_any_size_say_the_same(baseline: EncoderBaseline) -> None:
    x = vectors(WINDOW, 7)
    whole, singles, halves = (baseline.new_window() for _ in range(3))
    whole.update(x)
    for row in x:
        singles.update(row[None])
    halves.update(x[:120])
    halves.update(x[120:])
    for other in (singles, halves):
        np.testing.assert_allclose(other.measures(), whole.measures(), rtol=1e-5)
        assert other.duplicates() == whole.duplicates() == 0
        np.testing.assert_array_equal(other.dead(), whole.dead())


def test_duplicates_with_float_noise_are_still_duplicates(baseline: EncoderBaseline) -> None:
    x = vectors(100, 8)
    window = baseline.new_window()
    window.update(x)
    window.update(x * np.float32(1 + 1e-7))
    assert 95 <= window.duplicates() <= 100


def test_a_window_that_did_not_fill(baseline: EncoderBaseline) -> None:
    stream = DisjointWindows(baseline)
    assert stream.update(vectors(30, 9)) == []
    assert stream.flush().state(ALPHA) is HealthState.INSUFFICIENT_DATA
    stream.update(vectors(120, 9))
    assert stream.filled == 120
    report = stream.flush()
    assert (report.samples, report.state(ALPHA)) == (120, HealthState.HEALTHY)
    assert stream.judged == 1


def test_nothing_finite_is_unhealthy_not_an_error(baseline: EncoderBaseline) -> None:
    report = judged(baseline, np.full((WINDOW, D), np.nan, np.float32))
    assert report.state(ALPHA) is HealthState.UNHEALTHY
    assert "200 of 200 vectors (100.00%) have a NaN" in report.text(ALPHA)


def test_unit_norms_do_not_alarm_on_rounding() -> None:
    x = np.random.default_rng(0).normal(size=(1200, 32))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    baseline = EncoderBaseline.fit(x[:1000], window=100)
    assert judged(baseline, x[1000:1100] * (1 + 1e-6)).finding("norm_p50").p_value > 0.9
    assert judged(baseline, x[1000:1100] * 1.01).finding("norm_p50").p_value < 1e-6


def test_stored_and_loaded(baseline: EncoderBaseline) -> None:
    arrays, meta = baseline.to_arrays()
    assert all(array.dtype.kind in "fib" for array in arrays.values())
    again = EncoderBaseline.from_arrays(arrays, json.loads(json.dumps(meta)))
    x = vectors(WINDOW, 10)
    assert judged(again, x).to_json() == judged(baseline, x).to_json()
    json.dumps(judged(again, x).to_json(), allow_nan=False)


def test_the_same_reference_gives_the_same_baseline() -> None:
    first, second = (EncoderBaseline.fit(vectors(1000, 1), window=100, seed=9).to_arrays() for _ in range(2))
    assert first[1] == second[1]
    for name, array in first[0].items():
        assert array.tobytes() == second[0][name].tobytes()


def test_memory_is_bounded_by_the_window() -> None:
    baseline = EncoderBaseline.fit(np.random.default_rng(0).normal(size=(400, 16)), window=100)
    window = baseline.new_window()
    assert isinstance(window, EncoderWindow)
    window.update(np.ones((100, 16), np.float32))
    assert sum(len(rows) for rows in window._gram_rows) <= 128


def test_too_small_a_reference_is_refused() -> None:
    with pytest.raises(InvalidInput, match="windows of 500, fewer than 4"):
        EncoderBaseline.fit(np.zeros((1500, 4)), window=500)
