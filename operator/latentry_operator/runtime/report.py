"""What a pass over a model has to say: its status, and events about what changed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from latentry_operator.api.labels import MODEL_LABEL
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.status import LatentModelStatus, ModelAddress
from latentry_operator.kube.apply import Applied, Effect
from latentry_operator.kube.events import Happening
from latentry_operator.kube.records import Stored
from latentry_operator.plan.rollout import machine as rollout
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.state import RolloutState
from latentry_operator.plan.tap_facts import TapFacts
from latentry_operator.render.service import address
from latentry_operator.runtime.decide import Decision
from latentry_operator.runtime.observe import Seen, status_of
from latentry_operator.runtime.rollout import memory
from latentry_operator.status.facts import ModelFacts, Refusal, RevisionFacts, SloFacts
from latentry_operator.status.model import model_status, transitions
from latentry_operator.status.reasons import EventReason
from latentry_operator.status.watching import complaint


@dataclass(frozen=True, slots=True)
class Report:
    """One pass.

    Attributes:
        model: None when its spec cannot be read.
        taps: of all its pods.
        budgets: what is known of the objectives of the revision that carries the traffic.
        decision: None when there was none.
        refusal: why nothing, or not everything, was carried out.
        cleanup: what of a deleted model is in the way.
        failure: what the API server refused.
    """

    seen: Seen
    model: LatentModel | None
    decision: Decision | None = None
    refusal: Refusal | None = None
    cleanup: str = ""
    failure: str = ""
    taps: tuple[TapFacts, ...] = ()
    budgets: Callable[[str], SloFacts] = lambda _: SloFacts()

    def status(self, now: datetime) -> LatentModelStatus:
        """The status that follows."""
        seen, decision = self.seen, self.decision
        before = status_of(seen.record)
        traffic = decision.traffic if decision is not None else seen.traffic
        serving = self._running(traffic)
        name = serving.name if serving is not None else ""
        decided = decision.rollout if decision is not None else None
        remembered = decided.state if decided is not None else memory(seen)
        stable = remembered.stable if remembered is not None else ""
        candidate = remembered.candidate if remembered is not None else ""
        facts = ModelFacts(
            generation=seen.record.generation,
            refusal=self.refusal,
            workload=decision.plan.workload if decision is not None else None,
            notes=(decision.plan.workload_reason, *decision.plan.notes) if decision is not None else (),
            serving=self._explained(serving),
            target=self._explained(decision.target) if decision is not None else None,
            cleanup=self.cleanup,
            failure=self.failure,
            slo=self.model.spec.slo if self.model is not None else None,
            taps=self._taps_of(name),
            budgets=self.budgets(name),
            rollout=decided,
            stable=self._running(stable),
            stable_taps=self._taps_of(stable),
            candidate_taps=self._taps_of(candidate),
        )
        return model_status(
            facts,
            before,
            now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            digest=decision.plan.digest if decision is not None else None,
            selector=f"{MODEL_LABEL}={seen.owner.name}",
            address=address(decision.plan) if decision is not None else before.address or ModelAddress(),
        )

    def _running(self, revision: str) -> RevisionFacts | None:
        if self.decision is not None and revision == self.decision.target.name:
            return self.decision.target
        return self.seen.revision(revision)

    def _explained(self, revision: RevisionFacts | None) -> RevisionFacts | None:
        """With what its taps complain of: they know more than that pods are not ready."""
        if revision is None:
            return None
        return replace(revision, problem=complaint(self._taps_of(revision.name)) or revision.problem)

    def _taps_of(self, revision: str) -> tuple[TapFacts, ...]:
        return tuple(tap for tap in self.taps if tap.revision == revision)


def happenings(record: Stored, status: LatentModelStatus) -> Iterator[Happening]:
    """Events for conditions that change with ``status``."""
    for change in transitions(status_of(record).conditions, status.conditions):
        yield Happening(change.type, change.reason, change.message)


def rollout_happenings(before: RolloutState | None, decision: rollout.Decision) -> Iterator[Happening]:
    """Events of a rollout. Of a model's first revision the conditions tell, but for what went wrong."""
    recovered = any(told.reason is RolloutReason.RECOVERED for told in decision.happenings)
    first = not recovered and (before is None or not before.stable)
    for told in decision.happenings:
        if told.kind == "Warning" or not first:
            yield Happening(told.kind, told.reason, told.message)


def restored(applied: Sequence[Applied]) -> Iterator[Happening]:
    """Events for what somebody else changed."""
    back = [f"{one.kind.name} {one.name}" for one in applied if one.effect is Effect.RESTORED]
    if back:
        yield Happening(
            "Normal",
            EventReason.OBJECT_RESTORED,
            f"{', '.join(back)} had been changed or deleted and is as it should be",
        )
    left = Counter(
        f"{one.kind.name} {one.name}" for one in applied if one.claims and one.effect is not Effect.UNCHANGED
    )
    if left:
        yield Happening(
            "Normal",
            EventReason.FIELD_LEFT_TO_OTHERS,
            f"another manager applied fields of {', '.join(left)}, which are left to it",
        )
