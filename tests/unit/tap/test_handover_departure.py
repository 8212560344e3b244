"""Who is let go when, with connections and a clock the test plays."""

import asyncio
from types import SimpleNamespace

import pytest

from latentry_serving.contract.metrics import Protocol
from latentry_serving.tap.departure import NOTICE_SECONDS, Departure


class Clock:
    """Moves on whenever it is read."""

    def __init__(self, step_s: float = 0.1) -> None:
        self.now_s = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


class Played:
    """A connection that does what it is told, and writes down when."""

    def __init__(self, clock: Clock, protocol: Protocol, *, idle: bool = True, unread: bool = False) -> None:
        self.clock, self.protocol, self.idle = clock, protocol, idle
        self.client = SimpleNamespace(unread=unread)
        self.told = self.parted = self.waiting = self.gone = False
        self.joined = True
        self.parted_s: float | None = None
        self.speaks = protocol is Protocol.GRPC
        self.heard = None

    def watch(self, told) -> None:
        self.heard = told

    def say_goodbye(self) -> bool:
        self.told = self.speaks
        return self.told

    def end_with_next_answer(self) -> None:
        """Its answers are the test's."""

    def part(self) -> None:
        self.parted, self.parted_s = True, self.clock.now_s

    @property
    def movable(self) -> bool:
        return self.waiting

    def wait(self) -> None:
        """Triton took no connection."""
        self.waiting = True
        if self.heard is not None:
            self.heard(self)

    def stop_waiting(self) -> None:
        self.waiting, self.gone = False, True

    def close(self) -> None:
        self.gone = True

    def release(self) -> None:
        """It waits on."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def chatter(connection: Played) -> None:
    while True:
        if connection.heard is not None:
            connection.heard(connection)
        await asyncio.sleep(0)


@pytest.mark.parametrize("protocol", Protocol)
async def test_one_that_talks_all_the_time_does_not_keep_the_silent_ones(protocol):
    clock = Clock(0.002)
    talking, silent = Played(clock, Protocol.HTTP, idle=False), Played(clock, protocol)
    talk = asyncio.create_task(chatter(talking))
    await Departure(lambda: {talking, silent}, clock).run(3 * NOTICE_SECONDS)
    talk.cancel()
    assert not talking.parted
    assert NOTICE_SECONDS <= silent.parted_s < 2 * NOTICE_SECONDS
    assert talking.heard is None


@pytest.mark.parametrize("protocol", Protocol)
async def test_what_waits_unread_of_one_that_was_not_told_is_read_first(protocol, clock):
    connection = Played(clock, protocol, unread=True)
    connection.speaks = False
    await Departure(lambda: {connection}, clock).run(2 * NOTICE_SECONDS)
    assert not connection.parted


async def test_one_whose_answer_was_its_last_is_let_go_at_once(clock):
    connection = Played(clock, Protocol.HTTP)
    connection.told = True
    await Departure(lambda: {connection}, clock).run(NOTICE_SECONDS)
    assert connection.parted_s < NOTICE_SECONDS


async def moved(connections) -> int:
    return len(connections)


@pytest.mark.parametrize("protocol", Protocol)
async def test_one_that_waits_is_moved_also_when_it_begins_to_meanwhile(protocol):
    clock = Clock(0.0)  # only what is heard counts: no look is due a second time
    first, second = (Played(clock, protocol) for _ in range(2))
    first.joined = second.joined = False
    first.waiting = True
    departure = Departure(lambda: {one for one in (first, second) if not one.gone}, clock, moved)
    leaving = asyncio.create_task(departure.run(NOTICE_SECONDS))
    while not first.gone:
        await asyncio.sleep(0)
    assert not second.gone
    second.wait()
    await leaving
    assert second.gone
    assert (departure.moved, departure.seen) == (2, 2)


async def test_one_that_waits_at_a_tap_that_stops_waits_no_longer(clock):
    connection = Played(clock, Protocol.GRPC)
    connection.joined, connection.waiting = False, True
    await Departure(lambda: set() if connection.gone else {connection}, clock).run(NOTICE_SECONDS)
    assert connection.gone
    assert not connection.parted
