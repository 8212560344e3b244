"""The rehearsal before a candidate gets clients: what is surely slower or fails is refused, what is alike is not."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from latentry_operator.api.latentmodel import LatentModelSpec
from latentry_operator.local import rehearsal
from latentry_operator.local.rehearsal import CALLS, WARM_UP_CALLS, Rehearsal, Rehearsals, histogram
from latentry_operator.plan.rollout.facts import Running
from latentry_operator.plan.rollout.policy import policy_of
from latentry_operator.plan.rollout.state import Phase, RolloutState
from latentry_serving.contract.tap_config import Address
from latentry_serving.tap.triton_http import TritonUnreachable

STABLE, CANDIDATE = Address(port=1), Address(port=2)
SPEC = "{family: Encoder, bundle: {uri: 'file:///b'}}"
Play = Callable[[int, int], float | None]


class Stage:
    """Two Tritons that take a chosen time to answer, or None for no answer, on a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Play) -> None:
        self.now, self.calls, self.seconds = 0.0, {1: 0, 2: 0}, seconds
        stage = self

        class Triton:
            def __init__(self, address: Address, **_: object) -> None:
                self.port = address.port

            def __enter__(self) -> "Triton":
                return self

            def __exit__(self, *_: object) -> None:
                return None

            def abort(self) -> None:
                return None

        def infer(triton: Any, *_: object, **__: object) -> None:
            stage.calls[triton.port] += 1
            took = stage.seconds(triton.port, stage.calls[triton.port])
            if took is None:
                raise TritonUnreachable("gone")
            stage.now += took

        monkeypatch.setattr(rehearsal, "TritonHttp", Triton)
        monkeypatch.setattr("latentry_serving.tap.probes.infer", infer)
        monkeypatch.setattr(rehearsal, "time", SimpleNamespace(monotonic=lambda: stage.now))
        monkeypatch.setattr(rehearsal, "_calls", lambda *_: [(None, {})])

    async def play(self) -> Rehearsal:
        policy = policy_of(LatentModelSpec.model_validate(yaml.safe_load(SPEC)), weights=False, mirror=False)
        wanted: Any = SimpleNamespace(policy=policy)
        played = Rehearsal((wanted, STABLE), (wanted, CANDIDATE))
        while not played.over:
            await asyncio.sleep(0)
        await played.close()
        return played


async def test_versions_that_are_alike_are_played_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, lambda _, number: 0.010 + number % 7 / 1000)
    played = await stage.play()
    assert played.problem == ""
    assert stage.calls == {1: CALLS + WARM_UP_CALLS, 2: CALLS + WARM_UP_CALLS}


async def test_a_first_call_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, lambda _, number: 1.0 if number == 1 else 0.01)
    assert (await stage.play()).problem == ""


@pytest.mark.parametrize(
    ("candidate", "told"), [(0.1, "slower than"), (None, "errors of")], ids=["ten times slower", "no answer"]
)
async def test_what_is_surely_worse_is_refused_early(
    monkeypatch: pytest.MonkeyPatch, candidate: float | None, told: str
) -> None:
    stage = Stage(monkeypatch, lambda port, _: 0.01 if port == STABLE.port else candidate)
    played = await stage.play()
    assert played.problem.startswith("in a rehearsal on golden inputs, before any client: 100 % ")
    assert told in played.problem
    assert stage.calls[2] < CALLS + WARM_UP_CALLS


async def test_it_takes_its_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, lambda *_: 1.0)
    assert (await stage.play()).problem == ""
    assert stage.now <= rehearsal.MOST_SECONDS + 2


async def test_the_policy_sees_a_candidate_on_rehearsal_as_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    curtain = threading.Event()

    def seconds(port: int, _: int) -> float:
        curtain.wait(30)
        return 0.01 if port == STABLE.port else 0.1

    Stage(monkeypatch, seconds)
    policy = policy_of(LatentModelSpec.model_validate(yaml.safe_load(SPEC)), weights=False, mirror=False)

    def revision(address: Address) -> Any:
        wanted = SimpleNamespace(policy=policy)
        return SimpleNamespace(triton=address, wanted=wanted, running=lambda: Running(1, 1))

    stable, candidate, all_of_them = revision(STABLE), revision(CANDIDATE), Rehearsals()
    gating = RolloutState(phase=Phase.GATING)
    assert await all_of_them.look(RolloutState(phase=Phase.PREPARING), stable, candidate) is None
    assert await all_of_them.look(gating, None, candidate) is None, "a first revision has nobody to compare with"
    first = await all_of_them.look(gating, stable, candidate)
    assert first is not None
    assert first.ready == 0
    assert f"0 of {CALLS} calls" in first.problem
    curtain.set()
    while not (told := await all_of_them.look(gating, stable, candidate)) or not told.refused:
        await asyncio.sleep(0)
    assert told.ready == 1
    assert "slower than" in told.refused
    assert await all_of_them.look(RolloutState(), stable, None) is None
    await all_of_them.close()


def test_durations_lie_between_their_edges() -> None:
    shown = histogram([0.001, 0.001, 0.0031])
    assert sum(shown.counts) == 3
    assert (len(shown.edges), shown.counts[0], shown.counts[-1]) == (len(shown.counts) + 1, 2, 1)
    assert shown.edges[0] <= 0.001 < shown.edges[1]
    assert shown.edges[-2] <= 0.0031 < shown.edges[-1]
