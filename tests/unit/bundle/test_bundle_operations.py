"""What the composed graphs compute, against torch and the published formulas, at several batch sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from latentry_serving.bundle.build import build_bundle, build_from_modules
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.verify import verify_bundle
from latentry_serving.contract.manifest import BundleManifest, Datatype
from latentry_serving.contract.operations import OPERATIONS, Family, Operation
from latentry_serving.triton.model_config import ModelConfig

MakeSpec = Callable[..., BundleSpec]


def run(bundle: Path, operation: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(bundle / "repository" / f"digits_{operation}" / "1" / "model.onnx")
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def close(actual: np.ndarray, expected: Any) -> None:
    np.testing.assert_allclose(actual, np.asarray(expected), atol=1e-5, rtol=1e-4)


@pytest.fixture
def torch_outputs(models: Any, digits: np.ndarray) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        mean, log_variance = models.vae_encoder(torch.from_numpy(digits))
        return {"mean": mean, "log_variance": log_variance, "reconstruction": models.decoder(mean)}


@pytest.mark.parametrize("rows", [1, 2, 7, 33])
def test_encode_decode_reconstruct_repeat_torch_at_every_batch_size(
    built_vae: Path, digits: np.ndarray, torch_outputs: dict[str, torch.Tensor], rows: int
) -> None:
    encoded = run(built_vae, "encode", image=digits[:rows])
    assert list(encoded) == ["posterior_mean", "posterior_log_variance"]
    close(encoded["posterior_mean"], torch_outputs["mean"][:rows])
    close(encoded["posterior_log_variance"], torch_outputs["log_variance"][:rows])
    decoded = run(built_vae, "decode", latent=encoded["posterior_mean"])
    close(decoded["reconstruction"], torch_outputs["reconstruction"][:rows])
    reconstructed = run(built_vae, "reconstruct", image=digits[:rows])
    close(reconstructed["reconstruction"], torch_outputs["reconstruction"][:rows])


@pytest.mark.parametrize("reduction", ["MeanSquared", "SumSquared", "MeanAbsolute", "BinaryCrossEntropy"])
@pytest.mark.parametrize("prior", [None, {"mean": 0.7, "standardDeviation": 1.8}])
def test_score_is_the_declared_error_and_divergence(
    pristine: Path, tmp_path: Path, make_spec: MakeSpec, digits: np.ndarray,
    torch_outputs: dict[str, torch.Tensor], reduction: str, prior: dict[str, float] | None,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    build_bundle(make_spec(reconstructionError=reduction, prior=prior), base_dir=pristine, out_dir=out)
    scored = run(out, "score", image=digits[:50])
    x, r = torch.from_numpy(digits[:50]).flatten(1), torch_outputs["reconstruction"][:50].flatten(1)
    expected = {
        "MeanSquared": (x - r).square().mean(1),
        "SumSquared": (x - r).square().sum(1),
        "MeanAbsolute": (x - r).abs().mean(1),
        "BinaryCrossEntropy": functional.binary_cross_entropy(r, x, reduction="none").sum(1),
    }[reduction]
    close(scored["reconstruction_error"], expected[:, None])
    posterior = Normal(torch_outputs["mean"][:50], (0.5 * torch_outputs["log_variance"][:50]).exp())
    target = Normal(prior["mean"], prior["standardDeviation"]) if prior else Normal(0.0, 1.0)
    close(scored["kl_per_dimension"], kl_divergence(posterior, target))


def test_sample_decodes_the_scaled_noise(pristine: Path, tmp_path: Path, make_spec: MakeSpec, models: Any) -> None:
    out = tmp_path / "out"
    build_bundle(make_spec(prior={"mean": -1.0, "standardDeviation": 0.5}), base_dir=pristine, out_dir=out)
    noise = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    with torch.no_grad():
        expected = models.decoder(torch.from_numpy(noise) * 0.5 - 1.0)
    close(run(out, "sample", noise=noise)["sample"], expected)


def test_an_encoder_with_l2_gives_unit_vectors_and_zero_for_zero(
    tmp_path: Path, make_spec: MakeSpec, digits: np.ndarray
) -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(64, 4, bias=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.linear(image.flatten(1))
            return result

    np.save(tmp_path / "reference.npy", digits)
    module, out = Bare(), tmp_path / "out"
    spec = make_spec("Encoder", normalisation="L2")
    build_from_modules(spec, encoder=module, base_dir=tmp_path, out_dir=out)
    images = np.concatenate([digits[:5], np.zeros_like(digits[:1])])
    embedding = run(out, "encode", image=images)["embedding"]
    with torch.no_grad():
        close(embedding, functional.normalize(module(torch.from_numpy(images)), dim=1))
    assert not embedding[-1].any()


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "pt"])
@pytest.mark.parametrize("family", list(Family))
def test_every_family_builds_from_every_format_and_verifies(
    pristine: Path, tmp_path: Path, make_spec: MakeSpec, digits: np.ndarray, family: Family, suffix: str
) -> None:
    out = tmp_path / "out"
    steps: list[Any] = []
    manifest = build_bundle(make_spec(family, suffix), base_dir=pristine, out_dir=out, progress=steps.append)
    assert set(manifest.contract.operations) == set(OPERATIONS[family])
    verified = verify_bundle(out, digest=manifest.digest)
    assert set(verified.largest_differences) == set(OPERATIONS[family])
    assert [step.done for step in steps] == list(range(steps[0].total))
    assert ("torch" in manifest.provenance.tools) == (suffix != "onnx")
    for rows in (1, 5):
        (first, *_) = run(out, "encode", image=digits[:rows]).values()
        assert first.shape == (rows, 4)


def test_modules_give_what_their_files_give(
    pristine: Path, tmp_path: Path, make_spec: MakeSpec, models: Any, digits: np.ndarray
) -> None:
    models.vae_encoder.train()
    try:
        build_from_modules(
            make_spec(artifacts={"encoder": {"path": "unused.onnx"}}),
            encoder=models.vae_encoder, decoder=models.decoder, base_dir=pristine, out_dir=tmp_path / "modules",
        )  # fmt: skip
        assert models.vae_encoder.training, "the caller's module must be left as it was"
    finally:
        models.vae_encoder.eval()
    build_bundle(make_spec(suffix="pt2"), base_dir=pristine, out_dir=tmp_path / "files")
    ours, theirs = (run(tmp_path / kind, "score", image=digits[:9]) for kind in ("modules", "files"))
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_vae_without_decoder_offers_encode_only(pristine: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec(artifacts={"encoder": {"path": "encoder.onnx"}})
    manifest = build_bundle(spec, base_dir=pristine, out_dir=tmp_path / "out")
    assert list(manifest.contract.operations) == [Operation.ENCODE]
    assert manifest.contract.reconstruction_error is None


def test_manifest_and_configuration_say_what_was_asked(pristine: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    image = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "unit": "grey level", "range": [0, 1]}
    spec = make_spec(
        inputs=[image], embeddingSpace="digits-a", preprocessing="divide by 16",
        golden={"samples": 3, "tolerances": {"score": {"absolute": 0.5, "relative": 0}}},
        runtime={"maxBatchSize": 16, "maxQueueDelay": "2ms", "instances": 2},
        provenance={"gitCommit": "0123abc", "mlflowRun": "r-1"},
    )  # fmt: skip
    out = tmp_path / "out"
    manifest = build_bundle(spec, base_dir=pristine, out_dir=out)
    encode = manifest.contract.operations[Operation.ENCODE]
    assert (encode.inputs[0].unit, encode.inputs[0].range) == ("grey level", (0.0, 1.0))
    assert manifest.contract.embedding_space == "digits-a"
    assert manifest.golden.tolerances[Operation.SCORE].absolute == 0.5
    assert (manifest.provenance.git_commit, manifest.provenance.mlflow_run) == ("0123abc", "r-1")
    assert set(manifest.provenance.sources) == {"spec", "reference", "encoder", "decoder"}
    config = ModelConfig.from_pbtxt((out / "repository/digits_encode/config.pbtxt").read_text())
    assert (config.max_batch_size, config.instances.count) == (16, 2)
    assert config.dynamic_batching is not None
    assert config.dynamic_batching.max_queue_delay_us == 2000
    assert [warmup.batch_size for warmup in config.warmup] == [1, 16]
    golden = np.load(out / "golden/encode/inputs/image.npy")
    np.testing.assert_array_equal(golden, np.load(pristine / "reference.npy")[[0, 898, 1796]])


def test_an_encoder_of_several_inputs_with_a_dynamic_length(tmp_path: Path, make_spec: MakeSpec) -> None:
    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(50, 4)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            weights = mask.unsqueeze(-1).float()
            return (self.table(tokens) * weights).sum(1) / weights.sum(1).clamp(min=1.0)

    rng = np.random.default_rng(0)
    tokens, mask = rng.integers(0, 50, (20, 6)), np.ones((20, 6), np.int64)
    np.savez(tmp_path / "reference.npz", tokens=tokens, mask=mask)
    inputs = [{"name": name, "datatype": "INT64", "shape": [-1]} for name in ("tokens", "mask")]
    spec = make_spec("Encoder", inputs=inputs, reference={"path": "reference.npz"})
    out = tmp_path / "out"
    manifest = build_from_modules(spec, encoder=Text(), base_dir=tmp_path, out_dir=out)
    assert manifest.contract.operations[Operation.ENCODE].inputs[1].shape == (-1,)
    verify_bundle(out)
    longer = run(out, "encode", tokens=np.tile(tokens, (1, 2)), mask=np.tile(mask, (1, 2)))
    close(longer["embedding"], run(out, "encode", tokens=tokens, mask=mask)["embedding"])


def test_other_precisions_keep_their_type(tmp_path: Path, make_spec: MakeSpec, models: Any, digits: np.ndarray) -> None:
    np.save(tmp_path / "reference.npy", digits.astype(np.float64))

    class InDouble(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.inner(image.float())
            return result

    manifest = build_from_modules(
        make_spec("Autoencoder"), encoder=InDouble(models.mlp), decoder=models.decoder,
        base_dir=tmp_path, out_dir=tmp_path / "out",
    )  # fmt: skip
    assert isinstance(manifest, BundleManifest)
    assert manifest.contract.operations[Operation.SCORE].inputs[0].datatype is Datatype.FP64
    x, r = digits[:5], run(tmp_path / "out", "reconstruct", image=digits[:5].astype(np.float64))["reconstruction"]
    score = run(tmp_path / "out", "score", image=digits[:5].astype(np.float64))["reconstruction_error"]
    close(score[:, 0], np.square(x - r).reshape(5, -1).mean(1))
