"""Objects of one kind kept current by list and watch, and a queue of keys that need a look (client-go's two ideas)."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

import httpx

from kube.api import Api, ApiError, Kind, Obj

Key = tuple[str, str]
"""(namespace, name)"""
RETRY_SECONDS = 0.2


def key_of(item: Obj) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


class Mirror:
    """All objects of a kind. ``changed`` gets each object that came, changed or went.

    ``owner_of`` groups them: ``owned(key)`` are those it gives ``key`` for. Survives a server that goes away, an
    expired watch, and a CRD that is not there yet.
    """

    def __init__(
        self,
        api: Api,
        kind: Kind,
        changed: Callable[[Obj], None],
        owner_of: Callable[[Obj], Key | None] = lambda item: None,
    ) -> None:
        self._api, self._kind, self._changed, self._owner_of = api, kind, changed, owner_of
        self.items: dict[Key, Obj] = {}
        self._owned: defaultdict[Key | None, set[Key]] = defaultdict(set)

    def owned(self, owner: Key) -> list[Obj]:
        return [self.items[key] for key in self._owned.get(owner, ())]

    def _put(self, item: Obj) -> None:
        self._drop(item)
        self.items[key_of(item)] = item
        self._owned[self._owner_of(item)].add(key_of(item))

    def _drop(self, item: Obj) -> None:
        old = self.items.pop(key_of(item), None)
        if old is not None:
            self._owned[self._owner_of(old)].discard(key_of(old))

    async def run(self) -> None:
        while True:
            try:
                version = await self._relist()
                async for event, item in self._api.watch(self._kind, version):
                    self._drop(item) if event == "DELETED" else self._put(item)
                    self._changed(item)
            except (httpx.TransportError, ApiError):
                await asyncio.sleep(RETRY_SECONDS)

    async def _relist(self) -> str:
        answer = await self._api.list(self._kind)
        before = list(self.items.values())
        for item in before:
            self._drop(item)
        for item in answer["items"]:
            self._put(item)
        gone = [item for item in before if key_of(item) not in self.items]
        for item in [*gone, *answer["items"]]:
            self._changed(item)
        return str(answer["metadata"]["resourceVersion"])


class WorkQueue:
    """Keys waiting for ``work``: each once, never the same by two workers, again after a failure."""

    def __init__(self, work: Callable[[Key], Awaitable[None]], workers: int = 4) -> None:
        self._work, self._workers = work, workers
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()

    def add(self, key: Key) -> None:
        if key not in self._waiting:
            self._waiting.add(key)
            if key not in self._active:
                self._ready.put_nowait(key)

    def add_later(self, key: Key, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.add, key)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._active.add(key)
            try:
                await self._work(key)
            except (httpx.TransportError, ApiError):
                self.add_later(key, RETRY_SECONDS)
            finally:
                self._active.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)
