"""What taps say."""

from collections.abc import Callable

import pytest

from latentry_serving.contract.bundle_report import OperationProbe, ProbesReport
from latentry_serving.contract.comparison import (
    ComparisonReport,
    ComparisonResult,
    ComparisonState,
    Interval,
    Reconstruction,
)
from latentry_serving.contract.contract_report import ContractReport
from latentry_serving.contract.drift_report import Scores
from latentry_serving.contract.manifest import Contract, Datatype, OperationContract, TensorSpec
from latentry_serving.contract.metrics import Outcome, ProbeOutcome
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.slis import Latency, LatencyHistogram
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.contract.tap_evidence import TapEvidence
from latentry_serving.sli.book import SliBook
from latentry_serving.tap.monitoring import MonitoringDesk
from latentry_serving.tap.slis import slis

STABLE, CANDIDATE = (f"sha256:{digit * 64}" for digit in "12")
Said = Callable[..., TapEvidence]


def contract_of(
    digest: str,
    *,
    space: str = "a",
    model: str = "m_encode",
    batch: int | None = 8,
    datatype: Datatype = Datatype.FP32,
) -> ContractReport:
    types = {"x": datatype, "y": Datatype.FP32}
    tensors = [TensorSpec(name=name, datatype=kind, shape=(4,)) for name, kind in types.items()]
    encode = OperationContract(model=model, inputs=(tensors[0],), outputs=(tensors[1],))
    contract = Contract(
        family=Family.ENCODER, latent_dimension=4, embedding_space=space, operations={Operation.ENCODE: encode}
    )
    sizes = {Operation.ENCODE: batch} if batch is not None else None
    return ContractReport(version="1", digest=digest, contract=contract, max_batch_sizes=sizes)


def result_of(space: str = "same", pairs: int = 80, map_bytes: int = 0, not_finite: int = 0) -> ComparisonResult:
    figure = Interval(value=0.99, low=0.985, high=1.0)
    return ComparisonResult(
        pairs=pairs, golden=pairs, live=0, needed=8, neighbours=10, cosine=figure, overlap=figure, recall=figure,
        norm_ratio=figure, not_finite=not_finite, aligned_recall=None, space=space, map_bytes=map_bytes, notes=[],
    )  # fmt: skip


def reconstruction_of(ratio: float, not_finite: int = 0) -> Reconstruction:
    """Bounds a quarter below and above."""
    bounds = Interval(value=ratio, low=0.75 * ratio, high=1.25 * ratio)
    return Reconstruction(
        inputs=80, not_finite=not_finite, stable=0.02, candidate=0.02 * ratio, unavoidable=0.0, ratio=bounds
    )


def comparison_of(
    state: str = "done", result: ComparisonResult | None = None, ago: float | None = 1.0, digest: str | None = STABLE
) -> ComparisonReport:
    state = ComparisonState(state)
    return ComparisonReport(state=state, detail="why", stable_digest=digest, seconds_ago=ago, result=result)


@pytest.fixture
def said() -> Said:
    """``said(ok, errors, ...)``: what a tap says that has counted so much since its start."""

    def document(
        ok: int = 0,
        errors: int = 0,
        *,
        cancelled: int = 0,
        uptime: float = 100.0,
        scores: tuple[int, int] | None = None,
        contract: ContractReport | None = None,
        comparison: ComparisonReport | None = None,
        probe: ProbeOutcome | None = None,
    ) -> TapEvidence:
        book = SliBook((0.01, 0.1), ["encode", "other"], started_s=0.0)
        told = slis(book, model="m", version="1", digest=None, now_s=uptime)
        outcomes = {Outcome.OK: ok, Outcome.SERVER_ERROR: errors, Outcome.CANCELLED: cancelled}
        total = told.inference.total.model_copy(update={"outcomes": outcomes, "requests": sum(outcomes.values())})
        inference = told.inference.model_copy(update={"total": total})
        histogram = LatencyHistogram(edges_seconds=[0.01, 0.02], total=[ok], recent=[0])
        report = MonitoringDesk(TapConfig(), lambda: 0.0).report()
        health = report.health
        if scores is not None:
            seen = Scores(
                traffic=scores[0], probes=0, within_threshold=0, anomalous=scores[1], threshold=1, anomaly_threshold=2
            )
            health = health.model_copy(update={"scores": seen})
        probes = ProbesReport(passed=True, postponed={}, operations=[_probe(probe)]) if probe is not None else None
        return TapEvidence(
            slis=told.model_copy(update={"inference": inference}),
            latency=Latency(inference=histogram, operations=[]),
            probes=probes,
            drift=report.drift,
            health=health,
            contract=contract,
            comparison=comparison,
        )

    return document


def _probe(outcome: ProbeOutcome) -> OperationProbe:
    return OperationProbe(
        operation=Operation.ENCODE, outcome=outcome, detail="d", largest_error=None, determinism_error=None,
        last_run_timestamp_seconds=1.0, duration_seconds=1.0, outcomes={outcome: 1},
    )  # fmt: skip


@pytest.fixture
def words():
    """Builders of parts."""

    class Words:
        stable, candidate = STABLE, CANDIDATE
        contract = staticmethod(contract_of)
        result = staticmethod(result_of)
        comparison = staticmethod(comparison_of)
        reconstruction = staticmethod(reconstruction_of)

    return Words
