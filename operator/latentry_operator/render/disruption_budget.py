"""How many pods a drained node may take away at a time."""

from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, selector


def disruption_budget(plan: ClusterPlan) -> Manifest | None:
    """The PodDisruptionBudget over all revisions: one pod at a time, so that a single replica never blocks a drain."""
    api_version = plan.capabilities.pod_disruption_budget
    if api_version is None:
        return None
    return model_object(
        plan,
        api_version,
        "PodDisruptionBudget",
        spec={"maxUnavailable": 1, "selector": {"matchLabels": selector(plan)}},
    )
