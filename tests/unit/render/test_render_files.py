"""``latentry render``: files in, YAML out; pools from the files; presets; what cannot be rendered and why."""

import re
from pathlib import Path

import pytest
import yaml

from latentry_operator.plan.cluster import ClusterSettings
from latentry_operator.render.files import PRESETS, render_files
from latentry_serving.contract.errors import InvalidInput, OperationFailed

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
POOLS = SAMPLES / "gpu-pool.yaml"


def kinds(text: str) -> list[str]:
    return [document["kind"] for document in yaml.safe_load_all(text)]


def test_all_objects_of_all_models_in_order() -> None:
    text = render_files([SAMPLES / "encoder.yaml", SAMPLES / "vae-gpu.yaml", POOLS])
    names = [document["metadata"]["labels"]["latentry.dev/model"] for document in yaml.safe_load_all(text)]
    assert names == sorted(names, key=["minilm", "faces-vae"].index)
    assert set(names) == {"minilm", "faces-vae"}
    assert text == render_files([SAMPLES / "encoder.yaml", SAMPLES / "vae-gpu.yaml", POOLS])


def test_comments_say_what_was_decided_and_what_is_missing() -> None:
    text = render_files([SAMPLES / "encoder.yaml"])
    assert text.startswith("# LatentModel search/minilm: workload Auto became KServe: its CRDs are installed\n")
    assert "# scaling.metric Concurrency cannot be followed, 2 replicas run: the operator knows no Prometheus" in text
    scaled = render_files([SAMPLES / "encoder.yaml"], settings=ClusterSettings(prometheus_url="http://prometheus"))
    assert "Concurrency cannot be followed" not in scaled
    assert "ScaledObject" in kinds(scaled)


def test_it_reads_well() -> None:
    text = render_files([SAMPLES / "encoder.yaml"], "no-kserve")
    assert "tap.yaml: |\n" in text
    assert not re.search(r"[&*]id\d", text)


@pytest.mark.parametrize(
    ("preset", "present", "absent"),
    [
        ("full", {"InferenceService", "ServingRuntime", "PodMonitor"}, {"Deployment"}),
        ("no-kserve", {"Deployment", "PodMonitor"}, {"InferenceService", "ServingRuntime"}),
        ("kubernetes-1.20", {"Deployment", "PodDisruptionBudget"}, {"InferenceService", "PodMonitor", "ScaledObject"}),
    ],
)
def test_presets(preset: str, present: set[str], absent: set[str]) -> None:
    found = set(kinds(render_files([SAMPLES / "encoder.yaml"], preset)))
    assert present <= found
    assert not absent & found


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match=f"'best' is not known; write {', '.join(PRESETS)}"):
        render_files([SAMPLES / "encoder.yaml"], "best")


def test_a_bundle_on_one_machine_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"spec\.bundle\.uri: file://.latentry/digits-vae is on one machine"):
        render_files([SAMPLES / "digits-vae.yaml"])


def test_a_missing_pool_is_told() -> None:
    with pytest.raises(
        OperationFailed, match=r"faces-vae would wait \(GPUPoolNotFound\).*the cluster has none; create"
    ):
        render_files([SAMPLES / "vae-gpu.yaml"])


def test_files_without_a_model() -> None:
    with pytest.raises(InvalidInput, match="no LatentModel; add a file with one"):
        render_files([POOLS])


def test_earlier_models_take_their_devices_first(tmp_path: Path) -> None:
    vae = (SAMPLES / "vae-gpu.yaml").read_text().replace("minReplicas: 1", "minReplicas: 4")
    pool = POOLS.read_text().replace("maxDevices: 8", "maxDevices: 6")
    (tmp_path / "a.yaml").write_text(vae)
    (tmp_path / "b.yaml").write_text(vae.replace("faces-vae", "cats-vae"))
    (tmp_path / "pool.yaml").write_text(pool)
    with pytest.raises(OperationFailed, match=r"cats-vae would wait \(GPUPoolUsedUp\).*by others: vision/faces-vae 4"):
        render_files([tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "pool.yaml"])
