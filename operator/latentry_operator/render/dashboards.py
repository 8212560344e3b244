"""The model's own Grafana dashboards, where Grafana's sidecar finds them."""

from latentry_operator import dashboards
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, plain

FOLDER_ANNOTATION = "grafana_folder"
"""Of the sidecar: the folder in Grafana, where its ``folderAnnotation`` is set to this."""


def dashboard_config_map(plan: ClusterPlan) -> Manifest | None:
    """The ConfigMap with all of them; None where the settings turn them off."""
    if not plan.settings.dashboard_labels:
        return None
    # The sidecar writes the entries of all ConfigMaps into one folder: each needs a name of its own.
    entries = dashboards.of_model(plan.namespace, plan.name)
    manifest = model_object(
        plan,
        "v1",
        "ConfigMap",
        data={f"latentry-{plan.namespace}-{plan.name}-{key}.json": text for key, text in entries.items()},
    )
    manifest["metadata"]["name"] = f"{plan.name}-dashboards"
    manifest["metadata"]["labels"] = plain(plan.settings.dashboard_labels) | manifest["metadata"]["labels"]
    manifest["metadata"]["annotations"] = {FOLDER_ANNOTATION: "Latentry"}
    return manifest
