"""Graphs with If, Loop and Scan: their subgraphs read names of the graphs around them, which composing renames.

Expected values are those of onnxruntime on the encoder and decoder alone. Both use the same names inside.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.verify import verify_bundle

HEADER = '<ir_version: 8, opset_import: ["" : 18]>\n'
ENCODER = """
encoder (float[batch, 1, 8, 8] image) => (float[batch, 4] mean, float[batch, 4] log_variance) {
    flat = Flatten <axis = 1> (image)
    hidden = MatMul (flat, weight)
    least = ReduceMin <keepdims = 0> (image)
    bright = GreaterOrEqual (least, zero)
    chosen = If (bright) <
        then_branch = bright_branch () => (float[batch, 4] taken) { taken = Add (hidden, bias) },
        else_branch = dark_branch () => (float[batch, 4] left) { less = Sub (hidden, bias) left = Mul (less, gain) }
    >
    mean = Loop (three, yes, chosen) <
        body = step (int64 i, bool go, float[batch, 4] state) => (bool again, float[batch, 4] next) {
            again = Identity (go)
            turned = MatMul (state, square)
            added = If (bright) <
                then_branch = inner_then () => (float[batch, 4] with_hidden) { with_hidden = Add (turned, hidden) },
                else_branch = inner_else () => (float[batch, 4] with_bias) { with_bias = Add (turned, bias) }
            >
            next = Tanh (added)
        }
    >
    log_variance = Scan (mean, rows) <
        num_scan_inputs = 1,
        body = row (float[batch, 4] total, float[4] entry) => (float[batch, 4] sum) {
            scaled = Mul (entry, gain)
            sum = Add (total, scaled)
        }
    >
}
"""
DECODER = """
decoder (float[batch, 4] latent) => (float[batch, 1, 8, 8] reconstruction) {
    hidden = MatMul (latent, weight)
    least = ReduceMin <keepdims = 0> (weight)
    bright = Less (least, zero)
    flat = If (bright) <
        then_branch = bright_branch () => (float[batch, 64] taken) { taken = Add (hidden, bias) },
        else_branch = dark_branch () => (float[batch, 64] left) { left = Identity (hidden) }
    >
    pixels = Sigmoid (flat)
    reconstruction = Reshape (pixels, image_shape)
}
"""


def write(path: Path, text: str, **weights: np.ndarray) -> None:
    model = onnx.parser.parse_model(HEADER + text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@pytest.fixture
def branching(folder: Path) -> Path:
    """The folder with an encoder and a decoder that branch and loop in place of the plain ones."""
    rng = np.random.default_rng(8)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(scale=0.3, size=shape).astype(np.float32)

    zero = np.float32(0.0).reshape(())
    write(
        folder / "encoder.onnx", ENCODER, zero=zero, weight=weight(64, 4), bias=weight(4), gain=weight(4),
        square=weight(4, 4), rows=weight(3, 4), three=np.array(3), yes=np.array(True),
    )  # fmt: skip
    image_shape = np.array([-1, 1, 8, 8])
    write(folder / "decoder.onnx", DECODER, zero=zero, weight=weight(4, 64), bias=weight(64), image_shape=image_shape)
    return folder


def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    return list(onnxruntime.InferenceSession(path).run(None, inputs))


@pytest.mark.parametrize("sign", [1, -1], ids=["then", "else"])
def test_composed_subgraphs_compute_what_the_parts_compute(
    branching: Path, tmp_path: Path, make_spec: Callable[..., BundleSpec], digits: np.ndarray, sign: int
) -> None:
    out = tmp_path / "out"
    build_bundle(make_spec(), base_dir=branching, out_dir=out)
    verify_bundle(out)
    images = sign * digits[:7]
    mean, log_variance = run(branching / "encoder.onnx", image=images)
    (reconstruction,) = run(branching / "decoder.onnx", latent=mean)

    def operation(name: str) -> list[np.ndarray]:
        return run(out / "repository" / f"digits_{name}" / "1" / "model.onnx", image=images)

    for actual, expected in zip(operation("encode"), (mean, log_variance), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    np.testing.assert_allclose(operation("reconstruct")[0], reconstruction, atol=1e-6)
    error, divergence = operation("score")
    np.testing.assert_allclose(error[:, 0], np.square(images - reconstruction).mean((1, 2, 3)), rtol=1e-5)
    expected = (np.exp(log_variance) + mean**2 - log_variance - 1) / 2
    np.testing.assert_allclose(divergence, expected, rtol=1e-5, atol=1e-6)
