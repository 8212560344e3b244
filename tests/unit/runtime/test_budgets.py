"""Error budgets of all models: two queries a round, what is kept of them, and who is looked at again."""

from collections.abc import Sequence

import pytest

from latentry_operator.kube.kinds import Key
from latentry_operator.runtime.budgets import BURN_QUERY, REMAINING_QUERY, BudgetWatch
from latentry_operator.runtime.prometheus import PrometheusError, Sample, Unreachable
from latentry_operator.status.facts import Budget, SloFacts

A, B = ("ns", "a"), ("ns", "b")


def sample(value: float, model: str = "a", slo: str = "availability", **labels: str) -> Sample:
    return Sample({"namespace": "ns", "model": model, "slo": slo} | labels, value, 1.0)


class World:
    def __init__(self) -> None:
        self.answers: dict[str, Sequence[Sample] | PrometheusError] = {REMAINING_QUERY: (), BURN_QUERY: ()}
        self.asked: list[str] = []
        self.changed: list[Key] = []
        self.watch = BudgetWatch(self._query, self.changed.append, every_seconds=60)

    async def _query(self, query: str) -> Sequence[Sample]:
        self.asked.append(query)
        found = self.answers[query]
        if isinstance(found, PrometheusError):
            raise found
        return found

    async def round(self) -> list[Key]:
        self.changed.clear()
        await self.watch.round([A, B])
        return self.changed


@pytest.fixture
def world() -> World:
    return World()


async def test_one_round_is_two_queries_for_all_models(world: World) -> None:
    world.answers[REMAINING_QUERY] = (sample(0.62), sample(0.3, slo="quality"), sample(1.0, "b"), sample(0.5, "other"))
    world.answers[BURN_QUERY] = (sample(3.1, window="1h"),)
    assert await world.round() == [A, B]
    assert world.asked == [REMAINING_QUERY, BURN_QUERY]
    assert world.watch.facts(A) == SloFacts(
        watched=True, asked=True, budgets=(Budget("availability", 0.6, 5.0), Budget("quality", 0.3))
    )
    assert world.watch.facts(B).budgets == (Budget("availability", 1.0),)


async def test_only_what_is_said_anew_is_looked_at_again(world: World) -> None:
    world.answers[REMAINING_QUERY] = (sample(0.62), sample(0.9, "b"))
    await world.round()
    world.answers[REMAINING_QUERY] = (sample(0.61), sample(0.84, "b"))
    assert await world.round() == [B]


async def test_no_number_is_no_data(world: World) -> None:
    world.answers[REMAINING_QUERY] = (sample(float("nan")), Sample({"model": "a", "slo": "availability"}, 1.0, 1.0))
    await world.round()
    assert world.watch.facts(A) == SloFacts(watched=True, asked=True)


async def test_a_series_that_goes_is_no_data_any_more(world: World) -> None:
    world.answers[REMAINING_QUERY] = (sample(0.62),)
    await world.round()
    world.answers[REMAINING_QUERY] = ()
    assert await world.round() == [A]
    assert world.watch.facts(A).budgets == ()


async def test_one_failure_is_no_news_and_two_are(world: World) -> None:
    world.answers[REMAINING_QUERY] = (sample(0.62),)
    await world.round()
    world.answers[BURN_QUERY] = Unreachable("refused")
    assert await world.round() == []
    world.answers[BURN_QUERY] = Unreachable("another story")
    assert await world.round() == [A, B]
    assert world.watch.facts(A).problem == "refused"
    assert await world.round() == []
    world.answers[BURN_QUERY] = ()
    assert await world.round() == [A, B]
    assert world.watch.facts(A).budgets == (Budget("availability", 0.6),)


async def test_before_the_first_answer_nothing_is_known(world: World) -> None:
    assert world.watch.facts(A) == SloFacts(watched=True)
    world.answers[REMAINING_QUERY] = Unreachable("refused")
    await world.round()
    assert world.watch.facts(A) == SloFacts(watched=True)


async def test_without_prometheus_nobody_is_asked() -> None:
    watch = BudgetWatch(None, lambda _: None, every_seconds=60)
    await watch.run(lambda: [A])
    assert watch.facts(A) == SloFacts()
