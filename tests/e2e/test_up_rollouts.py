"""`latentry up` follows edits of its file, on the real Triton and the real tap, with clients all the time.

Covers: a good version promoted without a failed call, and undone; a version that misses its golden outputs; one that
takes too much memory; one whose Triton is killed under load, also while clients are still on their way to it, and after
it was promoted; edits that cannot be served; two models, one of which changes; an interrupt in the middle of a rollout.
"""

import json
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pytest
import tritonclient.grpc as grpc_client
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import load_spec
from latentry_serving.bundle.store import file_entries, load_manifest

pytestmark = pytest.mark.triton

Start = Callable[..., "Up"]  # noqa: F821 - tests/e2e/conftest.py
LATENTRY = Path(sys.executable).parent / "latentry"
INPUTS, LATENTS = 8, 4
WEIGHTS = np.random.default_rng(3).normal(size=(INPUTS, LATENTS)).astype(np.float32)
CALL = {"inputs": [{"name": "x", "shape": [1, INPUTS], "datatype": "FP32", "data": [1] * INPUTS}]}
SPEC = """
---
apiVersion: latentry.dev/v1alpha1
kind: LatentModel
metadata: {{name: {name}}}
spec:
  family: Encoder
  bundle: {{uri: 'file://{bundle}'}}
  rollout: {{watchFor: 2s, analysis: {{minRequests: 20, tolerance: 20, maxLatencyRatio: 1000}}}}
"""
"""Latency is no matter of these tests: other work shares the machine."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions 1 and 2, the same space; "wrong" is version 2 with a graph that gives other outputs than recorded."""
    folder = tmp_path_factory.mktemp("bundles")
    good = {version: _build(folder / version, version, WEIGHTS * scale) for version, scale in (("1", 1), ("2", 1.001))}
    wrong = _build(folder / "wrong", "2", WEIGHTS * 2)
    for source in good["2"].glob("golden/encode/outputs/*.npy"):
        (wrong / source.relative_to(good["2"])).write_bytes(source.read_bytes())
    (wrong / "bundle.json").write_bytes(
        load_manifest(wrong).model_copy(update={"files": file_entries(wrong)}).to_bytes()
    )
    return {**good, "wrong": wrong}


def _build(folder: Path, version: str, weights: Any) -> Path:
    folder.mkdir()
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", LATENTS])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "e.onnx")
    np.save(folder / "reference.npy", np.random.default_rng(1).normal(size=(64, INPUTS)).astype(np.float32))
    (folder / "spec.yaml").write_text(
        f"""
        apiVersion: latentry.dev/v1alpha1
        kind: BundleSpec
        name: tiny
        version: "{version}"
        family: Encoder
        latentDimension: {LATENTS}
        embeddingSpace: tiny
        artifacts: {{encoder: {{path: e.onnx}}}}
        reference: {{path: reference.npy}}
        profile: false
        """
    )
    build_bundle(load_spec(folder / "spec.yaml"), base_dir=folder, out_dir=folder / "bundle")
    return folder / "bundle"


class Clients:
    """Callers of both protocols that go on until told; what they got."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self.failed: list[str] = []
        self.failures: Counter[int] = Counter()
        """Of each client, which has one call at a time."""
        self.answered = 0
        self._stop = threading.Event()
        calls = (
            self._http(addresses["http"]),
            self._http(addresses["http"], fresh=True),
            self._grpc(addresses["grpc"]),
            self._grpc(addresses["grpc"]),
        )
        self._threads = [threading.Thread(target=self._go, args=each) for each in enumerate(calls)]

    @contextmanager
    def calling(self) -> Iterator["Clients"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def some_more(self, answers: int = 50) -> None:
        """Returns after so many more answers."""
        before = self.answered
        while self.answered < before + answers:
            time.sleep(0.01)

    def _go(self, number: int, call: Callable[[], object]) -> None:
        while not self._stop.wait(0.01):
            try:
                call()
                self.answered += 1
            except (httpx.HTTPError, InferenceServerException) as error:
                self.failed.append(repr(error))
                self.failures[number] += 1

    def _http(self, address: str, *, fresh: bool = False) -> Callable[[], object]:
        kept = httpx.Client(timeout=30)

        def call() -> object:
            post = httpx.post if fresh else kept.post
            return post(f"http://{address}/v2/models/tiny_encode/infer", json=CALL, timeout=30).raise_for_status()

        return call

    def _grpc(self, address: str) -> Callable[[], object]:
        # Channels to one address share a connection otherwise.
        client = grpc_client.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)])
        given = tensor()
        return lambda: client.infer("tiny_encode", [given], client_timeout=30)


def tensor() -> Any:
    made = grpc_client.InferInput("x", [1, INPUTS], "FP32")
    made.set_data_from_numpy(np.ones((1, INPUTS), np.float32))
    return made


def follow(running: Any, done: Callable[[dict[str, Any]], bool], name: str = "tiny") -> dict[str, Any]:
    """Reads lines until one of the model fulfils this; that snapshot."""
    for line in running.process.stdout:
        snapshot: dict[str, Any] = json.loads(line)
        running.seen.append(snapshot)
        if snapshot["name"] == name and snapshot["rollout"] is not None and done(snapshot):
            return snapshot
    raise AssertionError(f"never came: {running.seen[-2:]}\n{running.end()[1]}")


def happened(snapshot: dict[str, Any]) -> list[str]:
    return [one["reason"] for one in snapshot["rollout"]["happenings"]]


def ended(reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda snapshot: reason in happened(snapshot) and snapshot["rollout"]["candidate"] is None


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    write(file, text.replace(old, new))


def write(file: Path, text: str) -> None:
    """In one step: `latentry up` may look at any moment."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


@pytest.fixture
def file(tmp_path: Path, bundles: dict[str, Path]) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC.format(name="tiny", bundle=bundles["1"]))
    return path


def test_a_good_version_takes_over_without_a_failed_call_and_is_undone(
    up: Start, file: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    running = up(file.name)
    ready = running.wait_for("Ready")["tiny"]
    with Clients(ready["addresses"]).calling() as clients:
        edit(file, str(bundles["1"]), str(bundles["2"]))
        promoted = follow(running, ended("Promoted"))
        assert promoted["version"] == "2"
        assert promoted["addresses"] == ready["addresses"]
        assert promoted["rollout"]["previous"]["version"] == "1"
        clients.some_more()
        slis = httpx.get(f"http://{promoted['addresses']['admin']}/slis").json()
        assert (slis["version"], slis["inference"]["total"]["outcomes"]["ok"] > 20) == ("2", True)
        command = [str(LATENTRY), "rollout", "undo", "tiny"]
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert "version 1, has the traffic" in told
        undone = follow(running, lambda snapshot: snapshot["version"] == "1")
        assert undone["rollout"]["reason"] == "Rejected"
        clients.some_more()
    assert clients.failed == []
    assert running.end() == (0, "")


def test_bad_versions_never_get_a_request(up: Start, file: Path, bundles: dict[str, Path]) -> None:
    running = up(file.name)
    with Clients(running.wait_for("Ready")["tiny"]["addresses"]).calling() as clients:
        edit(file, str(bundles["1"]), str(bundles["wrong"]))
        missed = follow(running, ended("CandidateRejected"))
        edit(file, str(bundles["wrong"]), str(bundles["1"]))
        follow(running, lambda snapshot: snapshot["rollout"]["reason"] == "Complete")
        edit(file, "  family", "  runtime: {resources: {limits: {memory: 20Mi}}}\n  family")
        greedy = follow(running, lambda snapshot: happened(snapshot).count("CandidateRejected") == 2)
    assert "gate golden (GoldenMissed)" in missed["rollout"]["message"]
    assert "MiB of at most 20Mi" in greedy["rollout"]["message"]
    assert "TrafficSwitched" not in happened(greedy)
    assert clients.failed == []
    assert running.end() == (0, "")


def kill_the_newest_triton(running: Any) -> None:
    tritons = [child for child in running.children("tritonserver") if "tritonserver" in child.name()]
    max(tritons, key=lambda child: child.create_time()).kill()


def test_a_version_that_dies_under_load_costs_at_most_the_calls_in_flight(
    up: Start, file: Path, bundles: dict[str, Path]
) -> None:
    edit(file, "watchFor: 2s", "watchFor: 1h")
    running = up(file.name)
    with Clients(running.wait_for("Ready")["tiny"]["addresses"]).calling() as clients:
        edit(file, str(bundles["1"]), str(bundles["2"]))
        follow(running, lambda snapshot: snapshot["version"] == "2" and snapshot["phase"] == "Ready")
        clients.some_more()
        assert clients.failed == []
        kill_the_newest_triton(running)
        back = follow(running, ended("RolledBack"))
        clients.some_more(300)
    assert max(clients.failures.values(), default=0) <= 1, clients.failed
    assert "CandidateLost" in json.dumps(back["rollout"])
    assert (back["version"], back["phase"]) == ("1", "Ready")
    assert running.end()[0] == 1, "it was not ready for a moment"


def test_a_version_that_dies_while_clients_are_on_their_way_to_it(
    up: Start, file: Path, bundles: dict[str, Path]
) -> None:
    edit(file, "watchFor: 2s", "watchFor: 1h")
    running = up(file.name)
    addresses = running.wait_for("Ready")["tiny"]["addresses"]
    url = f"http://{addresses['http']}/v2/models/tiny_encode/infer"

    def answer() -> Any:
        return httpx.post(url, json=CALL, timeout=30).raise_for_status().json()["outputs"][0]["data"]

    old = answer()
    with Clients(addresses).calling() as clients, grpc_client.InferenceServerClient(addresses["grpc"]) as streaming:
        answers: queue.Queue[Any] = queue.Queue()
        streaming.start_stream(lambda result, error: answers.put(error))
        streaming.async_stream_infer("tiny_encode", [tensor()])
        assert answers.get(timeout=30) is None
        edit(file, str(bundles["1"]), str(bundles["2"]))
        while answer() == old:  # the stream keeps the stable revision's tap from being done with handing over
            time.sleep(0.01)
        kill_the_newest_triton(running)
        follow(running, ended("RolledBack"))
        clients.some_more(300)
        streaming.async_stream_infer("tiny_encode", [tensor()])
        assert answers.get(timeout=30) is None
    assert max(clients.failures.values(), default=0) <= 1, clients.failed
    assert answer() == old
    running.end()


def test_a_promoted_version_that_dies_is_relieved_by_the_one_that_was_kept(
    up: Start, file: Path, bundles: dict[str, Path]
) -> None:
    running = up(file.name)
    with Clients(running.wait_for("Ready")["tiny"]["addresses"]).calling() as clients:
        edit(file, str(bundles["1"]), str(bundles["2"]))
        follow(running, ended("Promoted"))
        clients.some_more()
        kill_the_newest_triton(running)
        follow(running, lambda snapshot: "StableBack" in happened(snapshot))
        clients.some_more()
    assert max(clients.failures.values(), default=0) <= 1, clients.failed
    running.end()


def test_edits_that_cannot_be_served_leave_what_runs(
    up: Start, file: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    running = up(file.name)
    running.wait_for("Ready")
    tritons = running.children("tritonserver")
    good = file.read_text()
    uri = f"uri: 'file://{bundles['1']}'"
    for text, told in (
        (good.replace("watchFor", "watchfor"), "did you mean watchFor?"),
        (good + "  - {", "line"),
        (good.replace(str(bundles["1"]), str(tmp_path / "no")), "no bundle in"),
        (good.replace(uri, f"{uri}, digest: 'sha256:{'0' * 64}'"), "fetch the bundle that was promised"),
        (good.replace("name: tiny", "name: other"), "no longer names tiny"),
    ):
        write(file, text)
        refused = follow(running, lambda snapshot, told=told: told in snapshot["rollout"]["edit"])
        assert (refused["version"], refused["phase"], refused["rollout"]["reason"]) == ("1", "Ready", "Complete")
    write(file, good)
    fine = follow(running, lambda snapshot: not snapshot["rollout"]["edit"])
    assert happened(fine).count("EditRefused") == 5
    assert "RolloutStarted" not in happened(fine)[1:]
    assert running.children("tritonserver") == tritons
    assert running.end() == (0, "")


def test_each_of_two_models_follows_on_its_own_also_after_it_failed(
    up: Start, file: Path, bundles: dict[str, Path]
) -> None:
    edit(file, str(bundles["1"]), str(bundles["wrong"]))
    file.write_text(file.read_text() + SPEC.format(name="other", bundle=bundles["2"]))
    running = up(file.name)
    failed = running.wait_for("Failed")["tiny"]
    assert "gate golden (GoldenMissed)" in failed["message"]
    edit(file, str(bundles["wrong"]), str(bundles["1"]))
    follow(running, lambda snapshot: (snapshot["version"], snapshot["phase"]) == ("1", "Ready"))
    edit(file, str(bundles["1"]), str(bundles["2"]))
    follow(running, lambda snapshot: snapshot["version"] == "2" and snapshot["rollout"]["weight"] == 100)
    others = [snapshot for snapshot in running.seen if snapshot["name"] == "other"]
    assert happened(others[-1])[-1] == "FirstServing"
    assert running.end() == (0, "")


def test_an_interrupt_in_the_middle_leaves_nothing_behind(
    up: Start, file: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    running = up(file.name)
    running.wait_for("Ready")
    edit(file, str(bundles["1"]), str(bundles["2"]))
    follow(
        running, lambda snapshot: snapshot["rollout"]["candidate"] is not None and "FirstServing" in happened(snapshot)
    )
    deadline = time.monotonic() + 60
    while len(running.children("tritonserver")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = psutil.Process(running.process.pid).children(recursive=True)
    assert len([p for p in processes if "tritonserver" in p.name()]) == 2
    assert running.end() == (0, "")
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert list(tmp_path.glob(".latentry/run/*")) == []
    assert list(Path("/dev/shm").glob(f"latentry-{running.process.pid}-*")) == []
