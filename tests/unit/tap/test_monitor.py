"""Drift and health in the analysis process, without a process. Covered: rows of watched tensors and whose inputs count,
batches, undrifted and drifted samples through to report, events and metrics, a successor that goes on, states that are
none, orders and score probes, what is said where nothing is watched, silence."""

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latentry_serving.bundle.profile import BundleProfile, Health
from latentry_serving.contract.drift_report import (
    ContributingDimension,
    DriftState,
    HealthState,
    MonitoringReport,
    Watching,
)
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.tap_config import Address, DriftSettings, Sampling, ScoreProbeSettings, TapConfig
from latentry_serving.drift import budget
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.types import AlarmState
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.oip import DecodedTensor
from latentry_serving.tap.analysis_decode import Sample
from latentry_serving.tap.analysis_frames import read_report, write_report
from latentry_serving.tap.analysis_setup import AnalysisSetup
from latentry_serving.tap.monitor import Monitor
from latentry_serving.tap.monitor_rows import BATCH_ROWS, Batches, WatchedRows
from latentry_serving.tap.monitoring import SILENT_SECONDS, MonitoringDesk
from latentry_serving.tap.score_probes import InputReservoir, ScoreProbes
from latentry_serving.telemetry.monitoring import MonitoringCollector

WINDOW = 100
X = TensorSpec(name="x", datatype=Datatype.FP32, shape=(2, 3))
LATENT = TensorSpec(name="latent", datatype=Datatype.FP32, shape=(4,))
ERROR = TensorSpec(name="reconstruction_error", datatype=Datatype.FP32, shape=(1,))
MANIFEST = BundleManifest(
    name="m",
    version="1",
    contract=Contract(
        family=Family.AUTOENCODER,
        latent_dimension=4,
        embedding_space="m",
        operations={
            Operation.ENCODE: OperationContract(model="m_encode", inputs=(X,), outputs=(LATENT,)),
            Operation.SCORE: OperationContract(model="m_score", inputs=(X,), outputs=(ERROR,)),
        },
    ),
    golden=Golden(samples=1, tolerances={}),
    files=(),
    provenance=Provenance(sources={}),
)
MIX = np.random.Generator(np.random.PCG64(5)).normal(size=(6, 4)).astype(np.float32)


def inputs(seed: int, rows: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).normal(size=(rows, 6)).astype(np.float32)


def errors_of(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(x).mean(axis=1, keepdims=True))


def sample(operation: str, x: np.ndarray, time_s: float = 0.0) -> Sample:
    name, answer = ("latent", x @ MIX) if operation == "encode" else ("reconstruction_error", errors_of(x))
    sent = DecodedTensor("x", Datatype.FP32, (len(x), 2, 3), x.reshape(-1, 2, 3))
    return Sample(operation, (sent,), (DecodedTensor(name, Datatype.FP32, answer.shape, answer),), time_s)


@pytest.fixture(scope="module")
def profile() -> BundleProfile:
    x, fit = inputs(1, 1500), FitSettings(window=WINDOW, features=32)
    arrays = {"input": x, "embedding": x @ MIX, "reconstruction_error": errors_of(x)}
    return BundleProfile(
        Profile({name: fit_tensor(name, array, fit) for name, array in arrays.items()}, 0),
        Health(reconstruction=AutoencoderBaseline.fit(errors_of(x), window=WINDOW)),
    )


class Clock:
    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


class Run:
    """A monitor and a desk, without the pipe between them."""

    def __init__(self, profile: BundleProfile, clock: Clock, **drift: object) -> None:
        settings = DriftSettings.model_validate(
            {"expectedRunTimeSeconds": 86_400, "scoreProbes": {"perSecond": 0}} | drift
        )
        self.clock = clock
        setup = AnalysisSetup(limit_bytes=1, drift=settings)
        probes = ScoreProbes(MANIFEST.contract, Address(port=0), settings.score_probes)
        self.gave_way = 0
        self.monitor = Monitor(setup, MANIFEST, profile, clock=clock, probes=probes, give_way=self._give_way)
        config = TapConfig(bundle_dir="b", sampling=Sampling(max_per_second=1), drift=settings)
        self.desk = MonitoringDesk(config, clock)

    def send(self, seed: int, windows: float, change: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> None:
        """Encode calls of 10 rows, ten to a window of 20 s, and a score call of the same inputs."""
        for index in range(int(10 * windows)):
            x = change(inputs(1000 * seed + index, 10))
            self.monitor.consume(sample("encode", x, self.clock.now_s))
            self.monitor.consume(sample("score", x, self.clock.now_s))
            self.clock.now_s += 2
            if line := self.monitor.step():
                self.desk.take(line)

    def _give_way(self) -> None:
        self.gave_way += 1

    def report(self) -> MonitoringReport:
        return self.desk.report()

    def metrics(self) -> dict[tuple[str, ...], float]:
        families = MonitoringCollector(self.desk, model="m", version="1", top=5).collect()
        return {
            (
                s.name.removeprefix("latentry_"),
                *(v for k, v in s.labels.items() if k not in ("model", "version")),
            ): s.value
            for family in families
            for s in family.samples
        }


@pytest.fixture
def run(profile: BundleProfile) -> Run:
    return Run(profile, Clock())


def test_undrifted_samples_are_ok_once_a_window_is_judged(run: Run) -> None:
    run.send(1, 0.9)
    report = run.report()
    assert {s.state for t in report.drift.tensors for s in t.statistics} == {DriftState.INSUFFICIENT_DATA}
    assert (report.drift.alarm, report.drift.sufficient) == (False, False)
    assert report.health.verdict is HealthState.INSUFFICIENT_DATA
    run.send(2, 4)
    report = run.report()
    assert (report.drift.state, report.drift.alarm, report.drift.sufficient) == (Watching.WATCHING, False, True)
    assert [(t.tensor, t.windows, t.held) for t in report.drift.tensors] == [
        ("input", 4, 90), ("embedding", 4, 90), ("reconstruction_error", 4, 90),
    ]  # fmt: skip
    assert report.health.verdict is HealthState.HEALTHY
    assert report.health.scores is not None
    assert report.health.scores.traffic == 490
    assert report.health.scores.within_threshold + report.health.scores.anomalous in range(480, 500)


def test_it_gives_way_between_pieces_of_work_however_many_rows_come_at_once(run: Run) -> None:
    run.monitor.consume(sample("encode", inputs(1, 10 * BATCH_ROWS), run.clock.now_s))
    assert run.gave_way >= 10


def test_a_shift_is_explained_logged_once_and_exported_and_ends(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    run.send(1, 2)
    run.send(2, 2, lambda x: x + np.float32(1.5))
    report = run.report()
    assert report.drift.alarm
    alarms = {(t.tensor, s.statistic): s.alarm for t in report.drift.tensors for s in t.statistics if s.alarm}
    alarm = alarms["input", "t2"]
    assert alarm.looks_like == "shift"
    assert len(alarm.dimensions) == 5
    assert isinstance(alarm.dimensions[0], ContributingDimension)
    raised = [r.getMessage() for r in caplog.records if "drift alarm raised" in r.getMessage()]
    assert len(raised) == len(alarms)
    assert report.health.verdict is HealthState.UNHEALTHY
    metrics = run.metrics()
    assert metrics["drift_alarm", "input", "t2"] == 1
    assert metrics["drift_nearness_ratio", "input"] > 1
    assert metrics["drift_insufficient_data", "input"] == 0
    assert sum(1 for key in metrics if key[:3] == ("drift_contribution", "input", "t2")) == 5
    assert metrics["health_alarm", "Autoencoder", "reconstruction", "reconstruction_mean"] == 1
    assert metrics["drift_expected_run_time_seconds",] == 86_400
    run.send(3, 60)
    assert not run.report().drift.alarm
    assert not any(key[0] == "drift_contribution" for key in run.metrics()), "replaced, not accumulated"
    ended = [r.getMessage() for r in caplog.records if "drift alarm ended" in r.getMessage()]
    assert len(ended) == len(raised)


def test_a_successor_goes_on_with_alarms_and_counts(run: Run, profile: BundleProfile) -> None:
    run.send(1, 2)
    run.send(2, 1.5, lambda x: x + np.float32(1.5))
    before, state = run.report(), run.desk.state
    assert before.drift.alarm
    assert state is not None
    successor = Run(profile, run.clock)
    successor.monitor.control({"control": "restore"}, state)
    successor.desk.take(successor.monitor.step() or b"")
    after = successor.report()
    assert all(tensor.held == 0 for tensor in after.drift.tensors), "the open windows are lost, nothing else"

    def without_open(report: MonitoringReport) -> list[object]:
        tensors = [t.model_copy(update={"held": 0, "seconds_since_full_window": 0}) for t in report.drift.tensors]
        parts = [p.model_copy(update={"held": 0, "seconds_since_full_window": 0}) for p in report.health.parts]
        return [tensors, parts, report.health.scores]

    assert without_open(after) == without_open(before)


@pytest.mark.parametrize("state", [b"", b"null", b"{}", b'{"drift": {"detector": {}, "alarms": []}}'])
def test_a_state_that_is_none_begins_anew(run: Run, state: bytes) -> None:
    run.monitor.control({"control": "restore"}, state)
    run.send(1, 1.2)
    assert run.report().drift.tensors[0].windows == 1


def test_a_slow_window_is_insufficient_never_ok(profile: BundleProfile) -> None:
    run = Run(profile, Clock(), maxWaitSeconds=30)
    run.send(1, 0.2)
    run.clock.now_s += 60
    run.desk.take(run.monitor.step() or b"")
    tensor = run.report().drift.tensors[0]
    assert (tensor.windows, tensor.insufficient_windows, tensor.held) == (0, 1, 0)
    assert not run.report().drift.sufficient
    assert run.metrics()["drift_insufficient_data", "input"] == 1


def test_a_larger_window_than_the_profiles_is_said(profile: BundleProfile) -> None:
    run = Run(profile, Clock(), window=500)
    run.send(1, 0.1)
    assert (
        run.report().drift.detail
        == "windows of 100 vectors: the profile was calibrated for no more, 500 were asked for"
    )


def test_thresholds_stay_while_the_rate_is_the_same(profile: BundleProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []
    share = budget.share

    def counted(*arguments: Any, **named: Any) -> budget.Budget:
        shared.append(1)
        return share(*arguments, **named)

    run = Run(profile, Clock())
    run.send(1, 3)
    monkeypatch.setattr(budget, "share", counted)
    rng = np.random.Generator(np.random.PCG64(9))
    for _ in range(60):
        run.clock.now_s += rng.uniform(-1, 1)  # calls come unevenly, and in bursts of ten rows
        run.send(int(rng.integers(1000)), 0.5)
    assert run.report().drift.tensors[0].windows == 33
    assert not shared


def test_silence_is_no_health(run: Run) -> None:
    run.send(1, 2)
    since = run.report().drift.tensors[0].seconds_since_full_window
    run.clock.now_s += 10
    assert run.report().drift.tensors[0].seconds_since_full_window == pytest.approx(since + 10)
    run.clock.now_s += SILENT_SECONDS
    report = run.report()
    assert (report.drift.state, report.drift.sufficient) == (Watching.STARTING, False)
    assert "has not reported for" in report.drift.detail
    assert report.health.verdict is HealthState.INSUFFICIENT_DATA


@pytest.mark.parametrize(
    ("config", "state"),
    [
        (TapConfig(bundle_dir="b"), Watching.SAMPLING_OFF),
        (TapConfig(sampling=Sampling(max_per_second=1)), Watching.NO_BUNDLE),
        (TapConfig(bundle_dir="b", sampling=Sampling(max_per_second=1)), Watching.STARTING),
    ],
)
def test_what_is_said_where_nothing_is_watched(config: TapConfig, state: Watching) -> None:
    desk = MonitoringDesk(config, lambda: 0.0)
    report = desk.report()
    assert (report.drift.state, report.health.state) == (state, state)
    assert report.drift.detail
    names = {
        s.name for family in MonitoringCollector(desk, model="m", version="1", top=5).collect() for s in family.samples
    }
    assert names == {"latentry_drift_watching", "latentry_drift_expected_run_time_seconds"}


def test_inputs_are_taken_from_one_operation_at_a_time() -> None:
    rows, x = WatchedRows(MANIFEST.contract), inputs(1, 2)
    assert set(rows.of(sample("score", x, 0.0))) == {"input", "reconstruction_error"}
    assert set(rows.of(sample("encode", x, 1.0))) == {"input", "embedding"}
    assert set(rows.of(sample("score", x, 2.0))) == {"reconstruction_error"}
    assert set(rows.of(sample("score", x, 62.0))) == {"input", "reconstruction_error"}
    assert rows.of(sample("encode", x, 63.0))["input"].shape == (2, 6)


def test_another_shape_than_the_contracts_is_refused() -> None:
    wrong = Sample("encode", (DecodedTensor("x", Datatype.FP32, (1, 2), np.ones((1, 2), np.float32)),), (), 0.0)
    with pytest.raises(ValueError, match=r"x has shape \[1, 2\], the contract says 6 values"):
        WatchedRows(MANIFEST.contract).of(wrong)


def test_batches_are_full_or_flushed_and_in_order() -> None:
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    batches = Batches((2, 1), lambda a, b: taken.append((a.copy(), b.copy())))
    values = np.arange(2 * 600, dtype=np.float32).reshape(600, 2)
    for start in range(0, 600, 7):
        part = values[start : start + 7]
        batches.add([part, part[:, :1]])
    batches.flush()
    batches.flush()
    assert [len(a) for a, _ in taken] == [*[BATCH_ROWS] * (600 // BATCH_ROWS), 600 % BATCH_ROWS]
    assert np.array_equal(np.concatenate([a for a, _ in taken]), values)
    assert np.array_equal(np.concatenate([b for _, b in taken]), values[:, :1])


def test_the_reservoir_keeps_no_more_than_its_size_and_forgets() -> None:
    reservoir = InputReservoir(3)
    for value in range(100):
        reservoir.add({"x": np.full((2, 1), value)})
    kept = [item["x"].item() for item in reservoir.take()]
    assert len(kept) == 3
    assert max(kept) > 3, "not the first three alone (all below 4 of 100: a chance of 1e-4, and the seed is fixed)"
    assert reservoir.take() == []


def test_without_a_score_operation_or_budget_no_probe_is_wanted() -> None:
    encode_only = MANIFEST.contract.model_copy(
        update={"operations": {Operation.ENCODE: MANIFEST.contract.operations[Operation.ENCODE]}}
    )
    settings = ScoreProbeSettings()
    assert not ScoreProbes(encode_only, Address(port=0), settings).wanted
    assert not ScoreProbes(MANIFEST.contract, Address(port=0), ScoreProbeSettings(per_second=0)).wanted


def test_reports_and_states_travel_in_one_line() -> None:
    line = write_report(b'{"a":"\\t"}', b"{}")
    assert line.count(b"\n") == 1
    assert read_report(line.rstrip(b"\n")) == (b'{"a":"\\t"}', b"{}")
    assert read_report(b"[]\n") is None


def test_the_documents_words_are_the_detectors() -> None:
    assert {state.value for state in DriftState} == {state.value for state in AlarmState}


def test_the_line_is_small_and_the_report_comes_back(run: Run) -> None:
    run.send(1, 2)
    line = run.monitor.step() or run.desk.state
    assert line is not None
    assert len(line) < 64_000
    report = run.report()
    assert MonitoringReport.model_validate_json(report.model_dump_json(by_alias=True)) == report
    assert json.loads(report.drift.model_dump_json(by_alias=True))["expectedRunTimeSeconds"] == 86_400
