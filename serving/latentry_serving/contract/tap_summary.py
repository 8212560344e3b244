"""The document behind the tap's `/summary`: a few kilobytes that the operator reads of every pod, again and again.

It says what conditions and gates are decided from; `/slis`, `/drift`, `/health-of-model`, `/bundle` and `/probes` say
the rest. Times are Unix seconds. Fields may be added: readers ignore what they do not know.
"""

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from latentry_serving.contract.drift_report import HealthState, Watching
from latentry_serving.contract.metrics import BundleState, Outcome, ProbeOutcome
from latentry_serving.contract.operations import Operation

MOST_ENTRIES = 16
"""Of each list: the document stays small whatever goes wrong at once."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class BundleSummary(_Document):
    """The bundle that is there, against the one that was promised."""

    state: BundleState
    bytes: int
    """Size of all listed files."""
    problems: list[str] = Field(max_length=MOST_ENTRIES)
    """Why it is refused."""


class ProbeFailure(_Document):
    """A golden probe that did not pass."""

    operation: Operation
    outcome: ProbeOutcome
    detail: str
    """Why, as a sentence with its numbers."""


class ProbesSummary(_Document):
    """The latest golden probe of each operation."""

    waiting: int
    """Operations that were not probed yet."""
    passed: int
    """Operations whose latest probe passed."""
    failures: list[ProbeFailure] = Field(max_length=MOST_ENTRIES)
    """Those whose latest probe did not."""


class TrafficSummary(_Document):
    """All unary inference together, since the start; ``recent_*`` in the last minute."""

    outcomes: dict[Outcome, int]
    latency_bounds_seconds: list[float]
    """Upper bounds of the tap's histogram; one of them is at each latency objective."""
    latency_counts: list[int]
    """Requests that ended ok within each bound: cumulative, as long as the bounds."""
    recent_requests: int
    recent_faults: int
    """Those that failed by the server's fault."""
    recent_p99_seconds: float | None
    """Of requests that ended ok; None without one."""


class AlarmSummary(_Document):
    """A statistic of a tensor that alarms."""

    tensor: str
    statistic: str
    since_seconds: float
    """When the first window of the run that led here was opened."""
    raised_seconds: float
    looks_like: str
    event: str
    """What happened, in one line with its numbers, as of the window that raised the alarm."""


class DriftSummary(_Document):
    """What is known of drift."""

    state: Watching
    detail: str
    alarm: bool
    """Whether any statistic alarms, also one that ``alarms`` has no room for, or whose words are lost."""
    sufficient: bool
    """Whether every watched tensor has a statistic that is judged."""
    alarms: list[AlarmSummary] = Field(max_length=MOST_ENTRIES)
    """The first raised first."""


class HealthProblem(_Document):
    """A measure of the model's health that alarms."""

    part: str
    measure: str
    since_seconds: float
    value: float | None
    expected: float | None
    unit: str


class HealthSummary(_Document):
    """What is known of the model's health."""

    state: Watching
    detail: str
    verdict: HealthState
    problems: list[HealthProblem] = Field(max_length=MOST_ENTRIES)
    """The oldest first."""


class TapSummary(_Document):
    """One pod."""

    model: str
    version: str
    digest: str | None
    uptime_seconds: float
    bundle: BundleSummary | None
    """None where the tap was given none."""
    probes: ProbesSummary | None
    traffic: TrafficSummary
    drift: DriftSummary
    health: HealthSummary
