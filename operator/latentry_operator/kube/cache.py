"""What is known of the cluster: LatentModels, GPUPools, their children and pods, and which kinds there are.

Every change names the model or pool that has to be looked at again; nothing else follows from an event.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from latentry_operator.api.labels import ROLLOUT_ANNOTATION
from latentry_operator.kube import kinds
from latentry_operator.kube.client import PAGE, Client
from latentry_operator.kube.discovery import preferred, served_kinds
from latentry_operator.kube.errors import KubeError
from latentry_operator.kube.informer import Informer
from latentry_operator.kube.kinds import Key, Kind
from latentry_operator.kube.records import SELECTOR, Child, ChildReader, Pod, Stored, pod, stored
from latentry_operator.kube.store import Store

log = logging.getLogger(__name__)

_LARGE = (kinds.CONFIG_MAP, kinds.PROMETHEUS_RULE)
"""A model's dashboards and rules are tens of kilobytes each. Of what was read a hash is kept."""
_LARGE_OBJECTS_PAGE = 25


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told.

    Attributes:
        model: a LatentModel's spec or rollout command changed, or it came or went.
        touched: something that belongs to the model changed.
        pool: a GPUPool, or what is used of it, changed.
        kinds: other kinds are served than before.
    """

    model: Callable[[Key], None]
    touched: Callable[[Key], None]
    pool: Callable[[str], None]
    kinds: Callable[[], None]


class Cache:
    """Informers over all kinds, with children and pods by model."""

    def __init__(
        self, client: Client, *, namespace: str | None, discovery_seconds: float, listeners: Listeners
    ) -> None:
        self.read = ChildReader()
        self._client = client
        self._discovery_seconds = discovery_seconds
        self._listeners = listeners
        self._by_model: dict[Key, dict[tuple[Kind, str], Child]] = {}
        self._pods: dict[Key, dict[str, Pod]] = {}
        self._held: dict[str, dict[Key, int]] = {}
        self._adopted = asyncio.Event()
        self._served: frozenset[Kind] = frozenset()

        def informer(kind: Kind, keep: Any, listener: Any, selector: str = "") -> Informer[Any]:
            inside = namespace if kind.namespaced else None
            page = _LARGE_OBJECTS_PAGE if kind in _LARGE else PAGE
            return Informer(client, kind, namespace=inside, selector=selector, keep=keep, listener=listener, page=page)

        self._models: Informer[Stored] = informer(kinds.LATENT_MODEL, stored, self._model_changed)
        self._pools: Informer[Stored] = informer(kinds.GPU_POOL, stored, self._pool_changed)
        self._pod_informer: Informer[Pod] = informer(kinds.POD, pod, self._pod_changed, SELECTOR)
        self._children: dict[Kind, Informer[Child]] = {
            kind: informer(kind, self.read, self._child_listener(kind), SELECTOR) for kind in kinds.CHILDREN
        }

    @property
    def models(self) -> Store[Stored]:
        """LatentModels."""
        return self._models.store

    @property
    def pools(self) -> Store[Stored]:
        """GPUPools."""
        return self._pools.store

    @property
    def served(self) -> frozenset[Kind]:
        """Kinds that the API server has, of those that matter; one in its preferred version only."""
        return self._served

    @property
    def synced(self) -> bool:
        """Whether everything there is has been seen."""
        return self._adopted.is_set() and all(informer.synced.is_set() for informer in self._informers())

    def store(self, kind: Kind) -> Store[Child]:
        """Children of one kind."""
        return self._children[kind].store

    def children(self, model: Key) -> Iterator[tuple[Kind, Child]]:
        """What carries the model's label."""
        for (kind, _), record in list(self._by_model.get(model, {}).items()):
            yield kind, record

    def held(self, pool: str) -> Mapping[Key, int]:
        """Devices of a pool that pods hold, by model."""
        return self._held.get(pool, {})

    def pods(self, model: Key) -> Iterable[Pod]:
        """The model's pods."""
        return tuple(self._pods.get(model, {}).values())

    def all_pods(self) -> Iterator[Pod]:
        """Every model's pods."""
        yield from self._pod_informer.store

    async def run(self) -> None:
        """Keep everything up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers():
                group.create_task(informer.run())
            group.create_task(self._discover())

    async def wait_synced(self) -> None:
        """Return once everything there is has been seen; ``run`` must be running."""
        await self._adopted.wait()

    def _informers(self) -> tuple[Informer[Any], ...]:
        return (self._models, self._pools, self._pod_informer, *self._children.values())

    async def _discover(self) -> None:
        wanted = [informer.kind for informer in self._informers()]
        while True:
            try:
                served = await served_kinds(self._client, wanted)
            except KubeError as error:
                log.warning("discovery failed", extra={"error": str(error)})
                await asyncio.sleep(min(1.0, self._discovery_seconds))
                continue
            for informer in self._informers():
                informer.set_served(informer.kind in served)
            # A server that starts has custom resources before it names them: what can be watched is served.
            served = preferred(served | {informer.kind for informer in self._informers() if informer.served})
            if served != self._served:
                await self._adopt(served)
            await asyncio.sleep(self._discovery_seconds)

    async def _adopt(self, served: frozenset[Kind]) -> None:
        # A kind counts only once its objects are known: else what exists would be taken for missing.
        for informer in self._informers():
            if informer.kind in served:
                await informer.synced.wait()
        gained = sorted(f"{kind.api_version} {kind.name}" for kind in served - self._served)
        lost = sorted(f"{kind.api_version} {kind.name}" for kind in self._served - served)
        log.info("kinds that the API server has", extra={"gained": gained, "lost": lost})
        self._served = served
        self._adopted.set()
        self._listeners.kinds()

    def _model_changed(self, before: Stored | None, after: Stored | None, ours: bool) -> None:
        record = after or before
        if record is None or ours:
            return
        if before is None or after is None or _asked(before) != _asked(after):
            self._listeners.model(record.key)
        elif before.raw.get("status") != after.raw.get("status"):
            self._listeners.touched(record.key)

    def _pool_changed(self, before: Stored | None, after: Stored | None, ours: bool) -> None:
        if (record := after or before) is not None and not ours:
            self._listeners.pool(record.key[1])

    def _pod_changed(self, before: Pod | None, after: Pod | None, ours: bool) -> None:
        record = after or before
        if record is None:
            return
        model = (record.key[0], record.model)
        _index(self._pods, model, record.key[1], after)
        for pool in {seen.pool for seen in (before, after) if seen is not None and seen.pool}:
            held = sum(seen.devices for seen in self._pods.get(model, {}).values() if seen.pool == pool)
            _index(self._held, pool, model, held or None)
            self._listeners.pool(pool)
        if before is None or after is None or replace(before, version=after.version) != after:
            self._listeners.touched(model)

    def _child_listener(self, kind: Kind) -> Callable[[Child | None, Child | None, bool], None]:
        def changed(before: Child | None, after: Child | None, ours: bool) -> None:
            if before is not None and (after is None or after.model != before.model):
                _index(self._by_model, (before.key[0], before.model), (kind, before.key[1]), None)
            if after is not None:
                _index(self._by_model, (after.key[0], after.model), (kind, after.key[1]), after)
            if ours or (before is not None and after is not None and replace(before, version=after.version) == after):
                return
            for record in (before, after):
                if record is not None:
                    self._listeners.touched((record.key[0], record.model))

        return changed


def _asked(record: Stored) -> tuple[str, int, bool, str | None]:
    annotations = record.raw["metadata"].get("annotations") or {}
    return record.uid, record.generation, record.deleting, annotations.get(ROLLOUT_ANNOTATION)


def _index(index: dict[Any, dict[Any, Any]], group: Any, name: Any, record: Any) -> None:
    if record is not None:
        index.setdefault(group, {})[name] = record
        return
    entries = index.get(group, {})
    entries.pop(name, None)
    if not entries:
        index.pop(group, None)
