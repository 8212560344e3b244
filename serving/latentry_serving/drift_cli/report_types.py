"""What a drift report shows, as typed values: numbers and texts, no marks of any page.

Everything is bounded, whatever the inputs: see the limits below. ``Report.limits`` says what was left out.
"""

from dataclasses import dataclass
from enum import StrEnum

from latentry_serving.drift.types import Statistic

MOST_TENSORS = 8
MOST_COLUMNS = 100
"""Of a timeline; more windows are put together."""
MOST_POINTS = 500
MOST_ALARMS = 40
MOST_DIMENSIONS = 6
"""Plotted of a tensor that drifts."""
FEW_DIMENSIONS = 3
"""Plotted of one that does not."""
MOST_LATENTS = 40
MOST_NOTES = 24
LONGEST_TEXT = 300


class State(StrEnum):
    """Of the inputs as a whole, or of a tensor or part of the model in some windows."""

    OK = "ok"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict: a few words, and sentences that say where, since when, what it looks like."""

    state: State
    words: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Where a dimension's values lie, in raw units: quantiles .001 and .999, and the mean of what is between them."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class DimensionView:
    """One dimension, reference against live.

    Attributes:
        edges: inner edges of the bins in use [B - 1], raw units. reference, live: shares of the vectors per bin [B].
        reference_spread, live_spread: None without finite values.
        outside: share of the live values beyond the reference's spread. share: of all dimensions' difference, 0 to 1.
    """

    dimension: int
    share: float
    edges: tuple[float, ...]
    reference: tuple[float, ...]
    live: tuple[float, ...]
    reference_spread: Spread
    live_spread: Spread | None
    outside: float


@dataclass(frozen=True, slots=True)
class Column:
    """Windows put together: the inputs from ``first`` to ``last`` inclusive, and the windows' numbers."""

    first: int
    last: int
    first_window: int
    last_window: int


@dataclass(frozen=True, slots=True)
class StatisticLine:
    """One statistic over the columns.

    Attributes:
        p: smallest p-value, None where not judged. evidence: largest share of the CUSUM's limit, 0 to 1.
        alpha: p-value that alarms at once. alarmed: whether it ever raised an alarm.
    """

    statistic: Statistic
    p: tuple[float | None, ...]
    evidence: tuple[float, ...]
    alpha: float
    alarmed: bool


@dataclass(frozen=True, slots=True)
class AlarmView:
    """One alarm, numbered over the whole report. ``column``: of the timelines."""

    number: int
    tensor: str
    statistic: Statistic
    rule: str
    window: int
    column: int
    since_row: int
    outside: str
    looks_like: str


@dataclass(frozen=True, slots=True)
class TensorView:
    """One watched tensor.

    Attributes:
        explanation: of its clearest alarm, a few lines; empty without one.
        since_row: first input that is plotted: of the drift, 0 without.
        blamed: whether ``shown`` are the dimensions that the alarm comes from, not just those that differ most.
        lane: a state for each column.
    """

    name: str
    dimensions: int
    state: State
    explanation: tuple[str, ...]
    since_row: int
    blamed: bool
    shown: tuple[DimensionView, ...]
    lines: tuple[StatisticLine, ...]
    lane: tuple[State, ...]
    alarms: tuple[AlarmView, ...]


@dataclass(frozen=True, slots=True)
class PartView:
    """One part of the model's health.

    Attributes:
        reasons: of the worst window. notes: what is wrong with the baseline itself.
        lane: a state for each of ``columns``, which are of its own windows.
    """

    name: str
    state: State
    unhealthy_windows: int
    windows: int
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    lane: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """Vectors along two principal directions of the profile, in standard units.

    Attributes:
        centre, deviation: [2] mean and standard deviation of the reference.
        before, after: points (x, y) of inputs before and since the drift began; all are ``before`` without one.
        of: inputs the points were taken from, evenly.
    """

    tensor: str
    directions: tuple[int, int]
    centre: tuple[float, float]
    deviation: tuple[float, float]
    before: tuple[tuple[float, float], ...]
    after: tuple[tuple[float, float], ...]
    of: int


@dataclass(frozen=True, slots=True)
class KlView:
    """KL per latent dimension, mean nats per sample, the largest ones in the order of the dimensions.

    ``since_row``: first input of the live ones.
    """

    dimensions: tuple[int, ...]
    reference: tuple[float, ...]
    live: tuple[float, ...]
    reference_total: float
    live_total: float
    reference_active: int
    live_active: int
    latents: int
    since_row: int


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Reconstruction errors: shares per bin [B] between edges [B + 1]; the outer bins hold what lies beyond them.

    ``logarithmic``: whether the edges are. ``tail``: validation's 95th percentile. ``threshold``: of an anomaly.
    ``since_row``: first input of the live ones.
    """

    edges: tuple[float, ...]
    logarithmic: bool
    reference: tuple[float, ...]
    live: tuple[float, ...]
    tail: float
    live_tail: float
    threshold: float
    expected_anomalies: float
    anomalies: float
    non_finite: int
    since_row: int


@dataclass(frozen=True, slots=True)
class Report:
    """The whole. ``facts``: what was judged, and how; ``limits``: what was left out or put together, and what stays
    unknown."""

    title: str
    headline: Headline
    rows: int
    window: int
    windows: int
    columns: tuple[Column, ...]
    tensors: tuple[TensorView, ...]
    parts: tuple[PartView, ...]
    projections: tuple[Projection, ...]
    kl: KlView | None
    errors: ErrorView | None
    facts: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]
