"""The cluster's reader of evidence, against taps and a Prometheus that are scripted but speak HTTP on loopback."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from latentry_operator.api.latentmodel import LatentModelSpec
from latentry_operator.kube.records import Pod
from latentry_operator.plan.rollout.facts import Evidence, Latent
from latentry_operator.plan.rollout.state import Phase, RolloutState
from latentry_operator.runtime.prometheus import NoData
from latentry_operator.runtime.rollout_evidence import EvidenceReader
from latentry_serving.contract.contract_report import LatentBaseline
from latentry_serving.contract.metrics import ProbeOutcome

GATING = RolloutState(phase=Phase.GATING, stable="m-a", candidate="m-b")
QUERY = 'recall{revision="$revision",stable="$stable",model="$model",namespace="$namespace"}'


class FakeTap:
    """One pod."""

    def __init__(self, said: Any) -> None:
        self.said = said
        self.sample = b"inputs and embeddings"
        self.taken: list[tuple[bytes, dict[str, str]]] = []
        app = web.Application()
        app.router.add_get("/evidence", self._evidence)
        app.router.add_get("/compare/sample", self._sample)
        app.router.add_post("/compare", self._compare)
        self.server = TestServer(app)

    async def _evidence(self, _: web.Request) -> web.Response:
        if self.said is None:
            raise web.HTTPServiceUnavailable
        return web.Response(text=self.said.model_dump_json(by_alias=True))

    async def _sample(self, _: web.Request) -> web.Response:
        return web.Response(body=self.sample)

    async def _compare(self, request: web.Request) -> web.Response:
        self.taken.append((await request.read(), dict(request.query)))
        return web.Response(status=202)


class FakePrometheus:
    """Answers with ``number``, or has none."""

    def __init__(self) -> None:
        self.number: float | None = 0.7
        self.asked: list[str] = []

    async def value(self, query: str) -> float:
        self.asked.append(query)
        if self.number is None:
            raise NoData(f"no series: {query}")
        return self.number


class Rig:
    """A model with one pod of each revision."""

    def __init__(self, stable: FakeTap, candidate: FakeTap, prometheus: FakePrometheus, reader: EvidenceReader) -> None:
        self.stable, self.candidate, self.prometheus, self.reader = stable, candidate, prometheus, reader
        gates = {"promql": [{"name": "recall", "query": QUERY, "min": 0.5}]}
        spec = {"family": "Encoder", "bundle": {"uri": "s3://b"}, "rollout": {"gates": gates}}
        model = SimpleNamespace(spec=LatentModelSpec.model_validate(spec))
        self.plan: Any = SimpleNamespace(namespace="demo", name="m", model=model)

    async def read(self, state: RolloutState | None = GATING, shares: dict[str, int] | None = None) -> Evidence:
        pods = [
            Pod(("demo", f"{revision}-1"), 1, "m", revision, "", 0, "", ("127.0.0.1", tap.server.port or 0), True)
            for revision, tap in (("m-a", self.stable), ("m-b", self.candidate))
        ]
        seen: Any = SimpleNamespace(record=SimpleNamespace(key=("demo", "m")), pods=pods)
        return await self.reader.read(seen, self.plan, state, shares if shares is not None else {"m-a": 100})


@pytest.fixture
async def rig(said: Any, words: Any) -> AsyncIterator[Rig]:
    stable = FakeTap(said(ok=900, contract=words.contract(words.stable)))
    candidate = FakeTap(said(contract=words.contract(words.candidate), probe=ProbeOutcome.PASSED))
    prometheus = FakePrometheus()
    async with stable.server, candidate.server, EvidenceReader(prometheus) as reader:  # type: ignore[arg-type]
        yield Rig(stable, candidate, prometheus, reader)


async def test_all_that_gates_judge_by(rig: Rig) -> None:
    evidence = await rig.read()
    assert evidence.stage == GATING.stage
    assert evidence.changes == ()
    assert (evidence.stable_space, evidence.candidate_space) == ("a", "a")
    assert [fact.result.value for fact in evidence.golden] == ["passed"]
    assert evidence.answers["recall"].value == 0.7
    assert rig.prometheus.asked == ['recall{revision="m-b",stable="m-a",model="m",namespace="demo"}']


async def test_inputs_are_carried_from_stable_to_the_candidate(rig: Rig) -> None:
    await rig.read()
    carrying = rig.reader._known["demo", "m"].carrying
    assert carrying is not None
    await carrying
    ((body, limits),) = rig.candidate.taken
    assert body == rig.stable.sample
    assert limits == {"cosine": "0.98", "overlap": "0.9", "recall": "0.95", "normRatio": "1.25"}
    assert rig.stable.taken == []


async def test_a_new_space_is_compared_too_and_profiles_are_told(rig: Rig, said: Any, words: Any) -> None:
    collapsed = words.contract(words.candidate, space="new")
    baseline = LatentBaseline(dimensions=4, active=0)
    rig.candidate.said = said(contract=collapsed.model_copy(update={"baseline": baseline}))
    evidence = await rig.read()
    assert (evidence.candidate_latent, evidence.stable_latent) == (Latent(4, 0, False), None)
    assert (evidence.incomparable, evidence.candidate_space) == ("", "new")
    carrying = rig.reader._known["demo", "m"].carrying
    assert carrying is not None
    await carrying
    assert len(rig.candidate.taken) == 1


async def test_counts_are_of_the_stage(rig: Rig, said: Any, words: Any) -> None:
    stepping = RolloutState(phase=Phase.STEPPING, stable="m-a", candidate="m-b", step=1, weight=5)
    await rig.read(stepping)
    rig.candidate.said = said(ok=30, errors=2, uptime=110.0, contract=words.contract(words.candidate))
    evidence = await rig.read(stepping)
    assert evidence.traffic is not None
    assert (evidence.traffic.requests, evidence.traffic.errors) == (32, 2)


async def test_a_tap_that_does_not_answer_leaves_gates_waiting(rig: Rig) -> None:
    rig.candidate.said = None
    evidence = await rig.read()
    assert evidence.golden == ()
    assert evidence.changes is None


async def test_no_number_is_no_answer_and_a_check_is_asked_as_often_as_it_says(rig: Rig) -> None:
    rig.prometheus.number = None
    answer = (await rig.read()).answers["recall"]
    assert answer.value is None
    assert "no series" in answer.problem
    await rig.read()
    assert len(rig.prometheus.asked) == 1


@pytest.mark.parametrize(
    "state",
    [None, RolloutState(stable="m-a"), RolloutState(phase=Phase.PREPARING, stable="m-a", candidate="m-b")],
)
async def test_nobody_is_asked_while_there_is_nothing_to_judge(rig: Rig, state: RolloutState | None) -> None:
    assert await rig.read(state) == Evidence()
    assert rig.prometheus.asked == []
