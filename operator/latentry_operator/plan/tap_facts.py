"""What is known of each serving pod from its tap: plain facts for conditions, and for the gates of rollouts."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentry_serving.contract.tap_summary import TapSummary


@dataclass(frozen=True, slots=True)
class TapFacts:
    """One pod's tap.

    Attributes:
        pod: the pod's name.
        revision: the revision it belongs to.
        ready: whether Kubernetes sends it calls.
        summary: what it said last, None before its first answer.
        silence: why it does not answer (any more), in one line; empty while it does, and before it was asked.
    """

    pod: str
    revision: str
    ready: bool
    summary: TapSummary | None = None
    silence: str = ""

    @property
    def answers(self) -> bool:
        """Whether ``summary`` may be believed."""
        return self.summary is not None and not self.silence


@dataclass(frozen=True, slots=True)
class LastMinute:
    """The last minute that had requests, over all ready pods of a revision, rounded so that it changes rarely.

    Attributes:
        faults_within: at most this share of the requests failed by the server's fault, 0 to 1.
        p99_within: the slowest pod's 99th percentile is at most this, seconds; None where nothing ended ok.
    """

    faults_within: float
    p99_within: float | None


FEWEST_REQUESTS = 20
"""Below it a single failure would be 5 % of all requests: nothing is said of such a minute."""
_FAULT_BOUNDS = (0.01, 0.1, 1.0)
_SECONDS_BOUNDS = tuple(digit * 10.0**exponent for exponent in range(-4, 3) for digit in (1, 2, 5))  # 100us to 500s


def last_minute(before: LastMinute | None, taps: Sequence[TapFacts]) -> LastMinute | None:
    """What the taps measured lately; ``before`` while there were too few requests to say."""
    traffic = [tap.summary.traffic for tap in taps if tap.ready and tap.answers and tap.summary is not None]
    requests = sum(one.recent_requests for one in traffic)
    if requests < FEWEST_REQUESTS:
        return before
    slowest = max((one.recent_p99_seconds for one in traffic if one.recent_p99_seconds is not None), default=None)
    known = before.p99_within if before is not None else None
    return LastMinute(
        faults_within=coarse(
            before.faults_within if before is not None else None,
            sum(one.recent_faults for one in traffic) / requests,
            _FAULT_BOUNDS,
        ),
        p99_within=coarse(known, slowest, _SECONDS_BOUNDS) if slowest is not None else None,
    )


def coarse(before: float | None, value: float, bounds: Sequence[float]) -> float:
    """The bound that ``value`` is within, the last one where it is within none.

    It rises at once, and falls only when ``value`` is below half of what it would fall to: a value that swings around a
    bound does not make it swing.

    Args:
        before: the bound it had.
        bounds: ascending, positive.
    """
    bound = next((one for one in bounds if value <= one), bounds[-1])
    if before is None or bound >= before:
        return bound
    lower = max(one for one in bounds if one < before)
    return before if value > lower / 2 else bound
