"""What is waited for when something breaks is given up."""

import asyncio

import pytest

from latentry_operator.local.alarm import Alarm


async def answer() -> str:
    return "answer"


class Endless:
    """Waits for ever, and knows whether it was told to stop."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.stopped = False

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        return "never"


async def test_what_ends_by_itself_counts():
    alarm = Alarm()
    assert await alarm.unless_rung(answer(), "otherwise") == "answer"


async def test_what_is_under_way_when_it_rings_is_stopped():
    alarm, endless = Alarm(), Endless()
    waiting = asyncio.create_task(alarm.unless_rung(endless(), "otherwise"))
    await endless.begun.wait()
    alarm.ring()
    assert await waiting == "otherwise"
    assert endless.stopped


async def test_it_goes_on_ringing_until_it_is_reset():
    alarm = Alarm()
    alarm.ring()
    assert await alarm.unless_rung(Endless()(), "otherwise") == "otherwise"
    alarm.reset()
    assert await alarm.unless_rung(answer(), "otherwise") == "answer"


async def test_errors_pass():
    async def fail() -> str:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await Alarm().unless_rung(fail(), "otherwise")


async def test_who_waits_may_be_cancelled():
    endless = Endless()
    waiting = asyncio.create_task(Alarm().unless_rung(endless(), "otherwise"))
    await endless.begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert endless.stopped
