"""Alerts beside the error budgets: is the model there, are its answers sane, is what we know of it complete.

Pages are for what hurts users now; what needs a look is a ticket. Several replicas count together; versions apart, so
that each alert says whose it is. Clauses with the operator's series do nothing where there is no operator.
"""

from collections.abc import Iterator

from latentry_operator.api import defaults
from latentry_operator.api.latentmodel import LatentModelSpec
from latentry_operator.api.rollout import Rollout
from latentry_operator.slo import names
from latentry_operator.slo.names import AlertName, Severity
from latentry_operator.slo.types import MINUTE, SECOND, Alert, Identity, one_of
from latentry_serving.contract import metrics
from latentry_serving.contract.metrics import BundleState, RefusedReason, SampleLoss
from latentry_serving.contract.units import Duration

NEEDS_SOMEBODY = ("ApplyFailed", "Inconclusive", "RollbackTargetBroken", "RolloutHeld", "Stalled")
"""Reasons of the condition Progressing that do not end by themselves."""

_FEW_EVENTS = 4.5
"""Fewer than five in a window are no finding; half an event less, for increases are extrapolated."""
_LEAST_SAMPLES = 20
"""Sampled calls in 15 minutes below which a share lost says nothing."""
_LOST_SHARE = 0.1
_ROLLOUT_SLACK_S = 900
"""For switching, and for the operator to notice, beside the spec's own times."""
_PROBE_ROUNDS = 3


def model_alerts(model: Identity, spec: LatentModelSpec) -> Iterator[Alert]:
    """Every alert of a model that is not about an objective."""
    if model.namespace is not None:
        yield _unavailable(model)
        yield _rollout_stuck(model, spec)
    yield from _targets(model)
    yield _golden_probe(model, spec)
    yield from _outputs(model, spec)
    yield from _sampling(model)
    yield _bundle_refused(model)


def _operator(model: Identity, metric: str, *matchers: str, **equal: str) -> str:
    """Of the operator's series, whichever of its replicas exports them."""
    return f"max by (namespace, model) ({model.select(metric, *matchers, **equal)})"


def _changing(model: Identity) -> str:
    """Pods come and go: a rollout, or another number of replicas."""
    return f"{_operator(model, names.MODEL_CONDITION, type='Progressing', status='True')} == 1"


def _state(model: Identity, *reasons: str) -> str:
    """The reason of the condition Progressing is one of these."""
    return f"{_operator(model, names.ROLLOUT_STATE, one_of('reason', reasons))} == 1"


def _unless_changing(model: Identity, expr: str) -> str:
    return expr if model.namespace is None else f"({expr})\nunless on () ({_changing(model)})"


def _unless_gated(model: Identity, gate: bool, expr: str) -> str:
    """Silent during a rollout whose gate watches the same; scaling is none, and has no gates."""
    if model.namespace is None or not gate:
        return expr
    return f"({expr})\nunless on () ({_changing(model)} unless on () {_state(model, 'Scaling')})"


def _unavailable(model: Identity) -> Alert:
    ready = model.select(names.REPLICAS, state="ready")
    desired = model.select(names.REPLICAS, state="desired")
    return Alert(
        name=AlertName.MODEL_UNAVAILABLE,
        severity=Severity.PAGE,
        # A model that was never ready is a rollout's matter.
        expr=f"max by (namespace, model) ({desired}) > 0\n"
        f"and max by (namespace, model) ({ready}) == 0\n"
        f"and max by (namespace, model) (max_over_time({ready}[1d])) > 0",
        hold_for=Duration(3 * MINUTE),
        summary=f"{model.title}: no replica is ready",
        description="{{ $value }} replicas should run, none is ready, and one was within the last day. Requests fail"
        " before they reach a tap, so the error budget does not show it.",
    )


def _rollout_stuck(model: Identity, spec: LatentModelSpec) -> Alert:
    longest = _longest_rollout_s(spec.rollout)
    since = _operator(model, names.ROLLOUT_SINCE)
    how_long = f"time() - {since}".replace('"', "'")
    state = f"max by (reason) ({model.select(names.ROLLOUT_STATE)}) == 1".replace('"', "'")
    return Alert(
        name=AlertName.ROLLOUT_STUCK,
        severity=Severity.TICKET,
        expr=f"{_state(model, *NEEDS_SOMEBODY)}\nor ({_changing(model)} and on () (time() - {since} > {longest:g}))",
        hold_for=Duration(10 * MINUTE),
        summary=f"{model.title}: the rollout does not end",
        description=f'{{{{ with query "{state}" }}}}{{{{ . | first | label "reason" }}}}{{{{ end }}}} for'
        f' {{{{ with query "{how_long}" }}}}{{{{ . | first | value | humanizeDuration }}}}{{{{ end }}}}'
        f" now. With its deadline, its steps and all the waiting for evidence that the spec allows it would take"
        f" {longest / 60:g} minutes, unless it is held or an object is refused. What carried the traffic before still"
        " does.",
    )


def _longest_rollout_s(rollout: Rollout) -> float:
    """Seconds until a rollout has ended if every step waits for evidence as long as it may."""
    held = [step.hold_for for step in defaults.steps(rollout)] + [rollout.watch_for]
    if rollout.shadow is not None:
        held.append(rollout.shadow.hold_for)
    waiting = len(held) * rollout.analysis.longest_wait.seconds
    return rollout.deadline.seconds + sum(time.seconds for time in held) + waiting + _ROLLOUT_SLACK_S


def _targets(model: Identity) -> Iterator[Alert]:
    ready = _operator(model, names.REPLICAS, state="ready")
    available = _operator(model, names.MODEL_CONDITION, type="Available", status="True")
    silent = f"absent({model.select(metrics.REQUESTS_IN_FLIGHT)})"
    yield Alert(
        name=AlertName.NO_DATA,
        severity=Severity.PAGE,
        expr=silent if model.namespace is None else f"{silent}\nunless on () ({ready} == 0 or {available} == 0)",
        hold_for=Duration(10 * MINUTE),
        summary=f"{model.title}: Prometheus sees none of its taps",
        description="No tap of the model has been scraped for 10 minutes although it should run: objectives, drift and"
        " health are not measured, and no other alert of the model can come.",
    )
    # Triton's own metrics may be silent while the tap is well.
    down = model.select_targets("up", 'metrics_path!="/metrics/triton"')
    yield Alert(
        name=AlertName.TAP_DOWN,
        severity=Severity.TICKET,
        expr=_unless_changing(model, f"count({down} == 0)"),
        hold_for=Duration(10 * MINUTE),
        summary=f"{model.title}: taps do not answer Prometheus",
        description="{{ $value }} taps of the model have not answered a scrape for 10 minutes; what passes them is not"
        " measured.",
    )
    limit = model.select_targets(metrics.REFUSED_CONNECTIONS_TOTAL, reason=RefusedReason.CONNECTION_LIMIT)
    yield Alert(
        name=AlertName.CONNECTIONS_REFUSED,
        severity=Severity.PAGE,
        expr=f"sum(increase({limit}[5m])) > {_FEW_EVENTS}",
        hold_for=Duration(5 * MINUTE),
        summary=f"{model.title}: taps turn clients away",
        description='{{ printf "%.0f" $value }} connections in 5 minutes were closed at the connection limit of a tap'
        " before they carried a byte. No error budget counts them.",
    )


def _golden_probe(model: Identity, spec: LatentModelSpec) -> Alert:
    every = spec.monitoring.golden.every
    failing = f"count by (version, operation) ({model.select(metrics.GOLDEN_PROBE_PASSED)} == 0)"
    return Alert(
        name=AlertName.GOLDEN_PROBE_FAILING,
        severity=Severity.PAGE,
        expr=_unless_gated(model, spec.rollout.gates.golden, failing),
        hold_for=Duration(max(_PROBE_ROUNDS * every.nanoseconds, 3 * MINUTE)),
        summary=f"{model.title}: golden probes of {{{{ $labels.operation }}}} fail",
        description="{{ $value }} replicas of version {{ $labels.version }} do not give the recorded outputs of"
        f" {{{{ $labels.operation }}}} for known inputs, {_PROBE_ROUNDS} rounds or more on end (one every {every})."
        f"{_why_probes_fail(model)}",
    )


def _why_probes_fail(model: Identity) -> str:
    """A template: how most of the failed probes ended, so that no answer and a wrong one are told apart."""
    failed = model.select(metrics.GOLDEN_PROBES_TOTAL, f"{metrics.OUTCOME}!='{metrics.ProbeOutcome.PASSED}'")
    of_these = f"{failed[:-1]},version='%s',operation='%s'}}".replace('"', "'")
    query = f"topk(1, sum by (outcome) (increase({of_these}[15m])) > 0)"
    found = ' Most end as {{ . | first | label "outcome" }}.'
    return f'{{{{ with printf "{query}" $labels.version $labels.operation | query }}}}{found}{{{{ end }}}}'


def _outputs(model: Identity, spec: LatentModelSpec) -> Iterator[Alert]:
    """What the sampled answers tell. One alarm of one replica is one: the replicas share the false-alarm budget."""
    values = model.select(metrics.NON_FINITE_OUTPUT_VALUES_TOTAL)
    yield Alert(
        name=AlertName.NON_FINITE_OUTPUTS,
        severity=Severity.PAGE,
        expr=f"sum by (version, operation) (increase({values}[5m])) > 0",
        hold_for=Duration(10 * MINUTE),
        summary=f"{model.title}: {{{{ $labels.operation }}}} answers with NaN or infinity",
        description='{{ printf "%.0f" $value }} values in the sampled outputs of {{ $labels.operation }}, version'
        " {{ $labels.version }}, in 5 minutes are no finite numbers, and have not been for 10 minutes.",
    )
    gated = spec.rollout.gates.drift
    unhealthy = f"max by (version, part, measure) ({model.select(metrics.HEALTH_ALARM)}) == 1"
    yield Alert(
        name=AlertName.MODEL_UNHEALTHY,
        severity=Severity.TICKET,
        expr=_unless_gated(model, gated, unhealthy),
        hold_for=Duration(MINUTE),
        summary=f"{model.title}: {{{{ $labels.measure }}}} of the {{{{ $labels.part }}}} is not as in the reference",
        description=f"Version {{{{ $labels.version }}}}: {_health(model, metrics.HEALTH_VALUE)} in the latest window,"
        f" {_health(model, metrics.HEALTH_EXPECTED_VALUE)} expected.",
    )
    alarms = f"max by (version, tensor, statistic) ({model.select(metrics.DRIFT_ALARM)}) == 1"
    drift = f"count by (version, tensor) ({alarms})"
    yield Alert(
        name=AlertName.DRIFT,
        severity=Severity.TICKET,
        expr=_unless_gated(model, gated, drift),
        hold_for=Duration(MINUTE),
        summary=f"{model.title}: {{{{ $labels.tensor }}}} drifts",
        description="{{ $value }} statistics of {{ $labels.tensor }} differ from the profile of version"
        f" {{{{ $labels.version }}}}; the largest score is {_largest_score(model)} times its mean on undrifted traffic."
        f" Undrifted traffic raises an alarm once in {spec.monitoring.drift.expected_run_time} on average.",
    )


def _sampling(model: Identity) -> Iterator[Alert]:
    lost_series = model.select(metrics.SAMPLES_LOST_TOTAL, f'{metrics.REASON}!="{SampleLoss.CALL_FAILED}"')
    lost = f"sum(increase({lost_series}[15m]))"
    analysed = f"sum(increase({model.select(metrics.SAMPLES_TOTAL)}[15m]))"
    yield Alert(
        name=AlertName.SAMPLES_LOST,
        severity=Severity.TICKET,
        expr=f"{lost} / ({lost} + {analysed} > {_LEAST_SAMPLES}) > {_LOST_SHARE}",
        hold_for=Duration(30 * MINUTE),
        summary=f"{model.title}: sampled calls are lost",
        description=f"{{{{ $value | humanizePercentage }}}} of the calls sampled in 15 minutes gave no sample, more"
        f" than {_LOST_SHARE:.0%} for half an hour: drift and health rest on what is left.",
    )
    yield Alert(
        name=AlertName.OPAQUE_CONNECTIONS,
        severity=Severity.TICKET,
        expr=f"sum(increase({model.select_targets(metrics.OPAQUE_CONNECTIONS_TOTAL)}[15m])) > {_FEW_EVENTS}",
        hold_for=Duration(15 * MINUTE),
        summary=f"{model.title}: connections cannot be followed",
        description='{{ printf "%.0f" $value }} connections in 15 minutes became opaque: their bytes still flow, their'
        " calls count in no objective.",
    )


def _bundle_refused(model: Identity) -> Alert:
    refused = model.select(metrics.BUNDLE_STATE, state=BundleState.REFUSED)
    return Alert(
        name=AlertName.BUNDLE_REFUSED,
        severity=Severity.TICKET,
        expr=f"count by (version) ({refused} == 1)",
        hold_for=Duration(30 * SECOND),
        summary=f"{model.title}: pods have another bundle than the promised one",
        description="{{ $value }} taps found files that are not those of the digest in the spec. Their pods never"
        " become ready.",
    )


def _health(model: Identity, metric: str) -> str:
    return _worst(model, metric, "part", "measure")


def _largest_score(model: Identity) -> str:
    return _worst(model, metrics.DRIFT_SCORE, "tensor")


def _worst(model: Identity, metric: str, *by: str) -> str:
    """A template: the largest value of a metric among the alert's series, an em dash before there is one."""
    matchers = ["version='%s'", *(f"{label}='%s'" for label in by)]
    query = f"max({model.select(metric)[:-1]},{','.join(matchers)}}})".replace('"', "'")
    arguments = " ".join(f"$labels.{label}" for label in ("version", *by))
    return (
        f'{{{{ with printf "{query}" {arguments} | query }}}}{{{{ . | first | value | printf "%.4g" }}}}'
        "{{ else }}(not known){{ end }}"
    )
