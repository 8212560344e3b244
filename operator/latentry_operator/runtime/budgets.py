"""Follows the error budgets of all models: two queries a round, whatever the number of models."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from latentry_operator.kube.kinds import Key
from latentry_operator.runtime.prometheus import PrometheusError, Sample
from latentry_operator.slo import names
from latentry_operator.status.budgets import rounded
from latentry_operator.status.facts import Budget, SloFacts

log = logging.getLogger(__name__)

BURN_WINDOW = "1h"
REMAINING_QUERY = names.BUDGET_REMAINING
BURN_QUERY = f'{names.BURN_RATE}{{{names.WINDOW}="{BURN_WINDOW}"}}'
FAILED_AFTER = 2
"""Rounds in a row without an answer until nothing is known any more."""

Query = Callable[[str], Awaitable[Sequence[Sample]]]


class BudgetWatch:
    """Facts by model, and the task that renews them.

    Args:
        query: instant query; raises PrometheusError. None where there is no Prometheus.
        changed: told of a model whose facts say something else than before.
    """

    def __init__(self, query: Query | None, changed: Callable[[Key], None], *, every_seconds: float) -> None:
        self._query = query
        self._changed = changed
        self._every = every_seconds
        self._asked = False
        self._failures = 0
        self._problem = ""
        self._budgets: dict[Key, tuple[Budget, ...]] = {}

    def facts(self, model: Key) -> SloFacts:
        """What Prometheus said last."""
        if self._query is None:
            return SloFacts()
        problem = self._problem if self._failures >= FAILED_AFTER else ""
        known = self._asked or bool(problem)
        return SloFacts(watched=True, asked=known, problem=problem, budgets=self._budgets.get(model, ()))

    async def run(self, models: Callable[[], Sequence[Key]]) -> None:
        """Ask until cancelled; at once where there is nobody to ask.

        Args:
            models: all there are.
        """
        self._asked, self._failures, self._problem = False, 0, ""
        self._budgets.clear()
        while self._query is not None:
            await self.round(models())
            await asyncio.sleep(self._every)

    async def round(self, models: Sequence[Key]) -> None:
        """Ask once, and have the models looked at of which something else is to be said now."""
        if self._query is None:
            return
        before = {key: self.facts(key) for key in models}
        try:
            remaining = await self._query(REMAINING_QUERY)
            burn = await self._query(BURN_QUERY)
        except PrometheusError as error:
            self._failures += 1
            self._problem = self._problem or str(
                error
            )  # the first words stay: others each time would be news each time
            if self._failures == FAILED_AFTER:
                log.warning("error budgets are not known", extra={"error": str(error)})
        else:
            self._asked, self._failures, self._problem = True, 0, ""
            self._take(models, _by_objective(remaining), _by_objective(burn))
        for key in models:
            if self.facts(key) != before[key]:
                self._changed(key)

    def _take(
        self,
        models: Sequence[Key],
        remaining: Mapping[Key, Mapping[str, float]],
        burn: Mapping[Key, Mapping[str, float]],
    ) -> None:
        old, self._budgets = self._budgets, {}
        for key in models:
            known = {budget.slo: budget for budget in old.get(key, ())}
            burns = burn.get(key, {})
            self._budgets[key] = tuple(
                rounded(known.get(slo), slo, value, burns.get(slo))
                for slo, value in sorted(remaining.get(key, {}).items())
            )


def _by_objective(samples: Sequence[Sample]) -> dict[Key, dict[str, float]]:
    """(namespace, model) -> objective -> value; what is not a number is no data."""
    found: dict[Key, dict[str, float]] = {}
    for sample in samples:
        labels = sample.labels
        if not math.isnan(sample.value) and {names.NAMESPACE, names.MODEL, names.SLO} <= labels.keys():
            found.setdefault((labels[names.NAMESPACE], labels[names.MODEL]), {})[labels[names.SLO]] = sample.value
    return found
