"""What the operator knows of running models beside the API server's objects: their taps, their error budgets."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from latentry_operator.kube.cache import Cache
from latentry_operator.kube.kinds import Key
from latentry_operator.runtime.budgets import BudgetWatch
from latentry_operator.runtime.prometheus import Prometheus
from latentry_operator.runtime.rollout_evidence import EvidenceReader
from latentry_operator.runtime.tap_client import TapClient
from latentry_operator.runtime.taps import TapWatch
from latentry_operator.settings import OperatorSettings
from latentry_operator.status.facts import SloFacts

log = logging.getLogger(__name__)

_RESTART_SECONDS = 10.0


class Knowledge:
    """Gathers it while the operator leads; reading it is reading memory.

    Args:
        changed: told of a model whose status may have to say something else.
    """

    def __init__(self, settings: OperatorSettings, cache: Cache, changed: Callable[[Key], None]) -> None:
        url = settings.cluster.prometheus_url
        self._cache = cache
        self._client = TapClient(timeout_seconds=settings.taps.timeout_seconds)
        self.prometheus = Prometheus(url, timeout_seconds=settings.prometheus.timeout_seconds) if url else None
        """For instant queries while this gathers; None where there is none."""
        self.evidence = EvidenceReader(self.prometheus)
        """For gates, while this gathers."""
        self.taps = TapWatch(
            cache.all_pods,
            self._client.summary,
            changed,
            every_seconds=settings.taps.every_seconds,
            connections=settings.taps.connections,
            clock=time.monotonic,
            chance=random.random,
        )
        self._budgets = BudgetWatch(
            self.prometheus.series if self.prometheus is not None else None,
            changed,
            every_seconds=settings.prometheus.every_seconds,
        )

    def budgets(self, model: Key, revision: str) -> SloFacts:
        """What is known of a model's objectives; the taps' last minute is that of the revision."""
        return replace(self._budgets.facts(model), last_minute=self.taps.last_minute(model, revision))

    async def run(self) -> None:
        """Gather until cancelled."""
        async with self.evidence, asyncio.TaskGroup() as group:
            group.create_task(_for_ever(self._read_taps))
            if self.prometheus is not None:
                group.create_task(_for_ever(partial(self._ask, self.prometheus)))

    async def _read_taps(self) -> None:
        async with self._client:
            await self.taps.run()

    async def _ask(self, prometheus: Prometheus) -> None:
        async with prometheus:
            await self._budgets.run(lambda: [record.key for record in self._cache.models])


async def _for_ever(gather: Callable[[], Awaitable[None]]) -> None:
    """Whatever goes wrong in there is logged: models are served all the same."""
    while True:
        try:
            await gather()
        except Exception:
            log.exception("gathering failed, it is begun again")
        await asyncio.sleep(_RESTART_SECONDS)
