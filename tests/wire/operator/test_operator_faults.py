"""The operator under faults on a real API server: a scripted history must end as it does undisturbed.

Covered: the process killed with SIGKILL again and again; the API server killed; a tenth of all calls refused, cut, lost
or late. The end states compared have everything the operator makes, so an orphan or a duplicate is a difference.
``LATENTRY_FAULTS=long`` plays 20 models, 100 kills and delays of 5 s in place of the short versions.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube import ControlPlane, FaultPlan, FaultProxy, Kind, Obj, kinds

Make = Callable[..., Obj]
LONG = os.environ.get("LATENTRY_FAULTS") == "long"
MODELS, KILLS, DELAY_SECONDS = (20, 100, 5.0) if LONG else (8, 15, 0.5)
SETTLE_SECONDS = 180.0
LEAD_SECONDS = 60.0
SEED = 20
CHILDREN = (
    kinds.service_account,
    kinds.config_map,
    kinds.service,
    kinds.deployment,
    kinds.inference_service,
    kinds.serving_runtime,
    kinds.budget,
    Kind("autoscaling/v2beta2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    kinds.network_policy,
    kinds.pod_monitor,
    Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules"),
)
OURS = "app.kubernetes.io/managed-by=latentry"
REVISION = "latentry.dev/revision"
pytestmark = pytest.mark.timeout(3600 if LONG else 600)


@dataclass(frozen=True)
class Step:
    """What a user does: make the model be as in ``spec``, or delete it."""

    name: str
    spec: Obj | None


def history(count: int) -> Iterator[Step]:
    """Create, edit, scale, delete, create again; the models of both workloads in turn."""
    rng = random.Random(SEED)
    runtime = {"resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}

    def spec(number: int, **more: Any) -> Obj:
        return {"workload": "KServe" if number % 2 else "Deployment"} | more

    def in_any_order() -> list[int]:
        return rng.sample(range(count), count)

    for number in in_any_order():
        yield Step(f"m{number}", spec(number))
    for number in in_any_order():
        yield Step(f"m{number}", spec(number, runtime=runtime | {"instances": 2}))
    for number in in_any_order():
        scaling: Obj = {"metric": "None", "minReplicas": 2}
        if number % 4 == 0:
            scaling = {"metric": "CPU", "minReplicas": 1, "maxReplicas": 3}
        yield Step(f"m{number}", spec(number, runtime=runtime | {"instances": 2}, scaling=scaling))
    for number in in_any_order()[: count // 2]:
        yield Step(f"m{number}", None)
        if number % 3 == 0:
            yield Step(f"m{number}", spec(number, runtime=runtime | {"instances": 3}))


async def take(step: Step, world: Any, make_model: Make) -> None:
    if step.spec is None:
        await world.api.delete(kinds.latent_model, world.namespace, step.name)
    else:
        await world.apply(make_model(step.name, **step.spec))


async def play(world: Any, make_model: Make) -> None:
    for step in history(MODELS):
        await take(step, world, make_model)
        await asyncio.sleep(0.05)


def last_specs() -> dict[str, Obj]:
    """Models that are left at the end."""
    last = {step.name: step.spec for step in history(MODELS)}
    return {name: spec for name, spec in last.items() if spec is not None}


async def state(world: Any) -> dict[str, Any]:
    """All that the operator answers for, without what differs between two equal runs (uids, times, addresses)."""
    models = {
        item["metadata"]["name"]: item for item in (await world.api.list(kinds.latent_model, world.namespace))["items"]
    }
    uids = {item["metadata"]["uid"]: name for name, item in models.items()}
    found: dict[str, Any] = {}
    for kind in CHILDREN:
        for item in (await world.api.list(kind, world.namespace, OURS))["items"]:
            metadata = item["metadata"]
            owners = [(one["kind"], uids.get(one["uid"], one["kind"])) for one in metadata.get("ownerReferences", [])]
            if kind is kinds.deployment and owners and owners[0][0] == "InferenceService":
                continue  # KServe's
            spec = {name: value for name, value in item.get("spec", {}).items() if not name.startswith("clusterIP")}
            place = f"{kind.name} {metadata['name']}"
            found[place] = [owners, metadata["labels"], spec, item.get("data"), "deletionTimestamp" in metadata]
    for name, item in models.items():
        status = item.get("status", {})
        conditions = {entry["type"]: (entry["status"], entry["reason"]) for entry in status.get("conditions", [])}
        current = status.get("observedGeneration") == item["metadata"]["generation"]
        found[f"LatentModel {name}"] = [current, conditions, status.get("stable"), item["metadata"].get("annotations")]
    return found


async def settled(world: Any) -> dict[str, Any]:
    """The end state: every model that is left runs, and nothing is on its way in or out."""
    left = last_specs()
    for name in left:
        await world.complete(name, seconds=SETTLE_SECONDS)

    async def alone() -> bool:
        found = await state(world)
        revisions = [place for place in found if place.startswith("ConfigMap") and REVISION in found[place][1]]
        return len(revisions) == len(left) and not any(entry[-1] is True for entry in found.values())

    await world.eventually(alone, seconds=SETTLE_SECONDS)
    return await state(world)


@pytest.fixture
async def undisturbed(permitted: ControlPlane, run_operator_on: Any, world: Any, make_model: Make) -> dict[str, Any]:
    """How the history ends without faults; afterwards the namespace is empty again."""
    async with run_operator_on(permitted):
        await play(world, make_model)
        found = await settled(world)
    for name in last_specs():
        await world.api.delete(kinds.latent_model, world.namespace, name)

    async def empty() -> bool:
        lists = [await world.api.list(kind, world.namespace, OURS) for kind in (*CHILDREN, kinds.pod)]
        return not any(answer["items"] for answer in lists)

    await world.eventually(empty, seconds=SETTLE_SECONDS)
    return found


async def same_end(world: Any, undisturbed: dict[str, Any]) -> None:
    """The state becomes the undisturbed one and has nothing more; what differs is shown."""
    await settled(world)
    found: dict[str, Any] = {}

    async def same() -> bool:
        nonlocal found
        found = await state(world)
        return found == undisturbed

    try:
        await world.eventually(same, seconds=SETTLE_SECONDS)
    except TimeoutError:
        assert found == undisturbed


class Killable:
    """The operator as a process of its own."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self._config = folder / "operator.yaml"
        settings = {
            "kubeconfig": str(control_plane.operator_kubeconfig),
            "http": {"host": "127.0.0.1", "port": 0},
            "leader": {
                "namespace": "latentry-system",
                "durationSeconds": 1,
                "renewDeadlineSeconds": 0.9,
                "retrySeconds": 0.5,
            },
            # As the operator that is not killed: an end is compared with its.
            "taps": {"everySeconds": 3600},
            "prometheus": {"everySeconds": 3600},
            "cluster": {"prometheusUrl": "http://prometheus.monitoring:9090", "dashboardLabels": {}},
        }
        self._config.write_text(yaml.safe_dump(settings))
        self._log = folder / "operator.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "latentry_operator", "operator", "--config", self._config]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            assert self._process.poll() is None, f"the operator ended by itself: {self._log.read_text()[-2000:]}"
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def killable(permitted: ControlPlane, tmp_path: Path) -> Iterator[Killable]:
    made = Killable(permitted, tmp_path)
    yield made
    made.kill()


async def holder(world: Any) -> str:
    found = await world.api.find(kinds.lease, "latentry-system", "latentry-operator")
    return str(found["spec"]["holderIdentity"]) if found else ""


async def test_killed_again_and_again(
    undisturbed: dict[str, Any], killable: Killable, world: Any, make_model: Make
) -> None:
    rng = random.Random(SEED)
    steps = list(history(MODELS))
    for kill in range(KILLS):
        before = await holder(world)
        killable.start()
        for step in steps[kill * len(steps) // KILLS : (kill + 1) * len(steps) // KILLS]:
            await take(step, world, make_model)
        if rng.random() < 0.9:  # the others die while starting

            async def leads(before: str = before) -> bool:
                return await holder(world) != before

            await world.eventually(leads, seconds=LEAD_SECONDS)
        await asyncio.sleep(rng.uniform(0, 1.2))
        killable.kill()
    assert "object written" in killable.log()
    killable.start()
    await same_end(world, undisturbed)


async def test_a_tenth_of_all_calls_fails_or_is_late(
    undisturbed: dict[str, Any],
    permitted: ControlPlane,
    run_operator_on: Any,
    world: Any,
    make_model: Make,
    tmp_path: Path,
) -> None:
    plan = FaultPlan(share=0.1, delay=DELAY_SECONDS, seed=SEED)
    async with FaultProxy(permitted, plan, tmp_path) as proxy:
        async with run_operator_on(permitted, kubeconfig=proxy.kubeconfig):
            await play(world, make_model)
            await same_end(world, undisturbed)
        assert min(proxy.told[fault] for fault in ("429", "500", "409", "reset", "lost", "delay")) > 0


async def test_the_api_server_is_killed_in_the_middle(
    undisturbed: dict[str, Any], permitted: ControlPlane, run_operator_on: Any, world: Any, make_model: Make
) -> None:
    steps = list(history(MODELS))
    half = len(steps) // 2
    async with run_operator_on(permitted):
        for step in steps[:half]:
            await take(step, world, make_model)
        permitted.kill_api_server()
        permitted.start_api_server(wait=False)
        await world.api.until_ready()
        for step in steps[half:]:
            await take(step, world, make_model)
        await same_end(world, undisturbed)
