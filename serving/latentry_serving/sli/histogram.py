"""A histogram of durations with one relative precision over nine decades, in bounded memory. Pure.

Source: the log-linear bucketing of HdrHistogram: every power of two is cut into equally wide buckets. Only buckets that
hold something are kept, so that adding many histograms up is quick.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from math import ldexp

_BUCKETS_PER_OCTAVE = 64
_PER_COARSE = 8
"""Buckets that are shown as one."""
_OCTAVES = 32
_LAST_BUCKET = _BUCKETS_PER_OCTAVE * _OCTAVES - 1
_MICROSECONDS = 1e6

# An IEEE 754 double is its own log-linear bucket: below the sign, the exponent and the first six bits of the fraction.
_IGNORED_BITS = 46
_SIGN = 1 << 63 - _IGNORED_BITS
_BUCKET_OF_ONE = 1_023 * _BUCKETS_PER_OCTAVE


def _lower_bound(index: int) -> float:
    """Smallest duration of a bucket, in seconds."""
    octave, part = divmod(index, _BUCKETS_PER_OCTAVE)
    return ldexp(1 + part / _BUCKETS_PER_OCTAVE, octave) / _MICROSECONDS


class LogHistogram:
    """Counts of durations from 1 us to 71 minutes, at most 2,048; a quantile is within 0.8 % of the true one."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def record(self, seconds: Iterable[float]) -> None:
        """Adds durations; below 1 us counts as 1 us, above 2^32 us as that."""
        microseconds = array("d", [duration * _MICROSECONDS for duration in seconds])
        bits = memoryview(microseconds).cast("B").cast("Q")
        for bucket, count in Counter([number >> _IGNORED_BITS for number in bits]).items():
            index = bucket - _BUCKET_OF_ONE if bucket < _SIGN else 0
            self._counts[min(max(index, 0), _LAST_BUCKET)] += count

    def absorb(self, other: "LogHistogram") -> None:
        """Adds everything another histogram has recorded."""
        for index, count in list(other._counts.items()):
            self._counts[index] += count

    @property
    def count(self) -> int:
        return sum(self._counts.values())

    def coarse(self) -> dict[int, int]:
        """Counts by eighth of an octave, from which `coarse_edge` starts; only those that hold something."""
        counts: Counter[int] = Counter()
        for index, count in list(self._counts.items()):
            counts[index // _PER_COARSE] += count
        return dict(counts)

    def quantiles(self, shares: Iterable[float]) -> list[float | None]:
        """For each share in [0, 1] the duration in seconds that this part of all is no longer than.

        None where nothing was recorded. Durations inside a bucket are taken as equally spread.
        """
        ordered = sorted(self._counts.items())
        total = sum(count for _, count in ordered)
        return [_at_rank(ordered, share * total) if total else None for share in shares]


def coarse_edge(index: int) -> float:
    """Smallest duration of a coarse bucket, in seconds."""
    return _lower_bound(index * _PER_COARSE)


def _at_rank(ordered: list[tuple[int, int]], rank: float) -> float:
    below = 0
    for index, count in ordered:
        if below + count >= rank:
            low, high = _lower_bound(index), _lower_bound(index + 1)
            return low + (high - low) * (rank - below) / count
        below += count
    return _lower_bound(ordered[-1][0] + 1)  # rounding of rank
