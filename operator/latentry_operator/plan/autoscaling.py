"""Who sets the number of replicas: what the spec asks for, as far as the cluster can do it."""

from latentry_operator.api import defaults
from latentry_operator.api.serving import Scaling, ScalingMetric
from latentry_operator.plan.facts import Capabilities, ClusterSettings
from latentry_operator.plan.outcome import Autoscaler, ScalingPlan

_WANTED = {
    ScalingMetric.CONCURRENCY: Autoscaler.KEDA,
    ScalingMetric.CPU: Autoscaler.HPA,
    ScalingMetric.NONE: Autoscaler.NONE,
}


def plan_scaling(
    scaling: Scaling, pool_limit: int | None, capabilities: Capabilities, settings: ClusterSettings
) -> tuple[ScalingPlan, tuple[str, ...]]:
    """The plan, and a sentence for everything in which it falls short of the spec.

    Args:
        scaling: the spec's section.
        pool_limit: most replicas that the GPU pool has devices for, None for no limit; never less than minReplicas.
        capabilities, settings: what the cluster can do.
    """
    least, most = scaling.min_replicas, defaults.max_replicas(scaling)
    notes = []
    if pool_limit is not None and most > pool_limit:
        notes.append(
            f"scaling.maxReplicas {most} is held at {pool_limit}: the GPU pool has no devices for more;"
            " raise the pool's maxDevices or lower maxReplicas"
        )
        most = pool_limit
    autoscaler = _WANTED[scaling.metric] if most > least else Autoscaler.NONE
    if missing := _missing(autoscaler, capabilities, settings):
        notes.append(f"scaling.metric {scaling.metric} cannot be followed, {least} replicas run: {missing}")
        autoscaler = Autoscaler.NONE
    if autoscaler is Autoscaler.NONE:
        return ScalingPlan(autoscaler, least, least, None), tuple(notes)
    return ScalingPlan(autoscaler, least, most, defaults.target(scaling)), tuple(notes)


def _missing(autoscaler: Autoscaler, capabilities: Capabilities, settings: ClusterSettings) -> str:
    """What stands in the way and what to do about it; empty when nothing does."""
    if autoscaler is Autoscaler.HPA and capabilities.hpa is None:
        return "the cluster has no HorizontalPodAutoscaler API; write metric: None"
    if autoscaler is Autoscaler.KEDA and not capabilities.keda:
        return "KEDA is not installed; install it, or write metric: CPU or metric: None"
    if autoscaler is Autoscaler.KEDA and settings.prometheus_url is None:
        return "the operator knows no Prometheus for KEDA to read; set its prometheusUrl, or write metric: CPU"
    return ""
