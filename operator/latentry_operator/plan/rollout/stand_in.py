"""Who would have the traffic if the revision that has it were lost: the machine itself is asked."""

from collections.abc import Mapping
from dataclasses import replace

from latentry_operator.plan.rollout.facts import RolloutFacts, Running
from latentry_operator.plan.rollout.machine import advance
from latentry_operator.plan.rollout.policy import FULL, Policy
from latentry_operator.plan.rollout.state import RolloutState


def stand_in(state: RolloutState, facts: RolloutFacts, policy: Policy, now: float, serving: str) -> str:
    """The revision that gets all traffic at once when no replica of another one answers any more; empty for none.

    Args:
        state, facts, policy, now: of the look that was taken, after its decision.
        serving: the revision that has all traffic, or is about to get it.
    """
    lost = replace(facts.revisions.get(serving, Running(0, 0)), ready=0)
    revisions: Mapping[str, Running] = {**facts.revisions, serving: lost}
    then = advance(state, replace(facts, revisions=revisions, traffic={serving: FULL}), policy, now)
    return then.desired.selected if then.desired.selected != serving else ""
