"""Bad input: each is refused with a sentence that names the thing and the remedy, and leaves nothing behind.

Covered: missing file; cut short; unsupported operator (ONNX, ONNX Runtime, torch); static batch dimension; dynamic
dimension where none is allowed; NaN and infinite weights; latent dimension; decoder that does not fit; reference data
of wrong shape, dtype, range, length or with NaN; graphs that sample, or mix the rows of a batch; a failed parity.
Pickles have a file of their own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from latentry_serving.bundle import build as build_module
from latentry_serving.bundle.build import build_bundle, build_from_modules
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.torch_export import TorchModel
from latentry_serving.contract.errors import InvalidInput

MakeSpec = Callable[..., BundleSpec]


@pytest.fixture
def refused(folder: Path, make_spec: MakeSpec) -> Callable[..., str]:
    """Builds, expects a refusal, checks that nothing was left, and gives the whole message."""

    def build(*args: Any, modules: dict[str, Any] | None = None, **changes: Any) -> str:
        out = folder.parent / "new" / "deeper" / "out"
        before = sorted(folder.rglob("*"))
        spec = make_spec(*args, **changes)
        with pytest.raises(InvalidInput) as caught:
            if modules:
                build_from_modules(spec, **modules, base_dir=folder, out_dir=out)
            else:
                build_bundle(spec, base_dir=folder, out_dir=out)
        assert not (folder.parent / "new").exists()
        assert sorted(folder.rglob("*")) == before
        assert caught.value.exit_code == 2
        assert all(problem.remedy for problem in caught.value.problems)
        return str(caught.value)

    return build


Refused = Callable[..., str]


def edit(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def test_missing_files_are_all_named(folder: Path, refused: Refused) -> None:
    (folder / "encoder.onnx").unlink()
    (folder / "decoder.onnx").unlink()
    said = refused()
    assert "encoder.onnx does not exist" in said
    assert "decoder.onnx does not exist" in said
    assert "copy the file there" in said


def test_a_folder_given_as_artifact(folder: Path, refused: Refused) -> None:
    (folder / "encoder.onnx").unlink()
    (folder / "encoder.onnx").mkdir()
    assert "is a folder" in refused()


def test_missing_reference(folder: Path, refused: Refused) -> None:
    (folder / "reference.npy").unlink()
    assert "reference.npy does not exist" in refused()


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "pt"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_graph_file_cut_short(folder: Path, refused: Refused, suffix: str, kept: float) -> None:
    path = folder / f"encoder.{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    said = refused(suffix=suffix)
    assert "artifacts.encoder" in said
    assert "file is whole" in said


def test_a_missing_external_data_file(folder: Path, refused: Refused) -> None:
    model = onnx.load(folder / "encoder.onnx")
    onnx.save_model(
        model, folder / "encoder.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (folder / "weights.bin").unlink()
    assert "weights.bin" in refused()


def test_an_external_data_file_cut_short(folder: Path, refused: Refused) -> None:
    model = onnx.load(folder / "encoder.onnx")
    onnx.save_model(
        model, folder / "encoder.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    data = (folder / "weights.bin").read_bytes()
    (folder / "weights.bin").write_bytes(data[: len(data) // 2])
    assert "cut short" in refused()


def test_an_operator_onnx_does_not_know(folder: Path, refused: Refused) -> None:
    edit(folder / "encoder.onnx", lambda model: setattr(model.graph.node[0], "op_type", "Frobnicate"))
    said = refused()
    assert "operator Frobnicate" in said
    assert "standard ONNX operators" in said


def test_an_operator_onnxruntime_does_not_know(folder: Path, refused: Refused) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type, model.graph.node[0].domain = "Frobnicate", "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))

    edit(folder / "encoder.onnx", change)
    said = refused()
    assert "Frobnicate" in said
    assert "onnxruntime" in said


class Unsupported(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(image[:, 0, :4, :4] + 1.0).real


class DataDependent(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)[:, :4] if image.sum() > 0 else image.flatten(1)[:, 4:8]


@pytest.mark.parametrize("module", [Unsupported(), DataDependent()])
def test_a_module_torch_cannot_turn_into_onnx(refused: Refused, module: torch.nn.Module) -> None:
    said = refused("Encoder", modules={"encoder": module})
    assert "torch cannot turn it into ONNX" in said
    assert "\x1b" not in said


def test_an_unsupported_operator_in_a_program(
    folder: Path, refused: Refused, export_program: Callable[..., None]
) -> None:
    export_program(Unsupported(), torch.rand(3, 1, 8, 8), folder / "mlp.pt2")
    said = refused("Encoder", "pt2")
    assert "linalg_eig" in said


def test_a_static_batch_dimension_in_onnx(folder: Path, refused: Refused) -> None:
    edit(
        folder / "encoder.onnx",
        lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 3),
    )
    said = refused()
    assert "static batch dimension 3" in said
    assert "dynamic_shapes" in said


def test_a_static_batch_dimension_in_a_program(
    folder: Path, refused: Refused, models: Any, export_program: Callable[..., None]
) -> None:
    export_program(models.mlp, torch.rand(3, 1, 8, 8), folder / "mlp.pt2", dynamic=False)
    assert "static batch dimension 3" in refused("Encoder", "pt2")


def test_a_batch_dimension_fixed_inside_the_graph(folder: Path, refused: Refused) -> None:
    """The input says dynamic, a reshape inside says 3."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "fixed"], ["flat"]),
            helper.make_node("Slice", ["flat", "zero", "four", "one"], ["latent"]),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 1, 8, 8])],
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["b", 4])],
        [
            numpy_helper.from_array(np.array(value, np.int64), name)
            for name, value in (("fixed", [3, 64]), ("zero", [0]), ("four", [4]), ("one", [1]))
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), folder / "mlp.onnx")
    assert "fails on reference inputs" in refused("Encoder")


def test_a_dynamic_dimension_where_none_is_allowed(folder: Path, refused: Refused) -> None:
    def change(model: onnx.ModelProto) -> None:
        dim = model.graph.input[0].type.tensor_type.shape.dim[2]
        dim.Clear()
        dim.dim_param = "height"

    for name in ("encoder", "mlp"):
        edit(folder / f"{name}.onnx", change)
    assert "dynamic dimensions beside the batch: [batch, 1, ?, 8]" in refused()
    said = refused("Encoder")
    assert "declare them under inputs: shape: [1, -1, 8]" in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_weights_that_are_not_finite(
    folder: Path, refused: Refused, models: Any, export_program: Callable[..., None], value: float, suffix: str
) -> None:
    import copy

    spoilt = copy.deepcopy(models.vae_encoder)
    with torch.no_grad():
        spoilt.mean.weight[1, 2] = value
    if suffix == "pt2":
        export_program(spoilt, torch.rand(3, 1, 8, 8), folder / "encoder.pt2")
    else:
        program = torch.onnx.export(
            spoilt, (torch.rand(3, 1, 8, 8),), dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )  # fmt: skip
        assert program is not None
        onnx.save(program.model_proto, folder / "encoder.onnx")
    said = refused(suffix=suffix)
    assert "mean.weight" in said
    assert "holds 1 NaN or infinite of 256 values" in said


def test_a_mask_of_zero_and_minus_infinity_is_no_broken_weight(
    folder: Path, make_spec: MakeSpec, tmp_path: Path
) -> None:
    class Masked(torch.nn.Module):
        mask: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.triu(torch.full((8, 8), -torch.inf), 1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.softmax(image[:, 0] + self.mask, -1)[:, 7, :4]

    build_from_modules(make_spec("Encoder"), encoder=Masked(), base_dir=folder, out_dir=tmp_path / "out")


def test_an_output_that_is_not_the_latent_dimension(refused: Refused) -> None:
    said = refused(latentDimension=5)
    assert "latentDimension: is 5, the encoder's output" in said
    assert "[batch, 4]" in said
    assert "correct latentDimension" in said


def test_an_output_of_unstated_shape_is_measured(folder: Path, refused: Refused) -> None:
    edit(folder / "mlp.onnx", lambda model: model.graph.output[0].type.tensor_type.shape.dim[1].Clear())
    said = refused("Encoder", latentDimension=5)
    assert "has shape [64, 4] for 64 rows, expected [64, 5]" in said


@pytest.mark.parametrize("family", ["Autoencoder", "Encoder"])
def test_an_encoder_with_too_many_outputs(refused: Refused, family: str) -> None:
    artifacts = {"encoder": {"path": "encoder.onnx"}}
    if family == "Autoencoder":
        artifacts["decoder"] = {"path": "decoder.onnx"}
    assert f"{family} needs 1" in refused(family, artifacts=artifacts)


def test_posterior_in_the_wrong_order(folder: Path, refused: Refused) -> None:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for i, name in enumerate(node.output):
                node.output[i] = {model.graph.output[0].name: "logvar", model.graph.output[1].name: "mu"}.get(
                    name, name
                )
        model.graph.output[0].name, model.graph.output[1].name = "logvar", "mu"

    edit(folder / "encoder.onnx", change)
    assert "return the posterior mean first" in refused()


def test_a_decoder_for_another_latent(folder: Path, refused: Refused, export_onnx: Callable[..., Any]) -> None:
    export_onnx(
        torch.nn.Sequential(torch.nn.Linear(6, 64), torch.nn.Unflatten(1, (1, 8, 8))),
        torch.zeros(3, 6),
        folder / "decoder.onnx",
    )
    said = refused()
    assert "artifacts.decoder: does not fit the encoder: it takes [batch, 6]" in said
    assert "trained with this encoder" in said


def test_a_decoder_of_another_image_size(folder: Path, refused: Refused, export_onnx: Callable[..., Any]) -> None:
    export_onnx(
        torch.nn.Sequential(torch.nn.Linear(4, 49), torch.nn.Unflatten(1, (1, 7, 7))),
        torch.zeros(3, 4),
        folder / "decoder.onnx",
    )
    assert "it gives [batch, 1, 7, 7], the encoder takes [batch, 1, 8, 8]" in refused()


def test_a_decoder_in_another_precision(folder: Path, refused: Refused, export_onnx: Callable[..., Any]) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Unflatten(1, (1, 8, 8))).double()
    export_onnx(module, torch.zeros(3, 4, dtype=torch.float64), folder / "decoder.onnx")
    assert "it takes FP64, the encoder gives FP32" in refused()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: x[:, :, :7], "has shape [1797, 1, 7, 8], the model takes [rows, 1, 8, 8]"),
        (lambda x: x[0, 0, 0, 0], "has shape []"),
        (lambda x: x.astype(np.float64), "has dtype float64, the model takes float32"),
        (lambda x: (x * 16).astype(np.uint8), "has dtype uint8"),
        (lambda x: np.where(x == x.max(), np.nan, x), "NaN or infinite values"),
        (lambda x: x[:5], "has 5 rows, golden.samples asks for 8"),
        (lambda x: x[:0], "has 0 rows"),
        (lambda x: np.array([{"a": 1}], dtype=object), "pickled Python objects"),
    ],
)
def test_reference_data_that_does_not_fit(
    folder: Path, refused: Refused, digits: np.ndarray, spoil: Any, said: str
) -> None:
    np.save(folder / "reference.npy", spoil(digits), allow_pickle=True)
    message = refused()
    assert "reference.path" in message
    assert said in message


def test_reference_data_cut_short(folder: Path, refused: Refused) -> None:
    data = (folder / "reference.npy").read_bytes()
    for length in (0, 5, 200):
        (folder / "reference.npy").write_bytes(data[:length])
        assert "cut short or no numpy file" in refused()


def test_reference_data_outside_the_declared_range(folder: Path, refused: Refused, digits: np.ndarray) -> None:
    np.save(folder / "reference.npy", digits * 16)
    image = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "range": [0, 1]}
    said = refused(inputs=[image], reconstructionError="BinaryCrossEntropy")
    assert "spans [0, 16], inputs declares [0, 1]" in said
    assert "BinaryCrossEntropy needs [0, 1]" in said


def test_declared_inputs_that_the_graph_does_not_have(refused: Refused) -> None:
    said = refused(inputs=[{"name": "picture", "datatype": "FP32", "shape": [1, 8, 8]}])
    assert "declares 'picture', the encoder takes image" in said
    said = refused(inputs=[{"name": "image", "datatype": "UINT8", "shape": [3, 8, 8]}])
    assert "is UINT8, the graph takes FP32" in said
    assert "is [batch, 3, 8, 8], the graph takes [batch, 1, 8, 8]" in said


def test_a_reconstruction_outside_zero_to_one_has_no_cross_entropy(
    folder: Path, refused: Refused, export_onnx: Callable[..., Any]
) -> None:
    export_onnx(
        torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Unflatten(1, (1, 8, 8))),
        torch.zeros(3, 4),
        folder / "decoder.onnx",
    )
    assert "final sigmoid" in refused(reconstructionError="BinaryCrossEntropy")


class Sampling(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        flat = image.flatten(1)[:, :4]
        return flat + torch.randn_like(flat)


class AcrossRows(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        flat = image.flatten(1)[:, 18:22]
        return flat - flat.mean(0, keepdim=True)


class NotFinite(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.log(image.flatten(1)[:, :4] - 1.0)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Sampling(), "another result each time"),
        (AcrossRows(), "another result for a row alone"),
        (NotFinite(), "NaN or infinite values for reference inputs"),
    ],
)
def test_graphs_that_cannot_be_served_reproducibly(refused: Refused, module: torch.nn.Module, said: str) -> None:
    assert said in refused("Encoder", modules={"encoder": module})


def test_a_failed_parity_names_the_largest_difference(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    true_run = TorchModel.run

    def off_by_a_quarter(self: TorchModel, inputs: Any) -> list[np.ndarray]:
        outputs = true_run(self, inputs)
        outputs[0][3, 1] += 0.25
        return outputs

    monkeypatch.setattr(TorchModel, "run", off_by_a_quarter)
    said = refused(suffix="pt2")
    assert "does not repeat torch on reference inputs" in said
    assert "differs by up to 0.25" in said


def test_an_error_after_writing_began_leaves_nothing(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InvalidInput.one("b", path="p", problem="stopped late", remedy="r")

    monkeypatch.setattr(build_module, "_provenance", fail)
    assert "stopped late" in refused()


def test_a_newer_file_format_than_servers_read_is_lowered(folder: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    """The format's number is not an operator: a graph of known operators is written in the format they need."""
    edit(folder / "mlp.onnx", lambda model: setattr(model, "ir_version", onnx.IR_VERSION))
    build_bundle(make_spec("Encoder"), base_dir=folder, out_dir=tmp_path / "out")
    written = onnx.load(tmp_path / "out/repository/digits_encode/1/model.onnx")
    assert written.ir_version < onnx.IR_VERSION


def test_a_score_that_overflows(folder: Path, refused: Refused, models: Any, export_onnx: Callable[..., Any]) -> None:
    """A log-variance of 200 is finite, its exponential is not."""

    class Overflowing(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            flat = image.flatten(1)[:, :4]
            return flat, flat * 0.0 + 200.0

    export_onnx(Overflowing(), torch.rand(3, 1, 8, 8), folder / "encoder.onnx")
    assert "kl_per_dimension holds NaN or infinite values" in refused()
