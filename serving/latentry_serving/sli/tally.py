"""Counts of finished calls: since the start, and over the last minute. Pure; the clock is an argument."""

from collections import deque
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

    @classmethod
    def merged(cls, parts: Iterable["Tally"]) -> "Tally":
        """The tally of everything counted in any of the parts."""
        result, parts = cls(), list(parts)
        for part in parts:
            result.request_bytes += part.request_bytes
            result.response_bytes += part.response_bytes
            for outcome, count in part.outcomes.items():
                result.outcomes[outcome] += count
        result.latency = LogHistogram.merged(part.latency for part in parts)
        result.first_response = LogHistogram.merged(part.first_response for part in parts)
        return result

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    @property
    def error_ratio(self) -> float | None:
        """Share of requests that failed by the server's fault, in [0, 1]; None without requests."""
        return sum(self.outcomes[o] for o in SERVER_FAULTS) / self.requests if self.requests else None


class RecentTally:
    """The tally of the last minute, in slots of ten seconds: at most ``WINDOW_SLOTS`` are held."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: deque[tuple[int, Tally]] = deque(maxlen=WINDOW_SLOTS)

    def add(self, call: Call, outcome: Outcome, now_s: float) -> None:
        """Counts one call that finished at ``now_s``, a monotonic time that never goes back."""
        slot = int(now_s / SLOT_SECONDS)
        if not self._slots or self._slots[-1][0] < slot:
            self._slots.append((slot, Tally()))
        self._slots[-1][1].add(call, outcome)

    def parts(self, now_s: float) -> list[Tally]:
        """The tallies of the slots that are still within the window."""
        oldest = int(now_s / SLOT_SECONDS) - WINDOW_SLOTS + 1
        return [tally for slot, tally in self._slots if slot >= oldest]


def window_seconds(now_s: float, started_s: float) -> float:
    """How much time the recent tally covers: up to a minute, less right after the start."""
    oldest = (int(now_s / SLOT_SECONDS) - WINDOW_SLOTS + 1) * SLOT_SECONDS
    return now_s - max(oldest, started_s)
