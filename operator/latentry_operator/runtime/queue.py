"""A work queue of keys, not events: a key waits once, has one worker at a time, comes back after a failure."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from latentry_operator.kube.client import backoff

K = TypeVar("K", bound=Hashable)
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 60.0
"""Pause after a key's first failure and the longest one, seconds; doubles with each, plus or minus half."""


class WorkQueue(Generic[K]):
    """Keys to work on. It outlives its workers: what they were at when cancelled is to be done again."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """Keys that could be worked on now."""
        return len(self._waiting) + len(self._again)

    def add(self, key: K) -> None:
        """The key needs work; once more if it is being worked on."""
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_later(self, key: K, seconds: float) -> None:
        """As :meth:`add` after a pause, unless the key is to be worked on earlier."""
        loop = asyncio.get_running_loop()
        timer = self._later.get(key)
        if key in self._waiting or (timer is not None and timer.when() <= loop.time() + seconds):
            return
        if timer is not None:
            timer.cancel()
        self._later[key] = loop.call_later(seconds, self.add, key)

    async def work(
        self,
        workers: int,
        do: Callable[[K], Awaitable[float | None]],
        failed: Callable[[K, Exception, float], None],
    ) -> None:
        """Work until cancelled.

        Args:
            workers: most keys at a time.
            do: works on a key; answers when to come back, seconds, or None.
            failed: told of every failure, with the pause until the key comes back, seconds.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker(do, failed))

    async def _worker(
        self, do: Callable[[K], Awaitable[float | None]], failed: Callable[[K, Exception, float], None]
    ) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._working.add(key)
            try:
                pause = await do(key)
                self._failures.pop(key, None)
            except asyncio.CancelledError:
                self._again.add(key)
                raise
            except Exception as error:  # noqa: BLE001 - one key's failure, whatever it is, must not stop the others
                self._failures[key] = self._failures.get(key, 0) + 1
                pause = backoff(self._failures[key], FIRST_BACKOFF, LONGEST_BACKOFF)
                failed(key, error, pause)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)
            if pause is not None:
                self.add_later(key, pause)
