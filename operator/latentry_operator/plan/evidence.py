"""From what the taps of two revisions say to the ``Evidence`` that a rollout is judged by. Pure.

The body reads `/evidence` of every replica that answers, calls ``look`` with what it remembers, and keeps what comes
back. If that is lost, counts begin anew; nothing passes by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from latentry_operator.plan.evidence_compare import incomparable, latent_of, latest, pairs_of
from latentry_operator.plan.evidence_counts import NOTHING, Counts, Tally, fresh
from latentry_operator.plan.rollout.facts import ContractChange, Evidence, MonitorFacts, Pairs
from latentry_operator.plan.rollout.reports import golden, monitor
from latentry_serving.contract.comparison import ComparisonState
from latentry_serving.contract.compatibility import Effect, batch_change, contract_changes
from latentry_serving.contract.contract_report import ContractReport
from latentry_serving.contract.tap_evidence import TapEvidence

ENOUGH_REQUESTS = 1_000
"""Of stable, while it served beside this candidate. With fewer, what it did since its taps started says more."""
Replicas = Mapping[str, TapEvidence]


@dataclass(frozen=True, slots=True)
class Reading:
    """One look.

    Attributes:
        stage: of the state before this look's decision; empty without a candidate.
        now: monotonic seconds.
        stable_revision, candidate_revision: names.
        stable, candidate: what the replicas that answer say, by name.
        stable_serves: whether stable has a share of the traffic.
        urls: candidate's replica -> URL of its tap's admin API, for telling where a map lies.
        problem: why inputs could not be carried to the candidate at the last attempt, else empty.
    """

    stage: str
    now: float
    stable_revision: str
    candidate_revision: str
    stable: Replicas
    candidate: Replicas
    stable_serves: bool = True
    urls: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the body keeps from look to look; ``Remembered()`` knows nothing.

    Attributes:
        stage, stable_revision, candidate_revision: what it is about.
        stable, candidate: counts of the stage.
        stable_before: of stable in earlier stages in which it served.
        stable_lifetime: of stable's taps since their start, when it served last.
        stable_contract, candidate_contract: the last that was told in full.
        pairs: the last comparison of these two.
    """

    stage: str = ""
    stable_revision: str = ""
    candidate_revision: str = ""
    stable: Tally | None = None
    candidate: Tally | None = None
    stable_before: Counts = NOTHING
    stable_lifetime: Counts = NOTHING
    stable_contract: ContractReport | None = None
    candidate_contract: ContractReport | None = None
    pairs: Pairs | None = None


def look(before: Remembered, reading: Reading) -> tuple[Remembered, Evidence]:
    """What is known now; PromQL answers are for the body to add."""
    if not reading.stage:
        return Remembered(), Evidence()
    known = _counted(_about(before, reading), reading)
    known = replace(
        known,
        stable_contract=_told(reading.stable) or known.stable_contract,
        candidate_contract=_told(reading.candidate) or known.candidate_contract,
    )
    pairs, problem = _pairs(known, reading)
    known = replace(known, pairs=pairs)
    old, new = known.stable_contract, known.candidate_contract
    counts = known.candidate.total() if known.candidate is not None else NOTHING
    stable = _stable_counts(known, reading)
    return known, Evidence(
        stage=reading.stage,
        changes=changes(old, new),
        stable_space=old.contract.embedding_space if old is not None else "",
        candidate_space=new.contract.embedding_space if new is not None else "",
        golden=golden([one.probes for one in reading.candidate.values() if one.probes is not None]),
        pairs=pairs,
        pairs_problem=problem,
        incomparable=incomparable(old.contract, new.contract) if old is not None and new is not None else None,
        stable_latent=latent_of(old),
        candidate_latent=latent_of(new),
        traffic=counts.traffic,
        stable_traffic=stable.traffic if stable is not None else None,
        monitor=_monitor(reading.candidate, counts),
        stable_monitor=_monitor(reading.stable, stable or NOTHING),
    )


def changes(old: ContractReport | None, new: ContractReport | None) -> tuple[ContractChange, ...] | None:
    """What changes for stable's clients; None while one of the two has not told all of its contract."""
    if old is None or new is None or old.max_batch_sizes is None or new.max_batch_sizes is None:
        return None
    found = contract_changes(old.contract, new.contract)
    for operation in sorted(old.max_batch_sizes.keys() & new.max_batch_sizes.keys()):
        sizes = old.max_batch_sizes[operation], new.max_batch_sizes[operation]
        change = batch_change(f"operations.{operation}.maxBatchSize", *sizes)
        found += [change] if change is not None else []
    return tuple(ContractChange(change.path, change.effect is Effect.BREAKING, change.reason) for change in found)


def _about(before: Remembered, reading: Reading) -> Remembered:
    """What of the memory is about these revisions."""
    about = reading.stable_revision, reading.candidate_revision
    if about == (before.stable_revision, before.candidate_revision):
        return before
    return Remembered(stable_revision=about[0], candidate_revision=about[1])


def _counted(known: Remembered, reading: Reading) -> Remembered:
    stable, candidate = known.stable, known.candidate
    if stable is None or candidate is None:
        stable, candidate = fresh(reading.stable, reading.now), fresh(reading.candidate, reading.now)
    else:
        if known.stage != reading.stage:
            known = replace(known, stable_before=known.stable_before + stable.total())
            stable, candidate = stable.next_stage(), candidate.next_stage()
        stable = stable.look(reading.stable, reading.now)
        candidate = candidate.look(reading.candidate, reading.now)
    lifetime = stable.lifetime() if reading.stable_serves else known.stable_lifetime
    return replace(known, stage=reading.stage, stable=stable, candidate=candidate, stable_lifetime=lifetime)


def _stable_counts(known: Remembered, reading: Reading) -> Counts | None:
    """Since the stage began; where stable serves nobody now, what it did before."""
    if known.stable is None or not reading.stable_revision:
        return None
    if reading.stable_serves:
        return known.stable.total()
    enough = known.stable_before.traffic.requests >= ENOUGH_REQUESTS
    return known.stable_before if enough else known.stable_lifetime


def _told(replicas: Replicas) -> ContractReport | None:
    """A contract that a replica told in full."""
    told = (replicas[name].contract for name in sorted(replicas))
    return next((one for one in told if one is not None and one.max_batch_sizes is not None), None)


def _pairs(known: Remembered, reading: Reading) -> tuple[Pairs | None, str]:
    """The latest comparison with this stable revision, and why there is none newer."""
    if known.stable_contract is None:
        return known.pairs, reading.problem or "the stable revision's tap has not answered"
    found = latest(reading.candidate, known.stable_contract.digest)
    if found is None:
        return known.pairs, reading.problem
    name, report = found
    problem = reading.problem or (report.detail if report.state is ComparisonState.FAILED else "")
    if report.result is None:
        return known.pairs, problem
    return pairs_of(report.result, reading.urls.get(name, "")), problem


def _monitor(replicas: Replicas, counts: Counts) -> MonitorFacts | None:
    facts = monitor([(one.drift, one.health) for one in replicas.values()])
    return replace(facts, scored=counts.scored, anomalous=counts.anomalous) if facts is not None else None
