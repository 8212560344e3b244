"""Rule groups as Prometheus reads them, in a rule file or in a PrometheusRule's spec."""

from collections.abc import Mapping, Sequence
from typing import Any

from latentry_operator.slo import names
from latentry_operator.slo.types import Alert, Group, Recording, RuleSettings


def rule_document(groups: Sequence[Group], settings: RuleSettings, labels: Mapping[str, str]) -> dict[str, Any]:
    """``{groups: [...]}``.

    Args:
        labels: of every alert, beside its own: namespace and model.
    """
    return {"groups": [_group(group, settings, labels) for group in groups]}


def _group(group: Group, settings: RuleSettings, labels: Mapping[str, str]) -> dict[str, Any]:
    rules = [
        _recording(rule) if isinstance(rule, Recording) else _alert(rule, settings, labels) for rule in group.rules
    ]
    return {"name": group.name, "interval": str(group.interval), "rules": rules}


def _recording(rule: Recording) -> dict[str, Any]:
    return {"record": rule.record, "expr": rule.expr, "labels": dict(rule.labels)}


def _alert(rule: Alert, settings: RuleSettings, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "alert": rule.name.value,
        "expr": rule.expr,
        "for": str(rule.hold_for),
        "labels": {names.SEVERITY: rule.severity.value, **labels, **rule.labels},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{settings.runbook_url.rstrip('/')}/{rule.name}.md",
        },
    }
