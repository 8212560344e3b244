"""What the cluster's planner is told: what the cluster can do, what pools offer and who uses them, the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from latentry_operator.api.gpupool import GPUPool
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.contract.units import ByteSize


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the API server serves, from discovery. The defaults are a current cluster with every optional CRD.

    Attributes:
        kserve: serving.kserve.io/v1beta1 InferenceService and v1alpha1 ServingRuntime.
        keda: keda.sh/v1alpha1 ScaledObject.
        pod_monitor: monitoring.coreos.com/v1 PodMonitor.
        prometheus_rule: monitoring.coreos.com/v1 PrometheusRule.
        http_route: gateway.networking.k8s.io/v1 HTTPRoute.
        grpc_route: gateway.networking.k8s.io/v1 GRPCRoute.
        pod_disruption_budget: the newest API of PodDisruptionBudgets, None without one.
        hpa: the newest API of HorizontalPodAutoscalers with several metrics, None without one.
    """

    kserve: bool = True
    keda: bool = True
    pod_monitor: bool = True
    prometheus_rule: bool = True
    http_route: bool = True
    grpc_route: bool = True
    pod_disruption_budget: Literal["policy/v1", "policy/v1beta1"] | None = "policy/v1"
    hpa: Literal["autoscaling/v2", "autoscaling/v2beta2"] | None = "autoscaling/v2"


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """Every GPUPool, and who uses its devices.

    Attributes:
        pools: by name.
        in_use: pool name -> ``namespace/name`` of a LatentModel -> devices its pods hold or have been promised.
    """

    pools: Mapping[str, GPUPool] = field(default_factory=lambda: MappingProxyType({}))
    in_use: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Amounts:
    """CPU and memory of a container in Kubernetes' quantities (``500m``, ``2Gi``); None leaves one out."""

    cpu_request: str | None = None
    memory_request: str | None = None
    cpu_limit: str | None = None
    memory_limit: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the operator's settings decide, not the user's spec.

    Attributes:
        triton_image: NVIDIA's Triton with the ONNX Runtime backend; probes and shutdown use its bash.
        tap_image: the tap's image.
        storage_image: KServe's storage initializer, for the Deployment workload.
        triton: what a Triton container gets where the spec says nothing.
        tap_amounts: what a tap container gets.
        storage: what an init container that fetches a bundle gets.
        tap: the tap's configuration to start from.
        run_as: user and group id of every container; None leaves both to the cluster, as OpenShift wants it.
        endpoint_removal_seconds: how long a pod that ends still takes calls, until no proxy sends it any.
        device_overhead: memory of a device that CUDA's context, its libraries and Triton's pool take beside the models.
        prometheus_url: where KEDA reads the taps' metrics and the operator the error budgets; None where there is no
            Prometheus.
        cluster_domain: suffix of the Services' names.
        admin_peers: who may reach the tap's admin port, as NetworkPolicy peers: Prometheus and the operator.
        monitor_labels: labels of PodMonitors and PrometheusRules, where the Prometheus selects them by label.
        dashboard_labels: labels by which Grafana's sidecar finds a model's dashboards; empty: none are made.
        triton_traces_url: where every Triton exports its own spans over OTLP/HTTP, the whole path
            (``http://collector:4318/v1/traces``); None for nowhere.
        runbook_url: what alerts link to: ``<runbook_url>/<alert>.md``.
    """

    triton_image: str = "nvcr.io/nvidia/tritonserver:25.06-py3"
    tap_image: str = "ghcr.io/latentry/tap:0.1.0"
    storage_image: str = "kserve/storage-initializer:v0.20.0"
    triton: Amounts = Amounts(cpu_request="1", memory_request="2Gi")
    tap_amounts: Amounts = Amounts(cpu_request="100m", memory_request="256Mi", memory_limit="1Gi")
    storage: Amounts = Amounts(cpu_request="100m", memory_request="256Mi", memory_limit="2Gi")
    tap: TapConfig = field(default_factory=TapConfig)
    run_as: int | None = 65532
    endpoint_removal_seconds: int = 5
    device_overhead: ByteSize = field(default_factory=lambda: ByteSize(2**30))
    prometheus_url: str | None = None
    cluster_domain: str = "cluster.local"
    admin_peers: tuple[Mapping[str, Any], ...] = (MappingProxyType({"namespaceSelector": MappingProxyType({})}),)
    monitor_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dashboard_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"grafana_dashboard": "1"}))
    triton_traces_url: str | None = None
    runbook_url: str = "https://github.com/latentry/latentry/blob/main/docs/runbooks"
