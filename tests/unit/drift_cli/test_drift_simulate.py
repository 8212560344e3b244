"""``latentry drift simulate``: larger drifts are noticed sooner; repeatable; bad settings explained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from latentry_serving.bundle.profile import load_profile
from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift_cli import simulate as simulation
from latentry_serving.drift_cli.cli import drift_app
from latentry_serving.drift_cli.drifts import drifted, reordered
from latentry_serving.drift_cli.kinds import REORDERING, DriftKind
from latentry_serving.drift_cli.simulate import live_settings, price

Traffic = Callable[[int, int], np.ndarray]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer windows and runs: these tests are about directions, not digits."""
    monkeypatch.setattr("latentry_serving.drift_cli.scenario.WINDOWS", 60)
    monkeypatch.setattr(simulation, "_MOST_WINDOWS", 100_000)
    monkeypatch.setattr(simulation, "_LONGEST", 500)


def run(bundle: Path, *arguments: object) -> Any:
    command = ["simulate", str(bundle), *(str(argument) for argument in arguments)]
    result = CliRunner().invoke(drift_app, command)
    if isinstance(result.exception, InvalidInput):
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in command else result.output


def ask(bundle: Path, artifacts: Path, kind: str, size: float, *more: object) -> Any:
    reference = artifacts / "reference.npy"
    return run(bundle, "--inputs", reference, "--kind", kind, "--size", size, "--rate", 20, *more)


def test_a_larger_drift_is_noticed_sooner(bundle: Path, artifacts: Path) -> None:
    small, large = (ask(bundle, artifacts, "shift", size, "--json") for size in (0.1, 2))
    assert small["windowSeconds"] == large["windowSeconds"] == 3
    assert large["noticedShare"] == 1
    assert large["meanDelaySeconds"] < small["meanDelaySeconds"]
    low, high = large["meanDelayInterval"]
    assert low <= large["meanDelaySeconds"] <= high
    assert large["medianDelaySeconds"] <= large["p95DelaySeconds"]
    assert large["noticedFirstBy"][0]["by"].startswith("input/")
    assert 0.499 < large["falseAlarmsAMonthStated"] < 0.501  # the other half of 1 in 30 days belongs to model health


def test_the_same_seed_gives_the_same_price(bundle: Path, artifacts: Path) -> None:
    first, second, other = (ask(bundle, artifacts, "shift", 0.5, "--json", "--seed", seed) for seed in (3, 3, 4))
    assert first == second != other


def test_a_drift_on_one_tensor_stays_there(bundle: Path, artifacts: Path) -> None:
    text = ask(bundle, artifacts, "shift", 2, "--on", "posterior_mean")
    assert "shift of 2 on posterior_mean, 20 inputs/s, windows of 60 (3 s each), a false alarm in 30 d" in text
    assert "first by posterior_mean/" in text
    assert "input/" not in text.partition("first by")[2].partition("false alarms")[0]


def test_a_drift_of_nothing_is_not_noticed(bundle: Path, artifacts: Path) -> None:
    """The few of 500-window runs that alarm do so by the chance of the drawn windows."""
    assert ask(bundle, artifacts, "shift", 1e-6, "--json")["noticedShare"] < 0.2
    assert "% of runs: too small for these settings" in ask(bundle, artifacts, "shift", 1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shift", 1, "--on", "embedding"), "--on: 'embedding' is not watched; write one of input, posterior_mean"),
        (("shift", 1, "--window", 100), "--window: 100; the profile was calibrated for 60; write 20 to 60"),
        (("mixture", 1.5), "--size: 1.5 is no share of the traffic"),
        (("shift", 1, "--expected-run-time", "20s"), "--expected-run-time: 20 s is 6.67 windows of 3 s; write 30s"),
    ],
)
def test_bad_settings(bundle: Path, artifacts: Path, arguments: tuple[Any, ...], words: str) -> None:
    assert words in ask(bundle, artifacts, *arguments)


def test_too_few_inputs(bundle: Path, make_traffic: Traffic, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", make_traffic(1, 100))
    text = run(bundle, "--inputs", tmp_path / "few.npy", "--kind", "shift", "--size", 1, "--rate", 20)
    assert "--inputs: 100 inputs are 1 windows of 60; give 240 or more" in text


def test_false_alarms_are_as_rare_as_stated(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run time makes alarms frequent enough to count: 100 of them leave an error of 10 %, and the budget may
    spend up to twice less than stated (it never spends more than a little above)."""
    monkeypatch.setattr(simulation, "_MOST_WINDOWS", 2_000_000)
    profile = load_profile(bundle, load_manifest(bundle))
    assert profile is not None
    settings = live_settings(profile, 60, 20.0, 2000 * 3.0, 1)
    p = np.full((20, sum(len(t.statistics) for t in profile.drift.tensors.values())), 1e-12)
    found = price(profile, p, settings, np.random.default_rng(0), lambda _, __: None)
    assert found.delay_s == 1.5 * 3.0  # one window, and half of the one the drift began in
    assert 0.3 < found.simulated_a_month / found.stated_a_month < 1.4
    low, high = found.simulated_interval
    assert low < found.simulated_a_month < high


def test_drifts_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4000, 6)) * [1, 2, 3, 1, 2, 3] + 5).astype(np.float32)
    sd = x.std(axis=0)
    shifted = drifted(x, DriftKind.SHIFT, 0.5, rng)
    np.testing.assert_allclose((shifted - x).mean(axis=0), 0.5 * sd, rtol=1e-4)
    np.testing.assert_allclose(drifted(x, DriftKind.SCALE, 0.2, rng), x * 1.2, rtol=1e-5)
    np.testing.assert_allclose(drifted(x, DriftKind.NOISE, 1, rng).std(axis=0), sd * np.sqrt(2), rtol=0.08)
    turned = drifted(x, DriftKind.ROTATION, 0.7, rng)
    np.testing.assert_allclose(
        ((turned - x.mean(axis=0)) / sd).std(axis=0), 1, rtol=0.08
    )  # independent unit dimensions stay so
    assert np.abs(turned - x).mean() > 0.3
    values = {"embedding": x}
    repeats = reordered(values, "embedding", DriftKind.DUPLICATES, 0.3, 100, rng)
    assert 0.25 < np.mean(repeats != np.arange(4000)) < 0.35
    assert np.max(np.arange(4000) - repeats) < 50
    group = reordered(values, "embedding", DriftKind.MIXTURE, 1.0, 100, rng)
    assert len(np.unique(group)) <= 400
    some = reordered(values, "embedding", DriftKind.MIXTURE, 0.2, 100, rng)
    assert all(len(np.unique(some[start : start + 100])) == 100 for start in range(0, 3900, 10))
    assert {DriftKind.MIXTURE, DriftKind.DUPLICATES} == REORDERING


def test_a_profile_with_a_daily_cycle_is_simulated_hour_by_hour(cyclic: Path, artifacts: Path) -> None:
    inputs = ["--inputs", artifacts / "cycle.npy", "--kind", "shift", "--rate", 20]
    assert "--timestamps: are missing; input" in run(cyclic, *inputs, "--size", 1)
    times = ["--timestamps", artifacts / "cycle-times.npy", "--json"]
    nothing, drift = (run(cyclic, *inputs, *times, "--size", size) for size in (1e-6, 2))
    # Held against another hour, undrifted inputs would look drifted at once.
    assert nothing["noticedShare"] < 0.2
    assert drift["noticedShare"] == 1
    assert drift["meanDelaySeconds"] <= 9
