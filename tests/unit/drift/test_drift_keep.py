"""A detector's state handed to another process. Covered: it goes on as if nothing had been (open windows aside), an
alarm that is on stays on and ends, as JSON, states of other profiles and nonsense refused."""

import json

import numpy as np
import pytest

from latentry_serving.drift.detector import Detector
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.types import AlarmState, Settings

WINDOW = 100
SETTINGS = Settings(window=WINDOW, expected_run_time_s=86_400.0, max_wait_s=600.0)


@pytest.fixture(scope="module")
def profile() -> Profile:
    rng = np.random.Generator(np.random.PCG64(3))
    fit = FitSettings(window=WINDOW, features=32)
    return Profile({name: fit_tensor(name, rng.normal(size=(1500, d)), fit) for name, d in (("a", 6), ("b", 1))}, 0)


def feed(detector: Detector, start: int, windows: int, shift: float = 0.0) -> None:
    """Windows of ten seconds each, the rows a function of their number alone."""
    for index in range(start, start + windows):
        rng = np.random.Generator(np.random.PCG64(1000 + index))
        rows = rng.normal(size=(WINDOW, 6)) + shift
        for part in range(10):
            now_s = 1e9 + 10 * index + part
            detector.update("a", rows[10 * part : 10 * part + 10], now_s)
            detector.update("b", rows[10 * part : 10 * part + 10, :1], now_s)


def handed_over(detector: Detector, profile: Profile) -> Detector:
    other = Detector(profile, SETTINGS)
    other.restore(json.loads(json.dumps(detector.state(), allow_nan=False)))
    return other


@pytest.mark.parametrize("shift", [0.0, 0.25, 2.0])
def test_another_detector_goes_on_where_the_first_was(profile: Profile, shift: float) -> None:
    one = Detector(profile, SETTINGS)
    feed(one, 0, 5)
    feed(one, 5, 3, shift)
    two = handed_over(one, profile)
    assert two.state() == one.state()
    for detector in (one, two):
        feed(detector, 8, 3, shift)
        feed(detector, 11, 4)
    assert two.state() == one.state()


def test_an_alarm_stays_on_and_ends(profile: Profile) -> None:
    one = Detector(profile, SETTINGS)
    feed(one, 0, 2, shift=2.0)
    two = handed_over(one, profile)
    states = [s.state for t in two.status(1e9 + 21) for s in t.statistics]
    assert AlarmState.ALARM in states
    feed(two, 2, 60)
    assert AlarmState.ALARM not in [s.state for t in two.status(1e9 + 620) for s in t.statistics]


def test_the_open_window_is_lost(profile: Profile) -> None:
    one = Detector(profile, SETTINGS)
    one.update("a", np.zeros((7, 6)), 1e9)
    assert handed_over(one, profile).status(1e9)[0].held == 0


@pytest.mark.parametrize(
    "state", [{}, {"tensors": {}, "durations": {}}, {"tensors": {"a": {}, "b": {}}, "durations": {}}]
)
def test_what_is_no_state_of_it_is_refused(profile: Profile, state: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="state"):
        Detector(profile, SETTINGS).restore(state)
