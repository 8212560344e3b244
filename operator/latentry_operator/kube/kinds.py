"""The kinds of objects the operator reads and writes, and where the API serves them."""

from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]
"""One object as JSON gives it."""
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped objects."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object in one API version.

    Attributes:
        api_version: ``v1`` or ``group/version``.
        name: as in ``kind:``.
        plural: as in URLs.
        namespaced: whether its objects live in namespaces.
    """

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group, empty for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def root(self) -> str:
        """URL path of the API version."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """URL path of one object, of all in a namespace, or of all."""
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{self.root}{inside}/{self.plural}" + (f"/{name}" if name else "")


LATENT_MODEL = Kind("latentry.dev/v1alpha1", "LatentModel", "latentmodels")
GPU_POOL = Kind("latentry.dev/v1alpha1", "GPUPool", "gpupools", namespaced=False)
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
POD = Kind("v1", "Pod", "pods")

DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
SERVING_RUNTIME = Kind("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD_MONITOR = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
PROMETHEUS_RULE = Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules")
SCALED_OBJECT = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
GRPC_ROUTE = Kind("gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes")
DISRUPTION_BUDGET_V1 = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
DISRUPTION_BUDGET_V1BETA1 = Kind("policy/v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER_V2 = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
AUTOSCALER_V2BETA2 = Kind("autoscaling/v2beta2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")

CHILDREN = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    NETWORK_POLICY,
    SERVICE,
    DEPLOYMENT,
    SERVING_RUNTIME,
    INFERENCE_SERVICE,
    DISRUPTION_BUDGET_V1,
    DISRUPTION_BUDGET_V1BETA1,
    AUTOSCALER_V2,
    AUTOSCALER_V2BETA2,
    SCALED_OBJECT,
    POD_MONITOR,
    PROMETHEUS_RULE,
    HTTP_ROUTE,
    GRPC_ROUTE,
)
"""What may be rendered for a model, in the order of writing: what pods need comes before the pods. Of kinds in several
versions the server's newest is used."""

PREFERRED_OVER = {DISRUPTION_BUDGET_V1BETA1: DISRUPTION_BUDGET_V1, AUTOSCALER_V2BETA2: AUTOSCALER_V2}
"""Older version -> the one that replaces it where both are served, since both show the same objects."""
