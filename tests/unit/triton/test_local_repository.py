"""The local repository: overrides, the switch of backend, links instead of copies, an untouched bundle."""

from pathlib import Path

import pytest

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.triton.install import PythonBackend, TritonInstall
from latentry_serving.triton.local_repository import RuntimeOverrides, override, write_local_repository
from latentry_serving.triton.model_config import (
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    Optimisation,
    TensorConfig,
    Warmup,
    WarmupInput,
)

CONFIG = ModelConfig(
    name="m_encode",
    backend="onnxruntime",
    max_batch_size=32,
    inputs=(TensorConfig(name="x", datatype=Datatype.FP32, shape=(4,)),),
    outputs=(TensorConfig(name="embedding", datatype=Datatype.FP32, shape=(2,)),),
    instances=InstanceGroup(count=2),
    dynamic_batching=DynamicBatching(max_queue_delay_us=500, preferred_batch_sizes=(8, 32)),
    optimisation=Optimisation(graph_level=1),
    warmup=(Warmup(name="w", batch_size=32, inputs={"x": WarmupInput(datatype=Datatype.FP32, shape=(4,))}),),
)
NATIVE = TritonInstall(binary=Path("/t/bin/tritonserver"), backend_dir=Path("/t/backends"))
LOCAL = TritonInstall(
    binary=Path("/t/bin/tritonserver"),
    backend_dir=Path("/t/backends"),
    python_backend=PythonBackend(
        directory=Path("/t/python"), stub=Path("/t/stub"), libpython_dir=Path("/lib"), interpreter=Path("/bin/python3")
    ),
)


def _bundle(root: Path, config: ModelConfig = CONFIG) -> tuple[Path, BundleManifest]:
    folder = root / "bundle/repository/m_encode"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config.to_pbtxt())
    (folder / "1/model.onnx").write_bytes(b"graph")
    (folder / "1/model.onnx.data").write_bytes(b"weights")
    return root / "bundle", BundleManifest(
        name="m",
        version="1",
        contract=Contract(
            family=Family.ENCODER,
            latent_dimension=2,
            embedding_space="m",
            operations={Operation.ENCODE: OperationContract(model="m_encode", inputs=(), outputs=())},
        ),
        golden=Golden(samples=1, tolerances={}),
        files=(),
        provenance=Provenance(sources={}),
    )


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _written(target: Path) -> ModelConfig:
    return ModelConfig.from_pbtxt((target / "m_encode/config.pbtxt").read_text())


def test_native_backend_keeps_the_configuration(tmp_path: Path) -> None:
    bundle, manifest = _bundle(tmp_path)
    assert write_local_repository(bundle, manifest, tmp_path / "out", NATIVE) == ("m_encode",)
    assert _written(tmp_path / "out") == CONFIG.model_copy(update={"parameters": {"intra_op_thread_count": "1"}})
    assert not (tmp_path / "out/m_encode/1/model.py").exists()


def test_python_backend_runs_the_same_graph(tmp_path: Path) -> None:
    bundle, manifest = _bundle(tmp_path)
    before = _content(bundle)
    write_local_repository(bundle, manifest, tmp_path / "out", LOCAL, RuntimeOverrides(threads=2))
    config = _written(tmp_path / "out")
    assert (config.backend, config.optimisation) == ("python", None)
    assert config.instances == InstanceGroup(count=2, kind=InstanceKind.CPU)
    assert config.parameters == {"intra_op_thread_count": "2", "graph_optimisation_level": "1"}
    assert (config.inputs, config.warmup, config.dynamic_batching) == (
        CONFIG.inputs,
        CONFIG.warmup,
        CONFIG.dynamic_batching,
    )
    version = tmp_path / "out/m_encode/1"
    for name in ("model.onnx", "model.onnx.data"):
        assert (version / name).readlink() == bundle / "repository/m_encode/1" / name
    assert "class TritonPythonModel" in (version / "model.py").read_text()
    assert _content(bundle) == before


def test_a_second_call_replaces_the_first(tmp_path: Path) -> None:
    bundle, manifest = _bundle(tmp_path)
    (tmp_path / "out/m_old").mkdir(parents=True)
    before = _content(bundle)
    for threads in (1, 3):
        write_local_repository(bundle, manifest, tmp_path / "out", LOCAL, RuntimeOverrides(threads=threads))
    assert _written(tmp_path / "out").parameters["intra_op_thread_count"] == "3"
    assert not (tmp_path / "out/m_old").exists()
    assert _content(bundle) == before


def test_a_gpu_is_kept_when_asked_for(tmp_path: Path) -> None:
    bundle, manifest = _bundle(tmp_path)
    write_local_repository(bundle, manifest, tmp_path / "out", LOCAL, RuntimeOverrides(kind=InstanceKind.GPU))
    assert _written(tmp_path / "out").instances.kind is InstanceKind.GPU


def test_overrides_replace_and_warm_ups_stay_within() -> None:
    changed = override(CONFIG, RuntimeOverrides(instances=4, max_batch_size=16, max_queue_delay_us=0))
    assert changed.instances.count == 4
    assert changed.max_batch_size == 16
    assert changed.dynamic_batching == DynamicBatching(max_queue_delay_us=0, preferred_batch_sizes=(8,))
    assert changed.warmup[0].batch_size == 16


def test_no_overrides_change_nothing() -> None:
    assert override(CONFIG, RuntimeOverrides()) == CONFIG


def test_a_queue_delay_switches_batching_on() -> None:
    plain = CONFIG.model_copy(update={"dynamic_batching": None})
    assert override(plain, RuntimeOverrides(max_queue_delay_us=7)).dynamic_batching == DynamicBatching(
        max_queue_delay_us=7
    )
    assert override(plain, RuntimeOverrides()).dynamic_batching is None


def test_a_batch_size_for_a_model_without_batches_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"runtime.maxBatchSize: is 8, but the model does not batch"):
        override(CONFIG.model_copy(update={"max_batch_size": 0, "warmup": ()}), RuntimeOverrides(max_batch_size=8))


@pytest.mark.parametrize("datatype", [Datatype.BYTES, Datatype.BF16])
def test_datatypes_the_stub_cannot_carry_are_refused(tmp_path: Path, datatype: Datatype) -> None:
    odd = CONFIG.model_copy(update={"outputs": (TensorConfig(name="label", datatype=datatype, shape=(1,)),)})
    bundle, manifest = _bundle(tmp_path, odd)
    with pytest.raises(InvalidInput, match=f"tensor label: {datatype} cannot be served"):
        write_local_repository(bundle, manifest, tmp_path / "out", LOCAL)
    assert not (tmp_path / "out").exists()
    write_local_repository(bundle, manifest, tmp_path / "out", NATIVE)


def test_a_bundle_without_its_configuration_is_named(tmp_path: Path) -> None:
    bundle, manifest = _bundle(tmp_path)
    (bundle / "repository/m_encode/config.pbtxt").unlink()
    with pytest.raises(InvalidInput, match=r"repository/m_encode/config.pbtxt: cannot be read"):
        write_local_repository(bundle, manifest, tmp_path / "out", LOCAL)
