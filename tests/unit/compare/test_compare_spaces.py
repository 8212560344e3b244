"""Same, alignable or re-index, on spaces made to be so; and what the bounds promise."""

import json

import numpy as np
import pytest
from scipy.stats import ortho_group

from latentry_serving.compare.bounds import bootstrap, of_median, of_share, resolves
from latentry_serving.compare.pairs import (
    MOST_PAIRS,
    MOST_RATIO,
    cosines,
    cross_recall,
    neighbour_overlap,
    norm_ratios,
    paired,
)
from latentry_serving.compare.procrustes import fit, halves
from latentry_serving.compare.verdict import Space, Thresholds, compare
from latentry_serving.contract.errors import InvalidInput

D = 16


def vectors(n: int = 400, d: int = D, seed: int = 0) -> np.ndarray:
    """Clustered vectors [n, d], as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((8, d)) * 2
    return centres[rng.integers(0, 8, n)] + rng.standard_normal((n, d))


def judged(new: np.ndarray, old: np.ndarray | None = None) -> Space:
    return compare(vectors() if old is None else old, new, np.random.default_rng(1)).space


def test_the_same_vectors_are_the_same_space() -> None:
    assert judged(vectors()) is Space.SAME


def test_float16_is_the_same_space() -> None:
    assert judged(vectors().astype(np.float16)) is Space.SAME


def test_eight_bit_rounding_is_the_same_space() -> None:
    old = vectors()
    scale = np.abs(old).max() / 127
    assert judged(np.round(old / scale) * scale) is Space.SAME


def test_a_rotation_is_alignable_and_the_map_undoes_it() -> None:
    old, rotation = vectors(), ortho_group.rvs(D, random_state=2)
    result = compare(old, old @ rotation, np.random.default_rng(1))
    assert result.space is Space.ALIGNABLE
    assert result.recall.high < 0.2 and result.aligned_recall is not None and result.aligned_recall.value == 1.0
    assert result.overlap.value == 1.0, "what ignores rotation sees nothing"
    assert result.map is not None
    np.testing.assert_allclose(result.map.apply(old @ rotation), old, atol=1e-9)


def test_another_dimension_that_holds_the_old_one_is_alignable() -> None:
    old = vectors()
    new = np.hstack([old, np.zeros((len(old), 4))]) @ ortho_group.rvs(D + 4, random_state=3)
    assert judged(new) is Space.ALIGNABLE


def test_unrelated_vectors_need_a_new_index() -> None:
    assert judged(vectors(seed=9)) is Space.REINDEX


def test_shuffled_pairs_need_a_new_index() -> None:
    assert judged(np.random.default_rng(4).permutation(vectors())) is Space.REINDEX


def test_a_collapsed_space_needs_a_new_index() -> None:
    rng = np.random.default_rng(5)
    assert judged(1e-3 * rng.standard_normal((400, D)) + 1.0) is Space.REINDEX


@pytest.mark.parametrize("factor", [1e-3, 0.7, 1.4, 1e3])
def test_other_lengths_are_another_space_that_no_map_mends(factor: float) -> None:
    old = vectors()
    result = compare(old, factor * old, np.random.default_rng(1))
    assert (result.cosine.value, result.overlap.value, result.recall.value) == (pytest.approx(1), 1, 1)
    assert result.space is Space.REINDEX
    assert result.norm_ratio.value == pytest.approx(factor)
    assert f"{factor:.4g} times as long" in result.notes[0]


def test_a_rotation_with_other_lengths_is_not_alignable() -> None:
    assert judged(1e-3 * vectors() @ ortho_group.rvs(D, random_state=2)) is Space.REINDEX


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_lengths_within_the_limit_are_the_same_space(factor: float) -> None:
    assert judged(factor * vectors()) is Space.SAME
    strict = compare(vectors(), factor * vectors(), np.random.default_rng(1), Thresholds(norm_ratio=1.1))
    assert strict.space is Space.REINDEX


def test_lengths_around_the_limit_stay_undecided() -> None:
    old = vectors()
    factors = np.where(np.arange(len(old)) % 2, 1.2, 1.3)[:, None]
    result = compare(old, factors * old, np.random.default_rng(1))
    assert result.norm_ratio.low < 1.25 < result.norm_ratio.high
    assert result.space is Space.UNDECIDED
    assert compare(old, factors * old @ ortho_group.rvs(D, random_state=2), np.random.default_rng(1)).space is (
        Space.UNDECIDED
    )


def test_unit_vectors_say_nothing_of_lengths() -> None:
    old = vectors() / np.linalg.norm(vectors(), axis=1, keepdims=True)
    result = compare(old, old @ ortho_group.rvs(D, random_state=2), np.random.default_rng(1))
    assert (result.norm_ratio.low, result.norm_ratio.high) == (pytest.approx(1), pytest.approx(1))
    assert result.space is Space.ALIGNABLE


@pytest.mark.parametrize("pairs", [0, 1])
def test_without_pairs_everything_is_possible(pairs: int) -> None:
    result = compare(vectors()[:pairs], vectors()[:pairs], np.random.default_rng(1))
    assert (result.pairs, result.space, result.map) == (pairs, Space.UNDECIDED, None)
    assert (result.cosine.low, result.cosine.high, result.recall.low, result.recall.high) == (-1, 1, 0, 1)
    assert result.norm_ratio.low < 1e-6 and result.norm_ratio.high > 1e6


def test_a_fit_on_fewer_pairs_than_dimensions_is_not_offered_as_a_map() -> None:
    # Judged on the pairs it was fitted on, it looks as if it helped; on others it does not.
    old, new = vectors(60, 64), vectors(60, 64, seed=9)
    fitting, judging = halves(60, np.random.default_rng(0))
    found = fit(old[fitting], new[fitting])
    assert cross_recall(old[fitting], found.apply(new[fitting])).mean() > 0.6
    assert cross_recall(old[judging], found.apply(new[judging])).mean() < 0.2
    result = compare(old, new, np.random.default_rng(1))
    assert result.space is Space.REINDEX and result.map is None and "640 pairs are needed" in result.notes[0]


def test_the_held_out_half_is_not_in_the_fit() -> None:
    fitting, judging = halves(101, np.random.default_rng(0))
    assert not set(fitting) & set(judging) and sorted([*fitting, *judging]) == list(range(101))


def test_few_pairs_show_what_the_cosine_shows_and_nothing_more() -> None:
    old = vectors(8)
    assert judged(old * 1.01, old) is Space.SAME
    assert judged(old @ ortho_group.rvs(D, random_state=2), old) is Space.REINDEX
    assert judged(old[:5], old[:5]) is Space.UNDECIDED


def test_a_borderline_recall_stays_undecided() -> None:
    old = vectors()
    new = old.copy()
    new[:20] = np.random.default_rng(6).permutation(new[:20])  # 5 % of the inputs are mixed up
    result = compare(old, new, np.random.default_rng(1))
    assert result.space is Space.UNDECIDED
    assert result.recall.low < 0.95 < result.recall.high


def test_the_same_seed_gives_the_same_result() -> None:
    old = vectors()
    new = old + 0.1 * vectors(seed=3)
    first, second = (compare(old, new, np.random.default_rng(7)) for _ in range(2))
    assert (first.cosine, first.overlap, first.recall, first.space) == (
        second.cosine,
        second.overlap,
        second.recall,
        second.space,
    )


def test_duplicates_do_not_count_against_recall() -> None:
    old = np.repeat(vectors(20), 2, axis=0)
    assert cross_recall(old, old).all()


def test_measures_against_hand_counts() -> None:
    old = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    new = old[:, ::-1].copy()
    np.testing.assert_allclose(cosines(old, new)[0], 0.0)
    np.testing.assert_array_equal(neighbour_overlap(old, new, 1), np.ones(4))
    np.testing.assert_array_equal(cross_recall(old, new), np.zeros(4))
    np.testing.assert_array_equal(cosines(np.zeros((2, 2)), np.array([[0.0, 0.0], [1.0, 0.0]])), [1.0, 0.0])


def test_ratios_of_norms_against_hand_counts() -> None:
    old = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    new = np.array([[0.0, 10.0], [0.0, 0.0], [1e-3, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(norm_ratios(old, new), [2.0, 1.0, MOST_RATIO, 1 / MOST_RATIO])
    np.testing.assert_allclose(norm_ratios(old, np.hstack([new, new]))[0], 2.0 * np.sqrt(2))


def test_bounds_of_a_median_against_the_table_of_the_sign_test() -> None:
    # n = 10: the 2nd and the 9th, 97.9 %; n = 20: the 6th and the 15th, 95.9 %; below 6 none holds with 95 %.
    for count, low, high in ((10, 2, 9), (20, 6, 15), (6, 1, 6)):
        found = of_median(np.arange(1.0, count + 1), 0.05, 0, 99)
        assert (found.low, found.high) == (low, high)
    assert of_median(np.arange(5.0), 0.05, -1, 99).low == -1
    assert of_median(np.arange(5.0), 0.05, -1, 99).high == 99


def test_the_maps_files_can_be_read_without_pickle(tmp_path) -> None:  # type: ignore[no-untyped-def]
    old, rotation = vectors(), ortho_group.rvs(D, random_state=2)
    found = fit(old, old @ rotation)
    for name, data in found.to_files(old="2", new="3").items():
        (tmp_path / name).write_bytes(data)
    matrix = np.load(tmp_path / "map.npy", allow_pickle=False)
    about = json.loads((tmp_path / "map.json").read_text())
    assert about["shape"] == list(matrix.shape) and about["from"] == "3" and about["fittedOn"] == 400
    np.testing.assert_allclose(old @ rotation @ matrix, old, atol=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), "no pairs"),
        (np.zeros((3, 2)), np.full((3, 2), np.nan), "NaN"),
        (np.zeros(3), np.zeros(3), "shape"),
        (np.zeros((MOST_PAIRS + 1, 1)), np.zeros((MOST_PAIRS + 1, 1)), "rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(old: np.ndarray, new: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        paired(old, new)


def test_bounds_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(11)
    share = sum(_within(of_share((rng.random(200) < 0.97).astype(float), 0.05), 0.97) for _ in range(500))
    mean = sum(_within(bootstrap(rng.beta(50, 1, 200), 0.05, rng), 50 / 51) for _ in range(300))
    median = sum(_within(of_median(rng.exponential(size=41), 0.05, 0, 1e9), np.log(2)) for _ in range(500))
    assert share >= 470  # exact bounds: at least 95 % of 500, less three standard deviations
    assert median >= 460  # 95.6 % of 500, less four standard deviations
    assert mean >= 270  # an approximation: 90 % and more of 300


def test_how_many_pairs_show_a_recall() -> None:
    assert not resolves(71, 0.95, 0.05)
    assert resolves(72, 0.95, 0.05)


def _within(bounded, truth: float) -> bool:  # type: ignore[no-untyped-def]
    return bool(bounded.low <= truth <= bounded.high)
