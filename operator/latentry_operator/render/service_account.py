"""The account that the pods run as: no rights, no token."""

from latentry_operator.api.status import Workload
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, present


def service_account(plan: ClusterPlan) -> Manifest | None:
    """The ServiceAccount; None when the spec names the user's own."""
    if plan.model.spec.pod.service_account_name is not None:
        return None
    secret = plan.model.spec.bundle.credentials_secret
    # KServe opens storage with the secrets of the pod's service account; the Deployment's init container gets them.
    secrets = [{"name": secret}] if secret is not None and plan.workload is Workload.KSERVE else None
    return model_object(plan, "v1", "ServiceAccount", automountServiceAccountToken=False, **present(secrets=secrets))


def service_account_name(plan: ClusterPlan) -> str:
    """The name for the pods."""
    return plan.model.spec.pod.service_account_name or plan.name
