"""A small VAE written node by node, its bundle with a profile, and traffic that drifts in stated ways."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_graphs import save_graph

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import parse_spec

WIDTH, LATENT, WINDOW, ROWS = 12, 4, 60, 1500


def linear(path: Path, name: str, width: int, outputs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """An ONNX graph of affine outputs [batch, *] of one input [batch, width]."""
    nodes = [("Gemm", [name, f"{output}_w", f"{output}_b"], output) for output in outputs]
    sizes = {output: [matrix.shape[1]] for output, (matrix, _) in outputs.items()}
    weights = {
        f"{output}_{part}": array.astype(np.float32)
        for output, affine in outputs.items()
        for part, array in zip("wb", affine, strict=True)
    }
    save_graph(path, nodes, {name: [width]}, sizes, weights)


def traffic(seed: int, rows: int) -> np.ndarray:
    """Undrifted inputs float32 [rows, 12]: six groups in independent order."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(6, WIDTH))
    return (centres[rng.integers(0, 6, rows)] + 0.5 * rng.normal(size=(rows, WIDTH))).astype(np.float32)


def daily(seed: int, *, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs with a daily cycle, 25 an hour, and their Unix times from a midnight on."""
    times = 19_000 * 86400.0 + np.arange(days * 24 * 25) * 144.0
    wave = 1.5 * np.sin(2 * np.pi * times / 86400)
    return traffic(seed, len(times)) + wave[:, None].astype(np.float32), times


@pytest.fixture(scope="session")
def make_daily() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return daily


@pytest.fixture(scope="session")
def make_traffic() -> Callable[[int, int], np.ndarray]:
    return traffic


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(WIDTH, LATENT)) / 3, rng.normal(size=(LATENT, WIDTH)) / 3
    spread = rng.normal(size=(WIDTH, LATENT)) / 10
    linear(
        folder / "encoder.onnx", "x", WIDTH, {"mean": (down, np.zeros(LATENT)), "log": (spread, np.full(LATENT, -2.0))}
    )
    linear(folder / "decoder.onnx", "z", LATENT, {"r": (up, np.zeros(WIDTH))})
    np.save(folder / "reference.npy", traffic(2, ROWS))
    return folder


@pytest.fixture(scope="session")
def bundle(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE's bundle with a profile in windows of 60, to be read only."""
    return built(artifacts, tmp_path_factory.mktemp("bundles") / "vae", profile={"window": WINDOW})


@pytest.fixture(scope="session")
def cyclic(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a profile of six days with a daily cycle, in hour-of-day slots, none of it before six in the
    morning. Its inputs and times: ``artifacts / cycle.npy, cycle-times.npy``."""
    inputs, times = daily(4, days=6)
    awake = times % 86400 >= 6 * 3600
    np.save(artifacts / "cycle.npy", inputs[awake])
    np.save(artifacts / "cycle-times.npy", times[awake])
    profile = {"window": WINDOW, "inputs": {"path": "cycle.npy"}, "timestamps": {"path": "cycle-times.npy"}}
    return built(artifacts, tmp_path_factory.mktemp("bundles") / "cyclic", profile=profile)


@pytest.fixture(scope="session")
def plain(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a profile."""
    return built(artifacts, tmp_path_factory.mktemp("bundles") / "plain", profile=False)


def built(artifacts: Path, out: Path, **changes: object) -> Path:
    document = {
        "apiVersion": "latentry.dev/v1alpha1", "kind": "BundleSpec", "name": "small", "version": "1", "family": "VAE",
        "latentDimension": LATENT,
        "artifacts": {part: {"path": f"{part}.onnx"} for part in ("encoder", "decoder")},
        "reference": {"path": "reference.npy"}, **changes,
    }  # fmt: skip
    build_bundle(parse_spec(document), base_dir=artifacts, out_dir=out, warn=lambda _: None)
    return out


@pytest.fixture
def save(tmp_path: Path) -> Callable[[np.ndarray], Path]:
    """Writes an array; returns the file."""

    def written(array: np.ndarray) -> Path:
        np.save(tmp_path / "inputs.npy", array)
        return tmp_path / "inputs.npy"

    return written
