"""How a new version takes over: strategy, steps and gates."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from latentry_operator.api.base import ATOMIC, ApiModel, Time, rules
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


class Gates(ApiModel):
    """Checks that a candidate must pass."""

    golden: bool = True
    """The golden outputs are reproduced within their tolerance."""
    compatibility: CompatibilityGate = CompatibilityGate()
    """The embedding space is that of the stable revision."""
    slo: bool = True
    """The candidate's errors and latency keep the objectives."""
    drift: bool = True
    """The candidate shows no drift and no collapse."""


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
    gates: Gates = Gates()
    """Checks that a candidate must pass."""
    on_failure: FailureAction = FailureAction.ROLLBACK
    """What a failed gate leads to: Rollback removes the candidate, Hold keeps it for inspection at its share."""
    deadline: Time = Duration(30 * MINUTE)
    """Longest time a candidate may take to become ready, image and bundle download included. Unit: time."""
    keep_for: Time = Duration(60 * MINUTE)
    """How long the replaced revision stays for an instant undo; 0s removes it at once. Unit: time."""
