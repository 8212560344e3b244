"""One model: observe, plan, render, apply, prune, status. Each pass starts from what is there, trusts no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.kube.apply import Applied, Applier, Effect
from latentry_operator.kube.cache import Cache
from latentry_operator.kube.client import Client
from latentry_operator.kube.errors import Conflict, KubeError
from latentry_operator.kube.events import EventRecorder
from latentry_operator.kube.kinds import LATENT_MODEL, Key, Kind, Obj
from latentry_operator.kube.records import Stored
from latentry_operator.kube.status import write_status
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.plan.facts import ClusterSettings
from latentry_operator.plan.rollout.facts import Evidence
from latentry_operator.plan.rollout.state import RolloutState
from latentry_operator.plan.tap_facts import TapFacts
from latentry_operator.runtime.capabilities import capabilities
from latentry_operator.runtime.decide import Decision, decide, invalid, leftovers, plan_for, unwanted
from latentry_operator.runtime.observe import WORKLOADS, Seen, Specs, observe, status_of
from latentry_operator.runtime.pools import Pools
from latentry_operator.runtime.report import Report, happenings, restored, rollout_happenings
from latentry_operator.runtime.rollout import Given, memory, traffic
from latentry_operator.status.facts import Refusal, SloFacts
from latentry_operator.status.reasons import AcceptedReason
from latentry_operator.status.rollout import rollout_status, settled

log = logging.getLogger(__name__)

NAME_TAKEN_SECONDS = 30.0
"""How often to look whether a name has become free: other people's objects are not watched."""


ReadEvidence = Callable[[Seen, ClusterPlan, RolloutState | None, Mapping[str, int]], Awaitable[Evidence]]


async def no_evidence(*_: object) -> Evidence:
    """Nobody can be asked."""
    return Evidence()


@dataclass(frozen=True, slots=True)
class Deps:
    """What reconciling needs; ``taps`` and ``budgets`` (of a model's revision) read memory only, ``evidence`` asks taps
    while there is a candidate."""

    client: Client
    cache: Cache
    applier: Applier
    events: EventRecorder
    pools: Pools
    settings: ClusterSettings
    now: Callable[[], datetime]
    taps: Callable[[Key], tuple[TapFacts, ...]] = lambda _: ()
    budgets: Callable[[Key, str], SloFacts] = lambda *_: SloFacts()
    evidence: ReadEvidence = no_evidence


class Reconciler:
    """Makes the cluster what LatentModels ask for."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._specs = Specs()

    async def reconcile(self, key: Key) -> float | None:
        """One pass over one model; answers when to come back although nothing may have changed, seconds.

        Raises:
            KubeError: a call did not succeed; the status says so, and the pass is to be repeated.
        """
        record = self._deps.cache.models.get(key)
        if record is None or record.deleting:
            self._forget(key)
            return None
        seen = observe(self._deps.cache, record)
        model, problems = self._specs.read(record)
        plan = self._plan(seen, model) if model is not None else invalid(problems)
        if isinstance(plan, Refusal):
            await self._report(Report(seen, model, refusal=plan))
            return None
        evidence = await self._deps.evidence(seen, plan, memory(seen), traffic(seen))
        now = self._deps.cache.models.get(key)
        if now is None or now.deleting or (now.uid, now.generation) != (record.uid, record.generation):
            return 0.0  # reading took its time
        seen = observe(self._deps.cache, now)
        given = Given(self._deps.taps(key), evidence, self._deps.now().timestamp())
        decision = decide(seen, plan, given)
        seen = await self._remember(seen, decision)
        return await self._carry_out(seen, model, decision)

    def seed(self) -> None:
        """Promise devices to what runs already, before anything new asks for them."""
        for record in self._deps.cache.models:
            model, _ = self._specs.read(record)
            if model is not None and observe(self._deps.cache, record).runs:
                self._deps.pools.promise_running(record.key, model)

    def _plan(self, seen: Seen, model: LatentModel) -> ClusterPlan | Refusal:
        deps, key = self._deps, seen.record.key
        plan = plan_for(seen, model, capabilities(deps.cache.served), deps.pools.facts, deps.settings)
        deps.pools.settle(key, model, plan.devices if isinstance(plan, ClusterPlan) else None, seen.runs)
        return plan

    async def _remember(self, seen: Seen, decision: Decision) -> Seen:
        """Writes what the policy decided before anything is done about it, and tells it; clocks alone can wait."""
        deps, before, after = self._deps, memory(seen), decision.rollout.state
        if before is None or settled(before) != settled(after):
            status = status_of(seen.record).model_copy(update={"rollout": rollout_status(after)})
            await write_status(deps.client, deps.cache.models, LATENT_MODEL, seen.record, status.to_dict())
            # The record of this pass, or its report would be about a spec that came in between.
            seen = replace(seen, record=Stored({**seen.record.raw, "status": status.to_dict()}))
        for happening in rollout_happenings(before, decision.rollout):
            deps.events.tell(LATENT_MODEL, seen.record, happening)
        return seen

    async def _carry_out(self, seen: Seen, model: LatentModel | None, decision: Decision) -> float | None:
        applied: list[Applied] = []
        try:
            await self._clear(seen)
            for stage in _stages(decision.objects):
                applied += await self._apply(seen, stage)
            taken = [one for one in applied if one.effect is Effect.REFUSED]
            if not taken:
                await self._prune(seen, decision)
        except KubeError as error:
            if not error.transient and not isinstance(error, Conflict):
                await self._report(Report(seen, model, decision=decision, failure=str(error)))
            raise
        for happening in restored(applied):
            self._deps.events.tell(LATENT_MODEL, seen.record, happening)
        if taken:
            refusal = Refusal(AcceptedReason.NAME_TAKEN, "; ".join(one.message for one in taken))
            await self._report(Report(seen, model, decision=decision, refusal=refusal))
            return NAME_TAKEN_SECONDS
        blocked = "; ".join(one.message for one in applied if one.effect is Effect.BLOCKED)
        await self._report(Report(seen, model, decision=decision, cleanup=blocked))
        return decision.rollout.look_seconds

    async def _clear(self, seen: Seen) -> None:
        for kind, child in await self._deps.applier.clear(seen.record.key, seen.owner, leftovers(seen)):
            log.info("leftover of a deleted model removed", extra={"kind": kind.name, "object_name": child.key[1]})

    async def _apply(self, seen: Seen, objects: Sequence[tuple[Kind, Obj]]) -> list[Applied]:
        deps = self._deps
        calls = (deps.applier.ensure(deps.cache.store(kind), kind, seen.owner, obj) for kind, obj in objects)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        done = [outcome for outcome in outcomes if isinstance(outcome, Applied)]
        for one in done:
            if one.effect not in (Effect.UNCHANGED, Effect.REFUSED, Effect.BLOCKED):
                log.info(
                    "object written", extra={"effect": one.effect.value, "kind": one.kind.name, "object_name": one.name}
                )
        if failed := [outcome for outcome in outcomes if isinstance(outcome, BaseException)]:
            raise failed[0]
        return done

    async def _prune(self, seen: Seen, decision: Decision) -> None:
        # What was just applied may have made more superfluous than was when the pass began.
        now = observe(self._deps.cache, seen.record)
        for kind, name in unwanted(now, decision):
            child = self._deps.cache.store(kind).get((seen.record.key[0], name))
            if child is not None:
                await self._deps.applier.remove(kind, seen.record.key, child)
                log.info("object removed", extra={"kind": kind.name, "object_name": name})

    async def _report(self, report: Report) -> None:
        deps, record = self._deps, report.seen.record
        report = replace(report, taps=deps.taps(record.key), budgets=partial(deps.budgets, record.key))
        status = report.status(deps.now())
        for happening in happenings(record, status):
            deps.events.tell(LATENT_MODEL, record, happening)
        await write_status(deps.client, deps.cache.models, LATENT_MODEL, record, status.to_dict())

    def _forget(self, key: Key) -> None:
        self._specs.forget(key)
        self._deps.pools.release(key)
        self._deps.applier.forget(key)


def _stages(objects: Sequence[tuple[Kind, Obj]]) -> list[list[tuple[Kind, Obj]]]:
    """What pods need, then the workload, then what acts on it; within a stage the order does not matter."""
    first = next((number for number, (kind, _) in enumerate(objects) if kind in WORKLOADS), len(objects))
    return [list(objects[:first]), list(objects[first : first + 1]), list(objects[first + 1 :])]
