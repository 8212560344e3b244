"""The documents behind the tap's `/drift` and `/health-of-model`: what the operator's gates, `latentry up` and people
read. Times are Unix seconds; whatever is None has not happened yet."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Watching(StrEnum):
    """Whether the traffic is held against the bundle's profile, and why not."""

    SAMPLING_OFF = "sampling_off"
    NO_BUNDLE = "no_bundle"
    NO_PROFILE = "no_profile"
    STARTING = "starting"
    BROKEN = "broken"
    """The profile cannot be read, or the settings do not fit it; ``detail`` says why."""
    WATCHING = "watching"


class DriftState(StrEnum):
    """Of one statistic of one tensor. Never ``ok`` without a judged window behind it."""

    INSUFFICIENT_DATA = "insufficient_data"
    OK = "ok"
    ALARM = "alarm"


class ContributingDimension(_Document):
    """One dimension's part in an alarm."""

    dimension: int
    share: float
    """Of all dimensions' contributions, 0 to 1."""
    mean_shift: float
    """In reference standard deviations."""
    spread: float
    """Standard deviation over the reference's."""


class DriftAlarm(_Document):
    """Why a statistic of a tensor alarms, as of the window that raised it."""

    tensor: str
    statistic: str
    rule: str
    """``shewhart``: ``value`` is a p-value at most the threshold. ``cusum``: a sum above it."""
    since_seconds: float
    """When the first window of the run that led here was opened."""
    raised_seconds: float
    value: float
    threshold: float
    window_size: int
    looks_like: str
    magnitude: float | None
    nearest: str | None
    """What it looks like second best."""
    dimensions: list[ContributingDimension]
    """At most ``drift.topContributors``, the largest first."""
    text: str
    """The same for a person, a few lines."""
    event: str
    """The same in one line."""


class StatisticDrift(_Document):
    """One statistic of one tensor. Score, p-value and size are of the latest judged window."""

    statistic: str
    state: DriftState
    score: float | None
    p_value: float | None
    window_size: int | None
    evidence: float
    """The CUSUM's sum."""
    alpha: float
    """The Shewhart rule alarms at a p-value at most this."""
    cusum_k: float
    cusum_h: float
    """The CUSUM alarms above this."""
    windows: int
    """Judged since the start."""
    alarm: DriftAlarm | None


class TensorDrift(_Document):
    """One watched tensor."""

    tensor: str
    held: int
    """Vectors in the open window."""
    windows: int
    """Judged in at least one statistic, since the start."""
    insufficient_windows: int
    """Closed without any judgement."""
    seconds_since_full_window: float
    """From the start before the first."""
    window_seconds: float
    """How long a window takes, as the thresholds assume."""
    statistics: list[StatisticDrift]


class DriftReport(_Document):
    """Everything that is known of drift."""

    state: Watching
    detail: str
    """Why nothing is watched, or what the user should know; a sentence."""
    alarm: bool
    """Whether any statistic alarms."""
    sufficient: bool
    """Whether every watched tensor has a statistic that is judged."""
    window: int | None
    """Vectors per window."""
    expected_run_time_seconds: float
    """Mean time between false alarms of the whole model, over all replicas, drift and health together."""
    replicas: int
    tensors: list[TensorDrift]


class HealthState(StrEnum):
    """Of one part of the model, or of the whole."""

    INSUFFICIENT_DATA = "insufficient_data"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


PER_DIMENSION_DETAIL = "perDimension"
"""Of the details of a VAE's total KL: nats of every latent dimension."""


class HealthMeasure(_Document):
    """One measure of the latest window."""

    measure: str
    value: float | None
    expected: float | None
    """In a window of the same size of the reference."""
    unit: str
    p_value: float | None
    """None: information, never an alarm."""
    reason: str
    details: dict[str, Any]
    alarm_since_seconds: float | None
    """Closing time of the window that raised the alarm that is on."""


class HealthPart(_Document):
    """One part: ``encoder``, ``reconstruction`` or ``posterior``. From ``samples`` on: of the latest window."""

    part: str
    state: HealthState
    window: int
    held: int
    windows: int
    insufficient_windows: int
    seconds_since_full_window: float
    alpha: float
    """Probability that a window of undrifted traffic is called unhealthy."""
    samples: int
    non_finite: int
    notes: list[str]
    measures: list[HealthMeasure]


class Scores(_Document):
    """Reconstruction errors seen since the start."""

    traffic: int
    """From score calls of users."""
    probes: int
    """From the tap's own score calls on sampled inputs."""
    within_threshold: int
    anomalous: int
    threshold: float
    """The largest good error, of the quality objective."""
    anomaly_threshold: float


class ScoreProbes(_Document):
    """The tap's own score calls."""

    wanted: bool
    """Whether the bundle has a score operation and the budget is not zero."""
    answered: int
    failed: int
    last_failure: str


class ModelHealth(_Document):
    """Everything that is known of the model's health."""

    state: Watching
    detail: str
    family: str
    verdict: HealthState
    """Unhealthy when a part is; healthy when every part is."""
    parts: list[HealthPart]
    scores: Scores | None
    """None where the bundle has no baseline of reconstruction errors."""
    score_probes: ScoreProbes


class MonitoringReport(_Document):
    """What the analysis process knows, as it tells the tap."""

    reported_seconds: float
    drift: DriftReport
    health: ModelHealth
