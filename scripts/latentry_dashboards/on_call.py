"""On-call: are users hurt, since when, by what, and did anything change."""

from latentry_dashboards import queries as q
from latentry_dashboards.panels import (
    BAD_FROM_ONE,
    GOOD_ABOVE,
    HALF,
    QUARTER,
    THIRD,
    Panels,
    Rows,
    bars,
    figure,
    heat,
    lines,
    states,
)
from latentry_operator.slo import names
from latentry_serving.contract import metrics, triton_metrics

_PASSED = ((None, "red"), (1.0, "green"))
_PAGES_FROM = ((None, "green"), (1.0, "orange"), (14.4, "red"))
"""A burn rate of 1 uses the budget up exactly; 14.4 over an hour pages (SRE Workbook, chapter 5, 30 days)."""


def rows() -> Rows:
    """Title and panels of each row."""
    return (
        ("Are users hurt", _users()),
        ("Latency", _latency()),
        ("Errors", _errors()),
        ("Drift, health, golden probes", _quality()),
        ("Rollout", _rollout()),
        ("Pods and GPUs", _pods()),
    )


def _users() -> Panels:
    alerts = 'ALERTS{alertname=~"Latentry.+",alertstate="firing",namespace=~"$namespace",model=~"($model)?"}'
    return (
        lines(
            "Burn rates (x budget)", "none",
            "How many times faster than the objective allows errors come; 1 uses the budget up exactly in its period.",
            (q.of_model(names.BURN_RATE), "{{slo}} {{window}}"), span=HALF, steps=_PAGES_FROM,
        ),
        bars(
            "Error budget left (%)", "percentunit", "What is left of each period's error budget.",
            (q.of_model(names.BUDGET_REMAINING), "{{model}} {{slo}}"), span=QUARTER, steps=GOOD_ABOVE,
        ),
        states(
            "Alerts firing (1: firing)", "none", "Latentry's alerts as Prometheus evaluates them; inhibited ones too.",
            (f"max by (alertname, severity) ({alerts})", "{{alertname}} {{severity}}"), span=QUARTER,
        ),
        lines(
            "Requests by outcome (req/s)", "reqps", "Inference requests per second by how they ended.",
            (q.requests(by=("outcome",)), "{{outcome}}"), span=HALF, stacked=True,
        ),
        lines(
            "Errors of the last 5 minutes (%)", "percentunit", "Share of events that missed each objective.",
            (q.of_model(names.errors_ratio("5m")), "{{model}} {{slo}}"), span=HALF,
        ),
    )  # fmt: skip


def _latency() -> Panels:
    buckets = q.tap(f"{metrics.REQUEST_DURATION_SECONDS}_bucket", q.UNARY)
    return (
        heat(
            "Latency of answers (s, count per cell)", "s", "Calls that ended ok, by time to the last byte.",
            (f"sum by (le) (increase({buckets}[{q.RATE}]))", "{{le}}"),
        ),
        lines(
            "Latency percentiles (s)", "s", "All operations; the dots are traced calls: click one for its trace.",
            *((q.latency(share, "version"), f"p{share * 100:g} {{{{version}}}}") for share in (0.5, 0.9, 0.99)),
            span=HALF, exemplars=True,
        ),
        lines(
            "Latency p99 by operation (s)", "s", "Which operation is slow.",
            (q.latency(0.99, "operation"), "{{operation}}"), span=HALF,
        ),
        lines(
            "Requests in flight (count)", "none", "Calls whose answer is not complete; a growing number is a queue.",
            (q.total(q.tap(metrics.REQUESTS_IN_FLIGHT), "operation"), "{{operation}}"), span=HALF, stacked=True,
        ),
    )  # fmt: skip


def _errors() -> Panels:
    return (
        lines(
            "Server faults by kind (req/s)", "reqps", "What spends the availability budget.",
            (q.requests(q.FAULTS, by=("operation", "outcome")), "{{operation}} {{outcome}}"), span=THIRD,
        ),
        lines(
            "Client errors and cancelled calls (req/s)", "reqps", "The caller's doing; in no budget.",
            (q.requests(f'{metrics.OUTCOME}=~"client_error|cancelled"', by=("operation", "outcome")),
             "{{operation}} {{outcome}}"), span=THIRD,
        ),
        lines(
            "Connections refused or opaque (conn/s)", "none",
            "Refused: closed before a byte. Opaque: bytes flow, but their calls can no longer be counted.",
            (q.total(q.rate(q.tap(metrics.REFUSED_CONNECTIONS_TOTAL)), "reason"), "refused {{reason}}"),
            (q.total(q.rate(q.tap(metrics.OPAQUE_CONNECTIONS_TOTAL)), "reason"), "opaque {{reason}}"), span=THIRD,
        ),
    )  # fmt: skip


def _quality() -> Panels:
    return (
        lines(
            "Drift by tensor (1 raises an alarm)", "none", "How near the closest statistic is to an alarm.",
            (f"max by (tensor, version) ({q.tap(metrics.DRIFT_NEARNESS_RATIO)})", "{{tensor}} {{version}}"),
            span=THIRD, steps=BAD_FROM_ONE,
        ),
        states(
            "Drift alarms by tensor (1: on)", "none", "Whether any statistic of the tensor alarms.",
            (f"max by (tensor) ({q.tap(metrics.DRIFT_ALARM)})", "{{tensor}}"), span=THIRD,
        ),
        states(
            "Model health alarms (1: on)", "none", "Measures of the model's own health, such as posterior collapse.",
            (f"max by (part, measure) ({q.tap(metrics.HEALTH_ALARM)})", "{{part}} {{measure}}"), span=THIRD,
        ),
        states(
            "Golden probes (1: passed)", "none", "Recorded inputs that must come back as recorded, per operation.",
            (f"min by (operation, version) ({q.tap(metrics.GOLDEN_PROBE_PASSED)})", "{{operation}} {{version}}"),
            span=THIRD, steps=_PASSED,
        ),
        lines(
            "Golden probes' largest error (units of the output)", "none",
            "Largest absolute difference from a recorded output.",
            (f"max by (operation, version) ({q.tap(metrics.GOLDEN_PROBE_LARGEST_ERROR)})", "{{operation}} {{version}}"),
            span=THIRD,
        ),
        lines(
            "NaN and infinities in outputs (values/s)", "none", "Seen in sampled calls; none is normal.",
            (q.total(q.rate(q.tap(metrics.NON_FINITE_OUTPUT_VALUES_TOTAL)), "operation"), "{{operation}}"), span=THIRD,
        ),
    )  # fmt: skip


def _rollout() -> Panels:
    return (
        states(
            "Rollout state (1: the present one)", "none", "The reason of the LatentModel's condition Progressing.",
            (f"max by (model, reason) ({q.of_model(names.ROLLOUT_STATE)})", "{{model}} {{reason}}"),
            span=THIRD, steps=((None, "text"), (1.0, "blue")),
        ),
        lines(
            "Requests by version (req/s)", "reqps", "Where the traffic goes; a rollout moves it.",
            (q.requests(by=("model", "version")), "{{model}} {{version}}"), span=THIRD, stacked=True,
        ),
        lines(
            "Replicas (count)", "none", "Of the revision that carries the traffic: wanted, and ready.",
            (q.of_model(names.REPLICAS), "{{model}} {{state}}"), span=THIRD,
        ),
        figure(
            "Time in this rollout state (s)", "s", "Since the condition Progressing has its status.",
            (f"time() - {q.of_model(names.ROLLOUT_SINCE)}", "{{model}}"), span=THIRD,
        ),
        states(
            "Conditions (1: true)", "none", "Conditions of the LatentModel whose status is True.",
            (q.of_model(names.MODEL_CONDITION, 'status="True"'), "{{model}} {{type}}"),
            span=16, steps=((None, "text"), (1.0, "blue")),
        ),
    )  # fmt: skip


def _pods() -> Panels:
    cpu = q.in_pods(q.rate(q.container("container_cpu_usage_seconds_total")))
    memory = q.in_pods(q.container("container_memory_working_set_bytes"))
    restarts = q.in_pods(f"increase({q.container('kube_pod_container_status_restarts_total')}[1h])")
    used, present = (
        q.of_target(triton_metrics.GPU_MEMORY_USED_BYTES),
        q.of_target(triton_metrics.GPU_MEMORY_TOTAL_BYTES),
    )
    return (
        lines(
            "CPU by container (cores)", "none", "Of the serving pods; from the kubelet (cAdvisor).",
            (q.total(cpu, "pod", "container"), "{{pod}} {{container}}"), span=THIRD,
        ),
        lines(
            "Memory by container (bytes)", "bytes", "Working set of the serving pods' containers; from the kubelet.",
            (q.total(memory, "pod", "container"), "{{pod}} {{container}}"), span=THIRD,
        ),
        lines(
            "Container restarts in an hour (count)", "none", "From kube-state-metrics.",
            (q.total(restarts, "pod", "container"), "{{pod}} {{container}}"), span=THIRD,
        ),
        lines(
            "GPU utilisation (%)", "percentunit", "Share of time in which each GPU was busy, as Triton measures it.",
            (q.of_target(triton_metrics.GPU_UTILIZATION), "{{pod}} {{gpu_uuid}}"), span=THIRD, most=1,
        ),
        lines(
            "GPU memory in use (%)", "percentunit", "Of each GPU, of everything that runs on it.",
            (f"{used} / {present}", "{{pod}} {{gpu_uuid}}"), span=THIRD, most=1,
        ),
        lines(
            "GPU power (W)", "watt", "Drawn by each GPU.",
            (q.of_target(triton_metrics.GPU_POWER_USAGE), "{{pod}} {{gpu_uuid}}"), span=THIRD,
        ),
    )  # fmt: skip
