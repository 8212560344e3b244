"""Counts of finished calls: since the start, and over the last minute. Pure; the clock is an argument."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from latentry_serving.contract.metrics import SERVER_FAULTS, Outcome
from latentry_serving.sli.calls import Call
from latentry_serving.sli.histogram import LogHistogram

SLOT_SECONDS = 10.0
WINDOW_SLOTS = 6


@dataclass(frozen=True, slots=True)
class Batch:
    """What calls that ended in one slot add up to. Durations are in seconds, of the calls that ended ok."""

    outcomes: Mapping[Outcome, int]
    request_bytes: int
    response_bytes: int
    latencies: Sequence[float]
    first_responses: Sequence[float]

    @classmethod
    def of(cls, calls: Sequence[Call]) -> "Batch":
        """Adds up finished calls; those without an outcome count for nothing."""
        ok = [call for call in calls if call.outcome is Outcome.OK]
        return cls(
            Counter([call.outcome for call in calls if call.outcome is not None]),
            sum([call.request_bytes for call in calls]),
            sum([call.response_bytes for call in calls]),
            [call.last_response_s - call.started_s for call in ok if call.last_response_s is not None],
            [call.first_response_s - call.started_s for call in ok if call.first_response_s is not None],
        )


def by_slot(calls: Sequence[Call]) -> Iterator[tuple[int, Sequence[Call]]]:
    """The calls, in the order in which they finished, with the slot they ended in."""
    first, last = _slot(calls[0]), _slot(calls[-1])
    if first == last:  # as nearly always
        yield first, calls
    else:
        for slot, together in groupby(calls, key=_slot):
            yield slot, list(together)


class Tally:
    """What a set of finished calls adds up to. Latencies are those of calls that ended ok."""

    __slots__ = ("first_response", "latency", "outcomes", "request_bytes", "response_bytes")

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.request_bytes = 0
        self.response_bytes = 0
        self.latency = LogHistogram()
        self.first_response = LogHistogram()

    def add(self, batch: Batch) -> None:
        """Counts finished calls."""
        for outcome, count in batch.outcomes.items():
            self.outcomes[outcome] += count
        self.request_bytes += batch.request_bytes
        self.response_bytes += batch.response_bytes
        self.latency.record(batch.latencies)
        self.first_response.record(batch.first_responses)

    def absorb(self, other: "Tally") -> None:
        """Adds everything another tally has counted."""
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] += count
        self.latency.absorb(other.latency)
        self.first_response.absorb(other.first_response)

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    @property
    def error_ratio(self) -> float | None:
        """Share of requests that failed by the server's fault, in [0, 1]; None without requests."""
        return sum(self.outcomes[o] for o in SERVER_FAULTS) / self.requests if self.requests else None


class History:
    """What was counted in the last minute, in slots of ten seconds, and what was before, added up.

    One thread writes. Another may read at any time: what it gets is whole, because a slot is retired by replacing all
    parts in one assignment.
    """

    __slots__ = ("_current", "_current_slot", "_parts")

    def __init__(self) -> None:
        self._current_slot = -1
        self._current = Tally()
        self._parts: tuple[Tally, tuple[tuple[int, Tally], ...]] = (Tally(), ())

    def add(self, slot: int, batch: Batch) -> None:
        """Counts calls that ended in a slot, or in one before it."""
        if slot > self._current_slot:
            self._begin(slot)
        self._current.add(batch)

    def recent(self, now_s: float) -> list[Tally]:
        """The parts of the last minute."""
        oldest = int(now_s / SLOT_SECONDS) - WINDOW_SLOTS + 1
        return [tally for slot, tally in self._parts[1] if slot >= oldest]

    def total(self) -> list[Tally]:
        """The parts of everything since the start."""
        before, slots = self._parts
        return [before, *(tally for _, tally in slots)]

    def _begin(self, slot: int) -> None:
        before, slots = self._parts
        if len(slots) == WINDOW_SLOTS:
            before, slots = added_up((before, slots[0][1])), slots[1:]
        self._current_slot, self._current = slot, Tally()
        self._parts = before, (*slots, (slot, self._current))


def _slot(call: Call) -> int:
    """The slot in which a call ended."""
    return int((call.last_response_s if call.last_response_s is not None else call.started_s) / SLOT_SECONDS)


def added_up(parts: Iterable[Tally]) -> Tally:
    """One tally of everything counted in any of the parts."""
    result = Tally()
    for part in parts:
        result.absorb(part)
    return result


def window_seconds(now_s: float, started_s: float) -> float:
    """How much time the recent tally covers: up to a minute, less right after the start."""
    oldest = (int(now_s / SLOT_SECONDS) - WINDOW_SLOTS + 1) * SLOT_SECONDS
    return now_s - max(oldest, started_s)
