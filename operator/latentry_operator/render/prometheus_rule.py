"""The model's recording rules and alerts, as the Prometheus operator takes them."""

from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, plain
from latentry_operator.slo.compile import model_rules
from latentry_operator.slo.documents import rule_document
from latentry_operator.slo.types import Identity, RuleSettings


def prometheus_rule(plan: ClusterPlan) -> Manifest | None:
    """The PrometheusRule over all revisions; None where the cluster does not know the kind."""
    if not plan.capabilities.prometheus_rule:
        return None
    settings = RuleSettings(runbook_url=plan.settings.runbook_url)
    groups = model_rules(plan.model, settings, plan.namespace)
    labels = Identity(plan.namespace, plan.name).labels
    spec = rule_document(groups, settings, labels)
    manifest = model_object(plan, "monitoring.coreos.com/v1", "PrometheusRule", spec=spec)
    manifest["metadata"]["labels"] = plain(plan.settings.monitor_labels) | manifest["metadata"]["labels"]
    return manifest
