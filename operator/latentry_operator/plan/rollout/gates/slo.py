"""The slo gate: errors and latency of the candidate against the objectives and against stable at the same time."""

from collections.abc import Iterator

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.facts import Histogram, Traffic
from latentry_operator.plan.rollout.gates.result import GateInput, GateResult, failed, passed, waits
from latentry_operator.plan.rollout.gates.shares import Judged, judge
from latentry_operator.plan.rollout.reasons import GateName, GateReason
from latentry_operator.plan.rollout.statistics import Count

_GATE = GateName.SLO
_P99 = 0.99
_NONE = Traffic(0, 0)


def objectives(given: GateInput) -> GateResult | None:
    """Fails as soon as one share is surely too large, passes once all are surely small enough, waits in between."""
    policy = given.policy
    if not policy.gates.slo:
        return None
    traffic, least = given.evidence.traffic or _NONE, policy.analysis.min_requests
    stable = given.evidence.stable_traffic if given.stable else None
    waiting, told = "", []
    for what, reason, judged in _checks(given, traffic, stable):
        if judged.verdict is Verdict.FAIL:
            return failed(
                _GATE,
                reason,
                f"{_percent(judged.value)} {what} of {traffic.requests} requests, surely more than"
                f" {_percent(judged.low)}; {_percent(judged.allowed)} are allowed by the objective and by what the"
                " stable revision does. Look at the candidate's logs and /slis",
            )
        if judged.verdict is Verdict.WAIT and not waiting:
            waiting = (
                f"{_percent(judged.value)} {what} of {traffic.requests} requests may still mean up to"
                f" {_percent(judged.high)}, a pass needs at most {_percent(judged.passing)}"
            )
        told.append(f"{_percent(judged.value)} {what} (at most {_percent(judged.high)})")
    if traffic.requests < least:
        message = f"{traffic.requests} of at least {least} requests at this step"
        return waits(_GATE, GateReason.TOO_LITTLE_TRAFFIC, f"{message}; analysis.minRequests sets how many")
    if waiting and least:
        return waits(_GATE, GateReason.TOO_LITTLE_TRAFFIC, f"{waiting}; more traffic will tell")
    return passed(_GATE, GateReason.OBJECTIVES_KEPT, f"of {traffic.requests} requests {', '.join(told)}")


def _checks(given: GateInput, traffic: Traffic, stable: Traffic | None) -> Iterator[tuple[str, GateReason, Judged]]:
    """What is counted, why it would fail, and the judgement."""
    slo, analysis = given.policy.slo, given.policy.analysis
    tolerance = analysis.tolerance / 100
    errors = Count(traffic.errors, traffic.requests)
    before = Count(stable.errors, stable.requests) if stable is not None else None
    budget = 1 - slo.availability / 100 if slo.availability is not None else None
    yield "errors", GateReason.TOO_MANY_ERRORS, judge(errors, errors, before, budget, tolerance)
    limits = [(objective.within.seconds, 1 - objective.objective / 100) for objective in slo.latency]
    if stable is not None and sum(stable.latency.counts) >= max(1, analysis.min_requests):
        limits.append((analysis.max_latency_ratio * quantile(stable.latency, _P99), 1 - _P99))
    for within, share in limits:
        surely, perhaps = slower(traffic.latency, within)
        was = slower(stable.latency, within)[0] if stable is not None else None
        yield f"slower than {_time(within)}", GateReason.TOO_SLOW, judge(surely, perhaps, was, share, tolerance)


def slower(histogram: Histogram, seconds: float) -> tuple[Count, Count]:
    """Requests that surely, and that perhaps, took longer: a bin that the limit divides counts only as perhaps."""
    total = sum(histogram.counts)
    surely = sum(count for edge, count in zip(histogram.edges, histogram.counts, strict=False) if edge >= seconds)
    upper = zip(histogram.edges[1:], histogram.counts, strict=True) if histogram.edges else ()
    return Count(surely, total), Count(sum(count for edge, count in upper if edge > seconds), total)


def quantile(histogram: Histogram, share: float) -> float:
    """Upper edge of the bin in which the quantile lies, seconds; 0 without counts."""
    left = share * sum(histogram.counts)
    for edge, count in zip(histogram.edges[1:], histogram.counts, strict=True):
        left -= count
        if left <= 1e-9:
            return edge
    return 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
