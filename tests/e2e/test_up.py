"""`latentry up` end to end on the real Triton and the real tap.

Covers: serving over both protocols and stopping by itself; several models; Triton or the tap killed while serving;
Ctrl-C; death of the parent; a model that cannot load; bad files, bundles and digests.
"""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc_client

Start = Callable[..., "Up"]  # noqa: F821 - tests/e2e/conftest.py
WriteModel = Callable[..., str]
JSON_CALL = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [8, 0, 0, 8]}]}
ANSWER = [6.0, 8.0]  # [8, 0, 0, 8] @ (0..7 / 8 as [4, 2])


def encode_over_http(address: str) -> list[float]:
    answer = httpx.post(f"http://{address}/v2/models/tiny_encode/infer", json=JSON_CALL, timeout=30).raise_for_status()
    output: list[float] = answer.json()["outputs"][0]["data"]
    return output


def encode_over_grpc(address: str) -> list[float]:
    tensor = grpc_client.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array([[8, 0, 0, 8]], np.float32))
    with grpc_client.InferenceServerClient(address) as client:
        output: list[float] = client.infer("tiny_encode", [tensor]).as_numpy("embedding")[0].tolist()
    return output


def counted(address: str, calls: int) -> dict[str, Any]:
    """`/slis` once the tap has counted so many: a moment after they were answered."""
    deadline = time.monotonic() + 60
    while True:
        slis: dict[str, Any] = httpx.get(f"http://{address}/slis", timeout=30).raise_for_status().json()
        if slis["inference"]["total"]["requests"] >= calls:
            return slis
        assert time.monotonic() < deadline, slis
        time.sleep(0.05)


def gone(processes: list[psutil.Process], seconds: float = 60) -> bool:
    """Whether all of them end within the time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_serves_both_protocols_and_stops_by_itself(up: Start, model_file: WriteModel, tmp_path: Path) -> None:
    running = up(model_file("tiny"), "--for", "10s")
    ready = running.wait_for("Ready")["tiny"]
    processes = psutil.Process(running.process.pid).children(recursive=True)
    assert encode_over_http(ready["addresses"]["http"]) == ANSWER
    assert encode_over_grpc(ready["addresses"]["grpc"]) == ANSWER
    slis = counted(ready["addresses"]["admin"], 2)
    assert (slis["model"], slis["version"], slis["inference"]["total"]["outcomes"]["ok"]) == ("tiny", "7", 2)
    code, error = running.process.wait(timeout=60), running.process.stderr
    assert (code, error.read() if error else "") == (0, "")
    assert processes
    assert gone(processes)
    assert not (tmp_path / ".latentry/run/tiny").exists(), "a clean stop leaves nothing behind"


def test_several_models_in_one_call_have_their_own_ports(up: Start, model_file: WriteModel) -> None:
    running = up(model_file("one"), model_file("two"))
    ready = running.wait_for("Ready", models=2)
    addresses = [snapshot["addresses"]["http"] for snapshot in ready.values()]
    assert len(set(addresses)) == 2
    assert [encode_over_http(address) for address in addresses] == [ANSWER, ANSWER]
    assert running.end() == (0, "")


def test_a_killed_triton_is_started_again_and_the_exit_code_says_so(up: Start, model_file: WriteModel) -> None:
    running = up(model_file("tiny"))
    ready = running.wait_for("Ready")["tiny"]
    running.children("tritonserver")[0].kill()
    running.wait_for("Restarting")
    running.wait_for("Ready")
    assert encode_over_http(ready["addresses"]["http"]) == ANSWER, "at the same address as before"
    code, error = running.end()
    assert code == 1
    assert "tiny was not ready once while it served" in error


def test_a_killed_tap_is_started_again_where_it_was(up: Start, model_file: WriteModel) -> None:
    running = up(model_file("tiny"))
    ready = running.wait_for("Ready")["tiny"]
    tap = next(child for child in running.children("latentry_serving") if "tap" in child.cmdline())
    tap.kill()
    # That it no longer answers may be seen before that it ended.
    assert running.wait_message("the tap ended with exit code -9")["phase"] == "Restarting"
    assert running.wait_for("Ready")["tiny"]["addresses"] == ready["addresses"]
    assert encode_over_http(ready["addresses"]["http"]) == ANSWER
    assert running.end()[0] == 1


def test_nothing_outlives_a_parent_that_is_killed(up: Start, model_file: WriteModel) -> None:
    running = up(model_file("tiny"))
    running.wait_for("Ready")
    processes = psutil.Process(running.process.pid).children(recursive=True)
    regions = set(Path("/dev/shm").glob(f"latentry-{running.process.pid}-*"))
    assert processes
    assert regions
    running.process.kill()
    assert gone(processes)
    deadline = time.monotonic() + 60
    while (left := [region for region in regions if region.exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_ready_is_no_success(up: Start, model_file: WriteModel, number: int) -> None:
    running = up(model_file("tiny"))
    running.wait_message("starting Triton")
    code, error = running.end(number)
    assert code == 1
    assert "tiny was stopped before it was ready" in error


def test_a_model_that_cannot_load_fails_with_its_reason_while_the_other_serves(
    up: Start, model_file: WriteModel, encoder_bundle: Path, tmp_path: Path
) -> None:
    broken = resealed_with_a_broken_graph(encoder_bundle, tmp_path / "broken")
    running = up(model_file("broken", broken), model_file("fine"))
    failed = running.wait_for("Failed")["broken"]
    assert "tiny_encode" in failed["message"]
    if not any(s["name"] == "fine" and s["phase"] == "Ready" for s in running.seen):
        running.wait_for("Ready")
    code, error = running.end()
    assert code == 1
    assert "broken failed" in error


def resealed_with_a_broken_graph(bundle: Path, target: Path) -> Path:
    """A bundle whose digests are right and whose graph is not: what a build on a broken disk would leave."""
    from latentry_serving.bundle.store import file_entries, load_manifest

    shutil.copytree(bundle, target)
    graph = next(target.glob("repository/*/1/model.onnx"))
    graph.write_bytes(graph.read_bytes()[:40])
    manifest = load_manifest(target).model_copy(update={"files": file_entries(target)})
    (target / "bundle.json").write_bytes(manifest.to_bytes())
    return target


def test_input_errors_are_told_before_anything_starts(
    up: Start, model_file: WriteModel, encoder_bundle: Path, tmp_path: Path
) -> None:
    tampered = tmp_path / "tampered"
    shutil.copytree(encoder_bundle, tampered)
    next(tampered.glob("golden/**/*.npy")).write_bytes(b"other")
    files = [
        model_file("absent", tmp_path / "nowhere"),
        model_file("tampered", tampered),
        model_file("wrong-family"),
    ]
    wrong = tmp_path / files[2]
    wrong.write_text(wrong.read_text().replace("family: Encoder", "family: VAE"))
    running = up(*files)
    code, error = running.process.wait(timeout=60), running.process.stderr
    text = error.read() if error else ""
    assert code == 2
    assert f"no bundle in {tmp_path / 'nowhere'}" in text
    assert "has 5 bytes" in text
    assert "VAE, but bundle tiny 7 holds an Encoder" in text
    assert not (tmp_path / ".latentry").exists()


def test_a_broken_file_is_explained(up: Start, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "apiVersion: latentry.dev/v1alpha1\nkind: LatentModel\nspec: {family: Encoder}\n"
    )
    running = up("bad.yaml")
    _, error = running.process.communicate(timeout=60)
    assert running.process.returncode == 2
    assert "spec.bundle" in error
    assert "metadata" in error
