"""Undrifted traffic of many kinds: what the false-alarm rate is measured on. Vectors are drawn, never repeated runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

Stream = Callable[[Floats], Mapping[str, Singles]]
"""Vectors per tensor [n, d] for the Unix times [n] given; may remember what it drew last."""

EMBEDDING = "embedding"
DAY_S = 86400.0
_GROUPS = 32


@dataclass(frozen=True, slots=True)
class Mixture:
    """Gaussian clusters: centres [groups, d] and what they share, spread over a few directions and each dimension."""

    centres: Singles
    factors: Singles
    noise: Singles
    weights: Floats

    @classmethod
    def drawn(cls, d: int, seed: int) -> "Mixture":
        rng = np.random.default_rng(seed)
        return cls(
            (0.6 * rng.standard_normal((_GROUPS, d))).astype(np.float32),
            (0.4 * rng.standard_normal((8, d))).astype(np.float32),
            np.exp(0.3 * rng.standard_normal(d)).astype(np.float32),
            rng.dirichlet(np.full(_GROUPS, 5.0)),
        )

    def rows(self, groups: NDArray[np.int64], rng: np.random.Generator) -> Singles:
        """One vector [d] per group [n]."""
        rows = rng.standard_normal((len(groups), self.noise.size), np.float32)
        rows *= self.noise
        rows += rng.standard_normal((len(groups), len(self.factors)), np.float32) @ self.factors
        rows += self.centres[groups]
        return rows


def mixture(d: int, run_length: float = 1.0) -> Callable[[int], Stream]:
    """A mixture; with ``run_length`` > 1 neighbours share their cluster for a geometric number of vectors."""

    def stream(seed: int) -> Stream:
        world, rng = Mixture.drawn(d, d), np.random.default_rng(seed)
        group = int(rng.choice(_GROUPS, p=world.weights))

        def draw(times: Floats) -> Mapping[str, Singles]:
            nonlocal group
            fresh = rng.choice(_GROUPS, len(times), p=world.weights)
            starts = rng.random(len(times)) < 1 / run_length
            last = np.maximum.accumulate(np.where(starts, np.arange(len(times)), -1))
            groups = np.where(last < 0, group, fresh[last])
            group = int(groups[-1])
            return {EMBEDDING: world.rows(groups, rng)}

        return draw

    return stream


def daily(d: int) -> Callable[[int], Stream]:
    """The clusters' weights go up and down with the hour, each at its own time of the day."""

    def stream(seed: int) -> Stream:
        world, rng = Mixture.drawn(d, d), np.random.default_rng(seed)
        phase = np.random.default_rng(d + 1).uniform(0, 2 * np.pi, _GROUPS)

        def draw(times: Floats) -> Mapping[str, Singles]:
            angle = 2 * np.pi * (times % DAY_S) / DAY_S
            weights = world.weights * (1 + 0.5 * np.sin(angle[:, None] + phase))
            cumulative = np.cumsum(weights, axis=1)
            groups = (cumulative < rng.random((len(times), 1)) * cumulative[:, -1:]).sum(axis=1)
            return {EMBEDDING: world.rows(np.minimum(groups, _GROUPS - 1), rng)}

        return draw

    return stream


def heavy_tails(d: int, freedom: float = 2.5) -> Callable[[int], Stream]:
    """Student's t: half the dimensions with a scale shared by the vector, half with one of their own."""

    def stream(seed: int) -> Stream:
        rng = np.random.default_rng(seed)
        turn = np.random.default_rng(d).standard_normal((d, d)).astype(np.float32) / np.float32(np.sqrt(d))

        def draw(times: Floats) -> Mapping[str, Singles]:
            n = len(times)
            shared = np.sqrt(rng.chisquare(freedom, (n, 1)) / freedom)
            own = np.sqrt(rng.chisquare(freedom, (n, d - d // 2)) / freedom)
            rows = rng.standard_normal((n, d), np.float32) @ turn
            rows[:, : d // 2] /= shared
            rows[:, d // 2 :] /= own
            return {EMBEDDING: rows}

        return draw

    return stream


def dead_dimensions(d: int) -> Callable[[int], Stream]:
    """A mixture of which three dimensions hold next to nothing, as real sentence encoders have."""

    def stream(seed: int) -> Stream:
        whole, rng = mixture(d)(seed), np.random.default_rng([seed, 1])

        def draw(times: Floats) -> Mapping[str, Singles]:
            rows = whole(times)[EMBEDDING]
            rows[:, 3] = 1e-33 * rng.random(len(rows), np.float32)
            rows[:, 10] = 1e-9 * rng.standard_normal(len(rows), np.float32)
            rows[:, -1] = 0
            return {EMBEDDING: rows}

        return draw

    return stream


def binary(d: int) -> Callable[[int], Stream]:
    """Signs of a mixture, as binary quantisation stores them: 0 or 1."""

    def stream(seed: int) -> Stream:
        whole = mixture(d)(seed)
        return lambda times: {EMBEDDING: (whole(times)[EMBEDDING] > 0).astype(np.float32)}

    return stream


def pool(load: Callable[[], Mapping[str, Singles]]) -> Callable[[int], Stream]:
    """Rows of real data drawn with replacement, the same rows of all its tensors."""
    kept: dict[str, Singles] = {}

    def stream(seed: int) -> Stream:
        if not kept:
            kept.update(load())
        size, rng = len(next(iter(kept.values()))), np.random.default_rng(seed)

        def draw(times: Floats) -> Mapping[str, Singles]:
            chosen = rng.integers(0, size, len(times))
            return {name: rows[chosen] for name, rows in kept.items()}

        return draw

    return stream
