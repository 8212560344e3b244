"""Reference against live, vector by vector: histograms of dimensions, projections, KL, reconstruction errors."""

import numpy as np
from numpy.typing import NDArray

from latentry_serving.bundle.tensors import Array
from latentry_serving.drift import bins, order
from latentry_serving.drift.profile import TensorProfile
from latentry_serving.drift.scores import Expected
from latentry_serving.drift.types import Floats, Integers, Singles
from latentry_serving.drift_cli.report_types import (
    MOST_LATENTS,
    MOST_POINTS,
    DimensionView,
    ErrorView,
    KlView,
    Projection,
    Spread,
)
from latentry_serving.health.autoencoder import TAIL, AutoencoderBaseline
from latentry_serving.health.vae import ACTIVE_VARIANCE, VaeBaseline

_SAMPLE = 4096  # rows from which dimensions are ranked
_CLIP = 0.001  # as the profile's bounds
_ERROR_BINS = 24
_WIDE = 20.0  # errors beyond so many times validation's tail need a logarithmic axis
_TINY = 1e-12


def evenly(count: int, limit: int) -> Integers:
    """At most ``limit`` of ``count`` indices, evenly spread."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, limit)).round().astype(np.int64))


def expected(profile: TensorProfile, rows: int, times_s: NDArray[np.float64] | None) -> Expected:
    """What the reference says of so many inputs, of their hours where it knows hours."""
    hours = np.zeros(rows, np.int64) if times_s is None else order.hour_of(times_s)
    return profile.baseline.at(np.bincount(profile.slot_of_hour[hours], minlength=profile.slots))


def differences(profile: TensorProfile, live: Array, reference: Expected) -> Floats:
    """How much the histogram of each dimension [d] differs: G² of at most 4,096 of the vectors [n, d]."""
    sample = _finite(live[evenly(len(live), _SAMPLE)])
    edges = profile.reference.bin_edges
    above = np.stack([(sample > edges[:, b]).sum(axis=0) for b in range(edges.shape[1])])
    found = bins.likelihood_ratio(bins.counts_from_above(above, len(sample)), reference.shares)
    return np.where(profile.reference.alive, np.maximum(found, 0.0), 0.0)


def dimension_view(profile: TensorProfile, live: Array, reference: Expected, d: int, share: float) -> DimensionView:
    """One dimension of the vectors live [n, d]; non-finite values are left out."""
    column = np.asarray(live[:, d], np.float32)
    column = column[np.isfinite(column)]
    edges = profile.reference.bin_edges[d]
    used = edges[np.isfinite(edges)]
    counts = np.bincount(np.searchsorted(used, column), minlength=len(used) + 1)
    # Merged bins lie behind the last finite edge and are empty.
    shares = reference.shares[d, : len(used) + 1]
    table = profile.reference
    outside = (column < table.lower[d]) | (column > table.upper[d])
    mean = float(table.mean[d]) + float(reference.z[d]) * float(table.scale[d])
    return DimensionView(
        d,
        share,
        tuple(used.tolist()),
        tuple(shares.tolist()),
        tuple((counts / max(len(column), 1)).tolist()),
        Spread(float(table.lower[d]), mean, float(table.upper[d])),
        _spread(column) if len(column) else None,
        float(outside.mean()) if len(column) else 0.0,
    )


def _spread(column: Singles) -> Spread:
    low, high = (float(q) for q in np.quantile(column, [_CLIP, 1 - _CLIP]))
    return Spread(low, float(np.clip(column, low, high).mean(dtype=np.float64)), high)


def projections(
    profile: TensorProfile, live: Array, reference: Expected, since_row: int | None
) -> tuple[Projection, ...]:
    """Live vectors [n, d] along principal directions of the profile: the first two; and the two that moved most."""
    table = profile.reference
    if table.basis.shape[1] < 2:
        return ()
    index = evenly(len(live), MOST_POINTS)
    rows = np.asarray(live[index], np.float32)
    keep = np.isfinite(rows).all(axis=1)
    index, rows = index[keep], rows[keep]
    z = (np.clip(rows, table.lower, table.upper) - table.mean) * np.where(table.alive, 1 / table.scale, 0)
    coordinates = (z @ table.basis).astype(np.float64)
    deviation = np.sqrt(np.maximum(table.basis_variance, _TINY))
    after = index >= (len(live) if since_row is None else since_row)
    pairs = [(0, 1)]
    if after.sum() > 1:
        pairs.append(_moved_most(coordinates[after], reference.coordinates, deviation))
    return tuple(
        Projection(
            profile.name, (i, j),
            (float(reference.coordinates[i]), float(reference.coordinates[j])),
            (float(deviation[i]), float(deviation[j])),
            _points(coordinates[~after][:, [i, j]]), _points(coordinates[after][:, [i, j]]), len(live),
        )
        for i, j in dict.fromkeys(pairs)
    )  # fmt: skip


def _moved_most(coordinates: Floats, centre: Floats, deviation: Floats) -> tuple[int, int]:
    """The two directions with the largest Gaussian divergence from the reference."""
    shift = (coordinates.mean(axis=0) - centre) / deviation
    variance = np.maximum((coordinates.std(axis=0) / deviation) ** 2, _TINY)
    first, second = np.sort(np.argsort(-(shift**2 + variance - 1 - np.log(variance)), kind="stable")[:2]).tolist()
    return first, second


def _points(pairs: Floats) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in pairs)


def kl_view(baseline: VaeBaseline, mean: Array, log_variance: Array, since_row: int) -> KlView | None:
    """KL per dimension of the posteriors [n, d] from a row on; None with fewer than two that are finite."""
    window = baseline.new_window()
    window.update(mean[since_row:], log_variance[since_row:])
    if window.samples < 2:
        return None
    live, reference = window.moments(), baseline.moments
    largest = np.argsort(-np.maximum(live.kl, reference.kl), kind="stable")[:MOST_LATENTS]
    chosen = np.sort(largest)
    return KlView(
        tuple(chosen.tolist()),
        tuple(reference.kl[chosen].tolist()),
        tuple(live.kl[chosen].tolist()),
        float(reference.kl.sum()),
        float(live.kl.sum()),
        int((reference.variance > ACTIVE_VARIANCE).sum()),
        live.active_units,
        len(reference.kl),
        since_row,
    )


def error_view(baseline: AutoencoderBaseline, errors: Array, since_row: int) -> ErrorView | None:
    """The distribution of errors [n] or [n, 1] from a row on beside validation's; None where none is finite."""
    given = np.asarray(errors[since_row:], np.float64).reshape(-1)
    live = given[np.isfinite(given)]
    if not len(live):
        return None
    low = min(float(baseline.grid[0]), float(live.min()))
    high = max(float(baseline.grid[-1]), float(np.quantile(live, 1 - _CLIP)))
    high = high if high > low else low + max(abs(low), 1.0)
    logarithmic = low > 0 and baseline.tail > 0 and high > _WIDE * baseline.tail
    edges = np.geomspace(low, high, _ERROR_BINS + 1) if logarithmic else np.linspace(low, high, _ERROR_BINS + 1)
    below = np.interp(edges, baseline.grid, np.linspace(0, 1, len(baseline.grid)))
    below[0], below[-1] = 0.0, 1.0
    counts, _ = np.histogram(np.clip(live, edges[0], edges[-1]), edges)
    return ErrorView(
        tuple(edges.tolist()),
        logarithmic,
        tuple(np.diff(below).tolist()),
        tuple((counts / len(live)).tolist()),
        baseline.tail,
        float(np.quantile(live, TAIL)),
        baseline.threshold,
        baseline.anomaly.rate,
        float((live > baseline.threshold).mean()),
        len(given) - len(live),
        since_row,
    )


def _finite(rows: Array) -> Singles:
    singles = np.asarray(rows, np.float32)
    return singles[np.isfinite(singles).all(axis=1)]
