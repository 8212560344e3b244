"""What gates judge by, read at each look from the taps of stable and candidate, and from Prometheus."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from string import Template
from types import TracebackType
from typing import Self

import aiohttp

from latentry_operator.api.rollout import CompatibilityGate, PromqlCheck
from latentry_operator.kube.kinds import Key
from latentry_operator.kube.records import Pod
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.plan.evidence import Reading, Remembered, look
from latentry_operator.plan.evidence_compare import compare_next
from latentry_operator.plan.rollout.facts import Answer, Evidence
from latentry_operator.plan.rollout.state import Phase, RolloutState
from latentry_operator.runtime.observe import Seen
from latentry_operator.runtime.prometheus import Prometheus, PrometheusError
from latentry_operator.runtime.web import TooLarge, WebClient
from latentry_operator.tap_reader import ReadFailed, carry_sample, read_evidence
from latentry_serving.contract.tap_evidence import TapEvidence

MOST_REPLICAS = 32
"""Of each revision that are read at each look."""
_UNASKED = (Phase.IDLE, Phase.PREPARING)


@dataclass(slots=True)
class _Known:
    """Of one model's rollout. ``asked`` is monotonic seconds of each check's answer."""

    remembered: Remembered = field(default_factory=Remembered)
    answers: dict[str, tuple[float, Answer]] = field(default_factory=dict)
    carrying: asyncio.Task[None] | None = None
    problem: str = ""


class EvidenceReader(WebClient):
    """Use it with ``async with``. Lost memory begins counts anew, and nothing passes by it."""

    def __init__(self, prometheus: Prometheus | None) -> None:
        super().__init__()
        self._prometheus = prometheus
        self._known: dict[Key, _Known] = {}

    async def __aenter__(self) -> Self:
        self._known.clear()
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [known.carrying for known in self._known.values() if known.carrying is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await super().__aexit__(kind, error, trace)

    async def read(
        self, seen: Seen, plan: ClusterPlan, state: RolloutState | None, shares: Mapping[str, int]
    ) -> Evidence:
        """What is known now about the candidate of ``state``, the state before this look's decision.

        Args:
            shares: of the traffic by revision, percent.
        """
        key = seen.record.key
        if self._session is None or state is None or not state.stable or state.phase in _UNASKED:
            self.forget(key)
            return Evidence()
        known = self._known.setdefault(key, _Known())
        old, new = _admins(seen.pods, state.stable), _admins(seen.pods, state.candidate)
        olds, news, _ = await asyncio.gather(self._ask(old), self._ask(new), self._query(known, plan, state))
        reading = Reading(
            stage=state.stage,
            now=time.monotonic(),
            stable_revision=state.stable,
            candidate_revision=state.candidate,
            stable=olds,
            candidate=news,
            stable_serves=bool(shares.get(state.stable)),
            urls=new,
            problem=known.problem,
        )
        known.remembered, evidence = look(known.remembered, reading)
        gates = plan.model.spec.rollout.gates
        free = known.carrying is None or known.carrying.done()
        if free and (carry := compare_next(olds, news, gates)) is not None:
            urls = old[carry.stable_replica], new[carry.candidate_replica]
            known.carrying = asyncio.create_task(self._carry(known, *urls, gates.compatibility))
        now = time.monotonic()
        answers = {name: replace(one, age_seconds=now - asked) for name, (asked, one) in known.answers.items()}
        return replace(evidence, answers=answers)

    def forget(self, model: Key) -> None:
        """There is no candidate to be judged."""
        known = self._known.pop(model, None)
        if known is not None and known.carrying is not None:
            known.carrying.cancel()

    async def _ask(self, urls: Mapping[str, str]) -> dict[str, TapEvidence]:
        answers = await asyncio.gather(*(self._evidence(url) for url in urls.values()))
        return {name: said for name, said in zip(urls, answers, strict=True) if said is not None}

    async def _evidence(self, url: str) -> TapEvidence | None:
        try:
            return await read_evidence(self._exchange, url)
        except ReadFailed:  # its gates wait, and the conditions name the pod
            return None

    async def _carry(self, known: _Known, stable_url: str, candidate_url: str, gate: CompatibilityGate) -> None:
        known.problem = ""
        try:
            await carry_sample(self._exchange, stable_url, candidate_url, gate)
        except ReadFailed as error:
            known.problem = str(error)

    async def _query(self, known: _Known, plan: ClusterPlan, state: RolloutState) -> None:
        names = {
            "namespace": plan.namespace,
            "model": plan.name,
            "revision": state.candidate,
            "stable": state.stable,
        }
        checks = plan.model.spec.rollout.gates.promql
        due = [one for one in checks if _due(one, known.answers.get(one.name))]
        for check, answer in zip(due, await asyncio.gather(*(self._value(one, names) for one in due)), strict=True):
            known.answers[check.name] = time.monotonic(), answer

    async def _value(self, check: PromqlCheck, names: Mapping[str, str]) -> Answer:
        if self._prometheus is None:
            return Answer(None, 0.0, "there is no Prometheus to ask; set cluster.prometheusUrl")
        try:
            return Answer(await self._prometheus.value(Template(check.query).safe_substitute(names)), 0.0)
        except PrometheusError as error:
            return Answer(None, 0.0, str(error))

    async def _exchange(
        self, method: str, url: str, *, body: bytes, content_type: str, most_bytes: int, timeout_seconds: float
    ) -> tuple[int, bytes]:
        if self._session is None:
            raise ReadFailed("the operator ends")
        headers = {"Accept-Encoding": "identity"} | ({"Content-Type": content_type} if content_type else {})
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._fetch(method, url, most_bytes=most_bytes, data=body or None, headers=headers)
        except TooLarge as error:
            raise ReadFailed(f"{url} answers with more than {most_bytes} bytes") from error
        except TimeoutError as error:
            raise ReadFailed(f"{url} does not answer within {timeout_seconds:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise ReadFailed(f"{url} does not answer ({type(error).__name__})") from error


def _due(check: PromqlCheck, last: tuple[float, Answer] | None) -> bool:
    return last is None or time.monotonic() - last[0] >= check.every.seconds


def _admins(pods: Iterable[Pod], revision: str) -> dict[str, str]:
    """Admin URLs of a revision's pods by name, ready or not."""
    found = {
        pod.key[1]: f"http://[{pod.admin[0]}]:{pod.admin[1]}"
        if ":" in pod.admin[0]
        else "http://{}:{}".format(*pod.admin)
        for pod in pods
        if pod.revision == revision and pod.admin is not None
    }
    return {name: found[name] for name in sorted(found)[:MOST_REPLICAS]}
