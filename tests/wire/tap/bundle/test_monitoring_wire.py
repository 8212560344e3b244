"""Drift and health over real sockets, a real analysis process and a bundle with a profile. Covered: undrifted samples
are judged and raise nothing, drifted ones alarm in `/drift` and `/metrics`, a killed process costs no alarm and no
call, score probes go marked to Triton within their budget and give way to users; a profile that is broken is said."""

import json
import os
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
from played_http import Answer, Call, PlayedHttp

from latentry_serving.bundle.profile import BundleProfile, Health, save_profile
from latentry_serving.bundle.store import file_entries
from latentry_serving.contract.drift_report import DriftReport, DriftState, HealthState, ModelHealth, Watching
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.health.autoencoder import AutoencoderBaseline

WINDOW = 50
X, Z = (TensorSpec(name=name, datatype=Datatype.FP32, shape=(4,)) for name in ("x", "latent"))
ERROR = TensorSpec(name="reconstruction_error", datatype=Datatype.FP32, shape=(1,))


def rows(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.Generator(np.random.PCG64(seed)).normal(size=(count, 4)) + shift).astype(np.float32)


@pytest.fixture(scope="module")
def profiled_bundle(tmp_path_factory):
    """An autoencoder whose latent is its input, and whose error is the mean square of it."""
    folder = tmp_path_factory.mktemp("profiled")
    x = rows(1, 1000)
    errors = np.square(x).mean(axis=1, keepdims=True)
    fit = FitSettings(window=WINDOW, features=32)
    arrays = {"input": x, "embedding": x, "reconstruction_error": errors}
    profile = Profile({name: fit_tensor(name, array, fit) for name, array in arrays.items()}, 0)
    save_profile(folder, BundleProfile(profile, Health(reconstruction=AutoencoderBaseline.fit(errors, window=WINDOW))))
    operations = {
        Operation.ENCODE: OperationContract(model="m_encode", inputs=(X,), outputs=(Z,)),
        Operation.SCORE: OperationContract(model="m_score", inputs=(X,), outputs=(ERROR,)),
    }
    contract = Contract(family=Family.AUTOENCODER, latent_dimension=4, embedding_space="m", operations=operations)
    manifest = BundleManifest(
        name="m", version="7", contract=contract, golden=Golden(samples=1, tolerances={}),
        files=file_entries(folder), provenance=Provenance(sources={}),
    )  # fmt: skip
    (folder / "bundle.json").write_bytes(manifest.to_bytes())
    return folder


class PlayedTriton(PlayedHttp):
    """Answers encode with its input and score with the mean square; keeps the marks of what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[str, str | None]] = []

    def answer(self, call: Call) -> Answer:
        if call.method == "GET":
            return Answer(b"{}")
        self.marks.append((call.path.split("/")[3], call.headers["latentry-probe"]))
        length = int(call.headers.get("Inference-Header-Content-Length", len(call.body)))
        given = json.loads(call.body[:length])["inputs"][0]
        data = given.get("data") or np.frombuffer(call.body[length:], np.float32).tolist()
        values = np.array(data, np.float32).reshape(-1, 4)
        name = "latent"
        if "score" in call.path:
            values, name = np.square(values).mean(axis=1, keepdims=True), "reconstruction_error"
        output = {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
        return Answer(json.dumps({"outputs": [output]}).encode(), headers={"Content-Type": "application/json"})

    def count(self, model: str, mark: str | None) -> int:
        return self.marks.count((model, mark))


@pytest.fixture
def played_triton() -> Iterator[PlayedTriton]:
    with PlayedTriton() as script:
        yield script


class Watched:
    """A tap over the bundle, and a client."""

    def __init__(self, tap, wire) -> None:
        self.tap = tap
        self.wire = wire
        wire.eventually(lambda: self.drift().state is not Watching.STARTING)

    def drift(self) -> DriftReport:
        return DriftReport.model_validate_json(self.tap.get("/drift")[1])

    def health(self) -> ModelHealth:
        return ModelHealth.model_validate_json(self.tap.get("/health-of-model")[1])

    def encode(self, values: np.ndarray) -> None:
        """Calls of ten rows, each answered."""
        with self.tap.connect() as sock:
            for start in range(0, len(values), 10):
                tensor = {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [10, 4],
                    "data": values[start : start + 10].ravel().tolist(),
                }
                body = json.dumps({"inputs": [tensor]}).encode()
                head = f"POST /v2/models/m_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
                sock.sendall(head.encode() + body)
                answer = b""
                while b"outputs" not in answer or not answer.endswith(b"}]}"):
                    answer += sock.recv(1 << 16)

    def judged(self, tensor: str) -> int:
        return next((t.windows for t in self.drift().tensors if t.tensor == tensor), 0)

    def worker(self) -> psutil.Process:
        children = psutil.Process(self.tap.process.pid).children()
        return next(child for child in children if "analysis_worker" in str(child.cmdline()))


@pytest.fixture
def watch(start_tap, played_triton, profiled_bundle, wire) -> Callable[..., Watched]:
    def start(folder=profiled_bundle, **drift: object) -> Watched:
        settings = {"expectedRunTimeSeconds": 3600, "scoreProbes": {"perSecond": 0}} | drift
        tap = start_tap(
            upstream_http=played_triton.address, upstream_grpc=played_triton.address, bundle_dir=folder,
            sampling="{maxPerSecond: 100000}", probes="{everySeconds: 3600}", drift=json.dumps(settings),
        )  # fmt: skip
        return Watched(tap, wire)

    return start


def test_undrifted_traffic_is_ok_and_a_shift_alarms(watch, wire):
    watched = watch()
    watched.encode(rows(2, 200))
    wire.eventually(lambda: watched.judged("input") == watched.judged("embedding") == 4)
    drift = watched.drift()
    assert (drift.state, drift.alarm, drift.window) == (Watching.WATCHING, False, WINDOW)
    assert {s.state for t in drift.tensors[:2] for s in t.statistics} == {DriftState.OK}
    assert {s.state for s in drift.tensors[2].statistics} == {DriftState.INSUFFICIENT_DATA}, "nobody scores"
    watched.encode(rows(3, 100, shift=1.5))
    wire.eventually(lambda: watched.judged("input") == watched.judged("embedding") == 6)
    alarms = [s.alarm for t in watched.drift().tensors for s in t.statistics if s.alarm]
    assert {alarm.tensor for alarm in alarms} == {"input", "embedding"}
    assert {alarm.looks_like for alarm in alarms if alarm.statistic == "t2"} == {"shift"}
    metrics = watched.tap.get("/metrics")[1].decode()
    assert 'latentry_drift_alarm{model="model",statistic="t2",tensor="input",version="7"} 1.0' in metrics
    assert metrics.count("latentry_drift_contribution{") == sum(len(alarm.dimensions) for alarm in alarms)


def test_a_killed_process_costs_the_open_window_and_no_alarm(watch, wire):
    watched = watch()
    watched.encode(rows(3, 120, shift=1.5))
    wire.eventually(lambda: watched.judged("input") == watched.judged("embedding") == 2)
    wire.eventually(lambda: watched.drift().tensors[0].held == 20)
    before = watched.drift()
    assert before.alarm
    killed = watched.worker()
    killed.kill()
    watched.encode(rows(4, 10))
    wire.eventually(lambda: watched.drift().tensors[0].held < 20)
    after = watched.drift()
    assert [[s.alarm for s in t.statistics] for t in after.tensors] == [
        [s.alarm for s in t.statistics] for t in before.tensors
    ]
    watched.encode(rows(5, 50))
    wire.eventually(lambda: watched.judged("input") == 3)
    assert watched.worker().pid != killed.pid
    assert watched.tap.outcomes("encode", "http") == {"ok": 18}


def test_score_probes_measure_what_clients_only_encode(watch, played_triton, wire):
    watched = watch(scoreProbes={"perSecond": 100})

    def scored() -> bool:
        watched.encode(rows(len(played_triton.marks), 50))
        return watched.judged("reconstruction_error") > 0

    wire.eventually(scored)
    health = watched.health()
    assert health.scores is not None
    assert health.scores.traffic == 0
    assert 0 < health.scores.probes == health.score_probes.answered <= played_triton.count("m_score", "score")
    assert health.verdict is HealthState.HEALTHY
    assert played_triton.count("m_score", None) == 0
    assert watched.tap.operation("score", "http") is None or watched.tap.outcomes("score", "http") == {}


def test_without_traffic_or_room_nothing_is_scored(watch, played_triton, wire):
    watched = watch(scoreProbes={"perSecond": 100, "inFlightLimit": 0})
    with watched.tap.connect() as held:  # a request that never ends leaves no room
        held.sendall(b"POST /v2/models/m_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
        wire.eventually(lambda: watched.tap.operation("encode", "http").in_flight == 1)
        known = played_triton.count("m_score", "score")
        watched.encode(rows(1, 150))
        wire.eventually(lambda: watched.judged("input") == 3)
        assert played_triton.count("m_score", "score") == known == 0


def test_a_profile_that_cannot_be_read_is_said_and_traffic_flows(watch, profiled_bundle, tmp_path, wire):
    folder = tmp_path / "spoilt"
    for source in profiled_bundle.rglob("*"):
        if source.is_file():
            target = folder / source.relative_to(profiled_bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    victim = next((folder / "profile").glob("*.npy"))
    victim.write_bytes(os.urandom(100))
    watched = watch(folder)
    wire.eventually(lambda: watched.drift().state is Watching.BROKEN)
    assert victim.name in watched.drift().detail
    watched.encode(rows(1, 10))
    wire.eventually(lambda: watched.tap.outcomes("encode", "http") == {"ok": 1})
