"""Defaults that depend on other fields. Fixed ones stand in the types, where the CRD's schema takes them from."""

from latentry_operator.api.rollout import MINUTE, Rollout, Step, Strategy
from latentry_operator.api.serving import Placement, Scaling, ScalingMetric
from latentry_serving.contract.units import Duration

TARGETS = {ScalingMetric.CONCURRENCY: 16, ScalingMetric.CPU: 80}
"""Requests in flight per replica: two full pipelines of eight; percent of the CPU request: the HPA's own default."""

CANARY_STEPS = tuple(
    Step(weight=weight, hold_for=Duration(minutes * MINUTE)) for weight, minutes in ((5, 5), (25, 10), (50, 10))
)


def gpus(placement: Placement) -> int:
    """Devices per replica; 0 on CPU."""
    if placement.gpu_pool is None:
        return 0
    return 1 if placement.gpus is None else placement.gpus


def max_replicas(scaling: Scaling) -> int:
    """Most pods; equal to the fewest when nothing scales."""
    return scaling.min_replicas if scaling.max_replicas is None else scaling.max_replicas


def target(scaling: Scaling) -> int | None:
    """What each replica should carry, in the metric's unit; None when nothing is measured."""
    return TARGETS.get(scaling.metric) if scaling.target is None else scaling.target


def steps(rollout: Rollout) -> tuple[Step, ...]:
    """The stages of a canary; none for BlueGreen."""
    return (rollout.steps or CANARY_STEPS) if rollout.strategy is Strategy.CANARY else ()
