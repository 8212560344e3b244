"""Each gate: what it passes, fails and waits for, with the numbers in its sentence; and the statistics' promise."""

import random
from dataclasses import replace
from typing import Any

import pytest
from rollout_world import EDGES, ROTATED, SAME, UNRELATED, spec

from latentry_operator.api.rollout import PromqlCheck
from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.facts import (
    Answer,
    Bounded,
    ContractChange,
    Evidence,
    GoldenFacts,
    Histogram,
    Judging,
    MonitorFacts,
    Pairs,
    ProbeResult,
    Running,
    Traffic,
)
from latentry_operator.plan.rollout.gates import GateInput, GateResult, with_traffic
from latentry_operator.plan.rollout.gates.promql import query
from latentry_operator.plan.rollout.gates.shares import judge
from latentry_operator.plan.rollout.gates.slo import quantile, slower
from latentry_operator.plan.rollout.policy import policy_of, replicas_for
from latentry_operator.plan.rollout.reasons import GateReason
from latentry_operator.plan.rollout.statistics import Count, bounds

FAST = Histogram(EDGES, (2_000, 0, 0, 0, 0))
GOOD = Evidence(
    changes=(),
    stable_space="a",
    candidate_space="a",
    golden=(GoldenFacts("encode", ProbeResult.PASSED),),
    pairs=SAME,
    incomparable="",
    traffic=Traffic(2_000, 0, FAST),
    stable_traffic=Traffic(2_000, 0, FAST),
    monitor=MonitorFacts(Judging.ON, sufficient=True),
    stable_monitor=MonitorFacts(Judging.ON, sufficient=True),
    answers={"recall": Answer(0.95, 1)},
)
RULES: dict[str, Any] = {"gates": {"promql": [{"name": "recall", "query": "x", "min": 0.9, "every": "30s"}]}}


def verdict(
    gate: str, *, stable: bool = True, restarts: int = 0, slo: dict[str, Any] | None = None, **changes: Any
) -> GateResult:
    """What one gate says when the evidence is good but for these."""
    policy = policy_of(spec(RULES, slo), weights=True, mirror=True)
    given = GateInput(replace(GOOD, **changes), policy, Running(2, 2, restarts=restarts), stable)
    return {result.gate: result for result in with_traffic(given)}[gate]


PASS, FAIL, WAIT = Verdict.PASS, Verdict.FAIL, Verdict.WAIT
BREAKING = ContractChange("operations.encode.outputs.latent", True, "clients read it; it was removed or renamed")
SPACE = ContractChange("embeddingSpace", True, "vectors of the two must not be mixed in one index")
FEW = replace(SAME, count=8, recall=Bounded(1, 0.63, 1), overlap=Bounded(1, 0.6, 1))
SHRUNK = Bounded(0.001, 0.00099, 0.00101)
CASES: list[tuple[str, dict[str, Any], Verdict, GateReason, str]] = [
    ("contract", {}, PASS, GateReason.CONTRACT_KEPT, "0 differences"),
    ("contract", {"changes": (BREAKING,)}, FAIL, GateReason.CONTRACT_BROKEN, "outputs.latent"),
    ("contract", {"changes": (SPACE,)}, PASS, GateReason.CONTRACT_KEPT, "none breaks"),
    ("contract", {"changes": None}, WAIT, GateReason.NOT_REPORTED, "not told"),
    ("contract", {"changes": None, "stable": False}, PASS, GateReason.NO_STABLE, "no stable"),
    ("golden", {}, PASS, GateReason.GOLDEN_REPRODUCED, "1 operation"),
    ("golden", {"golden": ()}, WAIT, GateReason.NOT_REPORTED, "not told"),
    (
        "golden",
        {"golden": (GoldenFacts("encode", ProbeResult.UNANSWERED, "Triton was silent"),)},
        WAIT,
        GateReason.GOLDEN_UNANSWERED,
        "silent",
    ),
    (
        "golden",
        {"golden": (GoldenFacts("encode", ProbeResult.FAILED, "NaN"), GoldenFacts("score", ProbeResult.NOT_RUN))},
        FAIL,
        GateReason.GOLDEN_MISSED,
        "1 of 2 operations",
    ),
    ("stability", {"restarts": 2}, PASS, GateReason.STEADY, "2 restarts"),
    ("stability", {"restarts": 3}, FAIL, GateReason.RESTARTING, "3 restarts of its containers, 2 are allowed"),
    ("compatibility", {}, PASS, GateReason.SAME_SPACE, "0.9999"),
    ("compatibility", {"pairs": None}, WAIT, GateReason.TOO_FEW_PAIRS, "no inputs"),
    ("compatibility", {"pairs": replace(SAME, count=3)}, WAIT, GateReason.TOO_FEW_PAIRS, "3 of 50"),
    ("compatibility", {"pairs": replace(FEW, needed=8)}, PASS, GateReason.SAME_SPACE, "so few pairs"),
    ("compatibility", {"pairs": ROTATED}, FAIL, GateReason.ALIGNABLE, "map.npy"),
    ("compatibility", {"pairs": UNRELATED}, FAIL, GateReason.REINDEX_NEEDED, "made anew"),
    (
        "compatibility",
        {"pairs": replace(SAME, recall=Bounded(0.96, 0.92, 0.98))},
        WAIT,
        GateReason.TOO_FEW_PAIRS,
        "not surely 0.95",
    ),
    (
        "compatibility",
        {"pairs": replace(SAME, norm_ratio=SHRUNK)},
        FAIL,
        GateReason.REINDEX_NEEDED,
        "ratio of norms 0.001 (0.00099 to 0.00101) where 0.8 to 1.25 is needed. An orthogonal map keeps lengths:"
        " rescale the embeddings or make stored vectors anew",
    ),
    ("compatibility", {"pairs": replace(ROTATED, norm_ratio=SHRUNK)}, FAIL, GateReason.REINDEX_NEEDED, "keeps lengths"),
    (
        "compatibility",
        {"pairs": replace(ROTATED, norm_ratio=Bounded(1.24, 1.2, 1.3))},
        FAIL,
        GateReason.REINDEX_NEEDED,
        "unless more inputs show",
    ),
    (
        "compatibility",
        {"pairs": replace(SAME, norm_ratio=Bounded(1.24, 1.2, 1.3))},
        WAIT,
        GateReason.TOO_FEW_PAIRS,
        "ratio of norms 1.24 (1.2 to 1.3) is not surely 0.8 to 1.25",
    ),
    (
        "compatibility",
        {"pairs": replace(FEW, needed=8, norm_ratio=Bounded(1, 0.7, 1.2))},
        WAIT,
        GateReason.TOO_FEW_PAIRS,
        "ratio of norms 1 (0.7 to 1.2)",
    ),
    ("compatibility", {}, PASS, GateReason.SAME_SPACE, "ratio of norms 1, 0.8 to 1.25 is needed"),
    (
        "compatibility",
        {"pairs": replace(SAME, not_finite=35)},
        FAIL,
        GateReason.NOT_FINITE,
        "35 of 235 embeddings hold NaN or infinity where the stable revision's are finite",
    ),
    (
        "compatibility",
        {"pairs": replace(UNRELATED, count=0, not_finite=40)},
        FAIL,
        GateReason.NOT_FINITE,
        "40 of 40 embeddings",
    ),
    (
        "compatibility",
        {"pairs": UNRELATED, "candidate_space": "b"},
        PASS,
        GateReason.NEW_SPACE_DECLARED,
        "new space b in place of a",
    ),
    (
        "compatibility",
        {"pairs": replace(UNRELATED, not_finite=35), "candidate_space": "b"},
        FAIL,
        GateReason.NOT_FINITE,
        "35 of 235 embeddings",
    ),
    ("slo", {}, PASS, GateReason.OBJECTIVES_KEPT, "2000 requests"),
    ("slo", {"traffic": None}, WAIT, GateReason.TOO_LITTLE_TRAFFIC, "0 of at least 100"),
    ("slo", {"traffic": Traffic(300, 0, Histogram(EDGES, (300, 0, 0, 0, 0)))}, WAIT, GateReason.TOO_LITTLE_TRAFFIC, ""),
    ("slo", {"traffic": Traffic(2_000, 40, FAST)}, FAIL, GateReason.TOO_MANY_ERRORS, "2 % errors of 2000 requests"),
    (
        "slo",
        {"traffic": Traffic(2_000, 40, FAST), "stable_traffic": Traffic(2_000, 40, FAST)},
        WAIT,
        GateReason.TOO_LITTLE_TRAFFIC,
        "errors",
    ),
    (
        "slo",
        {"traffic": Traffic(2_000, 0, Histogram(EDGES, (1_800, 0, 0, 0, 200)))},
        FAIL,
        GateReason.TOO_SLOW,
        "slower than 100 ms",
    ),
    (
        "slo",
        {"traffic": Traffic(2_000, 0, Histogram(EDGES, (1_000, 0, 1_000, 0, 0)))},
        FAIL,
        GateReason.TOO_SLOW,
        "slower than 20 ms",
    ),
    ("drift", {}, PASS, GateReason.NO_DRIFT, "no drift"),
    ("drift", {"monitor": None}, WAIT, GateReason.NOT_REPORTED, "not told"),
    ("drift", {"monitor": MonitorFacts(Judging.ON)}, WAIT, GateReason.TOO_FEW_SAMPLES, "window"),
    ("drift", {"monitor": MonitorFacts(Judging.OFF, "no profile")}, PASS, GateReason.NOT_WATCHED, "no profile"),
    ("drift", {"monitor": MonitorFacts(Judging.BROKEN, "bad")}, FAIL, GateReason.WATCHING_BROKEN, "bad"),
    (
        "drift",
        {"monitor": MonitorFacts(Judging.ON, sufficient=True, unhealthy={"posterior": "KL 0.02"})},
        FAIL,
        GateReason.UNHEALTHY,
        "KL 0.02",
    ),
    (
        "drift",
        {"monitor": MonitorFacts(Judging.ON, sufficient=True, alarms={"input/mmd": "x"})},
        FAIL,
        GateReason.DRIFTED,
        "input/mmd",
    ),
    (
        "drift",
        {
            "monitor": MonitorFacts(Judging.ON, sufficient=True, alarms={"input/mmd": "x"}),
            "stable_monitor": MonitorFacts(Judging.ON, sufficient=True, alarms={"input/mmd": "y"}),
        },
        PASS,
        GateReason.NO_DRIFT,
        "1 findings are the stable",
    ),
    (
        "drift",
        {
            "monitor": MonitorFacts(Judging.ON, sufficient=True, scored=1_000, anomalous=100),
            "stable_monitor": MonitorFacts(Judging.ON, sufficient=True, scored=1_000, anomalous=10),
        },
        FAIL,
        GateReason.TOO_MANY_ANOMALIES,
        "10 % of 1000",
    ),
    ("promql/recall", {}, PASS, GateReason.WITHIN_BOUNDS, "0.95"),
    ("promql/recall", {"answers": {}}, WAIT, GateReason.NO_DATA, "not been asked"),
    ("promql/recall", {"answers": {"recall": Answer(None, 1, "no series")}}, WAIT, GateReason.NO_DATA, "no series"),
    ("promql/recall", {"answers": {"recall": Answer(float("nan"), 1)}}, WAIT, GateReason.NO_DATA, "no number"),
    ("promql/recall", {"answers": {"recall": Answer(0.95, 61)}}, WAIT, GateReason.NO_DATA, "61 s old"),
    ("promql/recall", {"answers": {"recall": Answer(0.89, 1)}}, FAIL, GateReason.OUT_OF_BOUNDS, "0.89, at least 0.9"),
]


@pytest.mark.parametrize(("gate", "changes", "expected", "reason", "words"), CASES)
def test_a_gate_says(gate: str, changes: dict[str, Any], expected: Verdict, reason: GateReason, words: str) -> None:
    result = verdict(gate, **changes)
    assert (result.verdict, result.reason) == (expected, reason), result.message
    assert words in result.message
    assert result.to_status().message == result.message


def test_only_another_space_asks_for_people() -> None:
    assert verdict("compatibility", pairs=ROTATED).hold
    assert verdict("compatibility", pairs=replace(SAME, norm_ratio=SHRUNK)).hold
    assert not verdict("compatibility", pairs=replace(SAME, not_finite=1)).hold
    assert not verdict("golden", golden=(GoldenFacts("encode", ProbeResult.FAILED),)).hold


def test_gates_that_are_off_say_nothing() -> None:
    off: dict[str, Any] = {"contract": False, "golden": False, "slo": False, "drift": False}
    off |= {"compatibility": {"enabled": False}, "health": {"enabled": False}}
    policy = policy_of(spec({"gates": off}), weights=True, mirror=True)
    assert [result.gate for result in with_traffic(GateInput(Evidence(), policy, Running(1, 1), True))] == ["stability"]


def test_without_an_objective_stable_alone_is_the_measure() -> None:
    slo = {"period": "7d"}
    assert verdict("slo", slo=slo, traffic=Traffic(2_000, 100, FAST)).verdict is FAIL
    worse = Traffic(2_000, 100, FAST)
    assert verdict("slo", slo=slo, traffic=worse, stable_traffic=worse).verdict is not FAIL


def test_a_bin_that_a_limit_divides_is_no_proof_of_slowness() -> None:
    histogram = Histogram((0.0, 0.1, 0.2, 0.4), (5, 7, 2))
    assert slower(histogram, 0.15) == (Count(2, 14), Count(9, 14))
    assert slower(histogram, 0.1) == (Count(9, 14), Count(9, 14))
    assert slower(Histogram(), 0.1) == (Count(0, 0), Count(0, 0))
    assert quantile(histogram, 0.5) == 0.2
    assert quantile(Histogram(), 0.5) == 0.0


def test_names_of_the_rollout_stand_in_queries() -> None:
    check = PromqlCheck(name="a", query='x{m="$model",r="$revision"} / y{s="$stable"} + $__range', max=1)
    text = query(check, namespace="n", model="m", candidate="m-2", stable="m-1")
    assert text == 'x{m="m",r="m-2"} / y{s="m-1"} + $__range'


def test_bounds_hold_at_all_looks_together() -> None:
    """Of 400 runs of 2,000 requests with a look at each, 5 % may ever exclude the truth; a fixed-size test's would."""
    rng, share, missed = random.Random(3), 0.02, 0
    for _ in range(400):
        bad = 0
        for total in range(1, 2_001):
            bad += rng.random() < share
            if total % 20 == 0:
                low, high = bounds(Count(bad, total), 0.05)
                if not low <= share <= high:
                    missed += 1
                    break
    assert missed <= 33  # 20 expected at most, and three standard deviations
    assert bounds(Count(0, 0), 0.05) == (0.0, 1.0)


def test_good_candidates_are_not_failed_and_bad_ones_are_not_passed() -> None:
    """A thousand candidates at the limit are looked at every 50 requests."""
    rng, budget, tolerance = random.Random(4), 0.01, 0.01
    failed = passed = 0
    for share, wrong in ((budget, Verdict.FAIL), (budget + tolerance, Verdict.PASS)):
        for _ in range(200):
            bad = 0
            for total in range(50, 2_001, 50):
                bad += sum(rng.random() < share for _ in range(50))
                if judge(Count(bad, total), Count(bad, total), None, budget, tolerance).verdict is wrong:
                    failed += wrong is Verdict.FAIL
                    passed += wrong is Verdict.PASS
                    break
    assert failed <= 1
    assert passed <= 19  # 10 expected at most, and three standard deviations


def test_replicas_come_with_the_share() -> None:
    assert [replicas_for(weight, 4) for weight in (0, 1, 25, 26, 50, 100)] == [1, 1, 1, 2, 2, 4]


def test_what_cannot_be_done_here_is_said() -> None:
    given = spec({"strategy": "Canary", "shadow": {"for": "5m"}})
    assert len(policy_of(given, weights=True, mirror=True).stages) == 4
    policy = policy_of(given, weights=False, mirror=False)
    assert [stage.weight for stage in policy.stages] == [100] and policy.shadow == 0 and len(policy.notes) == 2
    assert "Gateway API" in policy.notes[0]


def test_pairs_may_be_judged_in_both_packages_alike() -> None:
    figure = Bounded(1, 1, 1)
    assert verdict("compatibility", pairs=Pairs(72, 8, figure, figure, Bounded(1, 0.9501, 1), figure)).verdict is PASS
