"""Sampled calls are held back until there are some and the traffic pauses. Covered: a pause, traffic without one, few
calls, a full house, the order, what is dropped."""

import asyncio
from dataclasses import dataclass, field

import pytest

from latentry_serving.contract.tap_config import SampleQueue
from latentry_serving.tap.hold_back import ENOUGH, ENOUGH_BYTES, SECONDS, HoldBack


@dataclass
class Timer:
    seconds: float
    run: object
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Call(str):
    """A captured call, as far as it is looked at here."""

    __slots__ = ("bytes",)

    def __new__(cls, name: object, size: int = 6_000) -> "Call":
        call = super().__new__(cls, name)
        call.bytes = size
        return call


def several(count: int) -> list[Call]:
    return [Call(number) for number in range(count)]


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

    def hold_back(self, **queue: int) -> HoldBack:
        return HoldBack(
            self.given.append, queue=SampleQueue(**queue), in_flight=lambda: self.in_flight, later=self.later
        )


@pytest.fixture
def world() -> World:
    return World()


def test_enough_calls_go_on_in_a_pause(world):
    world.in_flight = 0
    held = world.hold_back()
    *first, last = several(ENOUGH)
    for call in first:
        held.add(call)
    assert world.given == []
    held.add(last)
    assert world.given == [[*first, last]]
    world.due()
    assert len(world.given) == 1


def test_enough_calls_wait_for_the_last_of_a_burst(world):
    held = world.hold_back()
    *burst, last = several(ENOUGH + 2)
    for call in burst:
        held.add(call)
    assert world.given == []
    world.in_flight = 0
    held.add(last)
    assert world.given == [[*burst, last]]


def test_few_calls_wait_for_others_but_not_for_long(world):
    world.in_flight = 0
    held = world.hold_back()
    held.add(Call("a"))
    assert world.given == []
    assert [timer.seconds for timer in world.timers] == [SECONDS]
    world.due()
    assert world.given == [["a"]]


@pytest.mark.parametrize(
    ("queue", "size"), [({}, ENOUGH_BYTES // 2), ({"bytes": 96_000}, 6_000), ({"calls": 16}, 6_000)]
)
def test_fewer_are_enough_where_they_are_large_or_the_queue_is_short(world, queue, size):
    world.in_flight = 0
    held = world.hold_back(**queue)
    held.add(Call("a", size))
    assert world.given == []
    held.add(Call("b", size))
    assert world.given == [["a", "b"]]
    held.add(Call("c", size))
    assert world.given == [["a", "b"]]


def test_in_traffic_without_a_pause_they_wait_for_one_timer(world):
    held = world.hold_back()
    held.add(Call("a"))
    held.add(Call("b"))
    assert [timer.seconds for timer in world.timers] == [SECONDS]
    world.due()
    assert world.given == [["a", "b"]]
    held.add(Call("c"))
    assert world.given == [["a", "b"]]
    world.due()
    assert world.given == [["a", "b"], ["c"]]


def test_no_more_than_so_many_are_held(world):
    held = world.hold_back()
    calls = several(4 * ENOUGH + 1)
    for call in calls:
        held.add(call)
    assert [len(given) for given in world.given] == [2 * ENOUGH, 2 * ENOUGH]
    held.flush()
    assert [call for given in world.given for call in given] == calls
    assert all(timer.cancelled for timer in world.timers)


def test_what_is_dropped_is_never_given_on(world):
    held = world.hold_back()
    held.add(Call("a"))
    held.drop()
    world.due()
    held.flush()
    assert world.given == []


async def test_the_event_loops_timers_fit():
    given = asyncio.get_running_loop().create_future()
    later = asyncio.get_running_loop().call_later
    held = HoldBack(given.set_result, queue=SampleQueue(), in_flight=lambda: 1, later=later)
    held.add(Call("a"))
    assert await given == ["a"]
