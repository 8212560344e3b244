"""What a candidate must pass: pure functions from evidence to a verdict with a number, a threshold and a sentence."""

from collections.abc import Callable

from latentry_operator.plan.rollout.gates import bundle, health, monitor, promql, slo, space
from latentry_operator.plan.rollout.gates.result import GateInput, GateResult

__all__ = ["GateInput", "GateResult", "before_traffic", "with_traffic"]

_Gate = Callable[[GateInput], GateResult | None]
_BEFORE: tuple[_Gate, ...] = (bundle.contract, bundle.golden, bundle.stability, space.compatibility, health.health)
_DURING: tuple[_Gate, ...] = (slo.objectives, monitor.drift_and_health)


def before_traffic(given: GateInput) -> tuple[GateResult, ...]:
    """The gates that need no traffic."""
    return tuple(result for gate in _BEFORE if (result := gate(given)) is not None)


def with_traffic(given: GateInput) -> tuple[GateResult, ...]:
    """All gates."""
    during = tuple(result for gate in _DURING if (result := gate(given)) is not None)
    return before_traffic(given) + during + promql.checks(given)
