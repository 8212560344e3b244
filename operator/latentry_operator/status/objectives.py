"""The condition SLOMet: from Prometheus' recorded series, or in words from the taps alone."""

from collections.abc import Iterator

from latentry_operator.api.objectives import Slo
from latentry_operator.api.status import ConditionStatus, ConditionType
from latentry_operator.plan.tap_facts import LastMinute
from latentry_operator.slo import names
from latentry_operator.status.facts import Budget, ModelFacts, SloFacts
from latentry_operator.status.finding import Finding
from latentry_operator.status.reasons import SloMetReason
from latentry_serving.contract.units import Duration

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_KIND = ConditionType.SLO_MET
_HASTE = 1.0
"""Burn rates above it use the budget up before the period ends."""


def slo_met(facts: ModelFacts, before: Finding | None) -> Finding:
    """Are all objectives kept over their period? ``before`` stands until Prometheus, or a tap, has been asked."""
    wanted = list(objectives(facts.slo)) if facts.slo is not None else []
    if facts.slo is not None and not wanted:
        return Finding(_KIND, UNKNOWN, SloMetReason.NO_OBJECTIVES, "the spec sets no objective")
    known = facts.budgets
    if not known.watched:
        return _without_prometheus(known.last_minute, before)
    if not known.asked:
        message = "Prometheus has not been asked yet"
        return before or Finding(_KIND, UNKNOWN, SloMetReason.NOT_EVALUATED, message)
    if known.problem:
        return Finding(_KIND, UNKNOWN, SloMetReason.PROMETHEUS_UNREACHABLE, known.problem)
    return _judged(wanted, known)


def objectives(slo: Slo) -> Iterator[str]:
    """The ``slo`` labels of what the spec promises."""
    if slo.availability is not None:
        yield names.AVAILABILITY
    for latency in slo.latency:
        yield names.latency_slo(latency.within)
    if slo.quality is not None:
        yield names.QUALITY
        if slo.quality.anomaly_rate is not None:
            yield names.ANOMALY_RATE


def _judged(wanted: list[str], known: SloFacts) -> Finding:
    budgets = {budget.slo: budget for budget in known.budgets}
    found = [budgets[slo] for slo in wanted if slo in budgets]
    spent = [budget for budget in found if budget.remaining <= 0]
    missing = [slo for slo in wanted if slo not in budgets]
    without = f"; no data of {', '.join(missing)}" if missing else ""
    story = "; ".join(map(_story, found))
    if spent:
        return Finding(_KIND, FALSE, SloMetReason.BUDGET_EXHAUSTED, f"{story}{without}")
    if missing:
        message = (
            f"Prometheus has no series of {', '.join(missing)}: no traffic yet, or the model's rules or the taps'"
            " scrapes are missing"
        )
        return Finding(_KIND, UNKNOWN, SloMetReason.NO_DATA, f"{message}{'; ' if story else ''}{story}")
    return Finding(_KIND, TRUE, SloMetReason.OBJECTIVES_MET, story)


def _story(budget: Budget) -> str:
    if budget.remaining > 0:
        left = f"{budget.slo}: at least {budget.remaining:.0%} of the error budget is left"
    elif budget.remaining > -1:
        beyond = f", overdrawn by up to {-budget.remaining:.0%}" if budget.remaining else ""
        left = f"{budget.slo}: the error budget is used up{beyond}"
    else:
        left = f"{budget.slo}: up to {1 - budget.remaining:.0f} times the error budget is used"
    if budget.burn is None or budget.burn <= _HASTE:
        return left
    return f"{left}, and goes up to {budget.burn:g} times as fast as it may"


def _without_prometheus(seen: LastMinute | None, before: Finding | None) -> Finding:
    message = (
        "the operator's setting cluster.prometheusUrl is empty, so nobody follows the objectives over their period"
    )
    if seen is None:
        if before is not None and before.reason == SloMetReason.NO_PROMETHEUS:
            return before
        return Finding(_KIND, UNKNOWN, SloMetReason.NO_PROMETHEUS, message)
    p99 = seen.p99_within
    latency = "" if p99 is None else f", 99 % took at most {Duration(round(p99 * 1e9))} on every replica"
    message += (
        f"; in the last minute with traffic at most {seen.faults_within:.0%} of the requests failed by the server's"
        f" fault{latency}"
    )
    return Finding(_KIND, UNKNOWN, SloMetReason.NO_PROMETHEUS, message)
