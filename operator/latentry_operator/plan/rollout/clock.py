"""Time that was observed. Wall clocks jump and operators stop: neither may hurry a rollout."""

from latentry_operator.plan.rollout.policy import Policy
from latentry_operator.plan.rollout.state import Phase, RolloutState

DRAIN_SECONDS = 30.0
"""How long a revision stays after it lost its traffic: kube-proxy and gateways learn of it within seconds, and calls in
flight may end."""
_LOOKS_PER_STAGE = 10
_LONGEST_LOOK = 15.0
_LONGEST_KEEP_LOOK = 60.0
_SHORTEST_LOOK = 1.0
_EARLY = 0.2
"""Next look, as a share of the time a stage has lasted: what is bad at once is seen within a second."""
_CREDIT = 2.0
"""Most time that counts between two looks, as a multiple of the time after which a look was asked for. With ten looks
for each stage, no jump of the clock is worth more than a fifth of a stage."""


def look_after(state: RolloutState, policy: Policy) -> float | None:
    """Seconds after which to look again although nothing may have changed; None when nothing will by itself."""
    if state.candidate:
        span = {
            Phase.SHADOWING: policy.shadow,
            Phase.STEPPING: policy.stage(state.step).hold,
            Phase.WATCHING: policy.stage(state.step).hold,
        }.get(state.phase, policy.deadline)
        longest = _LONGEST_LOOK
        if state.phase in (Phase.STEPPING, Phase.WATCHING) and not stands_still(state):
            longest = min(longest, max(_SHORTEST_LOOK, state.seconds * _EARLY))
        return _bounded(min(span, policy.deadline), longest)
    if state.leaving is not None:
        return _LONGEST_LOOK if state.leaving.weight else _bounded(DRAIN_SECONDS, _LONGEST_LOOK)
    if state.previous:
        return _bounded(policy.keep_for, _LONGEST_KEEP_LOOK)
    return None


def stands_still(state: RolloutState) -> bool:
    """Whether the clocks of this stage are stopped, because people have the next word."""
    return bool(state.candidate) and (state.paused or state.held is not None)


def credit(state: RolloutState, policy: Policy, now: float) -> float:
    """Observed seconds since the last look: never negative, and bounded where nobody looked or the clock jumped."""
    asked = look_after(state, policy)
    if asked is None:
        return 0.0
    return min(max(0.0, now - state.looked), _CREDIT * asked)


def _bounded(span: float, longest: float) -> float:
    return min(longest, max(_SHORTEST_LOOK, span / _LOOKS_PER_STAGE))
