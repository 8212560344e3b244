"""Whether answers are what was recorded: each reason, their order, figures with NaN and infinity, several outputs."""

import numpy as np
import pytest

from latentry_serving.contract.manifest import Tolerance
from latentry_serving.contract.metrics import ProbeOutcome
from latentry_serving.tap.golden import Verdict, judge

TOLERANCE = Tolerance(absolute=0.1, relative=0.01)
RECORDED = np.array([[1.0, -100.0], [0.0, 5.0]], np.float32)


def changed(*changes: tuple[tuple[int, int], float]) -> np.ndarray:
    array = RECORDED.copy()
    for place, value in changes:
        array[place] = value
    return array


def verdict(first: np.ndarray, second: np.ndarray | None = None) -> Verdict:
    return judge({"y": RECORDED}, {"y": first}, {"y": first if second is None else second}, TOLERANCE)


def test_the_same_passes_without_error():
    assert verdict(RECORDED) == Verdict(ProbeOutcome.PASSED, "", 0.0, 0.0)


def test_tolerance_is_absolute_plus_relative_of_the_recorded_value():
    assert verdict(changed(((0, 1), -101.0))).outcome is ProbeOutcome.PASSED
    found = verdict(changed(((0, 1), -101.25)))
    assert (found.outcome, found.largest_error, found.determinism_error) == (ProbeOutcome.OUT_OF_TOLERANCE, 1.25, 0.0)
    assert "y differs from what was recorded by up to 1.25, allowed are 0.1 + 0.01 |recorded|" in found.detail


def test_the_second_answer_is_held_to_the_record_too():
    second = changed(((1, 0), 0.125))
    found = verdict(changed(((1, 0), 0.0625)), second)
    assert (found.outcome, found.largest_error) == (ProbeOutcome.OUT_OF_TOLERANCE, 0.125)


def test_two_calls_that_differ_within_the_tolerance_pass_and_show():
    found = verdict(RECORDED, changed(((1, 0), 0.0625)))
    assert (found.outcome, found.determinism_error) == (ProbeOutcome.PASSED, 0.0625)


def test_random_answers_are_called_so_rather_than_wrong():
    found = verdict(changed(((1, 0), 2.0)), changed(((1, 0), -2.0)))
    assert (found.outcome, found.largest_error, found.determinism_error) == (ProbeOutcome.NOT_DETERMINISTIC, 2.0, 4.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(value):
    found = verdict(changed(((0, 0), value), ((1, 1), value)))
    assert (found.outcome, found.largest_error, found.determinism_error) == (ProbeOutcome.NON_FINITE, np.inf, 0.0)
    assert found.detail == "y has 2 of 4 values that are not finite"


def test_a_recorded_infinity_is_expected():
    recorded = {"y": np.array([[np.inf, 1.0]], np.float32)}
    assert judge(recorded, recorded, recorded, TOLERANCE) == Verdict(ProbeOutcome.PASSED, "", 0.0, 0.0)


def test_another_shape():
    found = verdict(RECORDED[:1])
    assert (found.outcome, found.largest_error, found.determinism_error) == (ProbeOutcome.WRONG_SHAPE, np.inf, None)
    assert found.detail == "y has shape [1, 2], recorded is [2, 2]"


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_output(missing):
    answers = [{"y": RECORDED}, {"y": RECORDED}]
    answers[missing] = {"z": RECORDED}
    found = judge({"y": RECORDED}, *answers, TOLERANCE)
    assert (found.outcome, found.detail) == (ProbeOutcome.MISSING_OUTPUT, "the answer has no output 'y'")


def test_whole_numbers_and_booleans():
    for array in (np.array([[1, 2]], np.int64), np.array([[True, False]]), np.array([[200]], np.uint8)):
        assert judge({"y": array}, {"y": array}, {"y": array}, TOLERANCE) == Verdict(ProbeOutcome.PASSED, "", 0.0, 0.0)
    found = judge({"y": np.array([250], np.uint8)}, *[{"y": np.array([5], np.uint8)}] * 2, TOLERANCE)
    assert found.largest_error == 245.0


def test_of_several_outputs_the_worst_reason_and_the_largest_figures():
    recorded = {"a": RECORDED, "b": RECORDED, "c": RECORDED}
    answer = {"a": changed(((1, 0), 7.0)), "b": changed(((0, 0), np.nan)), "c": RECORDED}
    found = judge(recorded, answer, answer, TOLERANCE)
    assert (found.outcome, found.largest_error) == (ProbeOutcome.NON_FINITE, np.inf)
    assert found.detail.startswith("b ")


def test_verdicts_of_batches_join():
    good, bad = Verdict(ProbeOutcome.PASSED, "", 0.5, 0.0), Verdict(ProbeOutcome.UNREACHABLE, "gone")
    assert good.merged(bad) == bad.merged(good) == Verdict(ProbeOutcome.UNREACHABLE, "gone", 0.5, 0.0)
    assert good.merged(good) == good
