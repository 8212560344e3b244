"""Counts of finished calls: since the start, and over the last minute. Pure; the clock is an argument."""

from collections.abc import Iterable

from latentry_serving.contract.metrics import SERVER_FAULTS, Outcome
from latentry_serving.sli.calls import Call
from latentry_serving.sli.histogram import LogHistogram

SLOT_SECONDS = 10.0
WINDOW_SLOTS = 6


class Tally:
    """What a set of finished calls adds up to. Latencies are those of calls that ended ok."""

    __slots__ = ("first_response", "latency", "outcomes", "request_bytes", "response_bytes")

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.request_bytes = 0
        self.response_bytes = 0
        self.latency = LogHistogram()
        self.first_response = LogHistogram()

    def add(self, call: Call, outcome: Outcome) -> None:
        """Counts one finished call."""
        self.outcomes[outcome] += 1
        self.request_bytes += call.request_bytes
        self.response_bytes += call.response_bytes
        if outcome is Outcome.OK and call.last_response_s is not None and call.first_response_s is not None:
            self.latency.record(call.last_response_s - call.started_s)
            self.first_response.record(call.first_response_s - call.started_s)

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

    def add(self, call: Call, outcome: Outcome, now_s: float) -> None:
        """Counts one call that finished at ``now_s``, a monotonic time."""
        slot = int(now_s / SLOT_SECONDS)
        if slot > self._current_slot:
            self._begin(slot)
        self._current.add(call, outcome)

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
