"""The reference as arrays: quantiles, scales, principal subspace, from the raw vectors. The first half of a fit."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift import bins, rff, subspace
from latentry_serving.drift.halves import Half, within
from latentry_serving.drift.types import Booleans, Floats, Integers, Reference, Singles

SAMPLE = 8192  # rows for variances, subspace and bandwidth
QUANTILE_SAMPLE = 20_000
CLIP = 0.001
_DEAD = 1e-6  # of the median standard deviation
_BLOCK = 64
_SMALLEST_NORM = 1e-30


@dataclass(frozen=True, slots=True)
class Split:
    """Rows [..] of the fit half and of the calibration half, sampled evenly.

    ``slot``: [n] hour-of-day slot of every row. ``window``: vectors per window, which says which window a row is of.
    """

    fit: Integers
    calibration: Integers
    slot: Integers
    window: int


def sampled(rows: Integers, limit: int) -> Integers:
    """At most ``limit`` of the rows, evenly spread."""
    if rows.size <= limit:
        return rows
    return np.asarray(rows[np.linspace(0, rows.size - 1, limit).astype(np.int64)])


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Per dimension [d]: clipping bounds, mean and sd of the clipped values, who is alive; inner edges [d, B - 1]."""

    lower: Singles
    upper: Singles
    mean: Singles
    scale: Singles
    alive: Booleans
    edges: Singles

    def standardise(self, rows: Singles) -> Singles:
        """z [n, d] of raw rows, zero for dead dimensions."""
        z = np.clip(rows, self.lower, self.upper)
        z -= self.mean
        z *= np.where(self.alive, 1 / self.scale, 0).astype(np.float32)
        return z


def quantiles(name: str, rows: Callable[[Integers], Singles], sample: Integers, dimensions: int) -> Quantiles:
    """Of the sampled raw rows.

    Raises:
        InvalidInput: no dimension varies.
    """
    values = rows(sample)
    found = [np.empty(dimensions, np.float32) for _ in range(4)]
    edges = np.empty((dimensions, bins.BINS - 1), np.float32)
    n = len(values)
    cut = round(n * CLIP)
    for start in range(0, dimensions, _BLOCK):
        part = slice(start, min(start + _BLOCK, dimensions))
        columns = np.sort(values[:, part].T, axis=1)
        low, high = columns[:, cut], columns[:, n - 1 - cut]
        clipped = np.clip(columns, low[:, None], high[:, None]).astype(np.float64)
        for array, value in zip(found, (low, high, clipped.mean(axis=1), clipped.std(axis=1)), strict=True):
            array[part] = value
        edges[part] = bins.edges_from_sorted(np.ascontiguousarray(columns.T))
    lower, upper, mean, scale = found
    varying = scale[scale > 0]
    alive = scale > _DEAD * (float(np.median(varying)) if varying.size else np.inf)
    if not alive.any():
        raise InvalidInput.one(
            f"reference of {name}",
            path=name,
            problem=f"none of the {dimensions} dimensions varies",
            remedy="leave the tensor out, or give reference data on which it varies",
        )
    edges[~alive] = np.inf
    return Quantiles(lower, upper, mean, np.where(alive, scale, 1).astype(np.float32), alive, edges)


@dataclass(frozen=True, slots=True)
class Description:
    """``Reference`` with what else the kernel needs, and the calibration rows' z for the nulls.

    ``halves``: the metric of the even windows (the reference's) and that of the odd ones (the halves' parts exchanged).
    """

    reference: Reference
    residual_log_bounds: tuple[float, float]
    norm_log_bounds: tuple[float, float]
    held_out: Singles
    held_out_slots: Integers
    halves: tuple[Half, Half]


def describe(
    rows: Callable[[Integers], Singles], split: Split, table: Quantiles, rng: np.random.Generator
) -> Description:
    """Subspace on the fit half, all variances on the calibration half, within slots.

    ``bin_shares``, ``non_finite_rate`` and ``duplicate_rate`` are left empty: the pass over all rows knows them.
    """
    alive = int(table.alive.sum())
    components = subspace.components_for(alive, split.fit.size)
    fitted = table.standardise(rows(split.fit))
    basis = subspace.fit_basis(fitted, components, rng)
    raw = rows(split.calibration)
    z, slots = table.standardise(raw), split.slot[split.calibration]
    even = Half.of(z, basis, slots, split.calibration // split.window, table.alive)
    exchanged = subspace.fit_basis(z, components, rng)
    odd = Half.of(fitted, exchanged, split.slot[split.fit], split.fit // split.window, table.alive)
    del fitted
    coordinates = z @ basis
    energy = np.einsum("ij,ij->i", z, z)
    residual_log = subspace.log_residual_energy(energy, coordinates, max(1, alive - components))
    norm = np.sqrt(np.einsum("ij,ij->i", raw.astype(np.float64), raw, dtype=np.float64))
    norm_log = np.log(np.maximum(norm, _SMALLEST_NORM))
    residual_bounds, norm_bounds = _bounds(residual_log), _bounds(norm_log)
    residual_log, norm_log = np.clip(residual_log, *residual_bounds), np.clip(norm_log, *norm_bounds)
    reference = Reference(
        alive=table.alive,
        mean=table.mean,
        scale=table.scale,
        lower=table.lower,
        upper=table.upper,
        bin_edges=table.edges,
        bin_shares=np.zeros((table.alive.size, bins.BINS), np.float32),
        basis=basis,
        basis_variance=even.basis_variance,
        residual_variance=even.residual_variance,
        residual_energy_log=float(residual_log.mean()),
        residual_energy_log_sd=float(within(residual_log[:, None], slots).std()),
        norm_log=float(norm_log.mean()),
        norm_log_sd=float(within(norm_log[:, None], slots).std()),
        non_finite_rate=0.0,
        duplicate_rate=0.0,
    )
    return Description(reference, residual_bounds, norm_bounds, z, slots, (even, odd))


def bandwidth_and_map(z: Singles, features: int, rng: np.random.Generator) -> tuple[Singles, Singles]:
    """Random features for the kernel whose bandwidth fits z [n, d]."""
    return rff.draw(z.shape[1], features, rff.bandwidth(z, rng), rng)


def _bounds(values: Floats) -> tuple[float, float]:
    """The reference's range without its outermost .05 %, widened by half of itself each way."""
    low, high = (float(v) for v in np.quantile(values, [0.0005, 0.9995]))
    reach = max((high - low) / 2, 1e-6)
    return low - reach, high + reach
