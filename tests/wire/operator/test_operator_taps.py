"""The operator and the taps of stand-in pods, each a summary served on a loopback address of its own.

Covered: an alarm that comes and goes, as condition, event and column; a pod that falls silent, answers garbage, or has
another model's tap; a real tap without a bundle; what a pod tells of its bundle; a pod that is not ready for a failing
probe; nothing written while nothing changes, also over a restart; models' metrics that go with the model; error budgets
from a real Prometheus, and from none.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import web
from kube import HANG, READY, ControlPlane, Obj, StandIn, kinds
from observability import Prometheus
from ports import free_port
from tap_samples import alarm, drift, health, ill, tap_summary, traffic

from latentry_operator.runtime.operator import Operator
from latentry_serving.contract.metrics import ProbeOutcome
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address, Sampling, TapConfig
from latentry_serving.contract.tap_summary import ProbeFailure, ProbesSummary, TapSummary
from latentry_serving.tap.lifecycle import Tap

Make = Callable[..., Obj]
EVERY = 0.5
WRITES = ("apply", "create", "update", "patch", "merge", "delete")
TWO = {"metric": "None", "minReplicas": 2}


class Taps:
    """A tap's `/summary` for every pod that asks for an address, all on one port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.said: dict[str, TapSummary | bytes] = {}
        self.default = tap_summary("tiny")
        self.reads = 0
        self._ips: dict[str, str] = {}
        self._sites: dict[str, tuple[web.AppRunner, asyncio.Task[None]]] = {}

    def ip(self, pod: Obj) -> str:
        """The pod's address; its tap serves from now on."""
        name = pod["metadata"]["name"]
        if name not in self._ips:
            self._ips[name] = f"127.0.77.{len(self._ips) + 1}"
            self.said[name] = self.default
            app = web.Application()
            app.router.add_get("/summary", partial(self._answer, name))
            runner = web.AppRunner(app, access_log=None)
            self._sites[name] = runner, asyncio.create_task(self._serve(runner, self._ips[name]))
        return self._ips[name]

    async def _answer(self, name: str, _: web.Request) -> web.Response:
        self.reads += 1
        said = self.said[name]
        body = said if isinstance(said, bytes) else said.model_dump_json(by_alias=True).encode()
        return web.Response(body=body, content_type="application/json")

    async def _serve(self, runner: web.AppRunner, ip: str) -> None:
        await runner.setup()
        await web.TCPSite(runner, ip, self.port).start()

    async def kill(self, name: str) -> str:
        """Nobody listens there any more; the address."""
        runner, task = self._sites.pop(name)
        await task
        await runner.cleanup()
        return self._ips[name]

    async def rounds(self, count: int) -> None:
        """Wait until every pod has been read so many times."""
        async with asyncio.timeout(60):
            goal = self.reads + count * max(1, len(self._sites))
            while self.reads < goal:
                await asyncio.sleep(EVERY / 5)


@pytest.fixture
async def taps(stand_in: StandIn) -> AsyncIterator[Taps]:
    made = Taps()
    stand_in.ip = made.ip
    yield made
    for name in list(made._sites):
        await made.kill(name)


@pytest.fixture
def settings(taps: Taps) -> dict[str, Any]:
    """Of an operator that reads these taps, often."""
    cluster = {"tap": TapConfig(admin=Address(host="0.0.0.0", port=taps.port)), "prometheus_url": None}
    return {"cluster": cluster, "taps": {"every_seconds": EVERY, "timeout_seconds": 5}}


@pytest.fixture
async def operator(
    permitted: ControlPlane, settings: dict[str, Any], run_operator_on: Callable[..., Any]
) -> AsyncIterator[Operator]:
    async with run_operator_on(permitted, **settings) as running:
        yield running


def writes(operator: Operator) -> dict[tuple[str, str], float]:
    """(verb, kind) -> writing calls so far, the Lease's left out."""
    return {
        (sample.labels["verb"], sample.labels["kind"]): sample.value
        for metric in operator.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "latentry_operator_api_calls_total"
        and sample.labels["kind"] != "Lease"
        and sample.labels["verb"] in WRITES
    }


async def pods(world: Any) -> list[str]:
    items = (await world.api.list(kinds.pod, world.namespace))["items"]
    return sorted(item["metadata"]["name"] for item in items)


async def test_an_alarm_comes_and_goes(
    operator: Operator, world: Any, make_model: Make, taps: Taps, condition_of: Any, control_plane: ControlPlane
) -> None:
    await world.apply(make_model("tiny", scaling=TWO))
    found = await world.until("tiny", "Drifting", "False", "NoDrift")
    assert "on 2 of 2 replicas" in condition_of(found, "Drifting")["message"]
    await world.until("tiny", "Healthy", "True", "Healthy")
    assert (found["status"]["stable"]["version"], found["status"]["stable"]["bundleBytes"]) == ("7", "120")
    assert "DriftDetected" not in await world.events()

    victim = (await pods(world))[0]
    taps.said[victim] = tap_summary("tiny", drift=drift(alarm()), health=health(ill()))
    found = await world.until("tiny", "Drifting", "True", "DriftDetected")
    message = condition_of(found, "Drifting")["message"]
    assert message.startswith("since 2026-01-01T00:00Z embedding drifted (mean): looks like a shift")
    assert f"on 1 of 2 replicas (pod {victim})" in message
    await world.until("tiny", "Healthy", "False", "ModelUnhealthy")
    await world.told("DriftDetected", "ModelUnhealthy")
    described = (await asyncio.to_thread(control_plane.kubectl, "-n", world.namespace, "describe", "lm", "tiny")).stdout
    assert "looks like a shift" in described
    listed = await asyncio.to_thread(control_plane.kubectl, "-n", world.namespace, "get", "lm")
    header, row = listed.stdout.splitlines()
    assert row[header.index("DRIFT") :].split()[0] == "True"  # by place: a column before it may be empty

    taps.said[victim] = taps.default
    await world.until("tiny", "Drifting", "False", "NoDrift")
    await world.told("NoDrift", "Healthy")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "connect"),
        (b"<html>", "no tap's summary"),
        (tap_summary("other"), "the tap of another model, other"),
    ],
)
async def test_a_pod_that_is_no_tap_is_named_and_never_healthy(
    answer: Any, words: str, operator: Operator, world: Any, make_model: Make, taps: Taps, condition_of: Any
) -> None:
    await world.apply(make_model("tiny", scaling=TWO, workload="Deployment"))
    await world.until("tiny", "Drifting", "False", "NoDrift")
    victim = (await pods(world))[1]
    if answer is None:
        await taps.kill(victim)
    else:
        taps.said[victim] = answer
    found = await world.until("tiny", "Drifting", "Unknown", "TapsUnreachable")
    message = condition_of(found, "Drifting")["message"]
    assert message.startswith(f"1 of 2 taps cannot be read: {victim} (127.0.77.")
    assert words in message
    await world.until("tiny", "Healthy", "Unknown", "TapsUnreachable")


async def test_a_real_tap_without_a_bundle(
    operator: Operator, world: Any, make_model: Make, taps: Taps, condition_of: Any
) -> None:
    await world.apply(make_model("tiny"))
    await world.until("tiny", "Drifting", "False", "NoDrift")
    (pod,) = await pods(world)
    ip = await taps.kill(pod)
    real = Tap(
        TapConfig(
            model="tiny",
            version="1",
            admin=Address(host=ip, port=taps.port),
            http=Address(host=ip, port=0),
            grpc=Address(host=ip, port=0),
            sampling=Sampling(max_per_second=10),
        )
    )
    await real.start()
    try:
        found = await world.until("tiny", "Drifting", "Unknown", "NotWatched")
        assert condition_of(found, "Drifting")["message"].endswith("there is no bundle: set bundleDir")
    finally:
        await real.stop()


async def test_a_pod_says_why_it_takes_no_calls(
    operator: Operator, world: Any, make_model: Make, taps: Taps, stand_in: StandIn, condition_of: Any
) -> None:
    failure = ProbeFailure(operation=Operation.ENCODE, outcome=ProbeOutcome.NON_FINITE, detail="3 values")
    taps.default = tap_summary("tiny", probes=ProbesSummary(waiting=0, passed=0, failures=[failure]))
    stand_in.script(world.namespace, "tiny-*", HANG)
    await world.apply(make_model("tiny"))

    def explained(obj: Obj | None) -> bool:
        return "encode: non_finite" in condition_of(obj, "Available").get("message", "")

    await world.api.until(kinds.latent_model, world.namespace, "tiny", explained)
    await world.until("tiny", "Healthy", "False", "GoldenProbeFailing")
    await world.until("tiny", "Drifting", "Unknown", "NoReplicaReady")
    for name in taps.said:
        taps.said[name] = tap_summary("tiny")
    stand_in.script(world.namespace, "tiny-*", READY)
    await world.until("tiny", "Healthy", "True", "Healthy")


async def test_nothing_is_written_while_nothing_changes_also_over_a_restart(
    permitted: ControlPlane,
    settings: dict[str, Any],
    run_operator_on: Callable[..., Any],
    world: Any,
    make_model: Make,
    taps: Taps,
) -> None:
    slo = {"availability": 99.9}
    async with run_operator_on(permitted, **settings) as operator:
        taps.default = tap_summary("tiny", drift=drift(alarm()), traffic=traffic(500, 1, 0.012))
        await world.apply(make_model("tiny", scaling=TWO, slo=slo))
        await world.until("tiny", "Drifting", "True", "DriftDetected")
        await world.until("tiny", "SLOMet", "Unknown", "NoPrometheus")
        await world.complete("tiny")
        await taps.rounds(3)
        before = await world.api.get(kinds.latent_model, world.namespace, "tiny")
        written = writes(operator)
        for number, name in enumerate(taps.said):
            taps.said[name] = tap_summary(
                "tiny", drift=drift(alarm()), uptime_seconds=900.0, traffic=traffic(400 + number, 2, 0.011)
            )
        await taps.rounds(4)
        assert writes(operator) == written
    async with run_operator_on(permitted, **settings) as operator:
        await taps.rounds(4)
        assert writes(operator) == {}
    after = await world.api.get(kinds.latent_model, world.namespace, "tiny")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_metrics_come_and_go_with_the_model(operator: Operator, world: Any, make_model: Make, taps: Taps) -> None:
    async def lines() -> list[str]:
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://127.0.0.1:{operator.port}/metrics")).text
        return [line for line in text.splitlines() if f'namespace="{world.namespace}"' in line]

    await world.apply(make_model("tiny"))
    await world.until("tiny", "Drifting", "False", "NoDrift")
    revision = (await world.complete("tiny"))["status"]["stable"]["revision"]
    found = await lines()
    labels = f'model="tiny",namespace="{world.namespace}"'
    assert f'latentry_operator_model_info{{{labels},revision="{revision}",version="7",workload="KServe"}} 1.0' in found
    assert f'latentry_operator_model_condition{{{labels},status="False",type="Drifting"}} 1.0' in found
    assert f'latentry_operator_model_rollout_state{{{labels},reason="Complete"}} 1.0' in found
    assert f'latentry_operator_model_replicas{{{labels},state="ready"}} 1.0' in found
    await world.api.delete(kinds.latent_model, world.namespace, "tiny")

    async def gone() -> bool:
        return not await lines()

    await world.eventually(gone)


def recorded(namespace: str) -> str:
    """Rules that record budgets of three models: one has some left, one is beyond it, one has no latency."""

    def rule(model: str, slo: str, left: float) -> Obj:
        labels = {"namespace": namespace, "model": model, "slo": slo}
        return {"record": "latentry:slo_error_budget_remaining:ratio", "expr": f"vector({left})", "labels": labels}

    rules = [
        rule("good", "availability", 0.63),
        rule("good", "latency-50ms", 0.91),
        rule("bad", "availability", -0.3),
        rule("bad", "latency-50ms", 0.91),
        rule("young", "availability", 1.0),
    ]
    burn = {"namespace": namespace, "model": "bad", "slo": "availability", "window": "1h"}
    rules.append({"record": "latentry:slo_burn_rate:ratio", "expr": "vector(14.4)", "labels": burn})
    return yaml.safe_dump({"groups": [{"name": "slo", "interval": "200ms", "rules": rules}]})


async def test_error_budgets_come_from_prometheus(
    permitted: ControlPlane,
    settings: dict[str, Any],
    run_operator_on: Callable[..., Any],
    world: Any,
    make_model: Make,
    condition_of: Any,
    tmp_path: Path,
) -> None:
    (tmp_path / "rules.yaml").write_text(recorded(world.namespace))
    slo = {"availability": 99.9, "latency": [{"within": "50ms", "objective": 99}]}
    expected = {
        "good": ("True", "ObjectivesMet", "availability: at least 60% of the error budget is left"),
        "bad": ("False", "BudgetExhausted", "overdrawn by up to 30%, and goes up to 20 times as fast as it may"),
        "young": ("Unknown", "NoData", "no series of latency-50ms:"),
    }
    with Prometheus(tmp_path, [], [tmp_path / "rules.yaml"], seconds=0.2) as prometheus:
        cluster = settings["cluster"] | {"prometheus_url": f"http://{prometheus.address}"}
        changes = settings | {"cluster": cluster, "prometheus": {"every_seconds": EVERY}}
        async with run_operator_on(permitted, **changes):
            for name, (status, reason, part) in expected.items():
                await world.apply(make_model(name, slo=slo))

                def said(obj: Obj | None, status: str = status, reason: str = reason, part: str = part) -> bool:
                    entry = condition_of(obj, "SLOMet")
                    told = entry.get("status"), entry.get("reason")
                    return told == (status, reason) and part in entry["message"]

                await world.api.until(kinds.latent_model, world.namespace, name, said)
            await world.told("BudgetExhausted")
            await asyncio.to_thread(prometheus.__exit__, None, None, None)
            found = await world.until("good", "SLOMet", "Unknown", "PrometheusUnreachable")
            assert prometheus.address in condition_of(found, "SLOMet")["message"]
