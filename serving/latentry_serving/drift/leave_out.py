"""The second half of a fit: one pass over all vectors, then every window against the reference without it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latentry_serving.drift import counters, nulls
from latentry_serving.drift.halves import Half
from latentry_serving.drift.scores import Baseline, Geometry, deviations, likelihood_ratios
from latentry_serving.drift.types import CHUNK, Booleans, Floats, Integers, Singles, Statistic
from latentry_serving.drift.windows import Kernel, Sums

MOST_WINDOWS = 200  # left out one at a time; more add little and cost memory


@dataclass(slots=True)
class ReferenceWindow:
    """One contiguous window: sums per hour-of-day slot, and its counts."""

    index: int
    parts: dict[int, Sums]
    finite: int
    non_finite: int
    duplicates: int
    still: int


@dataclass(slots=True)
class Pass:
    """Sums per slot of all vectors and of the calibration half, and the windows kept for leaving out."""

    everything: list[Sums]
    held_out: list[Sums]
    windows: list[ReferenceWindow]

    def baseline(self) -> Baseline:
        return Baseline.of(self.everything, self.held_out)


def run_pass(
    kernel: Kernel,
    rows: Callable[[slice], Singles],
    slot: Integers,
    window: int,
    alive: Booleans,
    progress: Callable[[int], None],
) -> Pass:
    """Measures all rows once. ``slot``: [n] of every row. Odd windows are the fit half, even ones are held out."""
    slots, n = int(slot.max()) + 1, len(slot)
    found = Pass([kernel.zero() for _ in range(slots)], [kernel.zero() for _ in range(slots)], [])
    whole = n // window
    kept = set(np.linspace(0, whole - 1, min(whole, MOST_WINDOWS)).astype(int).tolist())
    for index, start in enumerate(range(0, n, window)):
        part = slice(start, min(start + window, n))
        measured = _measure(kernel, rows(part), slot[part], index, alive)
        for s, sums in measured.parts.items():
            found.everything[s] = found.everything[s] + sums
            if index % 2 == 0:
                found.held_out[s] = found.held_out[s] + sums
        if index in kept:
            found.windows.append(measured)
        progress(part.stop)
    return found


def _measure(kernel: Kernel, rows: Singles, slot: Integers, index: int, alive: Booleans) -> ReferenceWindow:
    finite = counters.finite_rows(rows)
    non_finite = 0 if finite is None else int((~finite).sum())
    if finite is not None:
        rows, slot = rows[finite], slot[finite]
    parts: dict[int, Sums] = {}
    keys: list[NDArray[np.uint64]] = []
    for s in np.unique(slot).tolist():
        parts[s] = kernel.zero()
        keys += [kernel.add(chunk, parts[s]) for chunk in _chunks(rows[slot == s])]
    duplicates = counters.repeated(np.concatenate(keys)) if keys else 0
    still = int((alive & (rows.min(axis=0) == rows.max(axis=0))).sum()) if len(rows) > 1 else 0
    return ReferenceWindow(index, parts, len(rows), non_finite, duplicates, still)


def _chunks(rows: Singles) -> Iterator[Singles]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Of M left-out windows: deviations [M, p] per quadratic statistic, G² [M, d], and which were held out."""

    deviations: dict[Statistic, Floats]
    ratios: Floats
    held_out: Booleans

    def evidence(self, statistic: Statistic) -> tuple[nulls.Evidence, Booleans]:
        """Scores and deviations, and the windows [M] they belong to: only held-out ones for SPE.

        T² of the two halves is measured along different directions: their deviations are not to be compared.
        """
        chosen = self.held_out if statistic is Statistic.SPE else np.ones_like(self.held_out)
        values = self.deviations[statistic][chosen]
        group = self.held_out[chosen].astype(np.int64) * (statistic is Statistic.T2)
        return nulls.Evidence(np.einsum("ij,ij->i", values, values), values, group), chosen


def leave_out(found: Pass, geometry: Geometry, halves: tuple[Half, Half]) -> LeftOut:
    """Every kept window with enough finite vectors against all other vectors; ``halves``: of even and odd windows."""
    collected: dict[Statistic, list[Floats]] = {}
    ratios, held = [], []
    for window in found.windows:
        if window.finite < 2:
            continue
        slots = sorted(window.parts)
        held_out = window.index % 2 == 0
        without = [found.everything[s] - window.parts[s] for s in slots]
        held_without = [found.held_out[s] - window.parts[s] if held_out else found.held_out[s] for s in slots]
        baseline = Baseline.of(without, held_without)
        if baseline.counts.min() <= 0 or baseline.held_out.min() <= 0:
            continue  # the only window of its hour: nothing to hold it against
        expected = baseline.at(np.array([window.parts[s].size for s in slots]))
        total = _sum(window.parts.values())
        off = deviations(total, expected, geometry)
        shift = total.z / total.size - expected.z
        half = halves[window.index % 2]
        whitened = half.without(window.index).whiten(shift, shift @ half.basis)
        off[Statistic.T2] = whitened / np.sqrt(expected.noise * geometry.whitened_variance)
        for statistic, deviation in off.items():
            collected.setdefault(statistic, []).append(deviation)
        ratios.append(likelihood_ratios(total, expected))
        held.append(held_out)
    stacked = {statistic: np.array(values) for statistic, values in collected.items()}
    return LeftOut(stacked, np.array(ratios), np.array(held, np.bool_))


def _sum(parts: Iterable[Sums]) -> Sums:
    first, *others = parts
    total = replace(first)
    for other in others:
        total = total + other
    return total


@dataclass(frozen=True, slots=True)
class WorstFit:
    """Null of BINS_MAX (see ``nulls.worst``) and the left-out windows' ln p [M] under it."""

    scale: Floats
    share: float
    freedom: float
    log_p: Floats


def fit_worst(ratios: Floats, degrees: Integers, runs: nulls.Runs) -> WorstFit:
    """Per-dimension scales of G² [M, d] where vectors are dependent; each window judged by the others' scales."""
    count = len(ratios)
    used = degrees > 0
    mean_degrees = float(degrees[used].mean())
    relative = ratios[:, used] / degrees[used]
    mean = float(relative.mean())
    # d dimensions that are all alike say no more about the overall scale than one: a cautious standard error.
    if not runs.dependent and mean <= 1 + 2.5 * np.sqrt(2 / (mean_degrees * count)):
        scale = np.ones(degrees.size)
        log_p = np.array([nulls.worst(r, degrees, scale, 1.0, np.inf) for r in ratios])
        return WorstFit(scale, 1.0, np.inf, log_p)
    variance = float(relative.var(axis=0, ddof=1).mean())
    nu = min(mean_degrees, 2 * mean**2 / variance) if variance > 0 else mean_degrees
    nu = max(1.0, nu)
    # The worst dimension is one of those that runs move most: all of its scale is taken to vary.
    own = runs.inverse_freedom(run_variance=nulls.WORST_RUNS)
    freedom = 1 / (own + (1 / nu + own) / max(1, count - 1))
    kept = 1 - 2 * own  # the means have what the averaging over ``freedom`` would add to them

    def scales(of: Floats) -> Floats:
        return np.asarray(np.maximum(1.0, kept * of.mean(axis=0) / np.maximum(degrees, 1)))

    log_p = np.array(
        [
            nulls.worst(r, degrees, scales(np.delete(ratios, m, axis=0)), nu / mean_degrees, freedom)
            for m, r in enumerate(ratios)
        ]
    )
    return WorstFit(scales(ratios), nu / mean_degrees, freedom, log_p)
