"""When candidate and stable are compared on the same inputs, and what came of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from latentry_operator.api.rollout import Gates
from latentry_operator.plan.rollout.facts import Bounded, Latent, Pairs, Reconstruction
from latentry_serving.contract import comparison as told
from latentry_serving.contract.comparison import (
    BYTES_PER_ELEMENT,
    ComparisonReport,
    ComparisonResult,
    ComparisonState,
    Interval,
)
from latentry_serving.contract.contract_report import ContractReport
from latentry_serving.contract.manifest import Contract
from latentry_serving.contract.operations import Family, Operation
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


def compare_next(stable: Mapping[str, TapEvidence], candidate: Mapping[str, TapEvidence], gates: Gates) -> Carry | None:
    """Which comparison should start now, if any. One candidate replica suffices: replicas are alike.

    Args:
        stable, candidate: what the replicas that answer say, by name.
        gates: that want to know.
    """
    if not (gates.compatibility.enabled or gates.health.enabled):
        return None
    givers = [name for name in sorted(stable) if stable[name].contract is not None]
    takers = [name for name in sorted(candidate) if _takes(candidate[name].contract)]
    if not givers or not takers:
        return None
    old, new = stable[givers[0]].contract, candidate[takers[0]].contract
    if old is None or new is None or incomparable(old.contract, new.contract):
        return None
    if any(
        one.comparison is not None and one.comparison.state is ComparisonState.RUNNING for one in candidate.values()
    ):
        return None
    found = latest(candidate, old.digest)
    one_space = old.contract.embedding_space == new.contract.embedding_space
    if found is not None and (found[1].seconds_ago or 0.0) < _pause(found[1], gates, one_space=one_space):
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
        reconstruction=_reconstruction(result.reconstruction),
    )


def _takes(contract: ContractReport | None) -> bool:
    """Whether its Triton answers."""
    return contract is not None and contract.max_batch_sizes is not None


def incomparable(old: Contract, new: Contract) -> str:
    """Why the candidate can never be given stable's inputs; empty where it can."""
    before, after = (contract.operations[Operation.ENCODE].inputs for contract in (old, new))
    takes = {tensor.name: tensor for tensor in after}
    if takes.keys() != {tensor.name for tensor in before}:
        return "encode takes other inputs than the stable revision's"
    for tensor in before:
        other = takes[tensor.name]
        if tensor.datatype not in BYTES_PER_ELEMENT:
            return f"inputs of type {tensor.datatype} ({tensor.name}) cannot be carried"
        sizes = zip(tensor.shape, other.shape, strict=False)
        fits = len(tensor.shape) == len(other.shape) and all(-1 in pair or pair[0] == pair[1] for pair in sizes)
        if tensor.datatype is not other.datatype or not fits:
            return f"encode takes {tensor.name} in another form than the stable revision's"
    return ""


def latent_of(report: ContractReport | None) -> Latent | None:
    """As the gate takes it."""
    if report is None or report.baseline is None:
        return None
    return Latent(report.baseline.dimensions, report.baseline.active, report.contract.family is Family.VAE)


def _pause(report: ComparisonReport, gates: Gates, *, one_space: bool) -> float:
    """Seconds until the next one. Where it is not the same space, embeddings leave nothing open."""
    if report.state is ComparisonState.FAILED or report.result is None:
        return RETRY_SECONDS
    result, rules = report.result, gates.health
    open_ = gates.compatibility.enabled and one_space and (result.space == UNDECIDED or result.pairs < result.needed)
    if rules.enabled and (scored := result.reconstruction) is not None:
        open_ = open_ or scored.ratio.low <= rules.max_error_ratio < scored.ratio.value
    return AGAIN_SECONDS if open_ else float("inf")


def _reconstruction(found: told.Reconstruction | None) -> Reconstruction | None:
    if found is None:
        return None
    ratio = _bounded(found.ratio)
    return Reconstruction(found.inputs, found.stable, found.candidate, found.unavoidable, ratio, found.not_finite)


def _bounded(figure: Interval) -> Bounded:
    return Bounded(figure.value, figure.low, figure.high)
