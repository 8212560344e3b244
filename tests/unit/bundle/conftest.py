"""Tiny torch models, the artifacts made from them, and bundles built from those; real inputs are sklearn's digits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import BundleSpec, parse_spec

D = 4


class VaeEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten())
        self.mean, self.log_variance = nn.Linear(64, D), nn.Linear(64, D)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        return self.mean(features), self.log_variance(features).clamp(-8, 4)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(D, 64), nn.SiLU(), nn.Unflatten(1, (4, 4, 4)),
            nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.layers(latent)
        return image


class MlpEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, D))

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.layers(image)
        return latent


class Models:
    """The seeded models, in evaluation mode."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.vae_encoder, self.decoder, self.mlp = VaeEncoder().eval(), Decoder().eval(), MlpEncoder().eval()


def save_program(module: nn.Module, example: Tensor | tuple[Tensor, ...], path: Path, *, dynamic: bool = True) -> None:
    """torch.export with a dynamic batch dimension, unless told otherwise."""
    inputs = example if isinstance(example, tuple) else (example,)
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs) if dynamic else None
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)


def save_onnx(module: nn.Module, example: Tensor, path: Path, **options: Any) -> onnx.ModelProto:
    """The dynamo exporter with a dynamic batch dimension."""
    program = torch.onnx.export(
        module, (example,), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), **options
    )
    assert program is not None
    onnx.save(program.model_proto, path)
    return program.model_proto


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """float32 [1797, 1, 8, 8] in [0, 1]."""
    return (load_digits().images / 16.0).astype(np.float32)[:, None]


@pytest.fixture(scope="session")
def models() -> Models:
    return Models()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, models: Models, digits: np.ndarray) -> Path:
    """Every artifact, made once."""
    folder = tmp_path_factory.mktemp("artifacts")
    np.save(folder / "reference.npy", digits)
    image, latent = torch.from_numpy(digits[:3]), torch.zeros(3, D)
    modules = (("encoder", models.vae_encoder, image), ("decoder", models.decoder, latent), ("mlp", models.mlp, image))
    for name, module, example in modules:
        save_program(module, example, folder / f"{name}.pt2")
        save_onnx(module, example, folder / f"{name}.onnx")
        torch.jit.trace(module, example).save(str(folder / f"{name}.pt"))
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the artifacts that a test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "in"))


SpecFactory = Callable[..., BundleSpec]


def spec_document(family: str = "VAE", suffix: str = "onnx", **changes: Any) -> dict[str, Any]:
    """A valid BundleSpec document; a change to None removes the field."""
    encoder = {"path": f"{'encoder' if family == 'VAE' else 'mlp'}.{suffix}"}
    decoder = {"decoder": {"path": f"decoder.{suffix}"}} if family != "Encoder" else {}
    document = {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "BundleSpec",
        "name": "digits",
        "version": "1",
        "family": family,
        "latentDimension": D,
        "artifacts": {"encoder": encoder, **decoder},
        "reference": {"path": "reference.npy"},
    } | changes
    return {key: value for key, value in document.items() if value is not None}


@pytest.fixture(scope="session")
def make_document() -> Callable[..., dict[str, Any]]:
    return spec_document


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    return spec_document


@pytest.fixture
def make_spec() -> SpecFactory:
    return lambda *args, **changes: parse_spec(spec_document(*args, **changes))


@pytest.fixture(scope="session")
def built_vae(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The VAE's bundle from ONNX, to be read only."""
    out = tmp_path_factory.mktemp("bundles") / "vae"
    build_bundle(parse_spec(spec_document()), base_dir=pristine, out_dir=out)
    return out


@pytest.fixture
def vae_bundle(built_vae: Path, tmp_path: Path) -> Path:
    """A copy of the VAE's bundle that a test may spoil."""
    return Path(shutil.copytree(built_vae, tmp_path / "vae"))


@pytest.fixture
def export_program() -> Callable[..., None]:
    return save_program


@pytest.fixture
def export_onnx() -> Callable[..., onnx.ModelProto]:
    return save_onnx
