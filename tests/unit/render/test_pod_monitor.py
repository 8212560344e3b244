"""How Prometheus finds the metrics of a serving pod. Covered: both paths of the admin port, what is kept of Triton's
metrics and how many series that is, where Triton serves them and whether it asks for GPUs'."""

from typing import Any

import pytest

from latentry_serving.contract import triton_metrics

MOST_TRITON_SERIES = 30
"""Of a VAE's five operations on one GPU; the tap has 370 at most: see test_cardinality."""
OPERATIONS = 5


def test_both_paths_of_the_admin_port_with_the_models_labels(objects: Any) -> None:
    spec = objects()["PodMonitor"]["spec"]
    assert [(end["port"], end["path"]) for end in spec["podMetricsEndpoints"]] == [
        ("admin", "/metrics"),
        ("admin", "/metrics/triton"),
    ]
    assert spec["podTargetLabels"] == ["latentry.dev/model", "latentry.dev/revision"]


def test_of_tritons_metrics_those_of_the_dashboards_are_kept(objects: Any) -> None:
    ours, tritons = objects()["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert "metricRelabelings" not in ours
    (rule,) = tritons["metricRelabelings"]
    assert (rule["action"], rule["sourceLabels"]) == ("keep", ["__name__"])
    assert rule["regex"].split("|") == list(triton_metrics.KEPT)
    assert OPERATIONS * len(triton_metrics.PER_MODEL) + len(triton_metrics.PER_GPU) <= MOST_TRITON_SERIES


def test_no_relabeling_leaves_its_action_to_the_servers_default(objects: Any) -> None:
    """Else every restart of the operator would write the PodMonitor once more."""
    for end in objects()["PodMonitor"]["spec"]["podMetricsEndpoints"]:
        assert all("action" in rule for rule in (*end.get("relabelings", ()), *end.get("metricRelabelings", ())))


@pytest.mark.parametrize("placement", [{}, {"gpuPool": "a10", "gpus": 1}])
@pytest.mark.parametrize("workload", ["KServe", "Deployment"])
def test_triton_serves_them_on_loopback_where_the_tap_looks(pod: Any, workload: str, placement: dict[str, Any]) -> None:
    containers = pod(workload, placement=placement)["containers"]
    (args,) = (container["args"] for container in containers if container.get("command") == ["tritonserver"])
    assert {"--metrics-address=127.0.0.1", "--metrics-port=18082"} <= set(args)
    assert f"--allow-gpu-metrics={str(bool(placement)).lower()}" in args
