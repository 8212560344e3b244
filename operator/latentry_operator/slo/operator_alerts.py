"""Alerts about the operator and what it shares out: one set for a cluster, not one for each model."""

from latentry_operator.slo import names
from latentry_operator.slo.names import AlertName, Severity
from latentry_operator.slo.types import MINUTE, Alert, Group, RuleSettings, select
from latentry_serving.contract.units import Duration


def operator_rules(settings: RuleSettings) -> tuple[Group, ...]:
    """The rules of a cluster."""
    return (Group("latentry-operator", settings.every, (_pool_exhausted(), _operator_down())),)


def _pool_exhausted() -> Alert:
    def devices(state: str) -> str:
        return f"max by (gpu_pool) ({select(names.POOL_DEVICES, state=state)})"

    refused = select(names.MODEL_CONDITION, type="Accepted", status="False")
    waiting = f"count(max by (namespace, model) ({refused}) == 1)"
    number = waiting.replace('"', "'")
    return Alert(
        name=AlertName.GPU_POOL_EXHAUSTED,
        severity=Severity.TICKET,
        # A pool that is just full is well sized, as long as nobody waits.
        expr=f"{devices('in_use')} >= {devices('limit')}\nand on () {waiting}",
        hold_for=Duration(15 * MINUTE),
        summary="GPU pool {{ $labels.gpu_pool }} is used up while models wait",
        description="All {{ $value }} devices of the pool are in use or promised, and"
        f' {{{{ with query "{number}" }}}}{{{{ . | first | value }}}}{{{{ end }}}}'
        " LatentModels are not accepted.",
    )


def _operator_down() -> Alert:
    return Alert(
        name=AlertName.OPERATOR_DOWN,
        severity=Severity.TICKET,
        expr=f"absent({names.LEADER} == 1)",
        hold_for=Duration(5 * MINUTE),
        summary="No operator leads",
        description="No operator has led for 5 minutes: what serves goes on serving, but nothing is deployed,"
        " repaired or rolled back.",
    )
