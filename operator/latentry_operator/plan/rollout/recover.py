"""The state after its memory was lost: read off the traffic, so that nobody's share changes because of it."""

from dataclasses import replace

from latentry_operator.plan.rollout.facts import RolloutFacts, Verb
from latentry_operator.plan.rollout.policy import FULL, Policy
from latentry_operator.plan.rollout.state import Leaving, Phase, RolloutState


def recover(facts: RolloutFacts, policy: Policy, now: float) -> RolloutState:
    """What must be going on, as far as traffic and age of the revisions tell.

    Whoever carries the traffic keeps it. A target that carries all of it beside an older revision may be watched still
    or promoted already: it is watched once more, the older one beside it. Clocks begin anew, a rejected revision is
    tried again, the command that stands counts as carried out, a pause stays.
    """
    carriers = sorted(
        (name for name, weight in facts.traffic.items() if weight and name in facts.revisions),
        key=lambda name: (facts.revisions[name].created, name),
    )
    stable, candidate, leaving = _roles(carriers, facts)
    weight = min(FULL, facts.traffic.get(candidate, 0)) if candidate else 0
    state = RolloutState(stable=stable, leaving=leaving, since=now, looked=now)
    if candidate:
        step = max((n for n, stage in enumerate(policy.stages, 1) if stage.weight <= weight), default=1)
        phase = Phase.WATCHING if weight >= FULL else Phase.STEPPING
        state = RolloutState(
            phase=phase, stable=stable, candidate=candidate, step=step, weight=weight, since=now, looked=now
        )
    if facts.command is None:
        return state
    return replace(state, command=facts.command.text, paused=facts.command.verb is Verb.PAUSE)


def _roles(carriers: list[str], facts: RolloutFacts) -> tuple[str, str, Leaving | None]:
    """Stable, candidate and what is leaving, from those that carry traffic, the oldest first."""
    target = facts.target
    if not carriers:
        return "", "", None
    if target not in carriers:
        stable, *others = carriers
        return stable, "", Leaving(others[-1], facts.traffic[others[-1]]) if others else None
    others = [name for name in carriers if name != target] or _older(target, facts)
    if not others:
        return target, "", None
    return others[-1], target, None


def _older(target: str, facts: RolloutFacts) -> list[str]:
    """Revisions that still run beside the target and are older, the oldest first."""
    born = facts.revisions[target].created
    older = [name for name, running in facts.revisions.items() if running.ready and running.created < born]
    return sorted(older, key=lambda name: (facts.revisions[name].created, name))
