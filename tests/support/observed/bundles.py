"""The bundles: a linear VAE whose decoder fails for latents out of this world, an encoder, and spoilt copies."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from small_graphs import Node, save_graph, save_linear

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.golden import save_golden
from latentry_serving.bundle.recorded import load_golden
from latentry_serving.bundle.spec import load_spec
from latentry_serving.bundle.store import file_entries, load_manifest
from latentry_serving.contract.operations import Operation

Rows = NDArray[np.float32]

LATENTS, WIDTH, WINDOW = 4, 16, 100
LIMIT = 50.0
"""Latents beyond it make the decoder fail."""
_NOISE = 0.3
_SCALES = np.array([2, 1.5, 1.2, 1], np.float32)
_DIRECTIONS = np.linalg.qr(np.random.default_rng(5).normal(size=(WIDTH, LATENTS)))[0].T.astype(np.float32)
_SPEC = """
apiVersion: latentry.dev/v1alpha1
kind: BundleSpec
name: {name}
version: "7"
family: {family}
latentDimension: {latents}
artifacts: {{{artifacts}}}
reference: {{path: reference.npy}}
{more}
"""
_PROFILE = f"profile: {{window: {WINDOW}}}"


def traffic(rng: np.random.Generator, rows: int) -> Rows:
    """Inputs [rows, WIDTH] as the models were made for."""
    latents = rng.normal(size=(rows, LATENTS)).astype(np.float32) * _SCALES
    return (latents @ _DIRECTIONS + rng.normal(scale=_NOISE, size=(rows, WIDTH))).astype(np.float32)


def build_vae(folder: Path) -> Path:
    """x [n, WIDTH] -> mean, log_variance [n, LATENTS]; z -> x. With a profile."""
    weights = {
        "encode": (_DIRECTIONS / _SCALES[:, None]).T,
        "decode": _DIRECTIONS * _SCALES[:, None],
        "slope": np.float32(0.5),
        "level": np.float32(-2),
        "limit": np.float32(LIMIT),
        "nothing": np.zeros(1, np.float32),
        "beyond": np.int64(99),
        "first": np.ones(1, np.int64),
    }
    encoder: list[Node] = [
        ("MatMul", ["x", "encode"], "mean"),
        ("Tanh", ["mean"], "bent"),
        ("Mul", ["bent", "slope"], "tilted"),
        ("Add", ["tilted", "level"], "log_variance"),
    ]
    decoder: list[Node] = [
        ("ReduceMax", ["z"], "most", {"keepdims": 0}),
        ("Greater", ["most", "limit"], "far"),
        ("Cast", ["far"], "one", {"to": TensorProto.INT64}),
        ("Mul", ["one", "beyond"], "more"),
        ("Add", ["more", "first"], "sizes"),
        ("Reshape", ["nothing", "sizes"], "zero"),  # one value cannot become a hundred
        ("MatMul", ["z", "decode"], "raw"),
        ("Add", ["raw", "zero"], "x"),
    ]
    save_graph(
        folder / "encoder.onnx", encoder, {"x": [WIDTH]}, {"mean": [LATENTS], "log_variance": [LATENTS]}, weights
    )
    save_graph(folder / "decoder.onnx", decoder, {"z": [LATENTS]}, {"x": [WIDTH]}, weights)
    return _build(
        folder,
        name="faces",
        family="VAE",
        artifacts="encoder: {path: encoder.onnx}, decoder: {path: decoder.onnx}",
        more=f"reconstructionError: MeanSquared\n{_PROFILE}",
    )


def build_encoder(folder: Path) -> Path:
    """x [n, WIDTH] -> embedding [n, LATENTS]; one graph, so that its Triton starts soon."""
    save_linear(folder / "encoder.onnx", _DIRECTIONS.T)
    return _build(folder, name="words", family="Encoder", artifacts="encoder: {path: encoder.onnx}", more=_PROFILE)


def with_other_golden(bundle: Path, copy: Path) -> Path:
    """The same bundle, whose recorded answers are not those of its models."""
    shutil.copytree(bundle, copy)
    manifest = load_manifest(copy)
    contract = manifest.contract.operations[Operation.ENCODE]
    inputs = load_golden(copy, Operation.ENCODE, "inputs", contract.inputs)
    outputs = load_golden(copy, Operation.ENCODE, "outputs", contract.outputs)
    save_golden(copy, Operation.ENCODE, inputs, {name: array + 1 for name, array in outputs.items()})
    (copy / "bundle.json").write_bytes(manifest.model_copy(update={"files": file_entries(copy)}).to_bytes())
    return copy


def _build(folder: Path, **words: str) -> Path:
    np.save(folder / "reference.npy", traffic(np.random.default_rng(1), 3_000))
    (folder / "spec.yaml").write_text(_SPEC.format(latents=LATENTS, **words))
    build_bundle(load_spec(folder / "spec.yaml"), base_dir=folder, out_dir=folder / "bundle")
    return folder / "bundle"
