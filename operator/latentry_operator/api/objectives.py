"""How well the model must serve (slo) and what is watched (monitoring)."""

from typing import Annotated

from pydantic import Field

from latentry_operator.api.base import UNIT_LENGTH, ApiModel, Time, merge_by
from latentry_serving.contract.units import Duration

SECOND = 1_000_000_000
DAY = 86_400 * SECOND

Objective = Annotated[float, Field(gt=0, lt=100, examples=[99.9])]


class LatencyObjective(ApiModel):
    """A share of requests must be answered within a time."""

    within: Annotated[Time, Field(examples=["50ms"])]
    """Time from the first byte of the request to the last byte of the response. Unit: time, such as 50ms."""
    objective: Objective
    """Share of requests that must be as fast. Unit: percent, between 0 and 100."""


class QualityObjective(ApiModel):
    """A share of scored samples must be reconstructed well. Autoencoder and VAE only."""

    reconstruction_error_within: Annotated[
        str, Field(max_length=UNIT_LENGTH, pattern=r"^(p[0-9]{1,2}(\.[0-9]+)?|[0-9]+(\.[0-9]+)?)$", examples=["p99"])
    ] = "p99"
    """The largest good reconstruction error: a percentile of the bundle's validation data, such as p99, or a number in
    quotes. Unit: of the bundle's reconstruction error."""
    objective: Objective = 95.0
    """Share of scored samples that must be within it, below the percentile itself. Unit: percent."""
    anomaly_rate: Annotated[float, Field(gt=0, lt=100)] | None = None
    """Largest share of samples beyond the profile's anomaly threshold. Unit: percent. Left out: not an objective."""


class Slo(ApiModel):
    """Service level objectives. Each that is given gets recording rules, alerts and an error budget."""

    period: Time = Duration(30 * DAY)
    """The rolling window over which objectives are kept. Unit: time, 1h to 90d."""
    availability: Objective | None = None
    """Share of requests without a server error. Unit: percent. Left out: not an objective."""
    latency: Annotated[tuple[LatencyObjective, ...], Field(max_length=8, json_schema_extra=merge_by("within"))] = ()
    """Latency objectives, each with another threshold; the tap's histogram has a bucket boundary at each."""
    quality: QualityObjective | None = None
    """Reconstruction objective, for Autoencoder and VAE. Left out: not an objective."""


class Sampling(ApiModel):
    """How much of the traffic is looked into."""

    max_per_second: Annotated[float, Field(ge=0, le=100_000)] = 50.0
    """Most requests per replica whose tensors are decoded; 0 turns it off. Unit: requests per second."""
    live_inputs: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many of the latest sampled encode inputs each replica keeps in memory, with their embeddings, so that a new
    version is compared on real inputs beside the golden ones. Whoever reaches the tap's admin port can read them; 0
    keeps none. Unit: inputs."""


class Drift(ApiModel):
    """Drift detection against the bundle's profile."""

    window: Annotated[int, Field(ge=50, le=1_000_000)] = 500
    """Samples that are judged together. Unit: samples."""
    expected_run_time: Time = Duration(30 * DAY)
    """Mean time between false alarms on undrifted traffic, for the whole model. Unit: time, at least 1h."""


class GoldenProbe(ApiModel):
    """Known inputs sent to the model to see whether it still gives the known outputs."""

    every: Time = Duration(60 * SECOND)
    """Time between two probes. Unit: time, at least 1s."""


class Monitoring(ApiModel):
    """What the tap watches beside the requests themselves."""

    sampling: Sampling = Sampling()
    """How much of the traffic is looked into."""
    drift: Drift = Drift()
    """Drift detection against the bundle's profile."""
    golden: GoldenProbe = GoldenProbe()
    """Known inputs sent to the model on schedule."""
