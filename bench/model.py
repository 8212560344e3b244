"""The model under test: a convolutional VAE's encoder in a bundle, and one real image to encode.

Its weights are drawn at random from a fixed seed: they change neither the work done nor the bytes sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from examples.digits.train import Encoder as DigitsEncoder
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from latentry_serving.bundle.build import build_from_modules
from latentry_serving.bundle.spec import BundleSpec, Reference, RuntimeSpec
from latentry_serving.contract.manifest import REPOSITORY_FOLDER, BundleManifest
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.units import Duration
from latentry_serving.triton.model_config import MODEL_FILE

MAX_BATCH_SIZE = 32
_LATENT_DIMENSION = 16


class Network(StrEnum):
    """Which encoder."""

    DIGITS = "digits"
    """The demo's: image 1x8x8."""
    LARGE = "28x28"
    """About the same work for an image of 1x28x28: requests are 12 times larger."""


class LargeEncoder(nn.Module):
    """image [n, 1, 28, 28] -> posterior mean and log-variance, [n, 16] each."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.SiLU(),
        )  # fmt: skip
        self.mean = nn.Linear(64, _LATENT_DIMENSION)
        self.log_variance = nn.Linear(64, _LATENT_DIMENSION)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        return self.mean(features), self.log_variance(features)


@dataclass(frozen=True, slots=True)
class Workload:
    """A bundle, and one call with the answer every server must give."""

    bundle_dir: Path
    manifest: BundleManifest
    inputs: Mapping[str, NDArray[np.float32]]
    """One image [1, 1, height, width], grey levels in [0, 1]."""
    expected: Mapping[str, NDArray[np.float32]]
    """Output name -> [1, 16], computed by onnxruntime in this process."""

    @property
    def model(self) -> str:
        """Triton model name of encode."""
        return self.manifest.contract.operations[Operation.ENCODE].model

    @property
    def graph(self) -> Path:
        """encode's ONNX graph, the same file for all servers."""
        return self.bundle_dir / REPOSITORY_FOLDER / self.model / "1" / MODEL_FILE


def build_workload(network: Network, max_queue_delay: Duration, folder: Path) -> Workload:
    """Builds the bundle in ``folder``, with the longest time a request may wait for others to share its batch."""
    torch.manual_seed(7)
    images = _images(network)
    np.save(folder / "reference.npy", images)
    spec = BundleSpec(
        name="bench", version="1", family=Family.VAE, latent_dimension=_LATENT_DIMENSION,
        reference=Reference(path="reference.npy"),
        runtime=RuntimeSpec(max_batch_size=MAX_BATCH_SIZE, max_queue_delay=max_queue_delay),
    )  # fmt: skip
    encoder = (DigitsEncoder() if network is Network.DIGITS else LargeEncoder()).eval()
    bundle_dir = folder / "bundle"
    manifest = build_from_modules(spec, encoder=encoder, base_dir=folder, out_dir=bundle_dir)
    contract = manifest.contract.operations[Operation.ENCODE]
    inputs = {contract.inputs[0].name: images[:1]}
    workload = Workload(bundle_dir, manifest, inputs, {})
    session = onnxruntime.InferenceSession(workload.graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return Workload(bundle_dir, manifest, inputs, dict(zip(names, session.run(names, dict(inputs)), strict=True)))


def _images(network: Network) -> NDArray[np.float32]:
    digits = (load_digits().images[:256] / 16.0).astype(np.float32)
    if network is Network.LARGE:
        digits = np.pad(digits.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    images: NDArray[np.float32] = digits[:, None]
    return images
