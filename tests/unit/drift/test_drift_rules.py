"""Shewhart, CUSUM and their run lengths: published tables to the printed digits, R's spc, a second method, simulation.

Not here: what p-values a detector feeds them.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift.rules import Cusum, CusumState, Shewhart, cusum_design, cusum_run_length, cusum_threshold
from latentry_serving.drift.run_length import LONGEST_RUN, mewma_run_length

SHIFTS = (0.25, 0.5, 0.75, 1.0)
# Printed by r-cran-spc 0.6.7: xcusum.arl(.5, 4, s, sided="two"); xcusum.arl(.5, 3, 0); xcusum.crit(.5, 1e5);
# xcusum.ad(.5, 5, 1), the delay in the steady state; mewma.arl(.25, 16.38, 4); mewma.arl(.1, 14.76, 3)
SPC = (
    "167.683788814 74.224027885 26.6302030889 13.2850883752 8.3831318705 "
    "117.595704228 9.661700025 9.649906922 499.53426 998.000718"
)
SPC_SCRIPT = """
suppressMessages(library(spc))
for (s in c(0, .25, .5, .75, 1)) cat(format(xcusum.arl(.5, 4, s, sided="two"), digits=12), "")
cat(format(xcusum.arl(.5, 3, 0), digits=12), format(xcusum.crit(.5, 1e5), digits=10), "")
cat(format(xcusum.ad(.5, 5, 1), digits=10), format(mewma.arl(.25, 16.38, 4), digits=9), "")
cat(format(mewma.arl(.1, 14.76, 3), digits=9))
"""


def brook_evans(threshold: float, reference: float, shift: float, states: int) -> float:
    """Run length by the original method: the state space cut into intervals, the first centred at 0."""
    width = 2 * threshold / (2 * states - 1)
    at = np.arange(states) * width
    edges = np.concatenate([[-np.inf], at + width / 2])
    moves = np.diff(ndtr(edges - at[:, None] + reference - shift), axis=1)
    return float(np.linalg.solve(np.eye(states) - moves, np.ones(states))[0])


def two_sided(run_length: Callable[[float], float], shift: float) -> float:
    return 1 / (1 / run_length(shift) + 1 / run_length(-shift))


def ours(threshold: float) -> Callable[[float], float]:
    return lambda shift: cusum_run_length(threshold, 0.5, shift=shift)


def has_spc() -> bool:
    if not shutil.which("Rscript"):
        return False
    return subprocess.run(["Rscript", "-e", "library(spc)"], capture_output=True, check=False).returncode == 0


def spc_values() -> list[float]:
    """From R where it is installed with spc, else as it printed them."""
    text = SPC
    if has_spc():
        text = subprocess.run(["Rscript", "-e", SPC_SCRIPT], capture_output=True, text=True, check=True).stdout
    return [float(word) for word in text.split()]


def test_lucas_and_crosier() -> None:
    printed = [two_sided(ours(4), shift) for shift in (0, *SHIFTS)]
    assert [float(f"{value:.3g}") for value in printed] == [168, 74.2, 26.6, 13.3, 8.38]


def test_brook_and_evans() -> None:
    # 117.5957; the printed 117.59 is cut, not rounded
    assert int(100 * cusum_run_length(3, 0.5)) / 100 == 117.59


def test_xplore_used_fifty_states() -> None:
    def chain(threshold: float) -> Callable[[float], float]:
        return lambda shift: brook_evans(threshold, 0.5, shift, 50)

    threshold = brentq(lambda h: two_sided(chain(h), 0) - 100, 2, 6)
    printed = [two_sided(chain(threshold), shift) for shift in SHIFTS]
    assert [float(f"{value:.5g}") for value in printed] == [52.669, 21.701, 11.465, 7.3966]
    exact = cusum_threshold(200.0)  # of one side: 100 of both
    assert [two_sided(ours(exact), shift) for shift in SHIFTS] == pytest.approx(printed, rel=3e-4)


@pytest.mark.parametrize(
    ("threshold", "reference", "shift"), [(3, 0.5, 0), (6, 0.25, 0.4), (2, 1.5, -0.5), (8, 0.5, 0)]
)
def test_brook_evans_converges_to_it(threshold: float, reference: float, shift: float) -> None:
    coarse, fine = (brook_evans(threshold, reference, shift, states) for states in (200, 400))
    extrapolated = fine + (fine - coarse) / 3  # error of the order 1 / states²
    assert cusum_run_length(threshold, reference, shift=shift) == pytest.approx(extrapolated, rel=2e-4)


def test_spc() -> None:
    values = [two_sided(ours(4), shift) for shift in (0, *SHIFTS)]
    values += [cusum_run_length(3, 0.5), cusum_threshold(1e5), cusum_run_length(5, 0.5, shift=1, steady_state=True)]
    values += [mewma_run_length(16.38, 4, 0.25), mewma_run_length(14.76, 3, 0.1)]
    assert values == pytest.approx(spc_values(), rel=2e-9)


def test_mewma_tables() -> None:
    # h is printed with two decimals; its last digit is worth 0.5 % of the run length
    limits = [
        brentq(lambda h: mewma_run_length(h, 4, 0.25) - 500, 15, 18),
        brentq(lambda h: mewma_run_length(h, 3, 0.1) - 1000, 13, 16),
    ]
    assert [round(limit, 2) for limit in limits] == [16.38, 14.76]


@pytest.mark.parametrize("arl0", [3.5, 20, 1e3, 1e6, 1e9, 1e14])
def test_threshold_gives_its_run_length(arl0: float) -> None:
    assert cusum_run_length(cusum_threshold(arl0), 0.5) == pytest.approx(arl0, rel=1e-8)


def test_very_long_runs_grow_as_theory_says() -> None:
    # ARL0 ~ C exp(2kh): ln C is the same to ten digits from h = 20 on, where a plain solve has lost six
    constants = [np.log(cusum_run_length(h, 0.5)) - h for h in (20.0, 24.0, 28.0)]
    assert constants == pytest.approx([1.85146236] * 3, abs=3e-8)


@pytest.mark.parametrize(
    ("arl0", "reference"), [(3.0, 0.5), (10 * LONGEST_RUN, 0.5), (100.0, 0.0), (float("nan"), 0.5)]
)
def test_impossible_thresholds_are_refused(arl0: float, reference: float) -> None:
    with pytest.raises(InvalidInput):
        cusum_threshold(arl0, reference)


@pytest.mark.parametrize("shared", [0.0005, 0.02, 0.09])
def test_design_keeps_the_mean_rate_over_references(shared: float) -> None:
    # 2,000 references, 2,000 windows each: about 19,000 alarms. Rates differ between references by up to 1.5 of their
    # mean, so the mean rate's standard error is below 3.5 %; the bound is more than five of them
    k, h = cusum_design(200.0, shared)
    rng = np.random.default_rng(5)
    offset = np.sqrt(shared) * rng.standard_normal(2000)
    rule, windows, on, alarms = Cusum(k, h, 2000), 2000, np.zeros(2000, dtype=bool), 0
    quiet = 0
    for _ in range(windows):
        rule.update(ndtr(-(offset + np.sqrt(1 - shared) * rng.standard_normal(2000))))
        quiet += int((~on).sum())
        alarms += int((rule.alarmed & ~on).sum())
        on = rule.alarmed
    assert alarms / quiet == pytest.approx(1 / 200, rel=0.18)


def test_design_without_reference_error_is_the_classical_cusum() -> None:
    assert cusum_design(1e5) == (0.5, cusum_threshold(1e5))
    with pytest.raises(InvalidInput, match="at least 4 windows"):
        cusum_design(1e5, 0.25)


def test_simulated_run_lengths() -> None:
    # 4,000 charts, ARL0 = 60: the standard error of the mean is 1.6 %; the bound is five of them
    rng = np.random.default_rng(3)
    rule = Cusum(0.5, cusum_threshold(60.0), 4000)
    first = np.full(4000, -1)
    for window in range(1, 900):
        rule.update(rng.random(4000))
        first = np.where((first < 0) & rule.alarmed, window, first)
    assert (first > 0).all()
    assert first.mean() == pytest.approx(60, rel=0.08)


def test_shewhart_alarms_at_alpha_and_below() -> None:
    rule = Shewhart([0.01, 0.02, 0.02, 0.02, 0.02])
    assert rule.alarms([0.01, 0.0201, np.nan, 0.0, 1.0]).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("alpha", [0.0, 1.0, np.nan])
def test_shewhart_refuses_a_senseless_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        Shewhart(alpha)


def test_cusum_follows_its_definition() -> None:
    rule = Cusum(0.5, 2.0, 1)
    z = [1.0, -0.2, 1.5, 0.9, -0.4, -1.0, -1.0, 0.6]
    sums = [float(rule.update(norm.sf([one]))[0]) for one in z]
    #           1-.5  0    1.5-.5 1.4   .5    0    0    .1
    assert sums == pytest.approx([0.5, 0.0, 1.0, 1.4, 0.5, 0.0, 0.0, 0.1])
    assert rule.windows.tolist() == [1]


def test_an_alarm_lasts_until_zero_and_says_since_when() -> None:
    rule = Cusum(0.5, 2.0, 1)
    seen = []
    for z in (2.0, 2.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        score = rule.update(norm.sf([z]))
        seen.append((round(float(score[0]), 6), bool(rule.alarmed[0]), int(rule.windows[0])))
    assert seen == [
        (1.5, False, 1), (3.0, True, 2), (10.5, True, 3), (1.5, True, 4),
        (1.0, True, 5), (0.5, True, 6), (0.0, False, 0), (0.0, False, 0),
    ]  # fmt: skip


def test_cusum_edges() -> None:
    rule = Cusum(0.5, 4.0, 3)
    score = rule.update([0.0, 1.0, np.nan])
    assert np.isfinite(score).all()
    assert rule.alarmed.tolist() == [True, False, False]
    before = rule.state()
    rule.update([np.nan] * 3)
    assert rule.state() == before
    rule.update([1.0, 0.0, 0.3])
    assert rule.alarmed.tolist() == [False, True, False]
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            rule.update([0.5, 0.5, wrong])


def test_tuning_keeps_what_was_summed_up() -> None:
    rule = Cusum(0.5, 5.0, 2)
    rule.update(norm.sf([3.0, 1.0]))
    rule.tune(0.5, [2.0, 9.0])
    assert rule.sums == pytest.approx([2.0, 0.5])
    with pytest.raises(ValueError, match="positive"):
        rule.tune(0.5, 0.0)


@given(
    st.lists(st.lists(st.floats(0, 1) | st.just(np.nan), min_size=3, max_size=3), min_size=2, max_size=30), st.data()
)
def test_a_restart_changes_nothing(rows: list[list[float]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(rows) - 1))
    straight, first, second = (Cusum([0.3, 0.5, 1.0], [1.0, 2.0, 3.0], 3) for _ in range(3))
    for row in rows:
        straight.update(row)
    for row in rows[:cut]:
        first.update(row)
    second.restore(CusumState(**json.loads(json.dumps(asdict(first.state()), allow_nan=False))))
    for row in rows[cut:]:
        second.update(row)
    assert second.state() == straight.state()


def test_a_state_of_other_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Cusum(0.5, 4.0, 3).restore(Cusum(0.5, 4.0, 2).state())


@given(st.floats(1e-6, 0.4), st.floats(0.01, 0.9))
def test_smaller_p_values_never_give_a_smaller_sum(p: float, factor: float) -> None:
    rule = Cusum(0.5, 4.0, 2)
    for _ in range(3):
        smaller, larger = rule.update([p * factor, p])
        assert smaller >= larger
