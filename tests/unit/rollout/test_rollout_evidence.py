"""Evidence counts only for the candidate and stage that it is about; clocks only while somebody watched."""

from dataclasses import replace

import pytest
from rollout_world import SAME, START, spec

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.facts import (
    Evidence,
    GoldenFacts,
    Histogram,
    Judging,
    MonitorFacts,
    ProbeResult,
    RolloutFacts,
    Running,
    Traffic,
)
from latentry_operator.plan.rollout.machine import Decision, advance
from latentry_operator.plan.rollout.policy import policy_of
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import Leaving, Phase, RolloutState

POLICY = policy_of(spec({"strategy": "Canary", "steps": [{"weight": 10, "for": "60s"}]}), weights=True, mirror=True)
HISTOGRAM = Histogram((0.001, 0.01), (2_000,))
EVIDENCE = Evidence(
    stage="v2/1.0",
    changes=(),
    stable_space="a",
    candidate_space="a",
    golden=(GoldenFacts("encode", ProbeResult.PASSED),),
    pairs=SAME,
    incomparable="",
    traffic=Traffic(2_000, 0, HISTOGRAM),
    stable_traffic=Traffic(2_000, 0, HISTOGRAM),
    monitor=MonitorFacts(Judging.ON, sufficient=True),
)
STATE = RolloutState(
    phase=Phase.STEPPING, stable="v1", candidate="v2", step=1, weight=10, looked=START, seconds=70.0, healthy=70.0
)


def look(evidence: Evidence, state: RolloutState = STATE, after: float = 1.0) -> Decision:
    running = {name: Running(2, 2, START) for name in ("v1", "v2")}
    return advance(state, RolloutFacts("v2", 2, running, {"v1": 90, "v2": 10}, evidence), POLICY, START + after)


def test_evidence_of_this_stage_moves_it() -> None:
    assert look(EVIDENCE).state.phase is Phase.SCALING


@pytest.mark.parametrize("stage", ["v2/0.0", "v2/1.1", "v2/2.0", "v1/1.0", "", "v2"])
def test_counts_of_another_stage_move_nothing(stage: str) -> None:
    decision = look(replace(EVIDENCE, stage=stage))
    assert decision.state.phase is Phase.STEPPING
    assert any(result.verdict is Verdict.WAIT for result in decision.results)


def test_errors_of_another_candidate_are_not_held_against_this_one() -> None:
    decision = look(replace(EVIDENCE, stage="v3/1.0", traffic=Traffic(500, 500), golden=()))
    assert decision.state.candidate == "v2"


@pytest.mark.parametrize(("after", "counted"), [(1.0, 1.0), (-1e6, 0.0), (1e6, 12.0)])
def test_time_counts_only_as_far_as_somebody_looked(after: float, counted: float) -> None:
    state = replace(STATE, seconds=70.0, healthy=10.0, was_healthy=True)
    assert look(EVIDENCE, state, after).state.healthy == pytest.approx(10.0 + counted)


def test_time_after_a_look_that_was_not_healthy_does_not_count() -> None:
    assert look(EVIDENCE, replace(STATE, healthy=10.0, was_healthy=False)).state.healthy == 10.0


def test_changed_rules_in_the_middle_never_promote_a_share() -> None:
    """The steps are gone from the spec while the candidate is at 10 %: it still gets its replicas and the switch."""
    policy = policy_of(spec({}), weights=True, mirror=True)
    running = {"v1": Running(2, 2), "v2": Running(1, 1)}
    facts = RolloutFacts("v2", 2, running, {"v1": 90, "v2": 10}, EVIDENCE)
    state = replace(STATE, seconds=400.0, healthy=400.0)
    decision = advance(state, facts, policy, START + 1)
    assert decision.desired.weights == {"v1": 90, "v2": 10}
    assert decision.desired.replicas["v2"] == 2


def test_a_rejected_revision_is_tried_again_when_the_rules_change() -> None:
    refused = {"v1": Running(2, 2), "v2": Running(0, 2, refused="another bundle")}
    rejected = advance(STATE, RolloutFacts("v2", 2, refused), POLICY, START + 1).state
    assert rejected.rejection is not None and rejected.rejection.reason is RolloutReason.CANDIDATE_REFUSED
    same = advance(rejected, RolloutFacts("v2", 2, refused), POLICY, START + 60).state
    assert not same.candidate
    other = policy_of(spec({"analysis": {"tolerance": 5}}), weights=True, mirror=True)
    assert advance(rejected, RolloutFacts("v2", 2, refused), other, START + 60).state.candidate == "v2"


def test_the_summary_says_which_gate_waits_for_what() -> None:
    summary = look(replace(EVIDENCE, traffic=Traffic(7, 0))).summary
    assert "at 10 %, step 1 of 2" in summary.message and "7 of at least 100 requests" in summary.message


def test_a_rollback_that_was_not_carried_out_leaves_the_traffic_where_it_is_answered() -> None:
    """The operator crashed before it moved the traffic; then stable died and the candidate began anew."""
    state = RolloutState(stable="v1", leaving=Leaving("v2", 0), looked=START)
    running = {"v1": Running(0, 2), "v2": Running(2, 2)}
    decision = advance(state, RolloutFacts("v2", 2, running, {"v2": 100}), POLICY, START + 1)
    assert (decision.state.phase, decision.state.candidate) == (Phase.PREPARING, "v2")
    assert decision.desired.weights == {"v2": 100}
