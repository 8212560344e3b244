"""The document behind the tap's `/history`: what drift looked like, so that a timeline is there from the first look.

Held by the tap itself, so it outlives the process that judges; begun anew when the tap is started again.
"""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

POINTS = 512
"""Kept for each statistic of each tensor; the oldest give way."""
SPACING_SECONDS = 10.0
"""Windows judged within so long of a point's first share the point: 512 points reach back 85 minutes at least."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class StatisticHistory(_Document):
    """Points of one statistic, oldest first; every list has one entry for each. A point is one judged window, or the
    furthest figures of several that share it."""

    tensor: str
    statistic: str
    times_seconds: list[float]
    """Unix time at which the tap learnt of the point's latest window: up to a second after it closed."""
    windows: list[int]
    """Judged since the point before."""
    p_values: list[float | None]
    """The lowest of those the tap saw: at more than one window a second it sees the latest of each second."""
    evidence: list[float]
    """The highest sum of the CUSUM, of the same."""
    alphas: list[float]
    """Alarm at a p-value at most this."""
    cusum_h: list[float]
    """Alarm at evidence above this."""
    alarms: list[bool]
    """Whether an alarm was on."""


class DriftHistory(_Document):
    """Everything that is kept, or the points whose latest window is later than ``since``.

    The newest point may grow for ``spacing_seconds``: who asks again asks from so long before the newest it has, and
    lets go of what it has from there on.
    """

    now_seconds: float
    """Unix time of the answer."""
    since_seconds: float
    """Unix time from which the tap has kept points."""
    points: int = POINTS
    spacing_seconds: float = SPACING_SECONDS
    statistics: list[StatisticHistory]
    """Sorted by tensor and statistic."""
