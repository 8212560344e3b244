"""Sampled calls are held back until the traffic pauses. Covered: a pause, traffic without one, a full house, the order,
what is dropped."""

import asyncio
from dataclasses import dataclass, field

import pytest

from latentry_serving.tap.hold_back import CALLS, SECONDS, HoldBack


@dataclass
class Timer:
    seconds: float
    run: object
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class World:
    """What passes, and the timers that were asked for."""

    in_flight: int = 1
    given: list[list[object]] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)

    def later(self, seconds, run) -> Timer:
        self.timers.append(Timer(seconds, run))
        return self.timers[-1]

    def due(self) -> None:
        """The time of every timer that still counts is up."""
        for timer in [timer for timer in self.timers if not timer.cancelled]:
            timer.run()

    def hold_back(self) -> HoldBack:
        return HoldBack(self.given.append, in_flight=lambda: self.in_flight, later=self.later)


@pytest.fixture
def world() -> World:
    return World()


def test_a_call_that_ends_alone_goes_on_at_once(world):
    world.in_flight = 0
    world.hold_back().add("a")
    assert world.given == [["a"]]
    assert world.timers == []


def test_calls_wait_for_the_last_of_a_burst(world):
    held = world.hold_back()
    held.add("a")
    held.add("b")
    assert world.given == []
    world.in_flight = 0
    held.add("c")
    assert world.given == [["a", "b", "c"]]
    world.due()
    assert world.given == [["a", "b", "c"]]


def test_in_traffic_without_a_pause_they_wait_for_one_timer(world):
    held = world.hold_back()
    held.add("a")
    held.add("b")
    assert [timer.seconds for timer in world.timers] == [SECONDS]
    world.due()
    assert world.given == [["a", "b"]]
    held.add("c")
    assert world.given == [["a", "b"]]
    world.due()
    assert world.given == [["a", "b"], ["c"]]


def test_no_more_than_so_many_are_held(world):
    held = world.hold_back()
    for number in range(2 * CALLS + 1):
        held.add(number)
    assert [len(calls) for calls in world.given] == [CALLS, CALLS]
    held.flush()
    assert [number for calls in world.given for number in calls] == list(range(2 * CALLS + 1))
    assert all(timer.cancelled for timer in world.timers)


def test_what_is_dropped_is_never_given_on(world):
    held = world.hold_back()
    held.add("a")
    held.drop()
    world.due()
    held.flush()
    assert world.given == []


async def test_the_event_loops_timers_fit():
    given = asyncio.get_running_loop().create_future()
    held = HoldBack(given.set_result, in_flight=lambda: 1, later=asyncio.get_running_loop().call_later)
    held.add("a")
    assert await given == ["a"]
