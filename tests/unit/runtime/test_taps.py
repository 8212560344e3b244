"""Watching taps: who is asked when, what is kept, and when a model is looked at again. Clock and taps are the test's.

Covered: pods that come, go, move and get ready; silence that lasts and one that does not; another model's tap; words
that stay; a failing reader; what a new run forgets.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from tap_samples import alarm, drift, tap_summary, traffic

from latentry_operator.kube.kinds import Key
from latentry_operator.kube.records import Pod, pod
from latentry_operator.plan.tap_facts import LastMinute, TapFacts
from latentry_operator.runtime.tap_client import TapSilent
from latentry_operator.runtime.taps import TapWatch
from latentry_serving.contract.tap_summary import TapSummary

MODEL = ("ns", "m")
EVERY = 30.0
FINE = tap_summary()


def record(name: str, host: str = "10.0.0.1", *, model: str = "m", revision: str = "m-1", ready: bool = True) -> Pod:
    return Pod(("ns", name), 1, model, revision, "", 0, "", (host, 9400), ready)


class World:
    """Pods, what their taps say by host, and a clock."""

    def __init__(self) -> None:
        self.pods = [record("a")]
        self.taps: dict[str, TapSummary | Exception] = {"10.0.0.1": FINE}
        self.asked: list[str] = []
        self.changed: list[Key] = []
        self.now = 0.0
        self.watch = TapWatch(
            lambda: self.pods,
            self._fetch,
            self.changed.append,
            every_seconds=EVERY,
            connections=2,
            clock=lambda: self.now,
            chance=lambda: 0.5,
        )

    async def _fetch(self, host: str, port: int) -> TapSummary:
        assert port == 9400
        self.asked.append(host)
        said = self.taps[host]
        if isinstance(said, Exception):
            raise said
        return said

    async def until(self, seconds: float) -> list[str]:
        """Have every second pass up to then; the hosts that were asked meanwhile."""
        self.asked.clear()
        while self.now <= seconds:
            self.watch.look()
            while not self.watch._queue.empty():
                await self.watch.ask(self.watch._queue.get_nowait())
            self.now += 1
        return self.asked

    @property
    def only(self) -> TapFacts:
        (found,) = self.watch.facts(MODEL)
        return found


@pytest.fixture
def world() -> World:
    return World()


async def test_a_new_pod_is_asked_soon_and_then_at_the_interval(world: World) -> None:
    world.watch.look()
    assert not world.only.answers
    assert await world.until(1) == ["10.0.0.1"]
    assert (world.only.summary, world.only.silence, world.only.revision) == (FINE, "", "m-1")
    assert await world.until(30) == []
    assert len(await world.until(92)) == 3


async def test_a_model_is_looked_at_when_something_else_is_to_be_said(world: World) -> None:
    await world.until(1)
    assert world.changed == [MODEL]
    world.taps["10.0.0.1"] = tap_summary(uptime_seconds=500.0)
    await world.until(70)
    assert world.changed == [MODEL]
    world.taps["10.0.0.1"] = tap_summary(drift=drift(alarm()))
    await world.until(140)
    assert world.changed == [MODEL, MODEL]


async def test_one_missed_answer_is_no_news_and_two_are_silence(world: World) -> None:
    await world.until(1)
    world.taps["10.0.0.1"] = TapSilent("connection refused")
    await world.until(34)
    assert (world.only.silence, world.changed) == ("", [MODEL])
    assert world.only.summary == FINE
    world.taps["10.0.0.1"] = TapSilent("something else every time")
    await world.until(45)
    assert world.only.silence == "connection refused"
    assert not world.only.answers
    assert world.changed == [MODEL, MODEL]
    await world.until(600)
    assert len(world.asked) <= 6, "a pod that stays silent is asked less often"
    assert world.changed == [MODEL, MODEL]
    world.taps["10.0.0.1"] = FINE
    await world.until(800)
    assert world.only.answers
    assert world.changed == [MODEL, MODEL, MODEL]


async def test_another_models_tap_is_none(world: World) -> None:
    world.taps["10.0.0.1"] = tap_summary("other")
    await world.until(15)
    assert world.only.silence == "10.0.0.1:9400 is the tap of another model, other"
    assert world.only.summary is None


async def test_pods_come_and_go(world: World) -> None:
    world.taps["10.0.0.2"] = tap_summary(drift=drift(alarm()))
    world.pods.append(record("b", "10.0.0.2", ready=False))
    await world.until(1)
    assert [tap.pod for tap in world.watch.facts(MODEL)] == ["a", "b"]
    assert [tap.ready for tap in world.watch.facts(MODEL)] == [True, False]
    world.pods = [record("b", "10.0.0.2")]
    await world.until(2)
    assert world.only.ready
    world.pods = []
    await world.until(3)
    assert world.watch.facts(MODEL) == ()
    assert world.watch.last_minute(MODEL, "m-1") is None


async def test_a_pod_with_another_address_is_another_one(world: World) -> None:
    await world.until(1)
    world.pods = [record("a", "10.0.0.9")]
    world.watch.look()
    assert world.only.summary is None


async def test_an_answer_of_a_pod_that_went_meanwhile_changes_nothing(world: World) -> None:
    world.watch.look()
    world.now = 1.0
    world.watch.look()
    entry = world.watch._queue.get_nowait()
    world.pods = []
    world.watch.look()
    await world.watch.ask(entry)
    assert (world.watch.facts(MODEL), world.changed) == ((), [])


async def test_pods_without_an_address_or_a_model_are_left_alone(world: World) -> None:
    world.pods = [replace(record("a"), admin=None), replace(record("b"), model="")]
    assert await world.until(5) == []


async def test_the_last_minute_is_remembered(world: World) -> None:
    world.taps["10.0.0.1"] = tap_summary(traffic=traffic(100, 0, 0.03))
    await world.until(1)
    world.taps["10.0.0.1"] = tap_summary()
    await world.until(40)
    assert world.watch.last_minute(MODEL, "m-1") == LastMinute(0.01, 0.05)
    assert world.changed == [MODEL]


async def test_a_run_forgets_what_the_one_before_knew_and_outlives_a_failing_reader(world: World) -> None:
    await world.until(1)
    world.taps["10.0.0.1"] = ValueError("a bug")
    world.now = 2.0
    asked = asyncio.Event()
    fetch = world.watch._fetch

    async def noticed(host: str, port: int) -> TapSummary:
        asked.set()
        return await fetch(host, port)

    world.watch._fetch = noticed  # type: ignore[method-assign]
    task = asyncio.create_task(world.watch.run())
    await asyncio.sleep(0)
    assert world.only.summary is None
    world.now = 4.0
    world.watch.look()
    async with asyncio.timeout(10):
        await asked.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("change", "admin", "ready"),
    [
        (lambda obj: None, ("10.0.0.1", 9400), True),
        (lambda obj: obj["status"].update(phase="Pending"), None, True),
        (lambda obj: obj["status"].pop("podIP"), None, True),
        (lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"), None, False),
        (lambda obj: obj["status"]["conditions"][0].update(status="False"), ("10.0.0.1", 9400), False),
        (lambda obj: obj["spec"]["containers"][0]["ports"].pop(0), None, True),
    ],
)
def test_what_is_read_of_a_pod(change: Callable[[dict], None], admin: tuple[str, int] | None, ready: bool) -> None:
    obj = {
        "metadata": {"name": "a", "namespace": "ns", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "tap", "ports": [{"name": "admin", "containerPort": 9400}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    change(obj)
    found = pod(obj)
    assert (found.admin, found.ready) == (admin, ready)
