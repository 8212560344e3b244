"""Keeps an eye on every serving pod's tap, beside the passes over models: a pass never waits for a pod.

Each pod is asked in turn; what it said is kept until it goes. A model is looked at again when what its status would
say has changed. Only the process that leads asks.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from latentry_operator.kube.kinds import Key
from latentry_operator.kube.records import Pod
from latentry_operator.plan.tap_facts import LastMinute, TapFacts, last_minute
from latentry_operator.runtime.tap_client import TapSilent
from latentry_operator.status.watching import essence
from latentry_serving.contract.tap_summary import TapSummary

log = logging.getLogger(__name__)

SILENT_AFTER = 2
"""Answers missed in a row until a pod counts as silent: one lost packet changes no condition."""
_QUICK_SHARE = 1 / 3
"""Of the interval, until the second attempt."""
_LONGEST_PAUSE = 4
"""Intervals between two attempts at a pod that stays silent: many of them must not keep the others waiting."""
_TICKS = 20
"""Looks for pods that are due, in an interval."""
_JITTER = 0.1

Fetch = Callable[[str, int], Awaitable[TapSummary]]


@dataclass(slots=True)
class _Watched:
    """One pod. ``due`` is monotonic seconds; ``failures`` in a row."""

    pod: Pod
    due: float
    summary: TapSummary | None = None
    failures: int = 0
    silence: str = ""

    def facts(self) -> TapFacts:
        silence = self.silence if self.failures >= SILENT_AFTER else ""
        return TapFacts(self.pod.key[1], self.pod.revision, self.pod.ready, self.summary, silence)


class TapWatch:
    """Facts by model, and the task that renews them.

    Args:
        pods: all pods there are now.
        fetch: asks the tap at a host and port; raises TapSilent.
        changed: told of a model whose facts say something else than before.
        clock: monotonic seconds.
        chance: numbers in [0, 1), which spread the pods over the interval.
    """

    def __init__(
        self,
        pods: Callable[[], Iterable[Pod]],
        fetch: Fetch,
        changed: Callable[[Key], None],
        *,
        every_seconds: float,
        connections: int,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._pods = pods
        self._fetch = fetch
        self._changed = changed
        self._every = every_seconds
        self._connections = connections
        self._clock = clock
        self._chance = chance
        self._watched: dict[Key, _Watched] = {}
        self._by_model: dict[Key, dict[Key, _Watched]] = {}
        self._told: dict[tuple[Key, str], tuple[object, LastMinute | None]] = {}
        self._queue: asyncio.Queue[_Watched] = asyncio.Queue()

    def facts(self, model: Key) -> tuple[TapFacts, ...]:
        """What is known of the pods of a model that have an address, by name."""
        watched = self._by_model.get(model, {})
        return tuple(watched[key].facts() for key in sorted(watched))

    def last_minute(self, model: Key, revision: str) -> LastMinute | None:
        """What the taps of a revision measured in the last minute that had requests."""
        told = self._told.get((model, revision))
        return told[1] if told is not None else None

    async def run(self) -> None:
        """Ask until cancelled. What another run found out is forgotten: it is old."""
        self._watched.clear()
        self._by_model.clear()
        self._told.clear()
        self._queue = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._worker())
            while True:
                self.look()
                await asyncio.sleep(self._every / _TICKS)

    def look(self) -> None:
        """Take notice of pods that came, changed and went, and put those that are due in the queue."""
        now = self._clock()
        seen = {pod.key: pod for pod in self._pods() if pod.admin is not None and pod.model}
        for key in self._watched.keys() - seen.keys():
            self._forget(self._watched[key])
        for key, pod in seen.items():
            entry = self._watched.get(key)
            if entry is None or entry.pod.admin != pod.admin:
                if entry is not None:
                    self._forget(entry)
                entry = self._watch(pod, now)
            entry.pod = pod
            if entry.due <= now:
                entry.due = float("inf")  # until it has answered
                self._queue.put_nowait(entry)

    async def ask(self, entry: _Watched) -> None:
        """One call, and what follows from it."""
        pod = entry.pod
        host, port = pod.admin or ("", 0)
        try:
            summary = await self._fetch(host, port)
            if summary.model != pod.model:
                raise TapSilent(f"{host}:{port} is the tap of another model, {summary.model[:64]}")  # noqa: TRY301
        except TapSilent as error:
            entry.failures += 1
            entry.silence = entry.silence or str(
                error
            )  # the first words stay: others each time would be news each time
            pause = min(_QUICK_SHARE * 2 ** (entry.failures - 1), _LONGEST_PAUSE) * self._every
            if entry.failures == SILENT_AFTER:
                log.warning("a tap does not answer", extra={"pod": "/".join(pod.key), "error": str(error)})
        else:
            entry.summary = summary
            entry.failures, entry.silence = 0, ""
            pause = self._every
        entry.due = self._clock() + pause * (1 + _JITTER * (2 * self._chance() - 1))
        if self._watched.get(pod.key) is entry:
            self._tell((pod.key[0], pod.model), pod.revision)

    async def _worker(self) -> None:
        while True:
            entry = await self._queue.get()
            try:
                await self.ask(entry)
            except Exception:  # one pod, whatever it does, must not stop the others
                log.exception("reading a tap failed", extra={"pod": "/".join(entry.pod.key)})
                entry.due = self._clock() + self._every

    def _watch(self, pod: Pod, now: float) -> _Watched:
        # A pod that comes up is asked soon; all those that are there at the start are spread a little.
        entry = _Watched(pod, now + self._chance() * self._every / _TICKS)
        self._watched[pod.key] = entry
        self._by_model.setdefault((pod.key[0], pod.model), {})[pod.key] = entry
        return entry

    def _forget(self, entry: _Watched) -> None:
        pod = entry.pod
        model = (pod.key[0], pod.model)
        del self._watched[pod.key]
        siblings = self._by_model[model]
        del siblings[pod.key]
        if not siblings:
            del self._by_model[model]
        if not any(other.pod.revision == pod.revision for other in siblings.values()):
            self._told.pop((model, pod.revision), None)

    def _tell(self, model: Key, revision: str) -> None:
        """Have the model looked at when its status would say something else."""
        taps = tuple(tap for tap in self.facts(model) if tap.revision == revision)
        before = self._told.get((model, revision))
        now = essence(taps), last_minute(before[1] if before is not None else None, taps)
        if now != before:
            self._told[model, revision] = now
            self._changed(model)
