"""The streaming half: batches in, sums out. One pass over a batch, no loop per vector or per dimension.

``Kernel`` turns finite vectors into sums; ``Window`` collects them until the window is full. Vectors are gathered in a
buffer of at most ``CHUNK`` rows first, so that a batch of one costs little more than its share of a batch of 256.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latentry_serving.drift import bins, counters, rff, subspace
from latentry_serving.drift.across import across, repeated
from latentry_serving.drift.types import CHUNK, Booleans, Floats, Integers, Reference, Singles

_SMALLEST_NORM = 1e-30
_LARGEST_NORM_LOG = 100.0
_DIRECTION_SEED = 0


@dataclass(slots=True)
class Sums:
    """Sums over vectors; those of several windows add up. ``features``: [D], ``above``: [B - 1, d], else [d] or [k]."""

    size: int
    features: Floats
    z: Floats
    z2: Floats
    coordinates: Floats
    coordinates2: Floats
    above: Integers
    residual_log: float = 0.0
    norm_log: float = 0.0

    @classmethod
    def zero(cls, reference: Reference, features: int) -> "Sums":
        d, k, edges = reference.dimensions, reference.basis.shape[1], reference.bin_edges.shape[1]
        return cls(
            0, np.zeros(features), np.zeros(d), np.zeros(d), np.zeros(k), np.zeros(k), np.zeros((edges, d), np.int64)
        )

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where ln residual energy and ln norm are cut off: a little outside the reference's range (winsorising)."""

    residual_log: tuple[float, float]
    norm_log: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """Per vector, of one chunk: z [n, d], features [n, D], coordinates [n, k], ln energy and ln norm [n], keys [n]."""

    z: Singles
    features: Singles
    coordinates: Singles
    residual_log: Floats
    norm_log: Floats
    keys: NDArray[np.uint64]


class Kernel:
    """Everything computed per vector, for one reference. Holds scratch space: one thread at a time."""

    def __init__(self, reference: Reference, omega: Singles, phase: Singles, bounds: Bounds) -> None:
        self.reference = reference
        self.phase = phase
        self._bounds = bounds
        inverse = np.where(reference.alive, 1 / reference.scale, 0).astype(np.float32)
        self._steps = (
            (np.maximum, repeated(reference.lower)),
            (np.minimum, repeated(reference.upper)),
            (np.subtract, repeated(reference.mean)),
            (np.multiply, repeated(inverse)),
        )
        self._projection = rff.joined(omega, reference.basis)
        self._edges = repeated(np.ascontiguousarray(reference.bin_edges.T))
        self._free = max(1, int(reference.alive.sum()) - reference.basis.shape[1])
        drawn = np.random.Generator(np.random.PCG64(_DIRECTION_SEED)).standard_normal(reference.dimensions)
        self._direction = drawn.astype(np.float32)
        self._projected = np.empty((CHUNK, self._projection.shape[1]), np.float32)
        self._above = np.empty((CHUNK, reference.dimensions), np.bool_)
        self._ones = np.ones(CHUNK, np.float32)

    def zero(self) -> Sums:
        return Sums.zero(self.reference, self.phase.size)

    def measure(self, rows: Singles, squares: Singles | None = None, *, overwrite: bool = False) -> Measured:
        """rows: [n, d] finite, n <= CHUNK; squares: [n] their squared norms, if known.

        The answer's z and coordinates are scratch space, valid until the next call. overwrite: z takes the place of
        the rows, which spares a copy of them.
        """
        norm = np.sqrt(counters.squared_norms(rows) if squares is None else squares, dtype=np.float64)
        norm_log = np.log(np.maximum(norm, _SMALLEST_NORM))
        raw = self._raw(rows, norm, norm_log)
        z = self._standardise(rows, rows if overwrite else self._scratch[: len(rows)])
        projected = np.matmul(z, self._projection, out=self._projected[: len(rows)])
        coordinates = projected[:, self.phase.size :]
        features = rff.features(np.ascontiguousarray(projected[:, : self.phase.size]), self.phase)
        energy = counters.squared_norms(z)
        residual = subspace.log_residual_energy(energy, coordinates, self._free)
        return Measured(
            z,
            features,
            coordinates,
            np.clip(residual, *self._bounds.residual_log),
            np.clip(norm_log, *self._bounds.norm_log),
            counters.keys(features, raw),
        )

    def _raw(self, rows: Singles, norm: Floats, norm_log: Floats) -> Floats:
        """What tells raw vectors apart [n, 2] (see ``counters.keys``); a norm beyond float32's range is infinite."""
        with np.errstate(over="ignore", invalid="ignore"):
            along = (rows @ self._direction) / np.maximum(norm, _SMALLEST_NORM)
        return np.stack([np.minimum(norm_log, _LARGEST_NORM_LOG), np.nan_to_num(along, posinf=0, neginf=0)], axis=1)

    def add(
        self, rows: Singles, sums: Sums, squares: Singles | None = None, *, overwrite: bool = False
    ) -> NDArray[np.uint64]:
        """Adds finite rows [n, d], n <= CHUNK, to ``sums``; returns their duplicate keys [n]. See ``measure``."""
        sums.above += bins.count_above(rows, self._edges, self._above)
        measured = self.measure(rows, squares, overwrite=overwrite)
        sums.size += len(rows)
        sums.features += measured.features.sum(axis=0)
        sums.z += self._ones[: len(rows)] @ measured.z
        sums.z2 += np.einsum("ij,ij->j", measured.z, measured.z)
        sums.coordinates += measured.coordinates.sum(axis=0)
        sums.coordinates2 += np.einsum("ij,ij->j", measured.coordinates, measured.coordinates)
        sums.residual_log += float(measured.residual_log.sum())
        sums.norm_log += float(measured.norm_log.sum())
        return measured.keys

    def _standardise(self, rows: Singles, out: Singles) -> Singles:
        given = np.ascontiguousarray(rows)
        for operation, vector in self._steps:
            across(operation, given, vector, out)
            given = out
        return out

    @cached_property
    def _scratch(self) -> Singles:
        return np.empty((CHUNK, self.reference.dimensions), np.float32)


@dataclass(slots=True)
class Filled:
    """A window's content: sums of its finite vectors and what was counted beside them.

    ``slots``: [S] vectors per hour-of-day slot. ``lowest``, ``highest``: [d] raw range.
    """

    sums: Sums
    slots: Integers
    lowest: Singles
    highest: Singles
    opened_s: float = 0.0
    closed_s: float = 0.0
    non_finite: int = 0
    keys: list[NDArray[np.uint64]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.sums.size

    @property
    def duplicates(self) -> int:
        return counters.repeated(np.concatenate(self.keys)) if self.keys else 0

    def still(self, alive: Booleans) -> Booleans:
        """Alive dimensions [d] with one value throughout; none in a window of fewer than two vectors."""
        return np.asarray(alive & (self.lowest == self.highest) & (self.size > 1))


class Window:
    """Collects vectors into disjoint windows of ``size`` vectors. The clock is the caller's (Unix seconds)."""

    def __init__(self, kernel: Kernel, size: int, slots: int = 1, chunk: int = CHUNK) -> None:
        self._kernel = kernel
        self._size = size
        self._slots = slots
        self._chunk = -(-size // -(-size // chunk))  # a window is measured in equal parts
        self._buffer = np.empty((self._chunk, kernel.reference.dimensions), np.float32)
        self._squares = np.empty(self._chunk, np.float32)
        self._waiting = 0
        self._content: Filled | None = None

    @property
    def opened_s(self) -> float | None:
        """When the first vector of the open window came; None while it is empty."""
        return None if self._content is None else self._content.opened_s

    @property
    def held(self) -> int:
        """Vectors in the open window, finite or not."""
        return 0 if self._content is None else self._content.size + self._waiting + self._content.non_finite

    def add(self, batch: Singles, now_s: float, slot: int = 0) -> Iterator[Filled]:
        """Adds vectors [n, d]; yields every window they fill. Rows with NaN or infinity are counted and left out.

        The iterator must be used up.
        """
        rows = np.atleast_2d(np.asarray(batch, np.float32))
        squares = counters.squared_norms(rows)
        finite = counters.finite_rows(rows, squares)
        start = 0
        while start < len(rows):
            content = self._open(now_s)
            part = slice(start, start + min(self._size - self.held, self._chunk - self._waiting, len(rows) - start))
            self._take(rows[part], squares[part], None if finite is None else finite[part], content, slot)
            start = part.stop
            if self._waiting == self._chunk or self.held >= self._size:
                self._flush(content)
            if self.held >= self._size:
                yield self.close(now_s)

    def close(self, now_s: float) -> Filled:
        """Ends the open window whatever its size; the next vector opens another."""
        content = self._open(now_s)
        self._flush(content)
        content.closed_s = now_s
        self._content = None
        return content

    def _open(self, now_s: float) -> Filled:
        if self._content is None:
            d = self._kernel.reference.dimensions
            low, high = np.full(d, np.inf, np.float32), np.full(d, -np.inf, np.float32)
            self._content = Filled(self._kernel.zero(), np.zeros(self._slots, np.int64), low, high, opened_s=now_s)
        return self._content

    def _take(self, rows: Singles, squares: Singles, finite: Booleans | None, content: Filled, slot: int) -> None:
        if finite is not None:
            content.non_finite += int(len(rows) - finite.sum())
            rows, squares = rows[finite], squares[finite]
        place = slice(self._waiting, self._waiting + len(rows))
        self._buffer[place], self._squares[place] = rows, squares
        self._waiting += len(rows)
        content.slots[slot] += len(rows)

    def _flush(self, content: Filled) -> None:
        if self._waiting == 0:
            return
        rows = self._buffer[: self._waiting]
        np.minimum(content.lowest, rows.min(axis=0), out=content.lowest)
        np.maximum(content.highest, rows.max(axis=0), out=content.highest)
        content.keys.append(self._kernel.add(rows, content.sums, self._squares[: self._waiting], overwrite=True))
        self._waiting = 0
