"""What a drift report shows: numbers against ones computed here, its verdict, and that its size is bounded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentry_serving.drift_cli.check import CheckSettings, judge_inputs
from latentry_serving.drift_cli.judging import Judged, Tolerated, judge_file
from latentry_serving.drift_cli.report import evidence_of
from latentry_serving.drift_cli.report_data import Evidence, report_of
from latentry_serving.drift_cli.report_types import (
    MOST_ALARMS,
    MOST_COLUMNS,
    MOST_DIMENSIONS,
    MOST_POINTS,
    Report,
    State,
)
from latentry_serving.health.vae import kl_per_dimension

Save = Callable[[np.ndarray], Path]
Traffic = Callable[[int, int], np.ndarray]
TOLERATED = Tolerated(0.01, None, None)


def judged(bundle: Path, file: Path, tolerated: Tolerated = TOLERATED) -> Judged:
    return judge_file(bundle, file, None, None, tolerated, lambda _, __: None)


def reported(found: Judged) -> Report:
    return report_of(evidence_of(found), title="small 1")


@pytest.fixture
def drifted_halfway(bundle: Path, make_traffic: Traffic, save: Save) -> Judged:
    """600 inputs, the second half moved by 2."""
    inputs = make_traffic(7, 600)
    inputs[300:] += 2
    return judged(bundle, save(inputs))


def test_undrifted_inputs(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    report = reported(judged(bundle, save(make_traffic(7, 630))))
    assert (report.headline.state, report.headline.words) == (State.OK, "No drift")
    assert "All 10 windows of 60 inputs look like the profile's reference" in report.headline.sentences[0]
    assert {tensor.state for tensor in report.tensors} == {State.OK}
    assert {state for tensor in report.tensors for state in tensor.lane} == {State.OK}
    assert not any(tensor.alarms for tensor in report.tensors)
    assert report.limits[0] == "30 inputs at the end fill no window and were not judged."
    assert ("false alarms", "1 of 100 reports on undrifted inputs says drift") in report.facts


def test_drift_is_told_with_place_and_time(drifted_halfway: Judged) -> None:
    report = reported(drifted_halfway)
    assert report.headline.state is State.BAD
    assert report.headline.words.startswith("Drift")
    assert "since input 300" in report.headline.sentences[0]
    (tensor,) = (tensor for tensor in report.tensors if tensor.name == "input")
    assert tensor.since_row == 300
    assert tensor.lane == (State.OK,) * 5 + (State.BAD,) * 5
    assert {alarm.window for alarm in tensor.alarms if alarm.rule == "shewhart"} >= {5}
    assert any("left the undrifted range" in line for line in tensor.explanation)
    assert not any(line.startswith("since") for line in tensor.explanation)
    numbers = sorted(alarm.number for shown in report.tensors for alarm in shown.alarms)
    assert numbers == list(range(1, len(drifted_halfway.verdict.alarms) + 1))


def test_histograms_are_of_the_drifted_inputs(drifted_halfway: Judged) -> None:
    report = reported(drifted_halfway)
    (tensor,) = (tensor for tensor in report.tensors if tensor.name == "input")
    live = drifted_halfway.values["input"][300:]
    for view in tensor.shown:
        column = live[:, view.dimension]
        counts = [((column > low) & (column <= high)).mean() for low, high in _bins(view.edges)]
        assert np.allclose(view.live, counts)
        assert np.isclose(sum(view.reference), 1, atol=1e-5)
        assert view.live_spread is not None
        assert view.live_spread.mean - view.reference_spread.mean > 1
    assert len(tensor.shown) == MOST_DIMENSIONS


def _bins(edges: tuple[float, ...]) -> list[tuple[float, float]]:
    return list(zip((-np.inf, *edges), (*edges, np.inf), strict=True))


def test_timelines_hold_the_verdicts_numbers(drifted_halfway: Judged) -> None:
    report = reported(drifted_halfway)
    for tensor in report.tensors:
        smallest = [min(line.p[i] or 1.0 for line in tensor.lines) for i in range(len(report.columns))]
        told = [t.p for window in drifted_halfway.verdict.windows for t in window.tensors if t.tensor == tensor.name]
        assert smallest == told
        assert all(0 <= share <= 1 for line in tensor.lines for share in line.evidence)


def test_kl_and_errors_against_numpy(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    found = judged(bundle, save(make_traffic(7, 600)))
    report = reported(found)
    assert report.kl is not None
    assert report.errors is not None
    kl = kl_per_dimension(found.values["posterior_mean"], found.values["posterior_log_variance"]).mean(axis=0)
    assert np.allclose(report.kl.live, kl)
    assert np.isclose(report.kl.live_total, kl.sum())
    errors, view = found.values["reconstruction_error"].ravel(), report.errors
    assert np.isclose(view.live_tail, np.quantile(errors, 0.95))
    assert np.isclose(view.anomalies, (errors > view.threshold).mean())
    assert np.isclose(sum(view.live), 1)
    assert np.isclose(sum(view.reference), 1)
    # Of the reference, 95 % lie below its 95th percentile: the bins' shares must say so.
    below = np.interp(view.tail, view.edges, np.concatenate([[0.0], np.cumsum(view.reference)]))
    assert np.isclose(below, 0.95, atol=0.02)


def test_projection_lies_in_the_reference(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    report = reported(judged(bundle, save(make_traffic(7, 600))))
    (view,) = report.projections
    assert (view.tensor, view.directions, view.after) == ("posterior_mean", (0, 1), ())
    points = (np.array(view.before) - view.centre) / view.deviation
    assert len(points) == MOST_POINTS
    assert np.all(np.abs(points.mean(axis=0)) < 0.3)
    assert np.all(np.abs(points.std(axis=0) - 1) < 0.3)


def test_projection_splits_where_the_drift_begins(drifted_halfway: Judged) -> None:
    report = reported(drifted_halfway)
    assert len(report.projections) >= 1
    view = report.projections[-1]
    assert abs(len(view.before) - len(view.after)) <= 1
    moved = np.abs(np.array(view.after).mean(axis=0) - view.centre) / view.deviation
    stayed = np.abs(np.array(view.before).mean(axis=0) - view.centre) / view.deviation
    assert moved.max() > 5 * stayed.max()


def test_size_is_bounded_whatever_the_inputs(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    rng = np.random.default_rng(0)
    inputs = make_traffic(7, 24_000)
    # Drift comes and goes, so that alarms are raised again and again.
    inputs += (np.arange(len(inputs)) % 6000 < 400)[:, None] * rng.normal(3, 1, inputs.shape).astype(np.float32)
    found = judged(bundle, save(inputs))
    assert len(found.verdict.windows) == 400
    assert len(found.verdict.alarms) > MOST_ALARMS
    report = reported(found)
    assert len(report.columns) == MOST_COLUMNS
    assert (report.columns[0].first_window, report.columns[0].last_window, report.columns[-1].last) == (0, 3, 23_999)
    assert all(len(line.p) == MOST_COLUMNS for tensor in report.tensors for line in tensor.lines)
    assert sum(len(tensor.alarms) for tensor in report.tensors) == MOST_ALARMS
    assert all(len(view.before) + len(view.after) <= MOST_POINTS for view in report.projections)
    told = " ".join(report.limits)
    assert "4 windows are put together" in told
    assert f"The first {MOST_ALARMS} of {len(found.verdict.alarms)} alarms" in told


def test_an_unjudged_tensor_is_no_good_verdict(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    """Too few finite vectors in every window; that there are so few is an alarm of its own."""
    found = judged(bundle, save(make_traffic(7, 600)))
    values = {name: array.copy() for name, array in found.values.items()}
    values["posterior_mean"][np.arange(600) % 60 > 20] = np.nan
    settings = CheckSettings(60)
    verdict = judge_inputs(found.profile, values, settings)
    evidence = Evidence(found.profile, verdict, values, None, settings, ())
    report = report_of(evidence, title="small 1")
    (tensor,) = (tensor for tensor in report.tensors if tensor.name == "posterior_mean")
    assert all(p is None for line in tensor.lines if line.statistic != "non_finite" for p in line.p)
    assert "posterior_mean: 10 of 10 windows could not be judged" in report.limits
    assert report.headline.state is State.BAD
    assert {alarm.statistic for alarm in tensor.alarms} == {"non_finite"}


def test_nothing_judged_is_said(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    """Without an alarm, a tensor that was never judged makes the verdict unknown, not good."""
    found = judged(bundle, save(make_traffic(7, 600)))
    blind = tuple(
        replace(
            window,
            tensors=tuple(
                replace(t, statistics=tuple(replace(s, p=None) for s in t.statistics)) for t in window.tensors
            ),
        )
        for window in found.verdict.windows
    )
    report = report_of(replace(evidence_of(found), verdict=replace(found.verdict, windows=blind)), title="small 1")
    assert (report.headline.state, report.headline.words) == (State.UNKNOWN, "Not judged")
    assert {tensor.state for tensor in report.tensors} == {State.UNKNOWN}


def test_times_are_told(bundle: Path, make_traffic: Traffic, save: Save, tmp_path: Path) -> None:
    inputs = make_traffic(7, 600)
    inputs[300:] += 2
    np.save(tmp_path / "times.npy", 1.7e9 + np.arange(600.0))
    found = judge_file(bundle, save(inputs), str(tmp_path / "times.npy"), None, TOLERATED, lambda _, __: None)
    report = reported(found)
    assert "since input 300 (2023-11-14 22:18:20 UTC)" in report.headline.sentences[0]
    assert ("times", "2023-11-14 22:13:20 UTC to 2023-11-14 22:23:19 UTC") in report.facts


def test_a_daily_cycle_is_held_against_its_hours(
    cyclic: Path, make_daily: Callable[..., tuple[np.ndarray, np.ndarray]], save: Save, tmp_path: Path
) -> None:
    """Mornings alone are no drift, and the reference's histograms are those of mornings."""
    inputs, times = make_daily(9, days=6)
    hour = times % 86400 // 3600
    morning = (hour >= 6) & (hour < 12)
    np.save(tmp_path / "times.npy", times[morning])
    found = judge_file(cyclic, save(inputs[morning]), str(tmp_path / "times.npy"), None, TOLERATED, lambda _, __: None)
    report = reported(found)
    assert report.headline.state is State.OK
    (tensor,) = (tensor for tensor in report.tensors if tensor.name == "input")
    for view in tensor.shown:
        everything = found.profile.drift.tensors["input"].reference.bin_shares[view.dimension]
        assert view.live_spread is not None
        assert np.abs(np.subtract(view.reference, view.live)).max() < 0.06
        assert np.abs(everything[: len(view.live)] - view.live).max() > 0.1
        assert abs(view.reference_spread.mean - view.live_spread.mean) < 0.15
