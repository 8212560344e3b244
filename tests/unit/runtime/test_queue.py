"""The work queue: no key twice at a time, none lost, failures come back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from latentry_operator.runtime import queue as module
from latentry_operator.runtime.queue import WorkQueue


@asynccontextmanager
async def workers(
    queue: WorkQueue[str], do: Callable[[str], Awaitable[float | None]], count: int = 4
) -> AsyncIterator[list[tuple[str, str]]]:
    failures: list[tuple[str, str]] = []
    task = asyncio.create_task(queue.work(count, do, lambda key, error, _: failures.append((key, str(error)))))
    try:
        yield failures
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_waits_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    done: list[str] = []
    finished = asyncio.Event()

    async def do(key: str) -> None:
        done.append(key)
        if key == "last":
            finished.set()

    for key in ("a", "b", "a", "a", "last"):
        queue.add(key)
    assert len(queue) == 3
    async with workers(queue, do, 1):
        await finished.wait()
    assert done == ["a", "b", "last"]


async def test_a_key_added_while_it_is_worked_on_is_done_again_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue()
    running, most, passes = 0, 0, 0
    second = asyncio.Event()

    async def do(key: str) -> None:
        nonlocal running, most, passes
        running += 1
        most = max(most, running)
        passes += 1
        if passes == 1:
            queue.add(key)
            queue.add(key)
        else:
            second.set()
        await asyncio.sleep(0)
        running -= 1

    queue.add("a")
    async with workers(queue, do):
        await second.wait()
    assert (passes, most) == (2, 1)


async def test_a_failed_key_comes_back_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF", 1e-6)
    queue: WorkQueue[str] = WorkQueue()
    tries: list[str] = []
    through = asyncio.Event()

    async def do(key: str) -> None:
        tries.append(key)
        if key == "bad" and tries.count("bad") < 3:
            raise ValueError("not yet")
        if key == "bad":
            through.set()

    queue.add("bad")
    queue.add("good")
    async with workers(queue, do) as failures:
        await through.wait()
    assert failures == [("bad", "not yet")] * 2
    assert tries.count("good") == 1


async def test_the_earlier_time_wins_and_now_wins_over_later() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_later("a", 3600)
    queue.add_later("a", 0)
    queue.add_later("b", 3600)
    queue.add("b")
    done: list[str] = []
    both = asyncio.Event()

    async def do(key: str) -> None:
        done.append(key)
        if set(done) == {"a", "b"}:
            both.set()

    async with workers(queue, do):
        await both.wait()
    assert sorted(done) == ["a", "b"]


async def test_what_workers_were_at_when_cancelled_is_done_by_the_next() -> None:
    queue: WorkQueue[str] = WorkQueue()
    started, done = asyncio.Event(), asyncio.Event()

    async def hang(_: str) -> None:
        started.set()
        await asyncio.Event().wait()

    async def finish(_: str) -> None:
        done.set()

    queue.add("a")
    async with workers(queue, hang):
        await started.wait()
    assert len(queue) == 1
    async with workers(queue, finish):
        await done.wait()


async def test_a_key_that_asks_to_come_back_does() -> None:
    queue: WorkQueue[str] = WorkQueue()
    passes = 0
    twice = asyncio.Event()

    async def do(_: str) -> float | None:
        nonlocal passes
        passes += 1
        if passes == 2:
            twice.set()
            return None
        return 1e-6

    queue.add("a")
    async with workers(queue, do):
        await twice.wait()
