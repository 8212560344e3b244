"""diff: which contract changes break clients, and how far apart two bundles' embeddings lie."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.diff import diff_bundles
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract.compatibility import contract_changes
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import Contract

MakeSpec = Callable[..., BundleSpec]


@pytest.fixture
def contract(built_vae: Path) -> dict[str, Any]:
    return load_manifest(built_vae).contract.model_dump(mode="json", by_alias=True)


def changed(contract: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> list[tuple[str, str]]:
    before = Contract.model_validate(contract)
    change(contract)
    return [(entry.path, entry.effect.value) for entry in contract_changes(before, Contract.model_validate(contract))]


def tensor(contract: dict[str, Any], operation: str, side: str, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = contract["operations"][operation][side][index]
    return found


def test_nothing_changed(contract: dict[str, Any]) -> None:
    assert changed(contract, lambda c: None) == []


@pytest.mark.parametrize(
    ("change", "path", "effect"),
    [
        (lambda c: c.update(latentDimension=8), "latentDimension", "breaking"),
        (lambda c: c.update(embeddingSpace="other"), "embeddingSpace", "breaking"),
        (lambda c: c.update(normalisation="L2"), "normalisation", "breaking"),
        (lambda c: c["prior"].update(mean=1.0), "prior", "breaking"),
        (lambda c: c.update(reconstructionError="SumSquared"), "reconstructionError", "breaking"),
        (lambda c: c.update(preprocessing="divide by 255"), "preprocessing", "breaking"),
        (lambda c: c.update(family="Encoder"), "family", "breaking"),
        (lambda c: c["operations"].pop("sample"), "operations.sample", "breaking"),
        (lambda c: c["operations"]["encode"].update(model="x_encode"), "operations.encode.model", "breaking"),
    ],
)
def test_one_change_has_one_effect(contract: dict[str, Any], change: Any, path: str, effect: str) -> None:
    assert changed(contract, change) == [(path, effect)]


@pytest.mark.parametrize(
    ("operation", "side", "index", "change", "path", "effect"),
    [
        ("encode", "inputs", 0, {"datatype": "UINT8"}, "image.datatype", "breaking"),
        ("encode", "inputs", 0, {"shape": [1, 9, 9]}, "image.shape", "breaking"),
        ("encode", "inputs", 0, {"shape": [1, -1, 8]}, "image.shape", "compatible"),
        ("encode", "outputs", 0, {"shape": [-1]}, "posterior_mean.shape", "breaking"),
        ("encode", "inputs", 0, {"range": [0, 1]}, "image.range", "breaking"),
        ("decode", "outputs", 0, {"range": [0, 1]}, "reconstruction.range", "compatible"),
        ("encode", "inputs", 0, {"unit": "grey level"}, "image.unit", "compatible"),
        ("score", "outputs", 1, {"unit": "bits"}, "kl_per_dimension.unit", "breaking"),
    ],
)
def test_one_tensor_change_has_one_effect(
    contract: dict[str, Any], operation: str, side: str, index: int, change: dict[str, Any], path: str, effect: str
) -> None:
    found = changed(contract, lambda c: tensor(c, operation, side, index).update(change))
    assert found == [(f"operations.{operation}.{side}.{path}", effect)]


@pytest.mark.parametrize(("side", "effect"), [("inputs", "breaking"), ("outputs", "compatible")])
def test_an_added_tensor(contract: dict[str, Any], side: str, effect: str) -> None:
    extra = {"name": "extra", "datatype": "FP32", "shape": [1]}
    found = changed(contract, lambda c: c["operations"]["encode"][side].append(extra))
    assert found == [(f"operations.encode.{side}.extra", effect)]


def test_a_removed_output(contract: dict[str, Any]) -> None:
    found = changed(contract, lambda c: c["operations"]["encode"]["outputs"].pop())
    assert found == [("operations.encode.outputs.posterior_log_variance", "breaking")]


def test_a_renamed_tensor_is_removed_and_added(contract: dict[str, Any]) -> None:
    assert changed(contract, lambda c: tensor(c, "encode", "inputs").update(name="picture")) == [
        ("operations.encode.inputs.image", "breaking"),
        ("operations.encode.inputs.picture", "breaking"),
    ]


def test_an_added_operation_is_compatible(contract: dict[str, Any]) -> None:
    after = Contract.model_validate(contract)
    contract["operations"].pop("sample")
    (change,) = contract_changes(Contract.model_validate(contract), after)
    assert (change.path, change.effect) == ("operations.sample", "compatible")


def test_a_bundle_and_itself(built_vae: Path) -> None:
    result = diff_bundles(built_vae, built_vae)
    assert (result.compatible, result.changes) == (True, ())
    assert result.files.changed == result.files.added == result.files.removed == ()
    assert result.embeddings is not None
    assert (result.embeddings.samples, result.embeddings.largest_difference) == (128, 0)
    assert result.embeddings.smallest_cosine == pytest.approx(1)


def scaled_weights(folder: Path, rng_seed: int, strength: float) -> None:
    """Moves the encoder's weights: a retrained model."""
    model, rng = onnx.load(folder / "encoder.onnx"), np.random.default_rng(rng_seed)
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1:
            values = onnx.numpy_helper.to_array(weight)
            moved = values + strength * values.std() * rng.standard_normal(values.shape)
            weight.CopyFrom(onnx.numpy_helper.from_array(moved.astype(np.float32), weight.name))
    onnx.save(model, folder / "encoder.onnx")


def test_a_retrained_encoder_that_claims_the_same_space(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, built_vae: Path
) -> None:
    scaled_weights(folder, 5, strength=2.0)
    build_bundle(make_spec(embeddingSpace="digits-1", version="2"), base_dir=folder, out_dir=tmp_path / "out")
    result = diff_bundles(built_vae, tmp_path / "out")
    (change,) = result.changes
    assert not result.compatible
    assert change.path == "embeddingSpace"
    assert "name another embeddingSpace" in change.reason
    assert result.embeddings is not None
    assert result.embeddings.smallest_cosine < 0.98
    assert "repository/digits_encode/1/model.onnx" in result.files.changed
    assert "repository/digits_decode/1/model.onnx" not in result.files.changed


def test_a_slightly_moved_encoder_may_keep_its_space(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, built_vae: Path
) -> None:
    scaled_weights(folder, 5, strength=1e-4)
    build_bundle(make_spec(embeddingSpace="digits-1", version="2"), base_dir=folder, out_dir=tmp_path / "out")
    assert diff_bundles(built_vae, tmp_path / "out").compatible


def test_a_smaller_batch_breaks_and_a_larger_does_not(
    pristine: Path, tmp_path: Path, make_spec: MakeSpec, built_vae: Path
) -> None:
    for size in (16, 64):
        spec = make_spec(runtime={"maxBatchSize": size})
        build_bundle(spec, base_dir=pristine, out_dir=tmp_path / str(size))
        changes = diff_bundles(built_vae, tmp_path / str(size)).changes
        assert {change.effect.value for change in changes} == {"breaking" if size < 32 else "compatible"}
        assert {change.path for change in changes} >= {"operations.encode.maxBatchSize"}


def test_other_families_share_no_embedding(
    pristine: Path, tmp_path: Path, make_spec: MakeSpec, built_vae: Path
) -> None:
    inputs = [{"name": "image", "datatype": "FP32", "shape": [1, 8, 8]}]
    build_bundle(make_spec("Autoencoder", inputs=inputs), base_dir=pristine, out_dir=tmp_path / "ae")
    result = diff_bundles(built_vae, tmp_path / "ae")
    broken = {change.path for change in result.changes if change.effect == "breaking"}
    assert {"family", "prior", "operations.sample", "operations.encode.outputs.posterior_mean"} <= broken


def test_a_graph_that_does_not_run(vae_bundle: Path, built_vae: Path) -> None:
    (vae_bundle / "repository/digits_encode/1/model.onnx").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="does not run"):
        diff_bundles(built_vae, vae_bundle)
