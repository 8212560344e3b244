"""Rollouts on a real API server with the Gateway API's CRDs; what gates are told is scripted, time is real.

Covered: a canary from the first share to the end of keepFor, with weights, Services, replicas and revisions at every
change; gates that fail before traffic and with a share; BlueGreen; undo; pause and resume; another spec in the middle;
an operator that is replaced in the middle, also with its memory lost; a cluster or a spec without routes; a status and
events that people can read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from kube import HANG, READY, Api, ControlPlane, Kind, Obj, StandIn, kinds
from routed_rollouts import GATEWAY, GRPC_ROUTE, HTTP_ROUTE, UNWATCHED, Judge, route_weights

from latentry_operator.runtime.operator import Operator
from latentry_operator.runtime.rollout_evidence import EvidenceReader

Make = Callable[..., Obj]
GATES = UNWATCHED | {"slo": False}
CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 10, "for": "2s"}, {"weight": 50, "for": "2s"}],
    "watchFor": "2s",
    "keepFor": "3s",
    "gates": GATES,
}
BLUE_GREEN = {"watchFor": "2s", "keepFor": "10m", "gates": GATES}
FULL = 4
SETTLE_SECONDS = 1.0
"""The status tells of a decision before its objects are written, and a watch comes after them."""
REVISION = "latentry.dev/revision"
ANNOTATION = "latentry.dev/rollout"


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    made = Judge()
    monkeypatch.setattr(EvidenceReader, "read", lambda *given: made.read(*given))
    return made


@dataclass
class Story:
    """Each different state of one model's traffic, in order, with what must hold in all of them.

    A state is what the routes say (revision -> weight) and what the model's Service selects.
    """

    api: Api
    namespace: str
    states: list[tuple[dict[str, int], str]] = field(default_factory=list)
    replicas: list[tuple[dict[str, int], dict[str, int]]] = field(default_factory=list)
    """Of each look: the HTTPRoute's shares, and replicas asked for."""
    wrong: list[str] = field(default_factory=list)
    _weights: dict[str, int] = field(default_factory=dict)
    _selected: str = ""

    async def follow(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.03)

    async def watch(self, kind: Kind) -> None:
        """Every version of the model's route or Service, also one that another look would be too late for."""
        there = await self.api.list(kind, self.namespace)
        for found in there["items"]:
            self._take(kind, "ADDED", found)
        async for change, found in self.api.watch(kind, there["metadata"]["resourceVersion"]):
            self._take(kind, change, found)

    def _take(self, kind: Kind, change: str, found: Obj) -> None:
        metadata = found["metadata"]
        if (metadata["namespace"], metadata["name"]) != (self.namespace, "tiny"):
            return
        if kind is kinds.service:
            self._selected = found["spec"]["selector"][REVISION]
        else:
            self._weights = {} if change == "DELETED" else route_weights(found)
        if self._selected and (not self.states or self.states[-1] != (self._weights, self._selected)):
            self.states.append((self._weights, self._selected))

    async def look(self) -> None:
        """What runs, and that nobody gets calls who cannot answer."""
        routes = await self._routes()
        services = {item["metadata"]["name"] for item in (await self.api.list(kinds.service, self.namespace))["items"]}
        deployments = (await self.api.list(kinds.deployment, self.namespace))["items"]
        wanted = {item["metadata"]["labels"][REVISION]: item["spec"].get("replicas", 0) for item in deployments}
        ready = {
            item["metadata"]["labels"][REVISION]: item.get("status", {}).get("availableReplicas", 0)
            for item in deployments
        }
        if await self._routes() != routes:
            return  # of one look, but not of one moment; another look follows
        for route in routes:
            if route is not None:
                self._check(route, services, ready)
        if wanted:
            self.replicas.append((route_weights(routes[0]) if routes[0] is not None else {}, wanted))

    async def _routes(self) -> list[Obj | None]:
        return [await self.api.find(kind, self.namespace, "tiny") for kind in (HTTP_ROUTE, GRPC_ROUTE)]

    async def is_up_to_date(self) -> bool:
        """Whether the watches told of what is there now."""
        route = await self.api.find(HTTP_ROUTE, self.namespace, "tiny")
        service = await self.api.find(kinds.service, self.namespace, "tiny")
        if service is None:
            return False
        now = ({} if route is None else route_weights(route), service["spec"]["selector"][REVISION])
        return bool(self.states) and self.states[-1] == now

    def _check(self, route: Obj, services: Collection[str], ready: Mapping[str, int]) -> None:
        (rule,) = route["spec"]["rules"]
        for backend in rule["backendRefs"]:
            if backend["name"] not in services:
                self.wrong.append(f"{route['kind']} names {backend['name']}, which is not there")
        weights = route_weights(route)
        for revision, weight in weights.items():
            if len(weights) > 1 and not ready.get(revision):
                self.wrong.append(f"{weight} % go to {revision}, of which nothing answers")

    @property
    def weights(self) -> list[dict[str, int]]:
        """The routes' shares alone, each change once."""
        found: list[dict[str, int]] = []
        for shares, _ in self.states:
            if not found or found[-1] != shares:
                found.append(shares)
        return found


@asynccontextmanager
async def told(world: Any) -> AsyncIterator[Story]:
    story = Story(world.api, world.namespace)
    # Both routes are written in one go: of their versions the HTTPRoute's are told.
    tasks = [asyncio.create_task(one) for one in (story.follow(), story.watch(HTTP_ROUTE), story.watch(kinds.service))]
    try:
        yield story
        await asyncio.sleep(SETTLE_SECONDS)
        await world.eventually(story.is_up_to_date)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
    assert story.wrong == []


async def first(world: Any, model: Obj) -> str:
    """Apply a model's first spec; its revision, once it serves."""
    await world.apply(model)
    return str((await world.complete("tiny"))["status"]["stable"]["revision"])


async def command(world: Any, verb: str) -> None:
    body = {"metadata": {"annotations": {ANNOTATION: verb}}}
    await world.api.merge(kinds.latent_model, world.namespace, "tiny", body, manager="user")


async def stays(world: Any, *revisions: str) -> None:
    """Wait until just these revisions have objects."""

    async def only() -> bool:
        found = {item["metadata"]["labels"][REVISION] for item in await world.owned(kinds.deployment)}
        found |= {item["metadata"]["labels"][REVISION] for item in await world.owned(kinds.inference_service)}
        return found == set(revisions)

    await world.eventually(only)


def rollout_of(found: Obj) -> Obj:
    return dict(found["status"]["rollout"])


def fields(make_model: Make, instances: int = 1, **more: Any) -> Obj:
    scaling = {"metric": "None", "minReplicas": FULL}
    base = {"workload": "Deployment", "gateway": GATEWAY, "rollout": CANARY, "scaling": scaling}
    given = base | {"runtime": {"instances": instances}} | more
    return make_model("tiny", **{name: value for name, value in given.items() if value is not None})


@pytest.mark.parametrize("workload", ["Deployment", "KServe"])
async def test_a_canary_step_by_step(
    workload: str, operator: Operator, world: Any, make_model: Make, control_plane: ControlPlane
) -> None:
    async with told(world) as story:
        old = await first(world, fields(make_model, workload=workload))
        await world.apply(fields(make_model, 2, workload=workload))
        found = await world.until("tiny", "Progressing", "True", "Watching")
        new = rollout_of(found)["candidate"]
        assert found["status"]["stable"]["revision"] == old
        assert found["status"]["candidate"]["weight"] == 100
        assert {one["gate"]: one["verdict"] for one in found["status"]["candidate"]["verdicts"]} == {
            "contract": "Pass",
            "golden": "Pass",
            "stability": "Pass",
        }
        after = await world.complete("tiny")
        assert after["status"]["stable"]["revision"] == new
        await stays(world, new)
    assert story.weights == [{}, {old: 100}, {old: 90, new: 10}, {old: 50, new: 50}, {new: 100}] or story.weights == [
        {old: 100},
        {old: 90, new: 10},
        {old: 50, new: 50},
        {new: 100},
    ]
    assert {who for shares, who in story.states if shares == {old: 90, new: 10}} == {old}, "past the Gateway: stable"
    assert story.states[-1] == ({new: 100}, new)
    for shares, wanted in story.replicas:
        if new in shares and old in shares:
            assert wanted[old] == FULL
            assert wanted[new] >= {10: 1, 50: 2}[shares[new]]
    await world.told("RolloutStarted", "CandidateReady", "ScalingCandidate", "WeightRaised", "TrafficSwitched")
    await world.told("Promoted", "KeepEnded")
    assert await world.names(kinds.service) == sorted(["tiny", f"{new}-route"])
    described = (await asyncio.to_thread(control_plane.kubectl, "-n", world.namespace, "describe", "lm", "tiny")).stdout
    assert f"the share of {new} is 10 %, it is watched for 2 s" in described


@pytest.mark.parametrize(("at", "last"), [(0, 0), (10, 10), (50, 50), (100, 100)])
async def test_a_gate_that_fails(
    at: int, last: int, operator: Operator, world: Any, make_model: Make, judge: Judge, condition_of: Any
) -> None:
    judge.fails_at = at
    async with told(world) as story:
        old = await first(world, fields(make_model))
        await world.apply(fields(make_model, 2))
        found = await world.until("tiny", "Progressing", "False", "Rejected")
        assert "gate golden" in condition_of(found, "Progressing")["message"]
        assert found["status"]["stable"]["revision"] == old
        assert "candidate" not in found["status"]
        await stays(world, old)
    assert (
        max((share for shares, _ in story.states for name, share in shares.items() if name != old), default=0) == last
    )
    assert story.states[-1] == ({old: 100}, old)
    await world.told("CandidateRejected")
    judge.fails_at = -1
    await command(world, "retry")
    assert (await world.complete("tiny"))["status"]["stable"]["revision"] != old


async def test_blue_green_and_undo(operator: Operator, world: Any, make_model: Make) -> None:
    async with told(world) as story:
        old = await first(world, fields(make_model, rollout=BLUE_GREEN, gateway=None))
        await world.apply(fields(make_model, 2, rollout=BLUE_GREEN, gateway=None))
        watched = await world.until("tiny", "Progressing", "True", "Watching")
        new = rollout_of(watched)["candidate"]
        promoted = await world.complete("tiny")
        assert promoted["status"]["stable"]["revision"] == new
        assert rollout_of(promoted)["previous"] == old
        await stays(world, old, new)
        await command(world, "undo")
        back = await world.until("tiny", "Progressing", "False", "Rejected")
        assert back["status"]["stable"]["revision"] == old
        await stays(world, old)
    assert [who for _, who in story.states] == [old, new, old]
    assert all(not shares for shares, _ in story.states)
    assert min(wanted[old] for _, wanted in story.replicas) == FULL
    await world.told("RolloutUndone")


async def test_pause_holds_the_share_and_resume_goes_on(operator: Operator, world: Any, make_model: Make) -> None:
    old = await first(world, fields(make_model))
    long = CANARY | {"steps": [{"weight": 10, "for": "8s"}]}
    await world.apply(fields(make_model, 2, rollout=long))
    await world.until("tiny", "Progressing", "True", "Stepping")
    await command(world, "pause")
    paused = await world.until("tiny", "Progressing", "False", "Paused")
    new = rollout_of(paused)["candidate"]
    async with told(world) as story:
        await asyncio.sleep(10)
    # The watch of Services may begin before that of routes.
    assert [shares for shares in story.weights if shares] == [{old: 90, new: 10}]
    await command(world, "resume")
    assert (await world.complete("tiny"))["status"]["stable"]["revision"] == new


async def test_another_spec_in_the_middle(operator: Operator, world: Any, make_model: Make) -> None:
    async with told(world) as story:
        old = await first(world, fields(make_model))
        await world.apply(fields(make_model, 2))
        second = rollout_of(await world.until("tiny", "Progressing", "True", "Stepping"))["candidate"]
        await world.apply(fields(make_model, 3))
        third = (await world.complete("tiny"))["status"]["stable"]["revision"]
        await stays(world, third)
    assert len({old, second, third}) == 3
    assert not any(second in shares and third in shares for shares, _ in story.states)
    await world.told("CandidateSuperseded")


async def test_the_old_spec_again_cancels(operator: Operator, world: Any, make_model: Make) -> None:
    old = await first(world, fields(make_model))
    await world.apply(fields(make_model, 2))
    await world.until("tiny", "Progressing", "True", "Stepping")
    await world.apply(fields(make_model))
    found = await world.complete("tiny")
    assert found["status"]["stable"]["revision"] == old
    await stays(world, old)


@pytest.mark.parametrize("forgets", [False, True])
async def test_another_operator_goes_on_in_the_middle(
    forgets: bool,
    permitted: ControlPlane,
    run_operator_on: Callable[..., Any],
    world: Any,
    make_model: Make,
) -> None:
    async with told(world) as story:
        async with run_operator_on(permitted):
            old = await first(world, fields(make_model))
            await world.apply(fields(make_model, 2))
            found = await world.until("tiny", "Progressing", "True", "Stepping")
        new = rollout_of(found)["candidate"]
        if forgets:
            body = {"status": {"rollout": None}}
            await world.api.merge(
                kinds.latent_model, world.namespace, "tiny", body, manager="somebody", subresource="status"
            )
        async with run_operator_on(permitted):
            assert (await world.complete("tiny"))["status"]["stable"]["revision"] == new
            await stays(world, new)
    shares = [shares.get(new, 0) for shares in story.weights]
    assert shares == sorted(shares), "nobody's share went back because of it"
    assert len((await world.told("Promoted")).get("Recovered", [])) == int(forgets), "told before the promotion"
    assert {old: 50, new: 50} in story.weights


async def test_a_candidate_that_never_answers_is_given_up(
    operator: Operator, world: Any, make_model: Make, stand_in: StandIn, condition_of: Any
) -> None:
    quick = CANARY | {"deadline": "4s"}
    old = await first(world, fields(make_model))
    stand_in.script(world.namespace, "tiny-*", HANG, when=lambda pod: old not in pod["metadata"]["name"])
    await world.apply(fields(make_model, 2, rollout=quick))
    found = await world.until("tiny", "Progressing", "False", "Rejected")
    assert "0 of 1 replicas answered within 4 s" in condition_of(found, "Progressing")["message"]
    await stays(world, old)
    stand_in.script(world.namespace, "tiny-*", READY)


async def test_without_routes_a_canary_switches_at_once_and_says_so(
    operator: Operator, world: Any, make_model: Make, condition_of: Any
) -> None:
    async with told(world) as story:
        old = await first(world, fields(make_model, gateway=None))
        await world.apply(fields(make_model, 2, gateway=None))
        found = await world.complete("tiny")
    new = found["status"]["stable"]["revision"]
    assert [who for _, who in story.states] == [old, new]
    assert "write spec.gateway" in condition_of(found, "Accepted")["message"]


async def test_a_shadow_gets_copies_before_its_first_share(operator: Operator, world: Any, make_model: Make) -> None:
    shadowed = CANARY | {"shadow": {"for": "8s"}}
    old = await first(world, fields(make_model, rollout=shadowed))
    await world.apply(fields(make_model, 2, rollout=shadowed))
    new = rollout_of(await world.until("tiny", "Progressing", "True", "Shadowing"))["candidate"]

    async def copied() -> bool:
        for kind in (HTTP_ROUTE, GRPC_ROUTE):
            (rule,) = (await world.api.get(kind, world.namespace, "tiny"))["spec"]["rules"]
            copies = [one["requestMirror"]["backendRef"]["name"] for one in rule.get("filters", [])]
            if copies != [f"{new}-route"] or [one["name"] for one in rule["backendRefs"]] != [f"{old}-route"]:
                return False
        return True

    await world.eventually(copied)
    assert (await world.complete("tiny"))["status"]["stable"]["revision"] == new
    (rule,) = (await world.api.get(HTTP_ROUTE, world.namespace, "tiny"))["spec"]["rules"]
    assert "filters" not in rule


async def test_routes_go_with_the_gateway(operator: Operator, world: Any, make_model: Make) -> None:
    revision = await first(world, fields(make_model))

    async def there() -> bool:
        return await world.names(HTTP_ROUTE) == await world.names(GRPC_ROUTE) == ["tiny"]

    await world.eventually(there)
    await world.apply(fields(make_model, gateway=None))

    async def gone() -> bool:
        return not await world.names(HTTP_ROUTE) and await world.names(kinds.service) == ["tiny"]

    await world.eventually(gone)
    assert (await world.complete("tiny"))["status"]["stable"]["revision"] == revision
