"""Executive: are the promises kept, what is served, what does it cost."""

from latentry_dashboards import queries as q
from latentry_dashboards.panels import BAD_FROM_ONE, GOOD_ABOVE, HALF, QUARTER, THIRD, Panels, Rows, bars, figure, lines
from latentry_operator.slo import names
from latentry_serving.contract import metrics

_SLO = "{{namespace}} {{model}} {{slo}}"
_VERSION = "{{model}} {{version}}"


def rows() -> Rows:
    """Title and panels of each row."""
    return (("Promises", _promises()), ("Quality", _quality()), ("Use and cost", _use()))


def _promises() -> Panels:
    budget = q.of_model(names.BUDGET_REMAINING)
    return (
        bars(
            "SLO attainment (%)", "percentunit",
            "Share of good events in each objective's rolling period; the objective itself is on the next panel.",
            (f"1 - {q.of_model(names.ERRORS_RATIO_PERIOD)}", _SLO), span=THIRD,
        ),
        bars(
            "Objectives (%)", "percentunit", "What was promised, per model and objective.",
            (q.of_model(names.OBJECTIVE), _SLO), span=THIRD,
        ),
        bars(
            "Error budget left (%)", "percentunit",
            "What is left of each period's error budget; negative: the promise is broken.",
            (budget, _SLO), span=THIRD, steps=GOOD_ABOVE,
        ),
        lines(
            "Error budget left over time (%)", "percentunit",
            "How the error budgets were used up; a steep fall is an incident, a steady one a weakness.",
            (budget, _SLO), span=HALF, steps=((None, "red"), (0.0, "green")), signed=True,
        ),
        lines(
            "Latency p99 (s)", "s", "Time within which 99 of 100 requests were answered, per model and version.",
            (q.latency(0.99, "model", "version"), _VERSION), span=HALF,
        ),
    )  # fmt: skip


def _quality() -> Panels:
    scored = q.total(q.rate(q.tap(metrics.SCORED_SAMPLES_TOTAL), q.LONG), "model", "version")
    anomalous = q.total(q.rate(q.tap(metrics.ANOMALOUS_SAMPLES_TOTAL), q.LONG), "model", "version")
    return (
        lines(
            "Anomaly rate (%)", "percentunit",
            "Share of scored samples with an error beyond the profile's anomaly threshold, over 30 minutes.",
            (q.ratio(anomalous, scored), _VERSION), span=THIRD,
        ),
        lines(
            "Drift trend (1 raises an alarm)", "none",
            "How near the closest statistic of each watched tensor is to a drift alarm.",
            (f"max by (model, tensor) ({q.tap(metrics.DRIFT_NEARNESS_RATIO)})", "{{model}} {{tensor}}"),
            span=THIRD, steps=BAD_FROM_ONE,
        ),
        figure(
            "Drift alarms on (count)", "none", "Statistics of watched tensors whose alarm is on now.",
            (q.total(q.tap(metrics.DRIFT_ALARM)), "drift"), span=4, steps=BAD_FROM_ONE,
        ),
        figure(
            "Health alarms on (count)", "none", "Measures of the model's own health whose alarm is on now.",
            (q.total(q.tap(metrics.HEALTH_ALARM)), "health"), span=4, steps=BAD_FROM_ONE,
        ),
    )  # fmt: skip


def _use() -> Panels:
    served = q.tap(metrics.REQUESTS_TOTAL, q.INFERENCE)
    return (
        lines(
            "Requests by model (req/s)", "reqps", "Inference requests per second, however they ended.",
            (q.requests(by=("namespace", "model")), "{{namespace}} {{model}}"), span=HALF, stacked=True,
        ),
        figure(
            "Requests in the time range (count)", "short", "Inference requests in the time range of the dashboard.",
            (f"sum(increase({served}[$__range]))", "requests"), span=QUARTER,
        ),
        figure(
            "Pods serving each version (count)", "none",
            "Taps that Prometheus reads, per version; more than one version: a rollout, or a rollback, is under way.",
            (f"count by (model, version) ({q.tap(metrics.CONNECTIONS, _ONE_PROTOCOL)})", _VERSION), span=QUARTER,
        ),
        lines(
            "Cost of a million requests (currency of the pool)", "none",
            "GPU price per hour of the devices in use (GPUPool spec.price) over the requests served, over 30 minutes.",
            (q.cost_of_a_million(), "{{namespace}} {{model}} {{currency}}"), span=HALF,
        ),
        bars(
            "GPU devices by pool (count)", "none", "Devices in use or promised, and the pool's limit where it has one.",
            (names.POOL_DEVICES, "{{gpu_pool}} {{state}}"), span=HALF,
        ),
    )  # fmt: skip


_ONE_PROTOCOL = f'{metrics.PROTOCOL}="{metrics.Protocol.HTTP}"'
