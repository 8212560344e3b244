"""List, then watch, for ever: one kind's objects as records in memory.

Bookmarks keep the resource version fresh, so that a broken connection resumes where it was; a version that is too old
(410) means listing again; a kind that is gone (404) waits to be discovered again.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Generic

import orjson

from latentry_operator.kube.client import PAGE, Client, backoff
from latentry_operator.kube.errors import Gone, KubeError, NotFound, refusal
from latentry_operator.kube.kinds import Key, Kind, Obj
from latentry_operator.kube.store import Listener, R, Store, version_of

log = logging.getLogger(__name__)

WATCH_SECONDS = (290, 590)
"""Lengths of a watch, at random between these as in client-go, so that not all end at once."""
SILENCE_SECONDS = 150.0
"""Servers send a bookmark about once a minute; this long without one the connection counts as dead."""
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.2, 5.0


class Informer(Generic[R]):
    """Keeps a store of one kind's records up to date while ``run`` runs."""

    def __init__(
        self,
        client: Client,
        kind: Kind,
        *,
        namespace: str | None,
        selector: str,
        keep: Callable[[Obj], R],
        listener: Listener[R],
        page: int = PAGE,
    ) -> None:
        """
        Args:
            page: most objects of one answer, which is in memory as a whole: fewer where they are large.
        """
        self.kind = kind
        self._page = page
        self.store: Store[R] = Store(listener)
        self.synced = asyncio.Event()
        """Set once the first list is complete; for a kind that is not served, at once."""
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._keep = keep
        self._version = ""
        self._served = asyncio.Event()

    @property
    def served(self) -> bool:
        """Whether the API server has the kind, as far as is known."""
        return self._served.is_set()

    def set_served(self, served: bool) -> None:
        """What discovery found."""
        if served and not self.served:
            self.synced.clear()
            self._served.set()
        elif not served and not self.served:
            self.synced.set()

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        while True:
            await self._served.wait()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                failures = 0
            except NotFound:
                log.info("kind is not served", extra={"kind": self.kind.name, "api_version": self.kind.api_version})
                self._forget()
            except Gone:
                self._version = ""
            except KubeError as error:
                failures += 1
                # A server that starts forbids everything for a moment.
                level = logging.WARNING if error.status == HTTPStatus.FORBIDDEN and failures > 1 else logging.DEBUG
                log.log(level, "watch failed", extra={"kind": self.kind.name, "error": str(error)})
                await asyncio.sleep(backoff(failures, _FIRST_BACKOFF, _LONGEST_BACKOFF))

    async def _list(self) -> None:
        keys: set[Key] = set()
        start = ""
        while True:
            page = await self._client.list(self.kind, self._namespace, self._selector, start, self._page)
            version = page["metadata"]["resourceVersion"]
            for item in page.get("items") or ():
                keys.add(self._put(item).key)
            start = page["metadata"].get("continue") or ""
            if not start:
                break
            await asyncio.sleep(0)
        self.store.keep_only(keys, version_of(version))
        self._version = version
        self.synced.set()

    async def _watch(self) -> None:
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - no secret
        lines = self._client.watch(
            self.kind, self._namespace, self._selector, self._version, seconds=seconds, silence=SILENCE_SECONDS
        )
        async for line in lines:
            event = orjson.loads(line)
            self._take(event["type"], event["object"])

    def _take(self, change: str, obj: dict[str, Any]) -> None:
        if change == "ERROR":
            raise refusal(int(obj.get("code") or 0), orjson.dumps(obj), {})
        version = obj["metadata"]["resourceVersion"]
        if change == "DELETED":
            record = self._keep(self._named(obj))
            self.store.drop(record.key, version_of(version))
        elif change != "BOOKMARK":
            self._put(obj)
        self._version = version

    def _put(self, obj: Obj) -> R:
        record = self._keep(self._named(obj))
        self.store.put(record)
        return record

    def _named(self, obj: Obj) -> Obj:
        # Items of a list carry neither; records need both.
        obj.setdefault("apiVersion", self.kind.api_version)
        obj.setdefault("kind", self.kind.name)
        return obj

    def _forget(self) -> None:
        self._served.clear()
        self._version = ""
        self.store.clear()
        self.synced.set()
