"""The detector over time: windows, states, alarms that begin and end, data that do not suffice.

- windows close when full, whatever the batches; the sums do not depend on how the traffic was cut
- nothing judged yet is insufficient data, undrifted traffic is ok, drift raises each alarm once and it ends after clean
  windows
- a slow window is judged after max_wait at its true size, or is insufficient below min_window
- a small shift is found by the CUSUM, with the time since when
- vectors that are not finite never stop the windows; an output of nothing but NaN alarms
- more replicas and a longer run time make alarms rarer; the whole model shares one budget
- settings and tensors that do not fit are refused
"""

import numpy as np
import pytest

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift import judge
from latentry_serving.drift.detector import Detector
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.types import (
    CHUNK,
    AlarmState,
    Rule,
    Settings,
    Statistic,
    StatisticStatus,
    WindowResult,
)
from latentry_serving.drift.windows import Window

W = 50
DAY = 86400.0
SETTINGS = Settings(window=W, expected_run_time_s=30 * DAY, max_wait_s=600.0, min_window=20)


def _vectors(seed: int, n: int) -> np.ndarray:
    mixing = np.random.Generator(np.random.PCG64(0)).standard_normal((8, 8))
    return (np.random.Generator(np.random.PCG64(seed)).standard_normal((n, 8)) @ mixing).astype(np.float32)


@pytest.fixture(scope="module")
def profile() -> Profile:
    fit = FitSettings(window=W, features=32)
    return Profile(
        {
            "embedding": fit_tensor("embedding", _vectors(1, 8000), fit),
            "reconstruction_error": fit_tensor("reconstruction_error", np.exp(_vectors(2, 8000)[:, 0] / 5), fit),
        },
        seed=0,
    )


def _feed(detector: Detector, rows: np.ndarray, start_s: float, step_s: float = 1.0) -> list[WindowResult]:
    """One batch of 10 vectors every ``step_s``."""
    results = []
    for i in range(0, len(rows), 10):
        results += detector.update("embedding", rows[i : i + 10], start_s + i / 10 * step_s)
    return results


def _states(detector: Detector, now_s: float) -> dict[Statistic, StatisticStatus]:
    return {s.statistic: s for s in detector.status(now_s)[0].statistics}


def test_windows_do_not_depend_on_how_traffic_was_cut(profile: Profile) -> None:
    tensor, rows = profile.tensors["embedding"], _vectors(3, 3 * W)
    cuts = {"one": [1] * 150, "odd": [7] * 21 + [3], "all": [150], "window": [50] * 3, "small chunks": [150]}
    found = {}
    for name, sizes in cuts.items():
        window, start, closed = Window(tensor.kernel(), W, chunk=16 if name == "small chunks" else CHUNK), 0, []
        for size in sizes:
            closed += list(window.add(rows[start : start + size], 0.0))
            start += size
        found[name] = [[s.score for s in judge.judged(tensor, f, 20)] for f in closed]
        assert [f.size for f in closed] == [W] * 3 and window.held == 0
    for name in cuts:
        assert np.array(found[name]) == pytest.approx(np.array(found["all"]), rel=1e-3, abs=1e-6)


def test_before_the_first_window_data_are_insufficient(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    assert _feed(detector, _vectors(3, W - 10), 0.0) == []
    assert {s.state for s in _states(detector, 5.0).values()} == {AlarmState.INSUFFICIENT_DATA}
    status = detector.status(5.0)[0]
    assert (status.held, status.opened_s, status.windows, status.last_full_s) == (40, 0.0, 0, None)
    assert status.since_full_s == 5.0


def test_undrifted_traffic_is_ok_and_gets_stale(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    results = _feed(detector, _vectors(4, 40 * W), 0.0)
    assert len(results) == 40 and not any(r.alarms or r.insufficient for r in results)
    now = results[-1].window.closed_s
    assert {s.state for s in _states(detector, now).values()} == {AlarmState.OK}
    assert detector.status(now)[0].windows == 40
    assert {s.state for s in _states(detector, now + 1201).values()} == {AlarmState.INSUFFICIENT_DATA}


def test_drift_alarms_once_and_ends_after_clean_windows(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    _feed(detector, _vectors(5, 10 * W), 0.0)
    drifted = _feed(detector, _vectors(6, 4 * W) + np.float32(3), 100.0)
    first = {a.statistic: a for a in drifted[0].alarms}
    assert {Statistic.T2, Statistic.MMD2} <= set(first) and first[Statistic.T2].rule is Rule.SHEWHART
    assert first[Statistic.T2].since_s == 100.0 and first[Statistic.T2].value <= first[Statistic.T2].threshold
    assert not any(a.statistic is Statistic.T2 for r in drifted[1:] for a in r.alarms)
    assert _states(detector, 125.0)[Statistic.T2].alarm == first[Statistic.T2]
    calm = _feed(detector, _vectors(7, 60 * W), 200.0)
    ended = [i for i, r in enumerate(calm) if Statistic.T2 in r.ended]
    assert len(ended) == 1 and ended[0] >= SETTINGS.clean_windows - 1
    assert _states(detector, calm[-1].window.closed_s)[Statistic.T2].state is AlarmState.OK


def test_a_small_shift_is_found_by_adding_up(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    _feed(detector, _vectors(8, 10 * W), 0.0)
    shift = 0.22 * profile.tensors["embedding"].reference.scale
    alarms = [a for r in _feed(detector, _vectors(9, 60 * W) + shift, 1000.0) for a in r.alarms]
    found = next(a for a in alarms if a.rule is Rule.CUSUM)
    assert found.value > found.threshold and 950.0 <= found.since_s < found.raised_s
    assert found.window.tensor == "embedding"


def test_a_slow_window_is_judged_at_its_true_size_or_not_at_all(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    detector.update("embedding", _vectors(10, 30), 0.0)
    assert detector.tick(599.0) == []
    (judged,) = detector.tick(600.0)
    assert {s.size for s in judged.scores} == {30} and judged.window.size == 30
    assert set(judged.insufficient) == {Statistic.DUPLICATES, Statistic.DEAD_DIMENSIONS}
    detector.update("embedding", _vectors(11, 19), 700.0)
    (unjudged,) = detector.tick(1300.0)
    assert unjudged.scores == () and set(unjudged.insufficient) == set(profile.tensors["embedding"].statistics)
    status = detector.status(1300.0)[0]
    assert (status.windows, status.insufficient, status.last_full_s) == (1, 1, None)


def test_an_overdue_window_closes_before_new_vectors_enter(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    detector.update("embedding", _vectors(12, 30), 0.0)
    (closed,) = detector.update("embedding", _vectors(13, 5), 700.0)
    assert closed.window.size == 30 and detector.status(700.0)[0].held == 5


def test_an_output_of_nan_alarms_and_never_stalls(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    (result,) = detector.update("embedding", np.full((W, 8), np.nan), 0.0)
    assert [a.statistic for a in result.alarms] == [Statistic.NON_FINITE]
    assert Statistic.T2 in result.insufficient and result.window.size == 0


def test_single_vectors_and_other_types_are_taken(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    for vector in _vectors(14, W).astype(np.float64)[:-1]:
        assert detector.update("embedding", vector, 0.0) == []
    assert len(detector.update("embedding", _vectors(14, W)[-1].astype(np.float16), 1.0)) == 1
    assert len(detector.update("reconstruction_error", np.ones(W), 1.0)) == 1


def test_the_budget_is_the_whole_models(profile: Profile) -> None:
    one = Detector(profile, SETTINGS)
    names = [f"{name}/{s}" for name, tensor in profile.tensors.items() for s in tensor.statistics]
    assert list(one.budget.statistics) == names
    per_second = sum(a / 600.0 for a in one.budget.alpha)
    assert per_second <= 2 * 0.5 / (30 * DAY) * 1.15  # durations are rounded by a tenth; m_eff may double the sum
    four = Detector(profile, Settings(window=W, max_wait_s=600.0, min_window=20, replicas=4))
    assert four.budget.alpha == pytest.approx(one.budget.alpha / 4, rel=0.1)


def test_faster_windows_get_stricter_thresholds(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    before = _states(detector, 0.0)[Statistic.T2].thresholds
    _feed(detector, _vectors(15, 5 * W), 0.0)
    after = _states(detector, 25.0)[Statistic.T2].thresholds
    assert after.alpha < before.alpha / 50 and after.cusum_h > before.cusum_h
    assert detector.status(25.0)[0].window_s == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(window=500), "window: 500; the profile was calibrated for 50"),
        (Settings(window=W, min_window=60), "minWindow: 60 vectors"),
        (Settings(window=W, min_window=20, clean_windows=0), "cleanWindows"),
        (Settings(window=W, min_window=20, max_wait_s=0.0), "maxWait"),
        (Settings(window=W, min_window=20, replicas=0), "replicas"),
        (Settings(window=W, min_window=20, chunk=256), "chunk: 256 vectors; write 1 to 255"),
    ],
)
def test_settings_that_do_not_fit_are_refused(profile: Profile, settings: Settings, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Detector(profile, settings)


def test_unknown_tensors_and_other_dimensions_are_refused(profile: Profile) -> None:
    detector = Detector(profile, SETTINGS)
    with pytest.raises(InvalidInput, match="name one of embedding, reconstruction_error"):
        detector.update("latent", np.zeros((1, 8)), 0.0)
    with pytest.raises(InvalidInput, match="have 8 dimensions"):
        detector.update("embedding", np.zeros((3, 7)), 0.0)
