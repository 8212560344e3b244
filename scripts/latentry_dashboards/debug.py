"""Debug: where the time goes, which dimensions moved, what the tap itself is doing."""

from latentry_dashboards import queries as q
from latentry_dashboards.panels import HALF, QUARTER, THIRD, Panels, Rows, bars, lines, states
from latentry_serving.contract import metrics, triton_metrics

_STREAM = f'{metrics.KIND}="{metrics.CallKind.STREAM}"'
_MOST_BARS = 25


def rows() -> Rows:
    """Title and panels of each row."""
    return (
        ("Operations", _operations()),
        ("Triton", _triton()),
        ("Drift", _drift()),
        ("Reconstruction and posterior", _health()),
        ("Samples", _samples()),
        ("The tap itself", _tap()),
    )


def _operations() -> Panels:
    def mean(name: str) -> str:
        return q.ratio(q.total(q.rate(q.tap(name)), "operation"), q.requests(by=("operation",)))

    return (
        lines(
            "Requests by operation and protocol (req/s)", "reqps", "Inference per second, streams too.",
            (q.requests(by=("operation", "protocol", "kind")), "{{operation}} {{protocol}} {{kind}}"), span=THIRD,
        ),
        lines(
            "Latency by operation (s)", "s", "Median and p99; the dots are traced calls: click one for its trace.",
            (q.latency(0.5, "operation"), "p50 {{operation}}"), (q.latency(0.99, "operation"), "p99 {{operation}}"),
            span=THIRD, exemplars=True,
        ),
        lines(
            "First answer of streams p99 (s)", "s", "Time to the first answer of streamed calls.",
            (q.latency(0.99, "operation", metric=metrics.FIRST_RESPONSE_SECONDS, kind=_STREAM), "{{operation}}"),
            span=THIRD, exemplars=True,
        ),
        lines(
            "Request size (bytes)", "bytes", "Mean payload of a request, per operation.",
            (mean(metrics.REQUEST_BYTES_TOTAL), "{{operation}}"), span=THIRD,
        ),
        lines(
            "Answer size (bytes)", "bytes", "Mean payload of an answer, per operation.",
            (mean(metrics.RESPONSE_BYTES_TOTAL), "{{operation}}"), span=THIRD,
        ),
        lines(
            "Management calls (req/s)", "reqps", "Health, metadata and repository calls: never part of an objective.",
            (q.total(q.rate(q.tap(metrics.REQUESTS_TOTAL, f'{metrics.OPERATION}="{metrics.MANAGEMENT_OPERATION}"')),
                     "protocol", "outcome"), "{{protocol}} {{outcome}}"), span=THIRD,
        ),
    )  # fmt: skip


def _triton() -> Panels:
    t = triton_metrics
    return (
        lines(
            "Time in Triton's queue (s)", "s", "Mean wait of a request for its batch, per model of Triton's.",
            (q.triton_ratio(t.QUEUE_DURATION_US, t.REQUEST_SUCCESS, " / 1e6"), "{{model}}"), span=QUARTER,
        ),
        lines(
            "Compute time of a request (s)", "s", "Mean time in the model itself, without queue and copies.",
            (q.triton_ratio(t.COMPUTE_INFER_DURATION_US, t.REQUEST_SUCCESS, " / 1e6"), "{{model}}"), span=QUARTER,
        ),
        lines(
            "Batch size (samples)", "none", "Mean samples in one execution; 1: nothing is batched.",
            (q.triton_ratio(t.INFERENCE_COUNT, t.EXEC_COUNT), "{{model}}"), span=QUARTER,
        ),
        lines(
            "Executions (batches/s)", "none", "Batches that Triton ran per second.",
            (q.triton_rate(t.EXEC_COUNT), "{{model}}"), span=QUARTER,
        ),
    )  # fmt: skip


def _drift() -> Panels:
    contribution = f"max by (tensor, statistic, dimension) ({q.tap(metrics.DRIFT_CONTRIBUTION)})"
    return (
        lines(
            "Drift score by statistic (x undrifted mean)", "none",
            "Of the latest judged window, in units of its mean on undrifted traffic.",
            (f"max by (tensor, statistic) ({q.tap(metrics.DRIFT_SCORE)})", "{{tensor}} {{statistic}}"), span=HALF,
        ),
        bars(
            "Dimensions that drift most (%)", "percentunit",
            "Share of an alarm's contributions, of the alarms that are on.",
            (f"topk({_MOST_BARS}, {contribution})", "{{tensor}} {{statistic}} dim {{dimension}}"), span=HALF,
        ),
        states(
            "Drift alarms by statistic (1: on)", "none", "Every statistic of every watched tensor.",
            (f"max by (tensor, statistic) ({q.tap(metrics.DRIFT_ALARM)})", "{{tensor}} {{statistic}}"), span=HALF,
        ),
        states(
            "Too little data to judge (1: yes)", "none", "Tensors none of whose statistics is judged.",
            (f"max by (tensor) ({q.tap(metrics.DRIFT_INSUFFICIENT_DATA)})", "{{tensor}}"), span=QUARTER,
        ),
        lines(
            "Since a window last filled (s)", "s", "From the start before the first; grows when samples are missing.",
            (f"max by (tensor) ({q.tap(metrics.DRIFT_SECONDS_SINCE_FULL_WINDOW)})", "{{tensor}}"), span=QUARTER,
        ),
    )  # fmt: skip


def _health() -> Panels:
    def scored(name: str) -> str:
        return q.total(q.rate(q.tap(name), q.LONG))

    every, within = scored(metrics.SCORED_SAMPLES_TOTAL), scored(metrics.SCORED_SAMPLES_WITHIN_THRESHOLD_TOTAL)
    part = f'{metrics.PART}="reconstruction",{metrics.MEASURE}=~"reconstruction_(mean|p95)"'
    return (
        lines(
            "Reconstruction errors by range (%)", "percentunit",
            "Shares of scored samples within the quality objective, above it, and beyond the anomaly threshold.",
            (q.ratio(within, every), "within the objective"), (f"1 - {q.ratio(within, every)}", "above it"),
            (q.ratio(scored(metrics.ANOMALOUS_SAMPLES_TOTAL), every), "anomalous"), span=THIRD,
        ),
        lines(
            "Reconstruction error of windows (as the model scores)", "none",
            "Mean and 95th percentile of the latest window, and what the reference shows.",
            (f"max by (measure, version) ({q.tap(metrics.HEALTH_VALUE, part)})", "{{measure}} {{version}}"),
            (f"max by (measure) ({q.tap(metrics.HEALTH_EXPECTED_VALUE, part)})", "expected {{measure}}"),
            (f"max by (version) ({q.tap(metrics.RECONSTRUCTION_ERROR_THRESHOLD)})", "objective {{version}}"),
            span=THIRD,
        ),
        lines(
            "KL by dimension (nats)", "none", "Of a VAE's posterior: the dimensions that carry most of the divergence.",
            (f"max by (dimension, version) ({q.tap(metrics.POSTERIOR_KL_NATS)})", "dim {{dimension}} {{version}}"),
            span=THIRD,
        ),
        lines(
            "Health measures (each in its unit)", "none", "Encoder's and posterior's measures of the latest window.",
            (f"max by (part, measure) ({q.tap(metrics.HEALTH_VALUE, _NOT_RECONSTRUCTION)})", "{{part}} {{measure}}"),
            span=HALF,
        ),
        lines(
            "Health measures, expected (each in its unit)", "none", "The same in such a window of the reference.",
            (f"max by (part, measure) ({q.tap(metrics.HEALTH_EXPECTED_VALUE, _NOT_RECONSTRUCTION)})",
             "{{part}} {{measure}}"), span=HALF,
        ),
    )  # fmt: skip


def _samples() -> Panels:
    return (
        lines(
            "Samples analysed (calls/s)", "none", "Sampled calls that were decoded and looked at.",
            (q.total(q.rate(q.tap(metrics.SAMPLES_TOTAL)), "operation"), "{{operation}}"), span=THIRD, stacked=True,
        ),
        lines(
            "Samples lost by reason (calls/s)", "none", "Sampled calls that gave nothing; users noticed none of it.",
            (q.total(q.rate(q.tap(metrics.SAMPLES_LOST_TOTAL)), "reason") + " > 0", "{{reason}}"), span=THIRD,
        ),
        lines(
            "Scored samples by source (samples/s)", "none", "From users' score calls, and from the tap's own.",
            (q.total(q.rate(q.tap(metrics.SCORED_SAMPLES_TOTAL)), "source"), "{{source}}"),
            (q.total(q.rate(q.tap(metrics.SCORE_PROBES_TOTAL, 'outcome="failed"'))), "probes that failed"), span=THIRD,
        ),
    )  # fmt: skip


def _tap() -> Panels:
    return (
        lines(
            "CPU of the tap (cores)", "none", "Of the forwarding process, per pod.",
            (q.rate(q.of_target("process_cpu_seconds_total")), "{{pod}}{{instance}}"), span=QUARTER,
        ),
        lines(
            "Memory of the tap (bytes)", "bytes", "Resident memory of the forwarding process, per pod.",
            (q.of_target("process_resident_memory_bytes"), "{{pod}}{{instance}}"), span=QUARTER,
        ),
        lines(
            "Client connections (count)", "none", "Open now, by protocol.",
            (q.total(q.tap(metrics.CONNECTIONS), "protocol"), "{{protocol}}"), span=QUARTER,
        ),
        lines(
            "Open files of the tap (%)", "percentunit", "Of what the process may have.",
            (f"{q.of_target('process_open_fds')} / {q.of_target('process_max_fds')}", "{{pod}}{{instance}}"),
            span=QUARTER, most=1,
        ),
        states(
            "Models loaded (1: yes)", "none", "Whether Triton has each operation's model as the tap asked.",
            (f"min by (operation, version) ({q.tap(metrics.MODEL_LOADED)})", "{{operation}} {{version}}"),
            span=THIRD, steps=((None, "red"), (1.0, "green")),
        ),
        states(
            "Bundle state (1: the present one)", "none", "Refused: the files are not the promised ones.",
            (f"max by (state, version) ({q.tap(metrics.BUNDLE_STATE)})", "{{state}} {{version}}"),
            span=THIRD, steps=((None, "text"), (1.0, "blue")),
        ),
        lines(
            "Golden probes that failed or waited (probes/s)", "none", "By why they failed, or gave way to users.",
            (q.total(q.rate(q.tap(metrics.GOLDEN_PROBES_TOTAL, _FAILED), q.LONG), "outcome"), "{{outcome}}"),
            (q.total(q.rate(q.tap(metrics.GOLDEN_PROBES_POSTPONED_TOTAL), q.LONG), "reason"), "waited: {{reason}}"),
            span=THIRD,
        ),
    )  # fmt: skip


_FAILED = f'{metrics.OUTCOME}!="{metrics.ProbeOutcome.PASSED}"'
_NOT_RECONSTRUCTION = f'{metrics.PART}!="reconstruction"'
