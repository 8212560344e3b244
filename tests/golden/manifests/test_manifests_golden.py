"""Golden manifests: every sample in both workloads whole, and for each way to scale what differs from that.

Beside the text: every object fits its CRD's schema without a field that would be pruned, the KServe SDK's models know
every field, and core objects survive the kubernetes package's own models.
"""

import difflib
from typing import Any

from latentry_operator.render import render


def test_whole(sample: str, workload: str, golden: Any, rendered_yaml: Any) -> None:
    golden.check(f"{sample}-{workload.lower()}.yaml", rendered_yaml(sample, workload))


def test_scaling(sample: str, workload: str, scaling: str, golden: Any, rendered_yaml: Any) -> None:
    whole, scaled = rendered_yaml(sample, workload), rendered_yaml(sample, workload, scaling)
    lines = difflib.unified_diff(whole.splitlines(), scaled.splitlines(), "as the sample", scaling, lineterm="", n=3)
    golden.check(f"{sample}-{workload.lower()}-{scaling}.diff", "\n".join([*lines, ""]))


def test_old_cluster(sample: str, golden: Any, rendered_yaml: Any, legacy: Any) -> None:
    whole, old = rendered_yaml(sample, "Deployment"), rendered_yaml(sample, "Deployment", capabilities=legacy)
    lines = difflib.unified_diff(whole.splitlines(), old.splitlines(), "current", "1.20", lineterm="", n=3)
    golden.check(f"{sample}-deployment-old-cluster.diff", "\n".join([*lines, ""]))


def test_the_server_takes_every_object_whole(
    sample: str, workload: str, scaling: str, plan_sample: Any, complaints: Any
) -> None:
    for manifest in render(plan_sample(sample, workload, scaling)):
        assert complaints(manifest) == [], manifest["kind"]


def test_the_check_finds_what_is_wrong(plan_sample: Any, complaints: Any) -> None:
    by_kind = {one["kind"]: one for one in render(plan_sample("encoder", "KServe", "keda"))}
    service = by_kind["InferenceService"]
    service["spec"]["predictor"]["gpu"] = 1
    service["spec"]["predictor"]["model"]["modelFormat"] = "triton"
    by_kind["ServingRuntime"]["spec"]["containers"][0]["volumeMount"] = []
    by_kind["Service"]["spec"]["port"] = 1
    by_kind["PodMonitor"]["spec"].pop("selector")
    for kind in ("InferenceService", "ServingRuntime", "Service", "PodMonitor"):
        assert complaints(by_kind[kind]), kind
    assert any("gpu" in complaint for complaint in complaints(service))
    assert not complaints(by_kind["ScaledObject"])


def test_no_golden_file_is_left_over(golden: Any, request: Any) -> None:
    kept = {path.name for path in golden.folder.iterdir()}
    samples = {name.rpartition("-deployment")[0] or name.rpartition("-kserve")[0] for name in kept}
    from_files = {path.stem for path in (request.config.rootpath / "manifests" / "samples").glob("*.yaml")}
    assert samples <= from_files
    assert len(kept) == len(samples) * (2 + 2 * 3 + 1)
