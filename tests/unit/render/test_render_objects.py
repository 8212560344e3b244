"""What the objects say: security, ports, probes, shutdown, resources, scaling; and what they leave to others."""

import json
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from latentry_operator.plan.cluster import Capabilities, ClusterPlan, ClusterSettings, PoolFacts, plan_cluster
from latentry_operator.plan.exposure import Exposure
from latentry_operator.render import render
from latentry_operator.render.containers import TRITON_EXIT_SECONDS
from latentry_operator.render.service import address
from latentry_serving.contract.tap_config import LoadOverrides, TapConfig

WORKLOADS = ["KServe", "Deployment"]
by_workload = pytest.mark.parametrize("workload", WORKLOADS)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


@by_workload
def test_rendering_is_pure_and_shares_nothing(plan: Any, workload: str) -> None:
    one, other = render(plan(workload=workload)), render(plan(workload=workload))
    assert one == other
    for manifest in one:
        manifest["metadata"]["labels"].clear()
        manifest.get("spec", {}).clear()
    assert render(plan(workload=workload)) == other


@by_workload
def test_what_others_own_is_left_out(objects: Any, workload: str) -> None:
    found = objects(workload=workload, scaling={"maxReplicas": 3})
    for manifest in found.values():
        assert "status" not in manifest
        assert set(manifest["metadata"]) <= {"name", "namespace", "labels", "annotations"}
        assert None not in json.loads(json.dumps(manifest)).values()
    workload_spec = found["Deployment"]["spec"] if workload == "Deployment" else found["InferenceService"]["spec"]
    assert "replicas" not in workload_spec
    assert "minReplicas" not in workload_spec.get("predictor", {})


@by_workload
def test_labels(objects: Any, workload: str) -> None:
    found = objects(workload=workload)
    for manifest in found.values():
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "latentry"
        assert labels["app.kubernetes.io/instance"] == labels["latentry.dev/model"] == "digits-vae"
        # KServe's orphan cleanup deletes what carries both of these
        assert not {"serving.kserve.io/inferenceservice", "component"} & set(labels)
        revision = labels.get("latentry.dev/revision")
        assert manifest["metadata"]["name"] == (revision or "digits-vae")
        assert (revision is None) == (labels.get("app.kubernetes.io/version") is None)


@by_workload
def test_pods_have_no_rights(pod: Any, workload: str) -> None:
    found = pod(workload)
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    containers = found["containers"] + found.get("initContainers", [])
    assert len(containers) == (2 if workload == "KServe" else 3)
    volumes = {volume["name"]: volume for volume in found["volumes"]}
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        (tmp,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/tmp"]
        assert volumes[tmp]["emptyDir"] == {}


@by_workload
def test_the_clusters_own_user_ids(pod: Any, workload: str) -> None:
    security = pod(workload, settings=ClusterSettings(run_as=None))["securityContext"]
    assert set(security) == {"runAsNonRoot", "seccompProfile"}


@by_workload
def test_the_tap_carries_the_traffic_and_decides_readiness(pod: Any, workload: str) -> None:
    triton, tap = pod(workload)["containers"]
    assert (triton["name"], tap["name"]) == (
        ("kserve-container", "transformer-container") if workload == "KServe" else ("triton", "tap")
    )
    assert "ports" not in triton, "Triton is on loopback"
    assert all("127.0.0.1" in arg for arg in triton["args"] if "address" in arg)
    assert [(port["name"], port["containerPort"]) for port in tap["ports"]] == [
        ("http", 8080), ("grpc", 9000), ("admin", 9400),
    ]  # fmt: skip
    assert tap["readinessProbe"]["httpGet"] == {"port": "admin", "scheme": "HTTP", "path": "/readyz"}
    assert tap["livenessProbe"]["httpGet"]["path"] == "/healthz"
    for container in (triton, tap):
        for probe in ("livenessProbe", "readinessProbe"):
            assert container[probe]["timeoutSeconds"] <= container[probe]["periodSeconds"]


@by_workload
@pytest.mark.parametrize(("drain", "removal"), [(30, 5), (0.5, 0), (120, 15)])
def test_shutdown_leaves_time_for_every_step(pod: Any, workload: str, drain: float, removal: int) -> None:
    settings = ClusterSettings(tap=TapConfig(drain_seconds=drain), endpoint_removal_seconds=removal)
    found = pod(workload, settings=settings)
    triton, tap = found["containers"]
    assert found["terminationGracePeriodSeconds"] > removal + drain + TRITON_EXIT_SECONDS
    assert f"--exit-timeout-secs={TRITON_EXIT_SECONDS}" in triton["args"]
    assert tap["lifecycle"]["preStop"]["exec"]["command"][-1] == f"import time; time.sleep({removal})"


@by_workload
def test_no_container_text_is_a_go_template(pod: Any, workload: str) -> None:
    for container in pod(workload)["containers"]:
        assert not [text for text in texts(container) if "{{" in text or "$(" in text]


def test_the_tap_is_configured(objects: Any, plan: Any) -> None:
    spec = {
        "runtime": {"instances": 2, "maxBatchSize": 8, "maxQueueDelay": "2ms"},
        "slo": {"latency": [{"within": "30ms", "objective": 99}]},
    }
    written = objects(**spec)["ConfigMap"]["data"]["tap.yaml"]
    config = TapConfig.model_validate(yaml.safe_load(written))
    assert config == plan(**spec).tap
    assert (config.model, config.digest, config.bundle_dir) == ("digits-vae", "sha256:" + "ab" * 32, "/mnt/models")
    assert config.load == LoadOverrides(instances=2, max_batch_size=8, max_queue_delay_us=2000)
    assert 0.03 in config.latency_buckets_seconds


@by_workload
def test_a_changed_tap_configuration_replaces_the_pods(objects: Any, workload: str) -> None:
    def annotation(level: str) -> str:
        found = objects(workload=workload, settings=ClusterSettings(tap=TapConfig(log_level=level)))
        if workload == "Deployment":
            return found["Deployment"]["spec"]["template"]["metadata"]["annotations"]["latentry.dev/tap-config"]
        return found["InferenceService"]["spec"]["predictor"]["annotations"]["latentry.dev/tap-config"]

    assert annotation("INFO") == annotation("INFO") != annotation("DEBUG")


def test_scaling_tells_new_pods_how_many_share_the_budget_and_restarts_none(objects: Any) -> None:
    def found(most: int) -> tuple[int, str]:
        made = objects(workload="Deployment", scaling={"minReplicas": 1, "maxReplicas": most})
        config = TapConfig.model_validate(yaml.safe_load(made["ConfigMap"]["data"]["tap.yaml"]))
        pod = made["Deployment"]["spec"]["template"]["metadata"]
        return config.drift.replicas, pod["annotations"]["latentry.dev/tap-config"]

    (few, one), (many, other) = found(2), found(8)
    assert (few, many) == (2, 8)
    assert one == other


@by_workload
def test_gpus(pod: Any, workload: str) -> None:
    found = pod(workload, placement={"gpuPool": "a10", "gpus": 2})
    triton, tap = found["containers"]
    assert triton["resources"]["requests"]["nvidia.com/gpu"] == triton["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in texts(tap["resources"])
    assert (found["nodeSelector"], found["runtimeClassName"]) == ({"gpu": "a10"}, "nvidia")
    assert found["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert "NVIDIA_VISIBLE_DEVICES" not in texts(triton["env"])


@by_workload
def test_cpu_pods_see_no_gpu(pod: Any, workload: str) -> None:
    found = pod(workload)
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in found["containers"][0]["env"]
    assert not {"nodeSelector", "tolerations", "runtimeClassName"} & set(found)


@pytest.mark.parametrize(
    ("asked", "requests", "limits"),
    [
        ({}, {"cpu": "1", "memory": "2Gi"}, {}),
        ({"requests": {"cpu": "500m"}}, {"cpu": "500m", "memory": "2Gi"}, {}),
        ({"limits": {"memory": "8Gi"}}, {"cpu": "1", "memory": "8Gi"}, {"memory": "8Gi"}),
        ({"requests": {"cpu": 2}, "limits": {"cpu": 4}}, {"cpu": "2", "memory": "2Gi"}, {"cpu": "4"}),
    ],
)
def test_resources_of_triton(pod: Any, asked: Any, requests: Any, limits: Any) -> None:
    found = pod("Deployment", runtime={"resources": asked})["containers"][0]["resources"]
    assert (found["requests"], found.get("limits", {})) == (requests, limits)
    kserve = pod("KServe", runtime={"resources": asked})["containers"][0]["resources"]
    assert kserve["requests"] == requests
    # KServe writes limits of 1 CPU and 2Gi where there are none, which may be below the request
    assert kserve["limits"] == {"cpu": "1024", "memory": "64Ti"} | limits


def test_additions_to_pods(objects: Any) -> None:
    addition = {
        "labels": {"team": "ml", "app.kubernetes.io/name": "mine"},
        "annotations": {"a": "b"},
        "serviceAccountName": "reader",
        "imagePullSecrets": ["registry"],
        "images": {"triton": "my/triton:1", "tap": "my/tap:1"},
    }
    found = objects(pod=addition, workload="Deployment")
    assert "ServiceAccount" not in found, "the user's own is not ours to make"
    template = found["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "ml"
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "latentry", "ours win"
    assert template["metadata"]["annotations"]["a"] == "b"
    assert template["spec"]["serviceAccountName"] == "reader"
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert [container["image"] for container in template["spec"]["containers"]] == ["my/triton:1", "my/tap:1"]


def test_the_service_follows_the_traffic(objects: Any, plan: Any) -> None:
    own = objects()["Service"]["spec"]
    revision = plan().revision
    assert own["selector"] == {"latentry.dev/model": "digits-vae", "latentry.dev/revision": revision}
    assert [(port["port"], port["targetPort"], port["appProtocol"]) for port in own["ports"]] == [
        (80, "http", "http"), (9000, "grpc", "kubernetes.io/h2c"),
    ]  # fmt: skip
    other = objects(exposure=Exposure("digits-vae-00000000", {}))["Service"]["spec"]
    assert other["selector"]["latentry.dev/revision"] == "digits-vae-00000000"
    assert address(plan()).to_dict() == {
        "http": "http://digits-vae.demo.svc.cluster.local",
        "grpc": "digits-vae.demo.svc.cluster.local:9000",
    }


@by_workload
def test_selectors_select_the_pods(objects: Any, workload: str) -> None:
    found = objects(workload=workload)
    if workload == "Deployment":
        labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    else:
        labels = found["InferenceService"]["spec"]["predictor"]["labels"]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        assert found[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_who_may_reach_the_admin_port(objects: Any) -> None:
    clients, admin = objects()["NetworkPolicy"]["spec"]["ingress"]
    assert "from" not in clients
    assert [port["port"] for port in clients["ports"]] == [8080, 9000]
    assert (admin["from"], admin["ports"]) == ([{"namespaceSelector": {}}], [{"port": 9400, "protocol": "TCP"}])
    peer = MappingProxyType({"podSelector": MappingProxyType({"matchLabels": {"app": "prometheus"}})})
    found = objects(settings=ClusterSettings(admin_peers=(peer,)))["NetworkPolicy"]["spec"]["ingress"]
    assert found[1]["from"] == [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]
    assert len(objects(settings=ClusterSettings(admin_peers=()))["NetworkPolicy"]["spec"]["ingress"]) == 1


@by_workload
def test_keda_follows_the_revisions_requests_in_flight(objects: Any, plan: Any, workload: str) -> None:
    found = objects(workload=workload, scaling={"minReplicas": 2, "maxReplicas": 5, "target": 7})["ScaledObject"][
        "spec"
    ]
    made = plan(workload=workload, scaling={"minReplicas": 2, "maxReplicas": 5, "target": 7})
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (2, 5)
    assert found["scaleTargetRef"]["name"] == made.deployment
    (trigger,) = found["triggers"]
    assert trigger["metadata"]["threshold"] == "7"
    assert trigger["metadata"]["query"] == (
        'sum(avg_over_time(latentry_requests_in_flight{namespace="demo",'
        f'pod=~"{made.deployment}-.+",operation!="management"}}[1m]))'
    )


@pytest.mark.parametrize("version", ["autoscaling/v2", "autoscaling/v2beta2"])
def test_hpa(objects: Any, version: Any) -> None:
    runtime = {"resources": {"requests": {"cpu": 1}}}
    scaling = {"maxReplicas": 5, "metric": "CPU"}
    found = objects(runtime=runtime, scaling=scaling, capabilities=Capabilities(hpa=version))["HorizontalPodAutoscaler"]
    assert found["apiVersion"] == version
    assert found["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}


@by_workload
def test_without_autoscaling_the_workload_has_the_replicas(objects: Any, workload: str) -> None:
    found = objects(workload=workload, scaling={"minReplicas": 3})
    assert not {"HorizontalPodAutoscaler", "ScaledObject"} & set(found)
    if workload == "Deployment":
        assert found["Deployment"]["spec"]["replicas"] == 3
    else:
        assert found["InferenceService"]["spec"]["predictor"]["minReplicas"] == 3
        assert found["InferenceService"]["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"


def test_kserve_leaves_replicas_to_our_autoscaler(objects: Any) -> None:
    annotations = objects(scaling={"maxReplicas": 3})["InferenceService"]["metadata"]["annotations"]
    assert annotations["serving.kserve.io/autoscalerClass"] == "external"
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"


def test_what_the_cluster_does_not_know_is_not_rendered(objects: Any) -> None:
    bare = Capabilities(
        kserve=False, keda=False, pod_monitor=False, prometheus_rule=False, pod_disruption_budget=None, hpa=None
    )
    found = objects(capabilities=bare, scaling={"maxReplicas": 3})
    assert set(found) == {"ServiceAccount", "ConfigMap", "NetworkPolicy", "Service", "Deployment"}
    old = objects(capabilities=Capabilities(pod_disruption_budget="policy/v1beta1"))
    assert old["PodDisruptionBudget"]["apiVersion"] == "policy/v1beta1"


def test_monitor_labels(objects: Any) -> None:
    found = objects(settings=ClusterSettings(monitor_labels={"release": "prometheus", "latentry.dev/model": "x"}))
    labels = found["PodMonitor"]["metadata"]["labels"]
    assert (labels["release"], labels["latentry.dev/model"]) == ("prometheus", "digits-vae")


def test_names_fit_however_long(plan: Any) -> None:
    model = plan().model.model_copy(update={"metadata": plan().model.metadata.model_copy(update={"name": "m" * 44})})
    long = plan_cluster(model, Capabilities(), PoolFacts(), ClusterSettings())
    assert isinstance(long, ClusterPlan)
    assert len(long.deployment) == 63
    for manifest in render(long):
        assert len(manifest["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())
