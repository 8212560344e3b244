"""From the pass over the reference to nulls: spectra, left-out windows, event rates, and what to tell the user."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from latentry_serving.drift import bins, describe, halves, leave_out, nulls, order
from latentry_serving.drift.counters import EventRate
from latentry_serving.drift.profile import FitReport, TensorProfile, WorstNull
from latentry_serving.drift.scores import Geometry
from latentry_serving.drift.source import Source
from latentry_serving.drift.types import Booleans, Floats, Integers, Singles, Statistic
from latentry_serving.drift.windows import Bounds

_SPECTRUM_ENTRIES = 24_000_000  # rows times columns of the matrices whose spectra are taken
_DEPENDENCE_ROWS = 16_384

Featured = Callable[[Integers], Singles]
"""Random features [m, D] of the reference rows of an index [m]."""


@dataclass(slots=True)
class Calibration:
    """From the pass over the reference to nulls."""

    source: Source
    window: int
    description: describe.Description
    found: leave_out.Pass
    cycle: order.Cycle
    featured: Featured
    ordered: bool

    def profile(self, omega: Singles, phase: Singles) -> TensorProfile:
        baseline = self.found.baseline()
        reference = replace(
            self.description.reference,
            bin_shares=_overall_shares(self.found).astype(np.float32),
            non_finite_rate=sum(w.non_finite for w in self.found.windows) / self._seen(),
            duplicate_rate=sum(w.duplicates for w in self.found.windows) / self._seen(),
        )
        degrees = np.where(reference.alive, bins.degrees(reference.bin_shares), 0)
        draft = Geometry.of(reference, degrees, 1.0, 1.0)
        spectra, traces = self._spectra(draft, reference.bin_shares.astype(np.float64))
        geometry = replace(draft, feature_variance=traces[Statistic.MMD2], whitened_variance=traces[Statistic.T2])
        left = leave_out.leave_out(self.found, geometry, self.description.halves)
        dependence = self._dependence(spectra[Statistic.MMD2].freedom)
        p: dict[Statistic, Floats] = {}
        share = dependence.time / self.window if dependence.dependent else 0.0
        runs = nulls.Runs(dependence.dependent, share, dependence.inflation)
        tails = self._tails(left, spectra, reference.basis.shape[1], geometry.degrees, runs, p)
        worst = self._worst(left, degrees, runs, p) if (degrees > 0).sum() > 1 else None
        events = self._events(p)
        watched = [s for s in Statistic if s in p]
        return TensorProfile(
            name=self.source.name,
            window=self.window,
            reference=reference,
            omega=omega,
            phase=phase,
            bounds=Bounds(self.description.residual_log_bounds, self.description.norm_log_bounds),
            slot_of_hour=self.cycle.slot_of_hour,
            baseline=baseline,
            feature_variance=geometry.feature_variance,
            whitened_variance=geometry.whitened_variance,
            tails=tails,
            worst=worst,
            events=events,
            left_out_p=np.stack([p[s] for s in watched], axis=1),
            report=self._report(reference.alive, dependence, tails),
        )

    def _seen(self) -> int:
        return sum(w.finite + w.non_finite for w in self.found.windows)

    def _noise_share(self) -> float:
        """Share of a window's variance owed to the finite reference, squared for quadratic statistics.

        A window is held against its own hour only: with slots it is a slot's share, on average over the vectors.
        """
        counts = self.found.baseline().counts
        shares = (self.window / (counts + self.window)) ** 2
        return float(np.average(shares, weights=counts))

    def _spectra(
        self, geometry: Geometry, shares: Floats
    ) -> tuple[dict[Statistic, nulls.Spectrum], dict[Statistic, float]]:
        z, slots = self.description.held_out, self.description.held_out_slots
        reference = self.description.reference
        spectra, traces = {}, {}
        features = halves.within(
            self.featured(describe.sampled(self.source.finite_sample, describe.SAMPLE)), self._slots()
        )
        spectra[Statistic.MMD2], traces[Statistic.MMD2] = nulls.spectrum_of(features.astype(np.float64))
        rows = _affordable(len(z), z.shape[1] + reference.basis.shape[1])
        whitened = geometry.metric.whiten(z[rows].astype(np.float64), (z[rows] @ reference.basis).astype(np.float64))
        spectra[Statistic.T2], traces[Statistic.T2] = nulls.spectrum_of(halves.within(whitened, slots[rows]))
        rows = _affordable(len(z), shares.size)
        held = self.source.rows(self._held_rows()[rows])
        binned = _indicators(held, reference.bin_edges, np.where(geometry.degrees[:, None] > 0, shares, 0))
        spectra[Statistic.BINS_MEAN], traces[Statistic.BINS_MEAN] = nulls.spectrum_of(
            halves.within(binned, slots[rows])
        )
        spectra[Statistic.SPE] = spectra[Statistic.NORM] = nulls.SINGLE
        return spectra, traces

    def _slots(self) -> Integers:
        return self.source.slots(self.cycle)[describe.sampled(self.source.finite_sample, describe.SAMPLE)]

    def _held_rows(self) -> Integers:
        usable = self.source.finite_sample
        return describe.sampled(usable[(usable // self.window) % 2 == 0], describe.SAMPLE)

    def _dependence(self, freedom: float) -> order.Dependence:
        usable = self.source.finite_sample
        most = min(usable.size, _DEPENDENCE_ROWS)
        start = (usable.size - most) // 2
        rows = usable[start : start + most]
        features = self.featured(rows)
        if self.cycle.slots > 1:
            features = halves.within(features, self.source.slots(self.cycle)[rows])
        return order.dependence(features.astype(np.float64), freedom)

    def _tails(
        self,
        left: leave_out.LeftOut,
        spectra: dict[Statistic, nulls.Spectrum],
        components: int,
        degrees: Integers,
        runs: nulls.Runs,
        p: dict[Statistic, Floats],
    ) -> dict[Statistic, nulls.Tail]:
        tails = {}
        unusable = {Statistic.SPE} if components == 0 else set()
        if not degrees.any():
            unusable.add(Statistic.BINS_MEAN)
        singles = {Statistic.SPE, Statistic.NORM} - unusable
        runs = runs.held_against([left.evidence(statistic)[0].scores for statistic in singles])
        for statistic, spectrum in spectra.items():
            if statistic in unusable:
                continue
            evidence, chosen = left.evidence(statistic)
            run_variance = nulls.RUN_VARIANCE.get(statistic, nulls.EQUAL_RUNS)
            tails[statistic] = nulls.quadratic(spectrum, evidence, runs, self._noise_share(), run_variance)
            p[statistic] = np.full(chosen.size, np.nan)
            p[statistic][chosen] = [tails[statistic].p(s) for s in evidence.scores]
        return tails

    def _worst(
        self, left: leave_out.LeftOut, degrees: Integers, runs: nulls.Runs, p: dict[Statistic, Floats]
    ) -> WorstNull:
        fitted = leave_out.fit_worst(left.ratios, degrees, runs)
        exponent = nulls.exponent_of(np.exp(fitted.log_p))
        p[Statistic.BINS_MAX] = np.exp(fitted.log_p / exponent)
        shared = self._noise_share() + (0.0 if np.isinf(fitted.freedom) else 1 / len(left.ratios))
        return WorstNull(fitted.scale, fitted.share, fitted.freedom, exponent, shared)

    def _events(self, p: dict[Statistic, Floats]) -> dict[Statistic, EventRate]:
        windows = [w for w in self.found.windows if w.finite + w.non_finite == self.window]
        counted = {
            Statistic.NON_FINITE: ([w.non_finite for w in windows], [w.finite + w.non_finite for w in windows]),
            Statistic.DUPLICATES: ([w.duplicates for w in windows], [w.finite for w in windows]),
            Statistic.DEAD_DIMENSIONS: ([w.still for w in windows], [self.source.dimensions] * len(windows)),
        }
        rates = {s: EventRate.fit(np.array(events), np.array(sizes)) for s, (events, sizes) in counted.items()}
        length = len(next(iter(p.values())))
        for statistic, (events, sizes) in counted.items():
            tails = [rates[statistic].tail(e, n) for e, n in zip(events, sizes, strict=True)]
            p[statistic] = np.array(tails) if len(tails) == length else np.full(length, np.nan)
        return rates

    def _report(self, alive: Booleans, dependence: order.Dependence, tails: dict[Statistic, nulls.Tail]) -> FitReport:
        windows = self.source.size // self.window
        notes = [self.cycle.reason]
        if windows < nulls.FEW_WINDOWS:
            notes.append(
                f"{self.source.size} vectors are {windows} windows of {self.window}; below {nulls.FEW_WINDOWS} the "
                f"calibration is careful and small shifts are seen late: {nulls.FEW_WINDOWS * self.window} would do"
            )
        beyond = {
            s: dependence.dependent or (np.isfinite(t.freedom) and t.windows >= nulls.FEW_WINDOWS)
            for s, t in tails.items()
        }
        scales = {s: t.scale for s, t in tails.items() if beyond[s]}
        notes += self._order_notes(dependence, scales)
        inflation = max(dependence.inflation, *scales.values(), 1.0)
        effective = self.window / inflation
        if dependence.dependent and effective < 30:
            notes.append(
                f"a window of {self.window} correlated vectors says as much as {effective:.0f} independent ones; "
                f"a window of {round(50 * inflation)} or more would be judged more exactly"
            )
        if Statistic.SPE not in tails:
            notes.append("SPE is not watched: too few dimensions for a subspace and a residual")
        dead = int((~alive).sum())
        if dead:
            notes.append(f"{dead} of {alive.size} dimensions do not move and are left out; waking up is noticed")
        n = int(self.source.finite_sample.size)
        return FitReport(n, windows, dead, inflation, dependence.dependent, tuple(notes))

    def _order_notes(self, dependence: order.Dependence, scales: dict[Statistic, float]) -> list[str]:
        """``scales``: how much more windows vary than those of independent vectors would, where beyond chance."""
        if scales:
            widest = max(scales, key=lambda statistic: scales[statistic])
            varies = (
                f"up to {scales[widest]:.3g} times as much as those of independent vectors would ({widest}); "
                "calibrated for it"
            )
            if dependence.dependent:
                return [f"neighbouring vectors are correlated: windows vary {varies}"]
            return [f"windows differ from each other though neighbouring vectors look independent: they vary {varies}"]
        if not self.ordered:
            return [
                "the reference is not in the order of the traffic: correlated live traffic would raise false alarms"
            ]
        if self.source.times_s is None:
            return [
                "neighbouring vectors look independent and there are no timestamps: if the reference was shuffled, "
                "correlated live traffic would raise false alarms"
            ]
        return [] if self.source.was_sorted else ["the vectors were put in the order of their times"]


def _overall_shares(found: leave_out.Pass) -> Floats:
    total = found.everything[0]
    for sums in found.everything[1:]:
        total = total + sums
    return bins.counts_from_above(total.above, total.size) / max(total.size, 1)


def _affordable(rows: int, columns: int) -> Integers:
    return describe.sampled(np.arange(rows), max(64, min(4096, _SPECTRUM_ENTRIES // columns)))


def _indicators(rows: Singles, edges: Singles, shares: Floats) -> Singles:
    """(1[in bin] - share) / sqrt(share) per vector: [n, d B]; zero for bins not in use."""
    code = np.zeros(rows.shape, np.uint8)
    for edge in edges.T:
        code += rows > edge
    inverse = np.where(shares > 0, 1 / np.sqrt(np.where(shares > 0, shares, 1)), 0).astype(np.float32)
    hot = np.empty((*rows.shape, shares.shape[1]), np.float32)
    for b in range(shares.shape[1]):
        np.multiply(code == b, inverse[:, b], out=hot[..., b])
    return hot.reshape(len(rows), -1)
