"""What is gathered beside the passes goes on after whatever error."""

import asyncio

import pytest

from latentry_operator.runtime import knowledge


async def test_gathering_is_begun_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(knowledge, "_RESTART_SECONDS", 0)
    begun = 0
    third = asyncio.Event()

    async def gather() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise RuntimeError("a bug")
        third.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(knowledge._for_ever(gather))
    async with asyncio.timeout(10):
        await third.wait()
    assert caplog.text.count("gathering failed") == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
