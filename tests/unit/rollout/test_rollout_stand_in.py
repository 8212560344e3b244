"""Who gets the traffic when the revision that has it is lost: what the machine then really does."""

import pytest
from rollout_world import START, spec

from latentry_operator.plan.rollout.facts import RolloutFacts, Running
from latentry_operator.plan.rollout.machine import advance
from latentry_operator.plan.rollout.policy import policy_of
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.stand_in import stand_in
from latentry_operator.plan.rollout.state import Held, Phase, RolloutState

POLICY = policy_of(spec({"strategy": "BlueGreen", "keepFor": "1h"}), weights=False, mirror=False)
HOLDING = policy_of(spec({"strategy": "BlueGreen", "onFailure": "Hold"}), weights=False, mirror=False)
OLD, NEW, DOWN = Running(1, 1, START - 100), Running(1, 1, START), Running(0, 1, START - 100)
ALONE = RolloutState(stable="v1", looked=START)
GATING = RolloutState(Phase.GATING, stable="v1", candidate="v2", looked=START)
SCALING = RolloutState(Phase.SCALING, stable="v1", candidate="v2", step=1, looked=START)
WATCHING = RolloutState(Phase.WATCHING, stable="v1", candidate="v2", step=1, weight=100, looked=START)
KEPT = RolloutState(stable="v2", previous="v1", looked=START)
FAILED = RolloutState(
    Phase.WATCHING, stable="v1", candidate="v2", step=1, weight=100, looked=START,
    held=Held(RolloutReason.GATE_FAILED, "errors"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "serving", "running", "expected"),
    [
        (ALONE, "v1", {"v1": OLD}, ""),
        (GATING, "v1", {"v1": OLD, "v2": NEW}, ""),
        (SCALING, "v1", {"v1": OLD, "v2": NEW}, "v2"),
        (WATCHING, "v2", {"v1": OLD, "v2": NEW}, "v1"),
        (WATCHING, "v2", {"v1": DOWN, "v2": NEW}, ""),
        (FAILED, "v2", {"v1": OLD, "v2": NEW}, "v1"),
        (KEPT, "v2", {"v1": OLD, "v2": NEW}, "v1"),
        (KEPT, "v2", {"v1": DOWN, "v2": NEW}, ""),
    ],
)
@pytest.mark.parametrize("policy", [POLICY, HOLDING], ids=["Rollback", "Hold"])
def test_it_is_whom_the_machine_selects_at_the_next_look(state, serving, running, expected, policy):
    facts = RolloutFacts("v2", 1, running, {serving: 100})
    assert stand_in(state, facts, policy, START + 1, serving) == expected
    lost = RolloutFacts("v2", 1, {**running, serving: DOWN}, {serving: 100})
    selected = advance(state, lost, policy, START + 1.2).desired.selected
    assert selected == (expected or serving)


def test_nobody_stands_in_for_nobody():
    assert stand_in(RolloutState(), RolloutFacts("v1", 1, {}), POLICY, START, "") == ""
