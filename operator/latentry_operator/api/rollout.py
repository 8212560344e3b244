"""How a new version takes over: strategy, steps and gates."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from latentry_operator.api.base import ATOMIC, DNS_1123_LABEL, ApiModel, Time, merge_by, rules
from latentry_serving.contract.comparison import MOST_ERROR_RATIO, MOST_NORM_RATIO
from latentry_serving.contract.units import Duration

MINUTE = 60 * 1_000_000_000


class Strategy(StrEnum):
    """How traffic moves."""

    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"


class FailureAction(StrEnum):
    """What a failed gate leads to."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"


class Step(ApiModel):
    """One stage of a canary."""

    weight: Annotated[int, Field(ge=1, le=100, examples=[5])]
    """Share of the requests that the candidate gets. Unit: percent."""
    hold_for: Annotated[Time, Field(alias="for", examples=["5m"])]
    """How long the candidate is watched at this share. Unit: time, such as 5m."""


class CompatibilityGate(ApiModel):
    """Compares the embeddings of candidate and stable on the same inputs."""

    enabled: bool = True
    """Whether the gate is checked."""
    min_paired_cosine: Annotated[float, Field(ge=-1, le=1)] = 0.98
    """Smallest mean cosine similarity of paired embeddings. No unit, -1 to 1."""
    min_neighbour_overlap: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Smallest mean share of nearest neighbours that both agree on. No unit, 0 to 1."""
    min_cross_recall: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Smallest share of inputs whose new embedding finds its own old embedding first in an index of the old ones. No
    unit, 0 to 1."""
    max_norm_ratio: Annotated[float, Field(gt=1, le=MOST_NORM_RATIO)] = 1.25
    """Largest ratio of the lengths of new and old embeddings, or of old and new, by the median of the pairs: the other
    figures are blind to lengths. No unit, above 1."""


class HealthGate(ApiModel):
    """Compares how well candidate and stable work, before the candidate gets traffic."""

    enabled: bool = True
    """Whether the gate is checked."""
    max_error_ratio: Annotated[float, Field(gt=1, le=MOST_ERROR_RATIO)] = 1.5
    """Largest mean reconstruction error on the same inputs, as a multiple of the stable revision's, where both have a
    decoder. No unit, above 1."""
    min_active_units: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of a VAE: smallest number of active units (latent dimensions whose posterior mean varies over the bundle's
    reference), as a share of the stable revision's. Fewer are allowed where they are as large a part of the latent
    dimension. No unit, 0 to 1."""


class PromqlCheck(ApiModel):
    """A check of your own: a Prometheus query and what its value may be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.min) || has(self.max)", "a check needs min or max, or both"),
            ("!has(self.min) || !has(self.max) || self.min <= self.max", "min must be at most max"),
        )
    )

    name: Annotated[str, Field(max_length=63, pattern=DNS_1123_LABEL, examples=["upstream-recall"])]
    """The check's name in status and events."""
    query: Annotated[str, Field(min_length=1, max_length=4096, examples=['recall{revision="$revision"}'])]
    """PromQL that gives one number. $namespace, $model, $revision and $stable stand for the names of the rollout."""
    min: float | None = None
    """Smallest good value. Unit: of the query. Left out: no lower bound."""
    max: float | None = None
    """Largest good value. Unit: of the query. Left out: no upper bound."""
    every: Time = Duration(MINUTE // 2)
    """How often it is asked; an answer older than twice this counts as none. Unit: time, 1s to 1h."""


class Gates(ApiModel):
    """Checks that a candidate must pass."""

    contract: bool = True
    """Calls that clients make of the stable revision stay valid and keep their meaning."""
    golden: bool = True
    """The golden outputs are reproduced within their tolerance."""
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 2
    """Most restarts of the candidate's containers while it is on trial. Unit: restarts."""
    compatibility: CompatibilityGate = CompatibilityGate()
    """The embedding space is that of the stable revision."""
    health: HealthGate = HealthGate()
    """The candidate works as well as the stable revision on the same inputs, whatever its embedding space is."""
    slo: bool = True
    """The candidate's errors and latency keep the objectives."""
    drift: bool = True
    """The candidate shows no drift and no collapse."""
    promql: Annotated[tuple[PromqlCheck, ...], Field(max_length=16, json_schema_extra=merge_by("name"))] = ()
    """Checks of your own. No data is never a pass."""


class Analysis(ApiModel):
    """How much evidence the gates ask for, and how much worse than today a candidate may be."""

    min_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Fewest requests to the candidate at each step before the slo gate may pass; 0 lets it pass without traffic. Unit:
    requests."""
    tolerance: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How many percentage points worse than the objective and than the stable revision the candidate's share of bad
    requests may be. A smaller tolerance needs more traffic. Unit: percentage points."""
    max_latency_ratio: Annotated[float, Field(ge=1, le=1000)] = 2.0
    """Largest p99 latency, as a multiple of the stable revision's. No unit."""
    longest_wait: Time = Duration(60 * MINUTE)
    """How long a step may wait for evidence beyond its own time; then the rollout is held until you decide. Unit: time,
    1s to 90d."""


class Shadow(ApiModel):
    """Copies of requests go to the candidate before it answers any."""

    hold_for: Annotated[Time, Field(alias="for", examples=["5m"])]
    """How long the candidate gets copies. Unit: time, such as 5m."""


class Rollout(ApiModel):
    """How a changed model replaces the one that runs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.steps) || size(self.steps) == 0 || self.strategy == 'Canary'",
                "steps are for strategy Canary; remove them or choose Canary",
            ),
            (
                "!has(self.steps) || self.steps.map(s, s.weight).isSorted()"
                " && self.steps.all(a, self.steps.exists_one(b, b.weight == a.weight))",
                "steps need ascending weights, such as 5, 25, 50",
            ),
        )
    )

    strategy: Strategy = Strategy.BLUE_GREEN
    """Canary moves traffic step by step and needs the Gateway API; BlueGreen switches at once and works everywhere."""
    steps: Annotated[tuple[Step, ...], Field(max_length=16, json_schema_extra=ATOMIC)] = ()
    """The stages of a Canary, weights ascending. An empty list means 5 % for 5m, 25 % for 10m, 50 % for 10m."""
    shadow: Shadow | None = None
    """Copies of requests for the candidate before the first step, where the gateway can mirror. Left out: none."""
    watch_for: Annotated[Time, Field(examples=["5m"])] = Duration(5 * MINUTE)
    """How long the candidate is watched with all the traffic, the old revision beside it at full size, before it is
    promoted; 0s promotes it with the switch. Unit: time."""
    gates: Gates = Gates()
    """Checks that a candidate must pass."""
    analysis: Analysis = Analysis()
    """How much evidence the gates ask for."""
    on_failure: FailureAction = FailureAction.ROLLBACK
    """What a failed gate leads to: Rollback removes the candidate, Hold keeps it for inspection at its share."""
    deadline: Time = Duration(30 * MINUTE)
    """Longest time a candidate may take to become ready, image and bundle download included. Unit: time."""
    keep_for: Time = Duration(60 * MINUTE)
    """How long the replaced revision stays for an instant undo; 0s removes it at once. Unit: time."""
