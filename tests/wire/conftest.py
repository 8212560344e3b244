"""Real servers for wire tests: Tritons, found once, started few times, always stopped; one Kubernetes for them all.

``tiny_triton`` is one shared server over ``tiny_bundle``; ``running_triton`` starts another one. Both run in a thread
with a loop of its own, so that any test, with or without a loop, may use them. Kubernetes: see tests/support/kube.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from kube.fixtures import (
    api,
    control_plane,
    kube_assets,
    namespace,
    pytest_collection_finish,
    pytest_terminal_summary,
    stand_in,
)
from onnx import TensorProto, helper, numpy_helper

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
from latentry_serving.triton.install import TritonInstall, find_triton
from latentry_serving.triton.local_repository import RuntimeOverrides, write_local_repository
from latentry_serving.triton.model_config import (
    DynamicBatching,
    ModelConfig,
    TensorConfig,
    Warmup,
    WarmupInput,
)
from latentry_serving.triton.process import TritonSettings
from latentry_serving.triton.supervisor import TritonServer

__all__ = [
    "api",
    "control_plane",
    "kube_assets",
    "namespace",
    "pytest_collection_finish",
    "pytest_terminal_summary",
    "stand_in",
]

WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)
TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)
ECHOED = [entry for entry in Datatype if entry not in (Datatype.BYTES, Datatype.BF16)]
_ONNX_TYPES = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
}


@pytest.fixture(scope="session")
def triton_install() -> TritonInstall:
    """The Triton of this machine; its absence fails the test with the remedy."""
    return find_triton()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BundleManifest]:
    """A bundle-like folder, with three models.

    ``tiny_encode``: x [n, 4] @ WEIGHTS -> embedding [n, 2]. ``tiny_decode``: one input and one equal output of every
    datatype, <type>_in [n, 3] -> <type>_out. ``tiny_sample``: index [n, 1] -> row of TABLE [n, 1, 2]; an index
    outside 0..9 makes onnxruntime fail.
    """
    root = tmp_path_factory.mktemp("bundle")
    echoed = [(kind, f"{kind.lower()}_in", f"{kind.lower()}_out") for kind in ECHOED]
    operations = {
        Operation.ENCODE: _write(
            root,
            "tiny_encode",
            [helper.make_node("MatMul", ["x", "w"], ["embedding"])],
            [TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,))],
            [TensorSpec(name="embedding", datatype=Datatype.FP32, shape=(2,))],
            {"w": WEIGHTS},
        ),
        Operation.DECODE: _write(
            root,
            "tiny_decode",
            [helper.make_node("Identity", [given], [answer]) for _, given, answer in echoed],
            [TensorSpec(name=given, datatype=kind, shape=(3,)) for kind, given, _ in echoed],
            [TensorSpec(name=answer, datatype=kind, shape=(3,)) for kind, _, answer in echoed],
            {},
        ),
        Operation.SAMPLE: _write(
            root,
            "tiny_sample",
            [helper.make_node("Gather", ["table", "index"], ["row"])],
            [TensorSpec(name="index", datatype=Datatype.INT64, shape=(1,))],
            [TensorSpec(name="row", datatype=Datatype.FP32, shape=(1, 2))],
            {"table": TABLE},
        ),
    }
    return root, BundleManifest(
        name="tiny",
        version="1",
        contract=Contract(family=Family.VAE, latent_dimension=2, embedding_space="tiny", operations=operations),
        golden=Golden(samples=1, tolerances={}),
        files=(),
        provenance=Provenance(sources={}),
    )


def _write(
    root: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    constants: dict[str, np.ndarray],
) -> OperationContract:
    """One model of the repository: graph and configuration."""
    graph = helper.make_graph(
        nodes,
        name,
        [_value(entry) for entry in inputs],
        [_value(entry) for entry in outputs],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    folder = root / "repository" / name
    (folder / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "1" / "model.onnx")
    config = ModelConfig(
        name=name,
        backend="onnxruntime",
        max_batch_size=32,
        inputs=tuple(TensorConfig.of(entry) for entry in inputs),
        outputs=tuple(TensorConfig.of(entry) for entry in outputs),
        dynamic_batching=DynamicBatching(max_queue_delay_us=500),
        warmup=(
            Warmup(
                name="warm",
                batch_size=32,
                inputs={entry.name: WarmupInput(datatype=entry.datatype, shape=entry.shape) for entry in inputs},
            ),
        ),
    )
    (folder / "config.pbtxt").write_text(config.to_pbtxt())
    return OperationContract(model=name, inputs=tuple(inputs), outputs=tuple(outputs))


def _value(tensor: TensorSpec) -> onnx.ValueInfoProto:
    kind = _ONNX_TYPES.get(tensor.datatype) or TensorProto.DataType.Value(tensor.datatype)
    return helper.make_tensor_value_info(tensor.name, kind, ["batch", *tensor.shape])


class LoopThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine):
        """The coroutine's result, from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=120)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


RunTriton = Callable[..., TritonServer]


@pytest.fixture(scope="session")
def running_triton(triton_install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunTriton]:
    """``running_triton(bundle_dir, manifest, overrides=None, settings=None)``: a ready TritonServer, stopped at the
    session's end. Each start takes seconds: prefer ``tiny_triton``."""
    with contextlib.ExitStack() as stack:
        thread = LoopThread()
        stack.callback(thread.close)

        def run(
            bundle_dir: Path,
            manifest: BundleManifest,
            overrides: RuntimeOverrides | None = None,
            settings: TritonSettings | None = None,
        ) -> TritonServer:
            root = tmp_path_factory.mktemp("triton")
            write_local_repository(bundle_dir, manifest, root / "repository", triton_install, overrides)
            server = TritonServer(triton_install, root / "repository", root / "work", settings)
            thread.run(server.start())
            stack.callback(lambda: thread.run(server.stop()))
            return server

        yield run


@pytest.fixture(scope="session")
def tiny_triton(running_triton: RunTriton, tiny_bundle: tuple[Path, BundleManifest]) -> TritonServer:
    """The shared server over ``tiny_bundle``."""
    return running_triton(*tiny_bundle)
