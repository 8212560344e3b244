"""A histogram of durations with one relative precision over nine decades, in bounded memory. Pure.

Source: the log-linear bucketing of HdrHistogram: every power of two is cut into equally wide buckets.
"""

from array import array
from collections.abc import Iterable
from math import frexp, ldexp

_BUCKETS_PER_OCTAVE = 64
_OCTAVES = 32
_MICROSECONDS = 1e6


def _bucket(seconds: float) -> int:
    """Index of the bucket that holds a duration; below 1 us is the first, above 2^32 us the last."""
    mantissa, exponent = frexp(seconds * _MICROSECONDS)  # microseconds = mantissa * 2^exponent, mantissa in [0.5, 1)
    index = (exponent - 1) * _BUCKETS_PER_OCTAVE + int((mantissa - 0.5) * 2 * _BUCKETS_PER_OCTAVE)
    return min(max(index, 0), _BUCKETS_PER_OCTAVE * _OCTAVES - 1)


def _lower_bound(index: int) -> float:
    """Smallest duration of a bucket, in seconds."""
    octave, part = divmod(index, _BUCKETS_PER_OCTAVE)
    return ldexp(1 + part / _BUCKETS_PER_OCTAVE, octave) / _MICROSECONDS


class LogHistogram:
    """Counts of durations from 1 us to 71 minutes; a quantile is within 0.8 % of the true one. 16 KiB."""

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS_PER_OCTAVE * _OCTAVES))
        self.count = 0

    def record(self, seconds: float) -> None:
        """Adds one duration."""
        self._counts[_bucket(seconds)] += 1
        self.count += 1

    @classmethod
    def merged(cls, parts: Iterable["LogHistogram"]) -> "LogHistogram":
        """The histogram of everything recorded in any of the parts."""
        result = cls()
        counts = [part._counts for part in parts if part.count]
        if counts:
            result._counts = array("Q", map(sum, zip(*counts, strict=True)))
            result.count = sum(result._counts)
        return result

    def quantile(self, q: float) -> float | None:
        """The duration in seconds that a share ``q`` of all is no longer than, or None when nothing was recorded.

        Args:
            q: in [0, 1]; positions inside a bucket are taken as equally spread.
        """
        if not self.count:
            return None
        rank = q * self.count
        below = 0
        for index, count in enumerate(self._counts):
            if count and below + count >= rank:
                low, high = _lower_bound(index), _lower_bound(index + 1)
                return low + (high - low) * max(rank - below, 0) / count
            below += count
        raise AssertionError("the counts add up to less than their sum")
