"""The drift gate: the candidate's tensors and health against its own profile, and against stable on the same calls."""

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.facts import Judging, MonitorFacts
from latentry_operator.plan.rollout.gates.result import GateInput, GateResult, failed, no_report, passed, waits
from latentry_operator.plan.rollout.gates.shares import judge
from latentry_operator.plan.rollout.reasons import GateName, GateReason
from latentry_operator.plan.rollout.statistics import Count

_GATE = GateName.DRIFT


def drift_and_health(given: GateInput) -> GateResult | None:
    """Fails for what is wrong with the candidate alone: traffic that drifts for both is not its fault."""
    if not given.policy.gates.drift:
        return None
    monitor = given.evidence.monitor
    if monitor is None:
        return no_report(_GATE, "drift and health")
    if monitor.judging is Judging.OFF:
        return passed(_GATE, GateReason.NOT_WATCHED, f"drift and health are not watched: {monitor.detail}")
    if monitor.judging is Judging.BROKEN:
        message = f"the profile cannot be used: {monitor.detail}. Fix monitoring.drift or rebuild the bundle"
        return failed(_GATE, GateReason.WATCHING_BROKEN, message)
    stable = given.evidence.stable_monitor if given.stable else None
    return _alone(monitor, stable) or _anomalies(given, monitor, stable) or _sufficient(monitor)


def _alone(monitor: MonitorFacts, stable: MonitorFacts | None) -> GateResult | None:
    sick = {part: told for part, told in monitor.unhealthy.items() if stable is None or part not in stable.unhealthy}
    if sick:
        told = "; ".join(f"{part}: {line}" for part, line in sorted(sick.items()))
        return failed(_GATE, GateReason.UNHEALTHY, f"{told}. The stable revision does not show this")
    alarms = {name: told for name, told in monitor.alarms.items() if stable is None or name not in stable.alarms}
    if alarms:
        told = "; ".join(f"{name}: {line}" for name, line in sorted(alarms.items()))
        return failed(_GATE, GateReason.DRIFTED, f"{told}. The stable revision on the same traffic does not show this")
    return None


def _anomalies(given: GateInput, monitor: MonitorFacts, stable: MonitorFacts | None) -> GateResult | None:
    """Against the objective and stable; without an objective, stable alone says what is usual."""
    quality = given.policy.slo.quality
    rate = quality.anomaly_rate if quality is not None else None
    before = Count(stable.anomalous, stable.scored) if stable is not None and stable.scored else None
    if not monitor.scored or (rate is None and before is None):
        return None
    count = Count(monitor.anomalous, monitor.scored)
    budget = rate / 100 if rate is not None else None
    judged = judge(count, count, before, budget, given.policy.analysis.tolerance / 100)
    if judged.verdict is not Verdict.FAIL:
        return None
    return failed(
        _GATE,
        GateReason.TOO_MANY_ANOMALIES,
        f"{100 * judged.value:.3g} % of {count.total} scored samples are anomalies, surely more than"
        f" {100 * judged.low:.3g} %; {100 * judged.allowed:.3g} % are allowed by the objective and by what the stable"
        " revision has",
    )


def _sufficient(monitor: MonitorFacts) -> GateResult:
    if monitor.judging is Judging.STARTING or not monitor.sufficient:
        message = "no full window of samples has been judged yet; monitoring.drift.window and sampling set how soon"
        return waits(_GATE, GateReason.TOO_FEW_SAMPLES, message)
    shared = len(monitor.alarms) + len(monitor.unhealthy)
    note = f"; {shared} findings are the stable revision's too" if shared else ""
    return passed(_GATE, GateReason.NO_DRIFT, f"no drift and no fault of the candidate's own{note}")
