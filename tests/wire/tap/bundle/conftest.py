"""Small sealed bundles and the Tritons that serve them."""

import asyncio
import dataclasses
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from played_http import Answer, Call, PlayedHttp
from small_graphs import save_graph

from latentry_serving.bundle.golden import save_golden
from latentry_serving.bundle.store import file_entries
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
    Tolerance,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.triton.client import TritonClient
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.local_repository import write_local_repository
from latentry_serving.triton.model_config import ModelConfig, TensorConfig
from latentry_serving.triton.process import TritonProcess, TritonSettings, choose_addresses

ROWS = 8
WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
INPUT = np.random.default_rng(7).normal(size=(ROWS, 4)).astype(np.float32)
OUTPUT = INPUT @ WEIGHTS
_CLEAN = ("MatMul", ["x", "w"], "clean")
GRAPHS = {
    "exact": [("MatMul", ["x", "w"], "y")],
    "noisy": [_CLEAN, ("RandomNormalLike", ["clean"], "noise"), ("Add", ["clean", "noise"], "y")],
    "broken": [_CLEAN, ("Sub", ["clean", "clean"], "zero"), ("Div", ["clean", "zero"], "y")],
    "failing": [_CLEAN, ("Gather", ["w", "far"], "rows"), ("Add", ["clean", "rows"], "y")],
}
X = TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,))
Y = TensorSpec(name="y", datatype=Datatype.FP32, shape=(2,))


def write_model(folder: Path, name: str, graph: str = "exact") -> None:
    """``repository/<name>``: x [n, 4] -> y [n, 2]."""
    target = folder / "repository" / name / "1"
    target.mkdir(parents=True)
    constants = {"w": WEIGHTS, "far": np.array([99], np.int64)}
    save_graph(target / "model.onnx", GRAPHS[graph], {"x": X.shape}, {"y": Y.shape}, constants)
    config = ModelConfig(
        name=name,
        backend="onnxruntime",
        max_batch_size=4,
        inputs=(TensorConfig.of(X),),
        outputs=(TensorConfig.of(Y),),
    )
    (target.parent / "config.pbtxt").write_text(config.to_pbtxt())


def manifest_of(models: Mapping[Operation, str]) -> BundleManifest:
    """Unsealed, version 7."""
    return BundleManifest(
        name="tiny",
        version="7",
        contract=Contract(
            family=Family.VAE,
            latent_dimension=2,
            embedding_space="tiny",
            operations={o: OperationContract(model=m, inputs=(X,), outputs=(Y,)) for o, m in models.items()},
        ),
        golden=Golden(samples=ROWS, tolerances={o: Tolerance(absolute=1e-5, relative=1e-5) for o in models}),
        files=(),
        provenance=Provenance(sources={}),
    )


def seal(folder: Path, manifest: BundleManifest) -> str:
    """Writes the manifest with the digests of what lies there; its own digest."""
    sealed = manifest.model_copy(update={"files": file_entries(folder)})
    (folder / "bundle.json").write_bytes(sealed.to_bytes())
    return sealed.digest


@dataclasses.dataclass
class Bundle:
    """A sealed bundle on disk."""

    folder: Path
    manifest: BundleManifest
    digest: str = ""

    def seal(self) -> "Bundle":
        self.digest = seal(self.folder, self.manifest)
        return self

    def record(self, operation: Operation, output: np.ndarray = OUTPUT) -> "Bundle":
        """The golden call of one operation."""
        save_golden(self.folder, operation, {"x": INPUT}, {"y": output})
        return self


WriteBundle = Callable[..., Bundle]


@pytest.fixture
def write_bundle(tmp_path: Path) -> WriteBundle:
    """``write_bundle(model, output=OUTPUT)``: a bundle whose encode is a model that some Triton serves already."""

    def write(model: str, output: np.ndarray = OUTPUT) -> Bundle:
        bundle = Bundle(tmp_path / f"bundle-{model}", manifest_of({Operation.ENCODE: model}))
        return bundle.record(Operation.ENCODE, output).seal()

    return write


@pytest.fixture(scope="session")
def graphs_triton(running_triton, tmp_path_factory):
    """A Triton with one model per graph, each named after it."""
    root = tmp_path_factory.mktemp("graphs")
    models = dict(zip([o for o in Operation if o is not Operation.SAMPLE], GRAPHS, strict=True))
    for name in GRAPHS:
        write_model(root, name, name)
    return running_triton(root, manifest_of(models))


@pytest.fixture
def bundle_tap(graphs_triton, start_tap):
    """``bundle_tap(bundle, **settings)``: a tap with that bundle in front of ``graphs_triton``."""

    def start(bundle: Bundle, **settings: object):
        addresses = graphs_triton.addresses
        given = {"digest": bundle.digest, "probes": "{everySeconds: 0.1}"} | settings
        return start_tap(upstream_http=addresses.http, upstream_grpc=addresses.grpc, bundle_dir=bundle.folder, **given)

    return start


class ExplicitTriton:
    """A Triton in explicit mode that can be killed and started again where it was."""

    def __init__(self, loop_thread, install: TritonInstall, repository: Path, work: Path) -> None:
        self._thread = loop_thread
        binary = work / "tritonserver"
        binary.write_text(f'#!/bin/sh\nexec {install.binary} "$@" --model-control-mode=explicit\n')
        binary.chmod(0o755)
        self._install = dataclasses.replace(install, binary=binary)
        self._repository, self._work = repository, work
        self._settings = TritonSettings()
        self.addresses = choose_addresses(self._settings)
        self._process: TritonProcess | None = None

    def start(self) -> "ExplicitTriton":
        self._thread.run(self._start())
        return self

    async def _start(self) -> None:
        self._process = await TritonProcess.launch(
            self._install, self._repository, self._work, self.addresses, self._settings
        )
        async with TritonClient(self.addresses.http) as client, asyncio.timeout(90):
            while not await client.is_ready():
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._thread.run(self._process.stop())

    def config(self, model: str) -> dict:
        async def ask() -> dict:
            async with TritonClient(self.addresses.http) as client:
                return await client._get(f"/v2/models/{model}/config")

        return self._thread.run(ask())


@pytest.fixture(scope="session")
def loop_thread():
    """A loop that outlives each test: the kernel ends a Triton with the thread that started it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    class Thread:
        @staticmethod
        def run(coroutine):
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=120)

    yield Thread
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def wheel_bundle(triton_install: TritonInstall, tmp_path_factory) -> Bundle:
    """A bundle with two operations whose configurations name the backend that this machine's Triton has."""
    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("sealed")
    models = {Operation.ENCODE: "tiny_encode", Operation.SCORE: "tiny_score"}
    for name in models.values():
        write_model(plain, name)
    manifest = manifest_of(models)
    write_local_repository(plain, manifest, folder / "repository", triton_install)
    bundle = Bundle(folder, manifest)
    for operation in models:
        bundle.record(operation)
    return bundle.seal()


@pytest.fixture
def explicit_triton(
    wheel_bundle: Bundle, triton_install: TritonInstall, loop_thread, tmp_path: Path
) -> Iterator[ExplicitTriton]:
    """A Triton in explicit mode over ``wheel_bundle``, not started yet."""
    work = tmp_path / "triton"
    work.mkdir()
    # A copy, for Python writes its __pycache__ beside a model; on a cluster the bundle is mounted read-only.
    shutil.copytree(wheel_bundle.folder / "repository", work / "repository", symlinks=True)
    triton = ExplicitTriton(loop_thread, triton_install, work / "repository", work)
    yield triton
    triton.stop()


class ScriptedTriton(PlayedHttp):
    """Answers golden probes at once, wrongly, and requests of users when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.probes: list[tuple[dict[str, str], dict]] = []
        self.waiting = 0

    def answer(self, call: Call) -> Answer:
        if call.method == "GET":
            return Answer(b'{"max_batch_size": 3}')
        if "latentry-probe" not in call.headers:
            self.waiting += 1
            self.release.wait(30)
            return Answer(b"{}")
        headers = {name.lower(): value for name, value in call.headers.items()}
        self.probes.append((headers, json.loads(call.body[: int(headers["inference-header-content-length"])])))
        return Answer(b'{"error": "too busy"}', 503)


@pytest.fixture
def scripted_triton() -> Iterator[ScriptedTriton]:
    with ScriptedTriton() as script:
        yield script
        script.release.set()
