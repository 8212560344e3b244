"""When embeddings of candidate and stable are compared, and what came of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from latentry_operator.plan.rollout.facts import Bounded, Pairs
from latentry_serving.contract.comparison import ComparisonReport, ComparisonResult, ComparisonState, Interval
from latentry_serving.contract.contract_report import ContractReport
from latentry_serving.contract.tap_evidence import TapEvidence

UNDECIDED = "undecided"
AGAIN_SECONDS = 60.0
"""After a comparison that left it open: live inputs may have come."""
RETRY_SECONDS = 15.0
"""After one that failed."""
MAP_PATH = "/compare/map.npy"


@dataclass(frozen=True, slots=True)
class Carry:
    """Inputs and embeddings are to be carried from one replica to another, by name."""

    stable_replica: str
    candidate_replica: str


def compare_next(stable: Mapping[str, TapEvidence], candidate: Mapping[str, TapEvidence]) -> Carry | None:
    """Which comparison should start now, if any. One candidate replica suffices: replicas are alike.

    Args:
        stable, candidate: what the replicas that answer say, by name.
    """
    givers = [name for name in sorted(stable) if stable[name].contract is not None]
    takers = [name for name in sorted(candidate) if _takes(candidate[name].contract)]
    if not givers or not takers:
        return None
    old, new = stable[givers[0]].contract, candidate[takers[0]].contract
    if old is None or new is None or old.contract.embedding_space != new.contract.embedding_space:
        return None
    if any(
        one.comparison is not None and one.comparison.state is ComparisonState.RUNNING for one in candidate.values()
    ):
        return None
    found = latest(candidate, old.digest)
    if found is not None and (found[1].seconds_ago or 0.0) < _pause(found[1]):
        return None
    return Carry(givers[0], takers[0])


def latest(candidate: Mapping[str, TapEvidence], stable_digest: str) -> tuple[str, ComparisonReport] | None:
    """Replica and report of the comparison with that bundle that ended last, or runs; None without one."""
    reports = {
        name: one.comparison
        for name, one in candidate.items()
        if one.comparison is not None and one.comparison.stable_digest == stable_digest
    }
    if not reports:
        return None
    name = min(sorted(reports), key=lambda name: (reports[name].result is None, reports[name].seconds_ago or 0.0))
    return name, reports[name]


def pairs_of(result: ComparisonResult, url: str) -> Pairs:
    """As the gate takes it.

    Args:
        url: of the admin API that has the map; empty where it is not known.
    """
    return Pairs(
        count=result.pairs,
        needed=result.needed,
        cosine=_bounded(result.cosine),
        overlap=_bounded(result.overlap),
        recall=_bounded(result.recall),
        norm_ratio=_bounded(result.norm_ratio),
        aligned_recall=_bounded(result.aligned_recall) if result.aligned_recall is not None else None,
        map_uri=f"{url}{MAP_PATH}" if url and result.map_bytes else "",
        not_finite=result.not_finite,
    )


def _takes(contract: ContractReport | None) -> bool:
    """Whether its Triton answers."""
    return contract is not None and contract.max_batch_sizes is not None


def _pause(report: ComparisonReport) -> float:
    if report.state is ComparisonState.FAILED or report.result is None:
        return RETRY_SECONDS
    open_ = report.result.space == UNDECIDED or report.result.pairs < report.result.needed
    return AGAIN_SECONDS if open_ else float("inf")


def _bounded(figure: Interval) -> Bounded:
    return Bounded(figure.value, figure.low, figure.high)
