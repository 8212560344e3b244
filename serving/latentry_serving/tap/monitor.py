"""Drift and model health in the analysis process: samples in, one line for the tap out, now and then.

A line holds the report that the tap shows and the state that the next process goes on from, should this one end: at
most what is in the open windows is lost then.
"""

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from latentry_serving.bundle.profile import BundleProfile, load_profile
from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract.drift_report import ModelHealth, MonitoringReport, Watching
from latentry_serving.contract.drift_report import ScoreProbes as ScoreProbesReport
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.contract.operations import RECONSTRUCTION_ERROR
from latentry_serving.tap.analysis_decode import Sample
from latentry_serving.tap.analysis_frames import Control, Finding, write_report
from latentry_serving.tap.analysis_setup import AnalysisSetup
from latentry_serving.tap.monitor_drift import DriftWatch
from latentry_serving.tap.monitor_health import HealthWatch, verdict
from latentry_serving.tap.monitor_rows import Feeds, Rows, WatchedRows
from latentry_serving.tap.monitoring import not_watching
from latentry_serving.tap.score_probes import ScoreProbes

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.25
"""How long rows wait for others to share a batch."""
_BUSY_SECONDS = 1.0
_IDLE_SECONDS = 5.0
"""Time between two lines with and without samples; a closed window is told at once."""


class Monitor:
    """Consumes samples. One thread; what it learns goes out by ``step``."""

    def __init__(
        self,
        setup: AnalysisSetup,
        manifest: BundleManifest,
        profile: BundleProfile,
        *,
        clock: Callable[[], float],
        probes: ScoreProbes,
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            clock: Unix seconds that never go back.
            give_way: called between two pieces of work of a millisecond or so.

        Raises:
            InvalidInput: settings that do not fit the profile.
        """
        self._setup = setup
        self._manifest = manifest
        self._profile = profile
        self._clock = clock
        self._give_way = give_way
        self._probes = probes
        self._rows = WatchedRows(manifest.contract)
        self._flushed_s = self._told_s = 0.0
        self._rows_s = 0.0
        """Time of the latest rows: that of their call, for there may be a queue."""
        self._told: tuple[int, int] = (-1, -1)
        self._consumed = 0
        self._resuming = setup.resumes
        self._begin()

    def consume(self, sample: Sample) -> Mapping[Finding, int]:
        """Looks at a sample; counts nothing the tap does not count itself."""
        rows = self._rows.of(sample)
        self._consumed += 1
        self._rows_s = max(self._rows_s, sample.time_s)
        self._probes.saw(sample)
        self._put(rows, probe=False)
        return {}

    def control(self, order: Mapping[str, Any], payload: bytes) -> None:
        """Does as the tap says."""
        match Control(order["control"]):
            case Control.SCORE:
                self._probes.allow(int(order["rows"]))
            case Control.RESTORE:
                self._restore(payload)

    def step(self) -> bytes | None:
        """What is due by now; a line for the tap, if it is time for one. Call it every ``BATCH_SECONDS``."""
        if self._resuming:
            return None
        now_s = self._clock()
        if now_s - self._flushed_s >= BATCH_SECONDS:
            self._flushed_s = now_s
            self._feeds.flush()
            for errors in self._probes.answers():
                self._rows_s = now_s
                self._put({RECONSTRUCTION_ERROR: errors}, probe=True)
            self._drift.tick(now_s)
            self._health.tick(now_s)
            self._give_way()
        closed = self._drift.closed + self._health.closed
        waited_s = now_s - self._told_s
        busy = waited_s >= _BUSY_SECONDS and self._told[1] != self._consumed
        if self._told[0] == closed and not busy and waited_s < _IDLE_SECONDS:
            return None
        self._told, self._told_s = (closed, self._consumed), now_s
        return self._line(now_s)

    def report(self, now_s: float) -> MonitoringReport:
        """How everything stands."""
        parts = self._health.parts(now_s)
        probes = self._probes
        health = ModelHealth(
            state=Watching.WATCHING,
            detail="" if parts else "the bundle's profile has no health baselines",
            family=self._manifest.contract.family,
            verdict=verdict(parts),
            parts=parts,
            scores=self._health.scores(),
            score_probes=ScoreProbesReport(
                wanted=probes.wanted,
                answered=probes.answered,
                failed=probes.failed,
                last_failure=probes.last_failure,
            ),
        )
        return MonitoringReport(reported_seconds=now_s, drift=self._drift.report(now_s), health=health)

    def _begin(self) -> None:
        """Everything from nothing: empty windows, no alarm."""
        setup, profile = self._setup, self._profile
        share = 0.5 if profile.health.present else 1.0
        self._drift = DriftWatch(profile.drift, setup.drift, budget_share=share)
        self._health = HealthWatch(profile.health, setup.drift, setup.quality, budget_share=share)
        self._feeds = Feeds()
        self._first_s: dict[str, float] = {}
        widths = {tensor.name: tensor.dimensions for tensor in self._rows.watched}
        for tensor, width in self._drift.tensors.items():
            self._feeds.add({tensor: width}, partial(self._to_drift, tensor))
        for part, tensors in self._health.needs().items():
            self._feeds.add({name: widths[name] for name in tensors}, partial(self._to_health, part))

    def _put(self, rows: Mapping[str, Rows], *, probe: bool) -> None:
        if RECONSTRUCTION_ERROR in rows:
            self._health.scored(rows[RECONSTRUCTION_ERROR], probe=probe)
        for tensor in rows:
            self._first_s.setdefault(tensor, self._rows_s)
        self._feeds.put(rows)

    def _to_drift(self, tensor: str, rows: Rows) -> None:
        self._drift.update(tensor, rows, self._first_s.pop(tensor, self._rows_s), self._rows_s)
        self._give_way()

    def _to_health(self, part: str, *rows: Rows) -> None:
        self._health.update(part, self._rows_s, *rows)
        self._give_way()

    def _restore(self, payload: bytes) -> None:
        self._resuming = False
        try:
            state = json.loads(payload)
            self._drift.restore(state["drift"])
            self._health.restore(state["health"])
            self._probes.answered, self._probes.failed = (int(n) for n in state["probes"])
        except (ValueError, KeyError, TypeError):
            log.exception("monitoring begins anew: the state of the process before cannot be used")
            self._begin()

    def _line(self, now_s: float) -> bytes:
        probes = [self._probes.answered, self._probes.failed]
        state = {"drift": self._drift.state(), "health": self._health.state(), "probes": probes}
        report = self.report(now_s).model_dump_json(by_alias=True).encode()
        return write_report(report, json.dumps(state).encode())


def open_monitor(setup: AnalysisSetup, clock: Callable[[], float], give_way: Callable[[], None]) -> Monitor | bytes:
    """The monitor of a bundle with a profile; else the line that says why there is none."""
    directory = Path(setup.bundle_dir or "")
    family = ""
    try:
        manifest = load_manifest(directory)
        family = manifest.contract.family
        profile = load_profile(directory, manifest)
        if profile is not None:
            probes = ScoreProbes(manifest.contract, setup.triton, setup.drift.score_probes)
            return Monitor(setup, manifest, profile, clock=clock, probes=probes, give_way=give_way)
        report = not_watching(Watching.NO_PROFILE, clock(), setup.drift, family=family)
    except InvalidInput as error:
        log.warning("drift is not watched", extra={"reason": str(error)})
        report = not_watching(Watching.BROKEN, clock(), setup.drift, detail=str(error), family=family)
    return write_report(report.model_dump_json(by_alias=True).encode(), b"null")
