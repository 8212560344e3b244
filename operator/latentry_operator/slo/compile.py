"""A LatentModel in, all its rules out."""

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.slo.indicators import indicators
from latentry_operator.slo.model_alerts import model_alerts
from latentry_operator.slo.objectives import Objective
from latentry_operator.slo.types import MINUTE, Group, Identity, RuleSettings
from latentry_serving.contract.units import Duration

_SLOW = Duration(2 * MINUTE)
"""Rules over days; less than the 5 minutes after which Prometheus forgets a sample."""


def model_rules(model: LatentModel, settings: RuleSettings, namespace: str | None) -> tuple[Group, ...]:
    """The rule groups of a model: its objectives, the long windows of these, and its other alerts.

    Args:
        namespace: the model's, as its series carry it; None on one machine.
    """
    identity = Identity(namespace, model.metadata.name)
    slo = model.spec.slo
    objectives = [Objective(identity, one, slo.period, settings) for one in indicators(identity, slo)]
    name = f"latentry-{identity.title.replace('/', '-')}"
    groups = (
        Group(f"{name}-slo", settings.every, tuple(rule for one in objectives for rule in one.fast())),
        Group(f"{name}-slo-days", max(settings.every, _SLOW), tuple(rule for one in objectives for rule in one.slow())),
        Group(f"{name}-alerts", settings.every, tuple(model_alerts(identity, model.spec))),
    )
    return tuple(group for group in groups if group.rules)
