"""What counts for each objective, and what of it is an error: a LatentModel's ``slo`` as pairs of PromQL rates."""

from collections.abc import Iterator
from dataclasses import dataclass

from latentry_operator.api.objectives import LatencyObjective, QualityObjective, Slo
from latentry_operator.slo import names
from latentry_operator.slo.types import INFERENCE, Identity, one_of
from latentry_serving.contract import metrics
from latentry_serving.contract.metrics import SERVER_FAULTS, Outcome
from latentry_serving.contract.units import Duration

_W = "$window"


@dataclass(frozen=True, slots=True)
class Indicator:
    """One objective and how it is measured.

    Attributes:
        slo: the label.
        objective: share of events that must be good, in (0, 1).
        noun: what an event is, as alerts write it.
        bad: what an error is, as alerts write it.
        user_impact: whether users notice at once, so that a fast burn pages.
        error_rates: PromQL of errors per second, with ``$window`` for the range.
        event_rates: the same of all that counts.
    """

    slo: str
    objective: float
    noun: str
    bad: str
    user_impact: bool
    error_rates: str
    event_rates: str

    @property
    def budget(self) -> float:
        """Share of events that may be errors."""
        return 1 - self.objective

    def errors(self, window: Duration) -> str:
        """PromQL: errors per second over a window."""
        return self.error_rates.replace(_W, str(window))

    def events(self, window: Duration) -> str:
        """PromQL: events per second over a window."""
        return self.event_rates.replace(_W, str(window))


def indicators(model: Identity, slo: Slo) -> tuple[Indicator, ...]:
    """Every objective that the spec sets."""
    return tuple(_indicators(model, slo))


def _indicators(model: Identity, slo: Slo) -> Iterator[Indicator]:
    if slo.availability is not None:
        yield _availability(model, slo.availability)
    for objective in slo.latency:
        yield _latency(model, objective)
    if slo.quality is not None:
        yield _quality(model, slo.quality)
        if slo.quality.anomaly_rate is not None:
            yield _anomalies(model, slo.quality.anomaly_rate)


def _rate(series: str) -> str:
    return f"rate({series}[{_W}])"


def _requests(model: Identity, *matchers: str) -> str:
    return f"sum({_rate(model.select(metrics.REQUESTS_TOTAL, *INFERENCE, *matchers))})"


def _availability(model: Identity, percent: float) -> Indicator:
    return Indicator(
        slo=names.AVAILABILITY,
        objective=_share(percent),
        noun="requests",
        bad="failed by the server's fault",
        user_impact=True,
        error_rates=_requests(model, one_of(metrics.OUTCOME, SERVER_FAULTS)),
        event_rates=_requests(model),
    )


def _latency(model: Identity, objective: LatencyObjective) -> Indicator:
    """Good are answers within the threshold; requests that were wrong themselves do not count.

    Slow answers are counted per pod as answers minus those within the bucket, so that a pod from before the objective,
    without that bucket, counts as fast and not as slow. A request that its client gave up on was not answered in time.
    """
    duration = metrics.REQUEST_DURATION_SECONDS
    within = repr(objective.within.seconds)  # as prometheus-client writes it
    answers = _rate(model.select(f"{duration}_count", *INFERENCE))
    in_time = _rate(model.select(f"{duration}_bucket", *INFERENCE, f'le="{within}"'))
    unanswered = frozenset(Outcome) - {Outcome.OK, Outcome.CLIENT_ERROR}
    return Indicator(
        slo=names.latency_slo(objective.within),
        objective=_share(objective.objective),
        noun="requests",
        bad=f"were not answered within {objective.within}",
        user_impact=True,
        error_rates=f"clamp_min(sum({answers} - ignoring(le) {in_time}), 0)"
        f" + {_requests(model, one_of(metrics.OUTCOME, unanswered))}",
        event_rates=_requests(model, f'{metrics.OUTCOME}!="{Outcome.CLIENT_ERROR}"'),
    )


def _quality(model: Identity, quality: QualityObjective) -> Indicator:
    scored = f"sum({_rate(model.select(metrics.SCORED_SAMPLES_TOTAL))})"
    within = f"sum({_rate(model.select(metrics.SCORED_SAMPLES_WITHIN_THRESHOLD_TOTAL))})"
    return Indicator(
        slo=names.QUALITY,
        objective=_share(quality.objective),
        noun="scored samples",
        bad=f"had a reconstruction error beyond {quality.reconstruction_error_within}",
        user_impact=False,
        error_rates=f"clamp_min({scored} - {within}, 0)",
        event_rates=scored,
    )


def _anomalies(model: Identity, percent: float) -> Indicator:
    return Indicator(
        slo=names.ANOMALY_RATE,
        objective=_share(100 - percent),
        noun="scored samples",
        bad="were beyond the profile's anomaly threshold",
        user_impact=False,
        error_rates=f"sum({_rate(model.select(metrics.ANOMALOUS_SAMPLES_TOTAL))})",
        event_rates=f"sum({_rate(model.select(metrics.SCORED_SAMPLES_TOTAL))})",
    )


def _share(percent: float) -> float:
    """Percent as a share, without what binary fractions add: 99.9 gives 0.999."""
    return round(percent / 100, 12)
