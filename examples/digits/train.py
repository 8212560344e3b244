"""Trains the small convolutional VAE of the demo on scikit-learn's digits and exports its two graphs.

Run: ``python examples/digits/train.py OUT_DIR``. Writes ``encoder.pt2`` and ``decoder.pt2`` (torch.export programs),
``reference.npy`` (training images, in their order) and ``heldout.npy`` (images the model never saw).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name torch's own documentation uses

LATENT_DIMENSION = 16
EPOCHS = 40
BATCH = 128
HELD_OUT = 360


class Encoder(nn.Module):
    """image [n, 1, 8, 8] in [0, 1] -> posterior mean and log-variance, [n, 16] each."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.SiLU(),
        )  # fmt: skip
        self.mean = nn.Linear(128, LATENT_DIMENSION)
        self.log_variance = nn.Linear(128, LATENT_DIMENSION)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        return self.mean(features), self.log_variance(features).clamp(-8.0, 4.0)


class Decoder(nn.Module):
    """latent [n, 16] -> image [n, 1, 8, 8] in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT_DIMENSION, 128), nn.SiLU(),
            nn.Linear(128, 64 * 4 * 4), nn.SiLU(), nn.Unflatten(1, (64, 4, 4)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(32, 1, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.layers(latent)
        return image


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out images, float32 [n, 1, 8, 8] in [0, 1]."""
    images = (load_digits().images / 16.0).astype(np.float32)[:, None]
    return images[:-HELD_OUT], images[-HELD_OUT:]


def train(images: np.ndarray, *, seed: int = 7) -> tuple[Encoder, Decoder]:
    """Fits the VAE by the evidence lower bound (Kingma and Welling 2013, eq. 10), Bernoulli likelihood."""
    torch.manual_seed(seed)
    encoder, decoder = Encoder(), Decoder()
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
    data = torch.from_numpy(images)
    columns = (TextColumn("training the VAE"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, disable=not Console().is_terminal) as progress:
        task = progress.add_task("", total=EPOCHS, loss="")
        for epoch in range(1, EPOCHS + 1):
            total = 0.0
            for batch in data[torch.randperm(len(data))].split(BATCH):
                loss = negative_elbo(encoder, decoder, batch)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item() * len(batch)
            text = f"-ELBO {total / len(data):.2f} nats"
            progress.update(task, advance=1, loss=text)
            if progress.disable and epoch % 5 == 0:  # in a log file a line now and then says more than a bar
                print(f"  epoch {epoch} of {EPOCHS}: {text}", flush=True)
    return encoder.eval(), decoder.eval()


def negative_elbo(encoder: Encoder, decoder: Decoder, images: Tensor) -> Tensor:
    """Mean negative evidence lower bound in nats of images [n, 1, 8, 8], one posterior draw each."""
    mean, log_variance = encoder(images)
    latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    likelihood = F.binary_cross_entropy(decoder(latent), images, reduction="sum")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return (likelihood + divergence) / len(images)


def export(encoder: Encoder, decoder: Decoder, out: Path) -> None:
    """Saves both networks as torch.export programs with a dynamic batch."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    image, latent = torch.rand(2, 1, 8, 8), torch.randn(2, LATENT_DIMENSION)
    for name, module, example in (("encoder", encoder, image), ("decoder", decoder, latent)):
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(program, out / f"{name}.pt2")


def main(out: Path) -> None:
    torch.set_num_threads(2)
    out.mkdir(parents=True, exist_ok=True)
    reference, held_out = digits()
    encoder, decoder = train(reference)
    export(encoder, decoder, out)
    np.save(out / "reference.npy", reference)
    np.save(out / "heldout.npy", held_out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
