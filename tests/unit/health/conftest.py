"""A small VAE on scikit-learn's digits, healthy and collapsed on purpose, with what it says of several inputs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Digits:
    """Images in [0, 1], [n, 64]: to train, to fit baselines (validation) and never seen (live)."""

    train: Array
    validation: Array
    live: Array
    only_one: Array


class SmallVae:
    """64 -> 16 -> 64, Bernoulli likelihood, KL weight ``beta``."""

    latents = 16

    def __init__(self, images: Array, *, beta: float, epochs: int = 30) -> None:
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 2 * self.latents))
        self.decoder = nn.Sequential(nn.Linear(self.latents, 128), nn.SiLU(), nn.Linear(128, 64))
        optimiser = torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], lr=3e-3)
        data = torch.from_numpy(images)
        for _ in range(epochs):
            for batch in data[torch.randperm(len(data))].split(64):
                mean, log_variance = self.encoder(batch).chunk(2, 1)
                latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
                likelihood = binary_cross_entropy_with_logits(self.decoder(latent), batch, reduction="sum")
                divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
                optimiser.zero_grad()
                ((likelihood + beta * divergence) / len(batch)).backward()
                optimiser.step()

    def posterior(self, images: Array) -> tuple[Array, Array]:
        with torch.no_grad():
            mean, log_variance = self.encoder(torch.from_numpy(images)).chunk(2, 1)
        return mean.numpy(), log_variance.numpy()

    def errors(self, images: Array) -> Array:
        with torch.no_grad():
            decoded = torch.sigmoid(self.decoder(torch.from_numpy(self.posterior(images)[0]))).numpy()
        return np.asarray(((decoded - images) ** 2).mean(axis=1))


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.data))
    images, labels = (data.data[order] / 16).astype(np.float32), data.target[order]
    rest, rest_labels = images[800:], labels[800:]
    return Digits(images[:800], rest[:640], rest[640:], rest[rest_labels == 1])


@pytest.fixture(scope="session")
def vae(digits: Digits) -> Callable[[float], SmallVae]:
    """The VAE of a KL weight; trained once, on one thread (half a second)."""
    trained: dict[float, SmallVae] = {}

    def of(beta: float) -> SmallVae:
        if beta not in trained:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            trained[beta] = SmallVae(digits.train, beta=beta)
            torch.set_num_threads(threads)
        return trained[beta]

    return of
