"""Explanations: the dimensions to blame for each statistic, the texts, the JSON document, the one-line event."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from drift_worlds import World, summary_of

from latentry_serving.drift.explain import contributions, explain
from latentry_serving.drift.subspace import Metric
from latentry_serving.drift.types import Alarm, Rule, Statistic, WindowSummary


@pytest.fixture(scope="module")
def world() -> World:
    return World(3, d=64, groups=8)


@pytest.fixture(scope="module")
def shifted(world: World) -> WindowSummary:
    x = world.draw(500)
    x[:, [5, 17]] += 0.6 * world.sd[[5, 17]]
    return summary_of(x, world.reference, bins=True)


def alarm(window: WindowSummary, statistic: Statistic = Statistic.T2, rule: Rule = Rule.SHEWHART) -> Alarm:
    value, threshold = (1e-12, 3e-7) if rule is Rule.SHEWHART else (8.25, 5.1)
    return Alarm("embedding", statistic, rule, 40.0, 160.0, value, threshold, window)


@pytest.mark.parametrize(
    "statistic", [Statistic.T2, Statistic.BINS_MEAN, Statistic.BINS_MAX, Statistic.MMD2, Statistic.SPE, Statistic.NORM]
)
def test_the_dimensions_that_moved_come_first(world: World, shifted: WindowSummary, statistic: Statistic) -> None:
    named = explain(alarm(shifted, statistic), world.reference).dimensions
    assert {part.dimension for part in named[:2]} == {5, 17}
    assert len(named) == 8
    assert all(part.share >= after.share for part, after in pairwise(named))
    assert named[0].mean_shift == pytest.approx(0.6, abs=0.2)  # its standard error is .045
    assert named[0].spread == pytest.approx(1.0, abs=0.15)


def test_t2_contributions_add_up_to_t2(world: World, shifted: WindowSummary) -> None:
    reference = world.reference
    parts = contributions(Statistic.T2, shifted, reference)
    metric = Metric(reference.basis, reference.basis_variance, reference.residual_variance, reference.alive)
    shift = shifted.mean.astype(np.float64)
    whole = (metric.whiten(shift, shift @ reference.basis) ** 2).sum() * shifted.size
    signed = metric.contributions(shift, shift @ reference.basis) * shifted.size
    assert signed.sum() == pytest.approx(whole, rel=1e-4)
    np.testing.assert_allclose(parts, np.maximum(signed, 0), rtol=1e-4, atol=1e-6)


def test_counts_of_vectors_blame_no_dimension(world: World) -> None:
    window = summary_of(world.drifted("duplicates", 0.2), world.reference)
    explanation = explain(alarm(window, Statistic.DUPLICATES), world.reference)
    assert explanation.dimensions == ()
    assert explanation.event() == (
        "embedding drifted (duplicates): looks like duplicates: 20.0% of the vectors repeat an earlier one"
    )


def test_dead_dimensions_are_named(world: World) -> None:
    window = summary_of(world.drifted("dead", 3), world.reference)
    explanation = explain(alarm(window, Statistic.DEAD_DIMENSIONS), world.reference)
    assert [part.dimension for part in explanation.dimensions] == [0, 1, 2]
    assert "looks like dead dimensions: 3 do not move any more" in explanation.event()


def test_an_alarm_of_a_count_is_named_by_it_however_few_there_are(world: World, shifted: WindowSummary) -> None:
    window = replace(shifted, non_finite=6)
    assert explain(alarm(window), world.reference).look.kind == "shift"
    found = explain(alarm(window, Statistic.NON_FINITE), world.reference).look
    assert (found.kind, found.magnitude) == ("non-finite values", 6 / (6 + window.size))


def test_text_of_a_few_lines(world: World, shifted: WindowSummary) -> None:
    lines = explain(alarm(shifted), world.reference, top=2).text().splitlines()
    assert lines[0] == "drift of embedding: the mean (T²) left the undrifted range"
    assert lines[1] == (
        "  how far: probability 1.0e-12 on undrifted traffic, alarm from 3.0e-07 (shewhart rule, 500 vectors)"
    )
    assert lines[2] == "  since: 120 s before the alarm"
    assert lines[3].startswith("  looks like: a shift of the mean by 0.09")
    assert lines[4].startswith("  dimensions: ")
    assert lines[4].count("sd, spread x") == 2
    cusum = explain(alarm(shifted, rule=Rule.CUSUM), world.reference).text()
    assert "cumulative sum 8.25, alarm above 5.1 (cusum rule" in cusum


def test_event_is_one_line_with_the_first_three(world: World, shifted: WindowSummary) -> None:
    event = explain(alarm(shifted), world.reference).event()
    assert "\n" not in event
    assert event.startswith("embedding drifted (t2): looks like a shift of the mean by")
    assert event.split("dimensions ")[1].count(",") == 2


@pytest.mark.parametrize("drift", ["shift", "mixture", "non-finite", "none"])
def test_json_is_plain(world: World, drift: str) -> None:
    window = summary_of(world.drifted(drift, 0.3), world.reference)
    document = json.loads(json.dumps(explain(alarm(window), world.reference).to_json(), allow_nan=False))
    assert document["tensor"] == "embedding"
    assert document["statistic"] == "t2"
    assert document["windowSize"] == window.size
    assert (document["magnitude"] is None) == (document["looksLike"] == "unclear")
    assert sum(part["share"] for part in document["dimensions"]) <= 1 + 1e-9


def test_a_window_with_nothing_finite(world: World, shifted: WindowSummary) -> None:
    """All vectors NaN: means of nothing, and still an explanation."""
    d = len(shifted.mean)
    nothing = replace(
        shifted, size=0, mean=np.full(d, np.nan), second_moment=np.full(d, np.nan), non_finite=500, duplicates=0,
        subspace_mean=shifted.subspace_mean * np.nan, residual_energy_log=float("nan"), stuck=np.zeros(d, bool),
    )  # fmt: skip
    explanation = explain(alarm(nothing, Statistic.NON_FINITE), world.reference)
    assert "non-finite values in 100.0% of the vectors" in explanation.text()
    json.dumps(explanation.to_json(), allow_nan=False)


def test_hour_of_day_means_are_no_shift(world: World) -> None:
    """A window is held against what its hour expects, not against the whole reference."""
    x = world.drifted("shift", 0.5)
    window = summary_of(x, world.reference)
    expected = np.where(world.reference.alive, 0.5 * world.sd / world.reference.scale, 0.0)
    at_its_hour = replace(window, expected_mean=expected)
    assert explain(alarm(window), world.reference).look.kind == "shift"
    assert explain(alarm(at_its_hour), world.reference).look.kind == "unclear"
